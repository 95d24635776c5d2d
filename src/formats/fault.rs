//! Faults that a format knows how to put into copies of its own files.
//!
//! A fault changes one thing and keeps everything around it valid (counts, offsets, CRCs), so that the
//! complaint can only come from the check that is meant. Each says what that complaint must contain.

use super::sink::Sink;
use super::{FormatKind, apr, gguf, hf, map};
use crate::{Error, Result};
use std::path::Path;

/// The faults of `kind`, each to be applied to its own copy.
pub fn faults(kind: FormatKind) -> &'static [Fault] {
    match kind {
        FormatKind::HfFolder => hf::fault::FAULTS,
        FormatKind::Gguf => gguf::fault::FAULTS,
        FormatKind::Apr => apr::fault::FAULTS,
    }
}

/// Copies the artifact at `src` to `dst` unchanged: the control beside the faults. A folder becomes a new
/// folder whose files are hard links where the file system allows it.
///
/// # Errors
/// As [`super::open`], and [`crate::Kind::Io`].
pub fn copy_artifact(src: &Path, dst: &Path) -> Result<()> {
    let checkpoint = super::open(src)?;
    match checkpoint.kind() {
        FormatKind::HfFolder => hf::fault::copy_folder(src, dst, &[]),
        // One part alone is no model.
        FormatKind::Gguf if checkpoint.files().len() > 1 => Err(unsuited(src, "a GGUF that is one file")),
        FormatKind::Gguf | FormatKind::Apr => copy_file(src, dst),
    }
}

/// One way to break a copy of an artifact.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// `unknown-dtype`.
    pub name: &'static str,
    /// Who must complain.
    pub stage: Stage,
    /// What the complaint must contain.
    pub expect: &'static str,
    /// Writes a copy of the sound artifact at the first path, broken, to the second, which does not exist.
    pub apply: fn(&Path, &Path) -> Result<()>,
}

/// Where a fault must be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// By [`super::open`]: the file breaks its format.
    Open,
    /// By the check against the family: the file is sound, the model is not.
    Check,
}

/// The name of a tensor that no family has.
pub(super) const STRANGER: &str = "qa_injected.weight";

/// Whether a name, in any dialect, is that of a matrix that every family needs: a way down from the
/// feed-forward (GPT-2 calls the way out of attention by the same name).
pub(super) fn is_needed(name: &str) -> bool {
    ["down_proj.weight", "ffn_down.weight", "c_proj.weight"].iter().any(|n| name.ends_with(n))
}

/// The first tensor that every family needs; in a file without one, the tensor in the middle.
pub(super) fn victim<'a>(names: impl ExactSizeIterator<Item = &'a str> + Clone) -> usize {
    names.clone().position(is_needed).unwrap_or(names.len() / 2)
}

/// What an artifact must have for a fault to be put into it.
pub(super) fn unsuited(src: &Path, what: &str) -> Error {
    Error::unsupported(src.display().to_string(), format!("this fault needs {what}"))
}

/// Copies a file's bytes to a new file.
pub(super) fn copy_file(src: &Path, dst: &Path) -> Result<()> {
    let mut sink = Sink::create(dst)?;
    sink.put(&map::map_file(src)?)?;
    sink.commit_unsynced()
}
