//! Where a conversion may write: never over its source, never over what it did not write itself.

use super::hf;
use crate::formats::{Checkpoint, FormatKind};
use crate::{Error, Kind, Result};
use std::fs;
use std::path::Path;

/// The container that the name of `dst` asks for.
///
/// # Errors
/// [`Kind::Usage`] for an extension that is none of ours.
pub(super) fn kind_of_name(dst: &Path) -> Result<FormatKind> {
    match dst.extension().and_then(|e| e.to_str()) {
        Some("apr") => Ok(FormatKind::Apr),
        Some("gguf") => Ok(FormatKind::Gguf),
        Some("safetensors") => Err(refuse(dst, "is one file of an HF folder", "name the folder instead")),
        // A folder name may hold a dot, as in `SmolLM2-1.7B`.
        Some(_) | None if dst.is_dir() => Ok(FormatKind::HfFolder),
        Some("bin" | "pt" | "pth" | "onnx" | "json" | "ggml") => {
            Err(refuse(dst, "has an extension of no format written here", "use .apr, .gguf or a folder name"))
        }
        Some(_) | None => Ok(FormatKind::HfFolder),
    }
}

/// Refuses a destination that is the source, or something that this program did not write.
///
/// # Errors
/// [`Kind::Usage`] with what to do instead.
pub(super) fn check(source: &Checkpoint, dst: &Path, kind: FormatKind) -> Result<()> {
    let Ok(real) = fs::canonicalize(dst) else {
        // Nothing is there yet; a missing parent is the writer's error.
        return Ok(());
    };
    let mut sources = source.files().iter().chain([&source.path]);
    if sources.any(|s| fs::canonicalize(s).is_ok_and(|s| s == real)) {
        return Err(refuse(dst, "is the source", "choose another destination"));
    }
    match kind {
        FormatKind::Apr | FormatKind::Gguf if real.is_file() => Ok(()),
        FormatKind::Apr | FormatKind::Gguf => {
            Err(refuse(dst, "is there and is no regular file", "choose another name or remove it"))
        }
        FormatKind::HfFolder if real.is_dir() => only_our_files(dst),
        FormatKind::HfFolder => {
            Err(refuse(dst, "is there and is no folder", "choose another name or remove it"))
        }
    }
}

fn only_our_files(dst: &Path) -> Result<()> {
    for entry in fs::read_dir(dst).map_err(|e| Error::io(dst, &e))? {
        let name = entry.map_err(|e| Error::io(dst, &e))?.file_name();
        if !hf::FILES.iter().any(|ours| name == *ours) {
            let what = format!("holds `{}`, which no conversion writes", name.to_string_lossy());
            return Err(refuse(dst, &what, "choose an empty or new folder"));
        }
    }
    Ok(())
}

fn refuse(dst: &Path, what: &str, hint: &str) -> Error {
    Error::new(Kind::Usage, dst.display().to_string(), what).hint(hint)
}
