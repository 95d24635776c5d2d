//! Zeroed memory of whole pages, in huge ones where the system has them: weights are read once per token, and a
//! table of small pages costs a tenth of the bandwidth.

use std::ops::{Deref, DerefMut};

/// An owned buffer that starts on a page.
pub struct Pages(memmap2::MmapMut);

impl Pages {
    /// `len` zeros.
    ///
    /// # Errors
    /// Those of the system: no memory.
    pub fn zeroed(len: usize) -> std::io::Result<Pages> {
        let map = memmap2::MmapMut::map_anon(len.max(1))?;
        // A wish: a system without huge pages answers with an error and keeps small ones.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Pages(map))
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
