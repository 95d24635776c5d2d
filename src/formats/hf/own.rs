//! A model folder is read from itself: none of its files may be a link that leads out of it.
//!
//! The one exception is the hub's cache, whose snapshots are links into the folder `blobs` of the same repository.

use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// The path of the file `name` of `folder`, which need not exist.
///
/// # Errors
/// [`crate::Kind::Malformed`] where it is a symbolic link to a file elsewhere.
pub(super) fn own(folder: &Path, name: &str) -> Result<PathBuf> {
    let file = folder.join(name);
    if !file.is_symlink() {
        return Ok(file);
    }
    // Where nothing is at the end of the link, reading it will say so.
    let (Ok(root), Ok(target)) = (folder.canonicalize(), file.canonicalize()) else { return Ok(file) };
    if target.starts_with(&root) || target.parent() == blobs(&root).as_deref() {
        return Ok(file);
    }
    let what = format!("a symbolic link out of the folder, to {}", target.display());
    Err(Error::malformed(&file, what)
        .at(format!("file `{name}`"))
        .hint("copy the file here, or name the folder that it lies in"))
}

/// Where the files of the hub's snapshot at `root` really are: `REPO/snapshots/REVISION` has them in `REPO/blobs`.
fn blobs(root: &Path) -> Option<PathBuf> {
    let snapshots = root.parent().filter(|p| p.ends_with("snapshots"))?;
    Some(snapshots.parent()?.join("blobs"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_may_lead_within_the_folder_and_into_the_hubs_blobs_only() {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = dir.path().join("snapshots").join("r1");
        fs::create_dir_all(snapshot.join("sub")).unwrap();
        fs::create_dir(dir.path().join("blobs")).unwrap();
        for file in ["blobs/b", "outside", "snapshots/r1/inside", "snapshots/r1/sub/deep"] {
            fs::write(dir.path().join(file), "x").unwrap();
        }
        for (name, target) in [
            ("to-blob", "../../blobs/b"),
            ("to-inside", "inside"),
            ("to-deep", "sub/deep"),
            ("to-nothing", "nowhere"),
        ] {
            symlink(target, snapshot.join(name)).unwrap();
            assert_eq!(own(&snapshot, name).unwrap(), snapshot.join(name));
        }
        assert!(own(&snapshot, "inside").is_ok() && own(&snapshot, "absent").is_ok());
        let absolute = dir.path().join("outside");
        for target in [Path::new("../../outside"), absolute.as_path(), Path::new("to-outside-again")] {
            let _ = fs::remove_file(snapshot.join("link"));
            let _ = symlink("../../outside", snapshot.join("to-outside-again"));
            symlink(target, snapshot.join("link")).unwrap();
            let error = own(&snapshot, "link").unwrap_err().to_string();
            assert!(error.contains("link out of the folder") && error.contains("outside"), "{error}");
        }
    }
}
