//! Compiled pipelines kept between runs, where a driver hands them out (Vulkan): in a file of this adapter, driver and
//! program. Nothing depends on it but time, so whatever goes wrong with the file is as if there were none.

use super::device::Device;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What was compiled on one device, and the file that it is kept in.
pub(super) struct DiskCache {
    pub raw: wgpu::PipelineCache,
    file: PathBuf,
    /// Whether something was compiled that the file does not hold.
    changed: AtomicBool,
}

/// Bytes of a SHA-256, which stands before the driver's bytes in a file.
const DIGEST: usize = 32;

/// A larger file is not read and none is written: drivers only ever add to one.
const LARGEST: u64 = 256 << 20;

impl DiskCache {
    /// What an earlier run left in `folder`, or an empty cache. None where the driver hands nothing out.
    pub fn open(device: &Device, adapter: &wgpu::AdapterInfo, folder: &Path) -> Option<DiskCache> {
        if !device.raw.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let file = folder.join(file_name(adapter)?);
        let data = read(&file);
        let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
        // SAFETY: the bytes are those that `save` got from `get_data` of a cache of the same adapter, driver and program:
        // the file is named by these and lies in a folder of the user's own, its digest shows that it is whole, and wgpu
        // and the driver check that their own headers in it fit this device.
        let raw = device.catch(|| unsafe { device.raw.create_pipeline_cache(&descriptor) }).ok()?;
        Some(DiskCache { raw, file, changed: AtomicBool::new(false) })
    }

    /// Something was compiled.
    pub fn grew(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Writes the file, if something was compiled since it was read or written.
    pub fn save(&self) {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Some(data) = self.raw.get_data().filter(|data| data.len() as u64 <= LARGEST) {
            // Without the file the next run compiles again.
            let _ = write(&self.file, &data);
        }
    }
}

/// The folder of this program among the user's caches.
pub(super) fn user_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = if cfg!(windows) {
        set("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        set("HOME")?.join("Library/Caches")
    } else {
        set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?
    };
    Some(caches.join("apr-qa-runner"))
}

/// Another driver or program has a file of its own: a driver would drop what another made.
fn file_name(adapter: &wgpu::AdapterInfo) -> Option<String> {
    let key = wgpu::util::pipeline_cache_key(adapter)?;
    let made_by = format!("{}\n{}\n{}", adapter.driver, adapter.driver_info, env!("CARGO_PKG_VERSION"));
    let digest: String = Sha256::digest(made_by.as_bytes())[..8].iter().map(|b| format!("{b:02x}")).collect();
    Some(format!("{key}_{digest}.bin"))
}

/// The driver's bytes in `file`; none where there is none, or it is not what was written.
fn read(file: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file).ok()?.take(LARGEST + DIGEST as u64 + 1).read_to_end(&mut bytes).ok()?;
    let (digest, data) = bytes.split_at_checked(DIGEST)?;
    (data.len() as u64 <= LARGEST && Sha256::digest(data)[..] == *digest).then(|| data.to_vec())
}

/// So that the file appears whole or not at all, also where several processes write it.
fn write(file: &Path, data: &[u8]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(&Sha256::digest(data))?;
    temporary.write_all(data)?;
    temporary.persist(file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::wgpu::adapter;
    use crate::engine::wgpu::pipelines::Kernel;
    use std::fs;

    #[test]
    fn a_damaged_file_is_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("new").join("file.bin");
        assert_eq!(read(&file), None);
        write(&file, b"compiled").expect("the folder is made");
        assert_eq!(read(&file).as_deref(), Some(&b"compiled"[..]));
        let whole = fs::read(&file).expect("written");
        for at in [0, DIGEST - 1, DIGEST, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&file, damaged).expect("writable");
            assert_eq!(read(&file), None, "byte {at}");
        }
        for len in [0, DIGEST - 1, DIGEST, whole.len() - 1] {
            fs::write(&file, &whole[..len]).expect("writable");
            assert_eq!(read(&file), None, "{len} bytes");
        }
    }

    /// Opens the best adapter, compiles a kernel, and gives what its cache then holds.
    fn compile(folder: &Path) -> Option<(Device, usize)> {
        let (adapter, info) = adapter::choose(None).ok()?;
        let device = Device::new(&adapter, info, Some(folder)).expect("an adapter that is listed opens");
        let held = device.kept.as_ref()?.raw.get_data()?.len();
        device.pipelines.get(&device, &Kernel::new(&["add"])).expect("a kernel");
        Some((device, held))
    }

    #[test]
    fn a_second_device_reads_what_the_first_wrote_and_none_what_is_damaged() {
        let folder = tempfile::tempdir().expect("a folder");
        let Some((first, empty)) = compile(folder.path()) else {
            eprintln!("SKIPPED, NOT TESTED: there is no adapter that hands out what it compiled");
            return;
        };
        let kept = first.kept.as_ref().expect("it was asked");
        assert!(!kept.file.exists());
        kept.save();
        let data = read(&kept.file).expect("written whole");
        let (second, held) = compile(folder.path()).expect("as before");
        assert!(held >= empty && data.len() >= held, "{empty} {held} {}", data.len());

        // What is there already is not written again.
        fs::write(&kept.file, b"damaged").expect("writable");
        kept.save();
        assert_eq!(fs::read(&kept.file).expect("there"), b"damaged");
        let (_, held) = compile(folder.path()).expect("as before");
        assert_eq!(held, empty, "nothing was read");
        second.kept.as_ref().expect("as before").save();
        assert!(read(&kept.file).is_some(), "written anew");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, b"no folder").expect("writable");
        let Some((device, _)) = compile(&file.join("below")) else { return };
        device.kept.as_ref().expect("it compiles all the same").save();
        assert_eq!(fs::read(&file).expect("there"), b"no folder");
    }
}
