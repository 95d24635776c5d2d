//! A cheap handle on a range of immutable bytes: a mapped file, an owned buffer, or blocks that stand as row tiles in
//! their file.

use std::borrow::Cow;
use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};

/// A range of shared, immutable bytes. Cloning and slicing copy nothing.
///
/// Bytes that stand tiled in their file are seen as the plain blocks: [`Deref`] makes them once and keeps them,
/// [`Bytes::plain`] makes them for the moment, and [`Bytes::tiles`] gives what stands in the file.
#[derive(Clone)]
pub struct Bytes {
    storage: Arc<Storage>,
    range: Range<usize>,
    /// Made by [`Bytes::slice`]: whoever cuts may give its part another shape, which tiles would not be of.
    cut: bool,
}

/// Makes the plain blocks from tiles.
type Untile = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

enum Storage {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
    Tiled { tiles: Bytes, untile: Untile, plain: OnceLock<Vec<u8>> },
}

impl Bytes {
    /// The whole of a mapped file.
    pub fn from_mmap(map: memmap2::Mmap) -> Self {
        let range = 0..map.len();
        Bytes { storage: Arc::new(Storage::Mapped(map)), range, cut: false }
    }

    /// The whole of an owned buffer.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Bytes { storage: Arc::new(Storage::Owned(bytes)), range, cut: false }
    }

    /// The `len` bytes of plain blocks that `untile` makes from `tiles`, not before they are needed.
    pub fn from_tiles(
        tiles: Bytes,
        len: usize,
        untile: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let untile = Box::new(untile);
        let storage = Storage::Tiled { tiles, untile, plain: OnceLock::new() };
        Bytes { storage: Arc::new(storage), range: 0..len, cut: false }
    }

    /// The number of bytes; of tiled ones, that of the plain blocks.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The row tiles as they stand in the file, padding included, where these bytes are the whole of a tensor that
    /// stands tiled. A slice has none.
    pub fn tiles(&self) -> Option<&[u8]> {
        match &*self.storage {
            Storage::Tiled { tiles, .. } if !self.cut => Some(tiles),
            Storage::Tiled { .. } | Storage::Mapped(_) | Storage::Owned(_) => None,
        }
    }

    /// How many bytes these take in their file.
    pub fn stored_len(&self) -> usize {
        self.tiles().map_or(self.len(), <[u8]>::len)
    }

    /// The plain blocks, like [`Deref`], but made from tiles without being kept.
    pub fn plain(&self) -> Cow<'_, [u8]> {
        match (&*self.storage, self.tiles()) {
            (Storage::Tiled { untile, plain, .. }, Some(tiles)) if plain.get().is_none() => {
                Cow::Owned(untile(tiles))
            }
            (Storage::Tiled { .. } | Storage::Mapped(_) | Storage::Owned(_), _) => Cow::Borrowed(self),
        }
    }

    /// The bytes `range` of these bytes, or `None` where it does not lie inside.
    pub fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(Bytes { storage: Arc::clone(&self.storage), range: start..start + range.len(), cut: true })
    }

    /// Says that these bytes are not needed soon: pages of a mapped file leave memory, and are read from the file
    /// again by whoever looks.
    pub fn release(&self) {
        if let (Storage::Tiled { tiles, .. }, Some(_)) = (&*self.storage, self.tiles()) {
            tiles.release();
        }
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
            Storage::Tiled { tiles, untile, plain, .. } => plain.get_or_init(|| untile(tiles)),
        };
        &all[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn tiles_are_untiled_once_and_only_where_the_plain_bytes_are_kept() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let bytes = Bytes::from_tiles(Bytes::from_vec(vec![3, 1, 2, 0]), 3, move |tiles| {
            count.fetch_add(1, Ordering::Relaxed);
            vec![tiles[1], tiles[2], tiles[0]]
        });
        assert_eq!((bytes.len(), bytes.stored_len(), bytes.tiles()), (3, 4, Some(&[3, 1, 2, 0][..])));
        assert_eq!(*bytes.plain(), [1, 2, 3]);
        assert_eq!(*bytes.plain(), [1, 2, 3]);
        assert_eq!(made.load(Ordering::Relaxed), 2, "made for the moment");
        let part = bytes.slice(1..3).expect("inside");
        assert_eq!((&*part, part.tiles(), part.stored_len()), (&[2, 3][..], None, 2));
        assert_eq!(*bytes, [1, 2, 3]);
        assert_eq!(*bytes.plain(), [1, 2, 3]);
        assert_eq!(made.load(Ordering::Relaxed), 3, "made once and shared");
        assert!(bytes.slice(1..4).is_none());
        assert_eq!(bytes.slice(0..3).expect("inside").tiles(), None);
    }
}
