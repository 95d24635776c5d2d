//! Keys and values of one layer on the device: contract `contracts/kernels/kv_cache.yaml`.

use super::device::Device;
use super::memory::{Memory, STORAGE};
use super::recorder::Session;
use crate::Result;
use crate::engine::Heads;
use std::sync::Arc;

/// Keys and values `[positions, n_kv_heads, padded]`, `padded` being the width of a head up to a multiple of 4.
///
/// Copies share their memory until one of them writes.
#[derive(Clone)]
pub struct Cache {
    row_bytes: usize,
    positions: usize, // that were ever stored
    kept: Option<Arc<Kept>>,
}

/// Room for some positions.
pub(super) struct Kept {
    pub keys: Arc<Memory>,
    pub values: Arc<Memory>,
    capacity: usize,
}

/// Positions that there is room for at least.
const FIRST: usize = 64;

impl Cache {
    /// An empty cache of elements of `element_bytes`.
    pub(super) fn new(heads: &Heads, element_bytes: usize) -> Cache {
        let row_bytes = heads.n_kv_heads * padded(heads) * element_bytes;
        Cache { row_bytes, positions: 0, kept: None }
    }

    /// Room to store positions up to `end`, with those before `start` in place and shared with nobody.
    ///
    /// # Errors
    /// [`crate::Kind::Environment`] where there is no memory for it.
    pub(super) fn writable(
        &mut self,
        device: &Arc<Device>,
        session: &mut Session<'_>,
        (start, end): (usize, usize),
    ) -> Result<&Kept> {
        let kept = match self.kept.take() {
            Some(kept) if kept.capacity >= end && Arc::strong_count(&kept) == 1 => kept,
            old => {
                let most = device.limits.max_storage_buffer_binding_size as usize / self.row_bytes.max(1);
                let capacity = end.next_power_of_two().max(FIRST).min(most).max(end);
                let size = (capacity * self.row_bytes) as u64;
                let [keys, values] =
                    [Memory::new(device, size, STORAGE)?, Memory::new(device, size, STORAGE)?];
                let before = (start.min(self.positions) * self.row_bytes) as u64;
                if let (Some(old), true) = (&old, before > 0) {
                    session.copy(&old.keys, 0, &keys, 0, before);
                    session.copy(&old.values, 0, &values, 0, before);
                }
                Arc::new(Kept { keys, values, capacity })
            }
        };
        self.positions = end;
        Ok(self.kept.insert(kept))
    }

    /// What is stored, if anything was.
    pub(super) fn kept(&self) -> Option<&Kept> {
        self.kept.as_deref()
    }
}

/// Elements from head to head.
pub(super) fn padded(heads: &Heads) -> usize {
    heads.head_dim.next_multiple_of(4)
}
