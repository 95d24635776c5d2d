//! A cheap handle on a range of immutable bytes: a mapped file or an owned buffer.

use std::ops::{Deref, Range};
use std::sync::Arc;

/// A range of shared, immutable bytes. Cloning and slicing copy nothing.
#[derive(Clone)]
pub struct Bytes {
    storage: Arc<Storage>,
    range: Range<usize>,
}

enum Storage {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    /// The whole of a mapped file.
    pub fn from_mmap(map: memmap2::Mmap) -> Self {
        let range = 0..map.len();
        Bytes { storage: Arc::new(Storage::Mapped(map)), range }
    }

    /// The whole of an owned buffer.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Bytes { storage: Arc::new(Storage::Owned(bytes)), range }
    }

    /// The bytes `range` of these bytes, or `None` where it does not lie inside.
    pub fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(Bytes { storage: Arc::clone(&self.storage), range: start..start + range.len() })
    }

    /// Says that these bytes are not needed soon: pages of a mapped file leave memory, and are read from the file
    /// again by whoever looks.
    pub fn release(&self) {
        #[cfg(unix)]
        if let Storage::Mapped(map) = &*self.storage {
            // SAFETY: `from_mmap` is given maps of files, read-only; dropping their pages loses nothing.
            // An error means that they stay, which is no loss either.
            let _ = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    self.range.start,
                    self.range.len(),
                )
            };
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &*self.storage {
            Storage::Mapped(map) => map,
            Storage::Owned(vec) => vec,
        };
        &all[self.range.clone()]
    }
}
