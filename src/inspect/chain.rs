//! A chain of conversions: every link made by the converter, and the end held against the start.

use crate::convert::{ConvertOptions, ConvertReport, Exactness, convert};
use crate::formats::FormatKind;
use crate::{Error, Kind, Result};
use std::path::{Path, PathBuf};

/// Converts `source` into the first of `formats`, that into the second, and so on, inside `folder`.
///
/// # Errors
/// [`Kind::Usage`] for no format at all; those of [`convert`], which name the link.
pub fn chain(source: &Path, formats: &[FormatKind], folder: &Path) -> Result<Chain> {
    if formats.is_empty() {
        return Err(Error::new(Kind::Usage, "chain", "it has no link").hint("give at least one format"));
    }
    let mut links: Vec<Link> = Vec::new();
    for (i, &format) in formats.iter().enumerate() {
        let from = links.last().map_or(source, |link| &link.path);
        let extension = match format {
            FormatKind::HfFolder => "",
            FormatKind::Gguf => ".gguf",
            FormatKind::Apr => ".apr",
        };
        let path = folder.join(format!("link-{}{extension}", i + 1));
        let options = ConvertOptions { to: Some(format), ..ConvertOptions::default() };
        let report = convert(from, &path, &options).map_err(|mut error| {
            error.subject = format!("link {} ({format}): {}", i + 1, error.subject);
            error
        })?;
        links.push(Link { format, path, report });
    }
    Ok(Chain { links })
}

/// The files of a chain, in order; never empty.
pub struct Chain {
    /// One per conversion.
    pub links: Vec<Link>,
}

/// One conversion.
pub struct Link {
    /// Into what.
    pub format: FormatKind,
    /// What was written.
    pub path: PathBuf,
    /// What the converter says it did.
    pub report: ConvertReport,
}

impl Link {
    /// Whether the converter changed no value.
    pub fn lossless(&self) -> bool {
        self.report.tensors.iter().all(|t| t.exactness == Exactness::Exact)
    }
}

impl Chain {
    /// The last file.
    pub fn end(&self) -> Option<&Path> {
        self.links.last().map(|link| link.path.as_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_without_links_is_refused_and_an_unreadable_source_names_its_link() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let none = chain(Path::new("nowhere"), &[], folder.path()).err().expect("no link");
        assert_eq!(none.kind, Kind::Usage);
        let gone = chain(Path::new("nowhere"), &[FormatKind::Apr], folder.path()).err().expect("no source");
        assert!(gone.kind == Kind::Io && gone.to_string().starts_with("link 1 (apr)"), "{gone}");
    }

    #[test]
    fn every_link_is_lossless_for_every_committed_model() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/models");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let formats = [FormatKind::Apr, FormatKind::Gguf, FormatKind::HfFolder];
        let made = chain(&models.join("tiny-gpt2"), &formats, folder.path()).expect("converts");
        assert_eq!(made.links.len(), 3);
        assert!(made.links.iter().all(Link::lossless));
        assert!(made.end().is_some_and(|end| end.is_dir()));
    }
}
