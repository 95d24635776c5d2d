//! Made files kept between runs: one is used again exactly as long as its source, its recipe, this program and its own
//! bytes are what was written down when it was made.

use super::digest;
use super::output::write_atomically;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Where conversions are kept, and whether what is there is used.
#[derive(Debug, Clone, Default)]
pub struct Keeping {
    /// The folder; beside the reports where this is none.
    pub folder: Option<PathBuf>,
    /// Everything is made anew.
    pub anew: bool,
}

/// All that the bytes of a made file follow from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Making {
    /// The key of what it is made from.
    pub source: String,
    /// The conversion that is asked for.
    pub recipe: String,
    /// The digest of this program: another converter makes other files.
    pub program: String,
}

/// What is written down of a made file, beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Its name in the folder.
    file: String,
    #[serde(flatten)]
    making: Making,
    /// SHA-256 of its bytes.
    digest: String,
}

/// Why a file was, or was not, made in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It was there.
    Kept,
    /// Nothing of that name was there.
    New,
    /// `--no-cache`.
    Asked,
    /// What is different since, each as `source 1f… became 2e…`.
    Changed(Vec<String>),
    /// What was there is not what was written.
    Corrupt(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Kept => write!(f, "taken from the cache"),
            Why::New => write!(f, "made: the cache has no such artifact"),
            Why::Asked => write!(f, "made: the cache is not asked"),
            Why::Changed(what) => write!(f, "made anew: {}", what.join("; ")),
            Why::Corrupt(what) => write!(f, "made anew: the cached file is damaged: {what}"),
        }
    }
}

impl Making {
    /// The key of the file: equal exactly where all that it follows from is.
    pub fn key(&self) -> String {
        digest::of_text(&format!("{} {} {}", self.source, self.recipe, self.program))
    }

    fn changes_since(&self, before: &Making) -> Vec<String> {
        let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_owned();
        let mut changes = Vec::new();
        if before.source != self.source {
            changes.push(format!("source {} became {}", short(&before.source), short(&self.source)));
        }
        if before.recipe != self.recipe {
            changes.push(format!("recipe `{}` became `{}`", before.recipe, self.recipe));
        }
        if before.program != self.program {
            changes.push(format!("program {} became {}", short(&before.program), short(&self.program)));
        }
        changes
    }
}

/// Whether the file at `path`, named `name` in its folder, can be used as what `making` makes.
pub fn look(path: &Path, name: &str, making: &Making) -> Why {
    let Ok(text) = fs::read_to_string(beside(path, name)) else { return Why::New };
    let Ok(entry) = serde_json::from_str::<Entry>(&text) else {
        return Why::Corrupt("what is written down of it cannot be read".to_owned());
    };
    let changes = making.changes_since(&entry.making);
    if !changes.is_empty() {
        return Why::Changed(changes);
    }
    match digest::of_path(path) {
        Ok(found) if found == entry.digest => Why::Kept,
        Ok(found) => Why::Corrupt(format!("its digest is {found}, not {}", entry.digest)),
        Err(error) => Why::Corrupt(error.to_string()),
    }
}

/// Removes what is kept of the artifact `name` beside `path`, so that nothing half-made is ever written down.
///
/// # Errors
/// [`crate::Kind::Io`] where the file itself cannot be removed; earlier versions of it only cost disk.
pub fn remove(path: &Path, name: &str) -> Result<()> {
    let _ = fs::remove_file(beside(path, name));
    let Some(folder) = path.parent() else { return Ok(()) };
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for found in entries.flatten().map(|entry| entry.path()).filter(|found| is_version(found, name)) {
        let gone = if found.is_dir() { fs::remove_dir_all(&found) } else { fs::remove_file(&found) };
        if let Err(error) = gone
            && found == path
        {
            return Err(Error::io(path, &error));
        }
    }
    Ok(())
}

/// Writes down what was made at `path`.
///
/// # Errors
/// [`crate::Kind::Io`] or [`crate::Kind::Environment`]: the file is whole, and is made again by the next run.
pub fn write_down(path: &Path, name: &str, making: &Making) -> Result<()> {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entry = Entry { file, making: making.clone(), digest: digest::of_path(path)? };
    // Names and digests are text.
    let text = serde_json::to_string_pretty(&entry).expect("an entry serializes");
    write_atomically(&beside(path, name), text.as_bytes())
}

fn beside(path: &Path, name: &str) -> PathBuf {
    path.with_file_name(format!("{name}.json"))
}

/// Whether this is a file that was made as `name`: `<name>-<16 hex digits>` and an ending of ours.
fn is_version(path: &Path, name: &str) -> bool {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let key = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
    key.is_some_and(|key| {
        let key = key.trim_end_matches(".gguf").trim_end_matches(".apr");
        key.len() == 16 && key.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn making(source: &str, recipe: &str) -> Making {
        Making { source: source.into(), recipe: recipe.into(), program: "p1".into() }
    }

    #[test]
    fn a_file_is_used_while_all_that_it_follows_from_is_the_same() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let made = making("s1", "int8");
        let path = folder.path().join(format!("a-{}.apr", &made.key()[..16]));
        assert_eq!(look(&path, "a", &made), Why::New);
        fs::write(&path, "weights").expect("writable");
        assert_eq!(look(&path, "a", &made), Why::New, "a file that nobody wrote down is not trusted");
        write_down(&path, "a", &made).expect("writable");
        assert_eq!(look(&path, "a", &made), Why::Kept);
        assert_eq!(look(&path, "b", &made), Why::New);

        let other = Making { program: "p2".into(), ..making("s2", "int4") };
        let why = look(&path, "a", &other).to_string();
        assert_eq!(why, "made anew: source s1 became s2; recipe `int8` became `int4`; program p1 became p2");
        assert!(other.key() != made.key());
    }

    #[test]
    fn damage_is_seen_and_nothing_of_another_name_is_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let made = making("s1", "int8");
        let named = |name: &str| folder.path().join(format!("{name}-{}.apr", &made.key()[..16]));
        for name in ["a", "a-b"] {
            fs::write(named(name), "weights").expect("writable");
            write_down(&named(name), name, &made).expect("writable");
        }
        fs::write(named("a"), "weight").expect("writable");
        let Why::Corrupt(what) = look(&named("a"), "a", &made) else { panic!("truncated, and trusted") };
        assert!(what.contains("its digest is"), "{what}");
        fs::remove_file(named("a")).expect("there");
        assert!(matches!(look(&named("a"), "a", &made), Why::Corrupt(_)));
        fs::write(beside(&named("a"), "a"), "{").expect("writable");
        assert!(matches!(look(&named("a"), "a", &made), Why::Corrupt(_)));
        remove(&named("a"), "a").expect("removable");
        assert_eq!(look(&named("a"), "a", &made), Why::New);
        assert_eq!(look(&named("a-b"), "a-b", &made), Why::Kept);
    }
}
