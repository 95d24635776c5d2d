//! Copies to the device through a ring of staging buffers: the host fills one while the device empties others.

use super::device::{Device, words};
use super::memory::{Memory, STORAGE};
use crate::Result;
use std::num::NonZeroU64;
use std::sync::Arc;
use wgpu::util::StagingBelt;

/// Bytes of one staging buffer.
const CHUNK: u64 = 8 << 20;

/// Bytes that may wait for the device before the host does.
const IN_FLIGHT: u64 = 4 * CHUNK;

/// Copies that the device has not got yet.
pub(super) struct Upload {
    device: Arc<Device>,
    belt: StagingBelt,
    encoder: Option<wgpu::CommandEncoder>,
    waiting: u64,
}

impl Upload {
    pub fn new(device: &Arc<Device>) -> Upload {
        let belt = StagingBelt::new(device.raw.clone(), CHUNK);
        Upload { device: Arc::clone(device), belt, encoder: None, waiting: 0 }
    }

    /// A buffer of these words.
    ///
    /// # Errors
    /// As [`Upload::write`].
    pub fn words(&mut self, words: &[u32]) -> Result<Arc<Memory>> {
        let bytes: &[u8] = bytemuck::cast_slice(words);
        let memory = Memory::new(&self.device, bytes.len() as u64, STORAGE)?;
        self.write(&memory, 0, bytes.len(), |out| out.copy_from_slice(bytes))?;
        Ok(memory)
    }

    /// Writes `len` bytes, which `fill` gives, at `at`, a multiple of 4. Up to three bytes after them become 0.
    ///
    /// # Errors
    /// [`crate::Kind::Environment`] where the device is lost or has no memory to stage them in.
    pub fn write(
        &mut self,
        to: &Arc<Memory>,
        at: u64,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        let Some(size) = NonZeroU64::new(len.next_multiple_of(4) as u64) else { return Ok(()) };
        if self.waiting + size.get() > IN_FLIGHT {
            self.flush()?;
        }
        let device = &self.device;
        device.check()?;
        let mut bytes = vec![0; size.get() as usize];
        fill(&mut bytes[..len]);
        let (belt, encoder) = (&mut self.belt, &mut self.encoder);
        device
            .catch(|| {
                let encoder =
                    encoder.get_or_insert_with(|| device.raw.create_command_encoder(&Default::default()));
                belt.write_buffer(encoder, &to.raw, at, size).copy_from_slice(&bytes);
            })
            .map_err(|e| device.error(format!("no memory to copy {size} bytes through: {}", words(&e))))?;
        self.waiting += size.get();
        Ok(())
    }

    /// Hands the copies to the device, if there are any, and waits for it: the staging buffers can then be filled again.
    ///
    /// # Errors
    /// [`crate::Kind::Environment`] where the device is lost.
    pub fn flush(&mut self) -> Result<()> {
        let Some(encoder) = self.encoder.take() else { return Ok(()) };
        let device = &self.device;
        self.belt.finish();
        let submitted = device.catch(|| device.queue.submit([encoder.finish()]));
        submitted.map_err(|e| device.give_up(words(&e)))?;
        self.belt.recall();
        self.waiting = 0;
        device.raw.poll(wgpu::PollType::wait_indefinitely()).map_err(|e| device.give_up(words(&e)))?;
        device.check()
    }
}
