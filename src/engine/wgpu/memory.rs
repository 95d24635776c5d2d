//! Buffers on the device: activations by rows, vectors, and how much of its memory is in use.

use super::device::{Device, words};
use crate::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A buffer, and its place in the count of what is in use.
pub struct Memory {
    pub(super) raw: wgpu::Buffer,
    /// No two buffers of a process have the same.
    pub(super) id: u64,
    device: Arc<Device>,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

/// What kernels read and write.
pub(super) const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

impl Memory {
    /// `size` bytes of zeros, `size` being a multiple of 4.
    ///
    /// # Errors
    /// [`crate::Kind::Environment`] saying how much was asked for and how much is in use and can be had at once.
    pub(super) fn new(device: &Arc<Device>, size: u64, usage: wgpu::BufferUsages) -> Result<Arc<Memory>> {
        device.check()?;
        let size = size.max(16);
        let used = device.in_use.load(Ordering::Relaxed);
        let refused = |why: &str| {
            device
                .error(format!(
                    "no memory: {} asked for, {} in use, {} is the largest buffer{}: {why}",
                    mib(size),
                    mib(used),
                    mib(device.limits.max_buffer_size),
                    device
                        .memory
                        .map_or(String::new(), |all| format!(", {} is all that it says it has", mib(all))),
                ))
                .hint("use a smaller model or encoding, or another adapter (--adapter)")
        };
        if size > device.limits.max_buffer_size {
            return Err(refused("no buffer can be so large"));
        }
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let raw = device.catch(|| device.raw.create_buffer(&descriptor)).map_err(|e| refused(&words(&e)))?;
        device.check()?;
        device.in_use.fetch_add(size, Ordering::Relaxed);
        Ok(Arc::new(Memory { raw, id: NEXT.fetch_add(1, Ordering::Relaxed), device: Arc::clone(device) }))
    }

    /// Bytes.
    pub(super) fn size(&self) -> u64 {
        self.raw.size()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.device.in_use.fetch_sub(self.raw.size(), Ordering::Relaxed);
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1u64 << 20) as f64)
}

/// Activations `[n, width]`, each row `stride` apart and padded with zeros.
pub struct Rows {
    pub(super) width: usize,
    pub(super) n: usize,
    memory: Option<Arc<Memory>>,
}

impl Rows {
    pub(super) fn new(width: usize) -> Rows {
        Rows { width, n: 0, memory: None }
    }

    /// From row to row, in elements: whole units of 32 columns, so that kernels read whole vectors.
    pub(super) fn stride(&self) -> usize {
        self.width.next_multiple_of(32)
    }

    /// Sets the number of rows. What they hold is then anything, but for the zeros past the width.
    pub(super) fn set_n(&mut self, device: &Arc<Device>, n: usize) -> Result<&Arc<Memory>> {
        let size = (n * self.stride() * size_of::<f32>()) as u64;
        self.n = n;
        let memory = match self.memory.take() {
            Some(memory) if memory.size() >= size => memory,
            _ => Memory::new(device, size, STORAGE)?,
        };
        Ok(self.memory.insert(memory))
    }

    /// Where the rows are.
    ///
    /// # Errors
    /// As [`Rows::set_n`], for rows that never were set.
    pub(super) fn memory(&self, device: &Arc<Device>) -> Result<Arc<Memory>> {
        match &self.memory {
            Some(memory) => Ok(Arc::clone(memory)),
            None => Memory::new(device, 0, STORAGE),
        }
    }
}
