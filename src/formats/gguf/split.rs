//! A GGUF in several files, `NAME-00001-of-00003.gguf`: any of them opens the whole model, and all of them tell the
//! same story or none is read.
//!
//! The first part holds the metadata; each part says in `split.no`, `split.count` and `split.tensors.count` which it
//! is, of how many, and of how many tensors. Source: llama.cpp's `llama-gguf-split` and its loader.

use super::read::{Part, parse_part};
use super::{GgufHeader, GgufValue};
use crate::formats::{Checkpoint, Container, NamedTensor, map};
use crate::tensor::Bytes;
use crate::{Error, Kind, Result};
use std::path::Path;

/// Opens the GGUF file at `path`, whose bytes are `file`, together with its other parts where it has some.
///
/// # Errors
/// As [`crate::formats::open`]; [`Kind::Io`] for a part that is missing, [`Kind::Malformed`] where names, keys and
/// contents of the parts disagree.
pub(super) fn open(path: &Path, file: Bytes) -> Result<Checkpoint> {
    let part = parse_part(file, path)?;
    match position(path, &part.header, part.tensors.len())? {
        None => part.into_checkpoint(path),
        Some(position) => join(path, position),
    }
}

/// Which part of which whole a file says it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// From 0.
    no: u64,
    /// At least 2.
    pub(super) count: u64,
    /// In all parts together.
    tensors: u64,
}

/// Where a file with `n_tensors` stands in its split; `None` for a whole file. A count of 0 is what
/// llama-gguf-split leaves in a file that it has joined again.
pub(super) fn position(path: &Path, header: &GgufHeader, n_tensors: usize) -> Result<Option<Position>> {
    if header.get(COUNT).is_none_or(|count| count.as_u64() == Some(0)) {
        return Ok(None);
    }
    let position = Position {
        no: number(path, header, NO)?,
        count: number(path, header, COUNT)?,
        tensors: number(path, header, TENSORS)?,
    };
    if position.count > MOST_PARTS || position.no >= position.count {
        let what = format!("part {} of {}, counted from 0, cannot be", position.no, position.count);
        return Err(Error::malformed(path, what).at(key(NO)));
    }
    if (n_tensors as u64) > position.tensors || (position.count == 1 && n_tensors as u64 != position.tensors)
    {
        let what = format!("{} tensors in all parts, but {n_tensors} in this one", position.tensors);
        return Err(Error::malformed(path, what).at(key(TENSORS)));
    }
    Ok(Some(position).filter(|p| p.count > 1))
}

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// The key is a uint16.
const MOST_PARTS: u64 = u16::MAX as u64;

fn key(name: &str) -> String {
    format!("metadata `{name}`")
}

fn number(path: &Path, header: &GgufHeader, name: &str) -> Result<u64> {
    let found = header.get(name);
    found.and_then(GgufValue::as_u64).ok_or_else(|| {
        let what = match found {
            None => "a part of a split file must have this key".to_owned(),
            Some(other) => format!("{other:?} is no count"),
        };
        Error::malformed(path, what).at(key(name))
    })
}

/// Reads all parts beside the one at `path`, which says that it stands at `here`.
fn join(path: &Path, here: Position) -> Result<Checkpoint> {
    let prefix = prefix(path, here)?;
    let mut whole: Option<GgufHeader> = None;
    let mut files = Vec::new();
    let mut tensors: Vec<NamedTensor> = Vec::new();
    for no in 0..here.count {
        let file = path.with_file_name(format!("{prefix}{}", suffix(no, here.count)));
        let part = part(&file, path, no, here)?;
        match &whole {
            None => whole = Some(part.header),
            Some(first) => check_metadata(&file, first, &part.header)?,
        }
        let index = files.len();
        tensors.extend(part.tensors.into_iter().map(|t| NamedTensor { file: index, ..t }));
        files.push(file);
    }
    if tensors.len() as u64 != here.tensors {
        let what =
            format!("{} tensors declared, the {} parts have {}", here.tensors, here.count, tensors.len());
        return Err(Error::malformed(path, what).at(key(TENSORS)));
    }
    // `position` refuses a count under 2 here, so there was a first part.
    let mut header = whole.expect("at least two parts");
    // What the model is made into is one file again.
    header.metadata.retain(|(key, _)| !is_about_split(key));
    Checkpoint::new(path.to_owned(), Container::Gguf(header), files, tensors)
}

/// Part `no` of the split that the file at `opened` belongs to.
fn part(file: &Path, opened: &Path, no: u64, here: Position) -> Result<Part> {
    let bytes = map::map_file(file).map_err(|error| match file.try_exists() {
        Ok(false) => {
            let what = format!("part {} of {} is missing", no + 1, here.count);
            Error::new(Kind::Io, file.display().to_string(), what)
                .hint(format!("all parts must lie in the folder of {}", opened.display()))
        }
        Ok(true) | Err(_) => error,
    })?;
    let part = parse_part(bytes, file)?;
    let found = position(file, &part.header, part.tensors.len())?;
    if found != Some(Position { no, ..here }) {
        let said = match found {
            None => "a whole model".to_owned(),
            Some(p) => format!("part {} of {} with {} tensors in all", p.no + 1, p.count, p.tensors),
        };
        let what = format!(
            "the file says that it is {said}; {} belongs to {} parts with {} tensors",
            opened.display(),
            here.count,
            here.tensors
        );
        return Err(Error::malformed(file, what).at(key(NO)));
    }
    Ok(part)
}

/// Later parts have no metadata of their own; a key that the first has too must say the same.
fn check_metadata(file: &Path, first: &GgufHeader, part: &GgufHeader) -> Result<()> {
    let stray = part.metadata.iter().find(|(key, value)| {
        // Alignment is each file's own.
        !is_about_split(key) && key != "general.alignment" && first.get(key) != Some(value)
    });
    match stray {
        None => Ok(()),
        Some((name, _)) => {
            Err(Error::malformed(file, "the first part says otherwise, or does not have it").at(key(name)))
        }
    }
}

fn is_about_split(key: &str) -> bool {
    [NO, COUNT, TENSORS].contains(&key)
}

/// The name of the file without what says which part it is.
fn prefix(path: &Path, here: Position) -> Result<String> {
    let expected = suffix(here.no, here.count);
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_suffix(&expected)).map(str::to_owned).ok_or_else(|| {
        let what =
            format!("this is part {} of {}, so its name must end with `{expected}`", here.no + 1, here.count);
        Error::malformed(path, what).at(key(NO)).hint("name the parts as llama-gguf-split did, in one folder")
    })
}

/// How the name of part `no` ends; names count from 1.
fn suffix(no: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", no + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{TensorSource, gguf};
    use crate::tensor::{DType, Shape};
    use std::path::PathBuf;

    type Keys<'a> = Vec<(&'a str, GgufValue)>;

    /// The three keys, with the types that llama-gguf-split gives them.
    fn keys(no: u16, count: u16, tensors: i32) -> Keys<'static> {
        vec![(NO, GgufValue::U16(no)), (COUNT, GgufValue::U16(count)), (TENSORS, GgufValue::I32(tensors))]
    }

    fn write(path: &Path, keys: Keys, tensors: &[(&str, f32)]) {
        let metadata: Vec<_> = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let source = |(name, value): &(&str, f32)| {
            let bytes = value.to_le_bytes().to_vec();
            TensorSource::produced(*name, DType::F32, Shape::from([1]), move || Ok(bytes.clone()))
        };
        let tensors: Vec<_> = tensors.iter().map(source).collect();
        gguf::write(path, &metadata, &tensors).unwrap();
    }

    fn part_path(stem: &Path, no: u64, count: u64) -> PathBuf {
        PathBuf::from(format!("{}{}", stem.display(), suffix(no, count)))
    }

    /// A model in three parts; the second has no tensor.
    fn split(dir: &Path) -> Vec<PathBuf> {
        let paths: Vec<_> = (0..3).map(|no| part_path(&dir.join("m"), no, 3)).collect();
        let mut first = vec![("general.architecture", "llama".into())];
        first.extend(keys(0, 3, 3));
        write(&paths[0], first, &[("a", 1.0), ("b", 2.0)]);
        write(&paths[1], keys(1, 3, 3), &[]);
        write(&paths[2], keys(2, 3, 3), &[("c", 3.0)]);
        paths
    }

    #[test]
    fn every_part_opens_the_whole_model() {
        let dir = tempfile::tempdir().unwrap();
        let paths = split(dir.path());
        for path in &paths {
            let whole = crate::formats::open(path).unwrap();
            assert_eq!(whole.files(), paths);
            let places: Vec<_> =
                whole.tensors().iter().map(|t| (t.name.as_str(), t.file, t.tensor.bytes.to_vec())).collect();
            let value = |v: f32| v.to_le_bytes().to_vec();
            assert_eq!(places, [("a", 0, value(1.0)), ("b", 0, value(2.0)), ("c", 2, value(3.0))]);
            let Container::Gguf(header) = &whole.container else { panic!("a GGUF") };
            assert_eq!(header.metadata, [("general.architecture".to_owned(), "llama".into())]);
        }
        let bytes = std::fs::read(&paths[0]).unwrap();
        let error = gguf::parse(Bytes::from_vec(bytes), &paths[0]).unwrap_err();
        assert!(error.to_string().contains("one of 3 parts"), "{error}");
    }

    #[test]
    fn one_part_or_none_is_a_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        for keys in [keys(0, 1, 1), keys(0, 0, 9), vec![]] {
            write(&path, keys, &[("a", 1.0)]);
            assert_eq!(crate::formats::open(&path).unwrap().tensors().len(), 1);
        }
    }

    #[test]
    fn parts_that_disagree_are_refused_with_file_and_key() {
        let with = |extra: (&'static str, GgufValue)| [keys(2, 3, 3), vec![extra]].concat();
        let but = |name: &str| keys(2, 3, 3).into_iter().filter(|(key, _)| *key != name).collect::<Vec<_>>();
        for (third, tensors, at, says) in [
            (keys(1, 3, 3), &[("c", 3.0)][..], "`split.no`", "says that it is part 2 of 3"),
            (keys(2, 4, 3), &[("c", 3.0)], "`split.no`", "says that it is part 3 of 4"),
            (keys(2, 3, 4), &[("c", 3.0)], "`split.no`", "with 4 tensors in all"),
            (keys(3, 3, 3), &[("c", 3.0)], "`split.no`", "part 3 of 3, counted from 0, cannot be"),
            (keys(2, 3, 0), &[("c", 3.0)], "`split.tensors.count`", "0 tensors in all parts, but 1"),
            (keys(2, 3, -1), &[("c", 3.0)], "`split.tensors.count`", "I32(-1) is no count"),
            (keys(2, 3, 3), &[], "`split.tensors.count`", "3 tensors declared, the 3 parts have 2"),
            (keys(2, 3, 3), &[("c", 3.0), ("d", 4.0)], "`split.tensors.count`", "the 3 parts have 4"),
            (keys(2, 3, 3), &[("b", 3.0)], "`b`", "duplicate name, first in"),
            (keys(2, 0, 3), &[("c", 3.0)], "`split.no`", "says that it is a whole model"),
            (but(NO), &[("c", 3.0)], "`split.no`", "must have this key"),
            (but(TENSORS), &[("c", 3.0)], "`split.tensors.count`", "must have this key"),
            (
                with(("general.architecture", "gpt2".into())),
                &[("c", 3.0)],
                "`general.architecture`",
                "otherwise",
            ),
            (with(("general.name", "x".into())), &[("c", 3.0)], "`general.name`", "does not have it"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let paths = split(dir.path());
            write(&paths[2], third, tensors);
            let error = crate::formats::open(&paths[0]).unwrap_err().to_string();
            assert!(error.contains(at) && error.contains(says), "expected {at} and {says} in: {error}");
            assert!(error.contains("-of-00003.gguf"), "{error}");
        }
    }

    #[test]
    fn a_missing_part_and_a_foreign_name_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let paths = split(dir.path());
        let other = dir.path().join("renamed.gguf");
        std::fs::copy(&paths[0], &other).unwrap();
        let error = crate::formats::open(&other).unwrap_err().to_string();
        assert!(error.contains("must end with `-00001-of-00003.gguf`"), "{error}");
        std::fs::remove_file(&paths[1]).unwrap();
        let error = crate::formats::open(&paths[2]).unwrap_err();
        assert_eq!(error.kind, Kind::Io);
        let text = error.to_string();
        assert!(text.contains("m-00002-of-00003.gguf: part 2 of 3 is missing"), "{text}");
    }

    #[test]
    fn a_count_that_no_split_has_is_refused_before_any_part_is_sought() {
        let dir = tempfile::tempdir().unwrap();
        let path = part_path(&dir.path().join("m"), 0, u64::MAX);
        let keys =
            vec![(NO, GgufValue::U16(0)), (COUNT, GgufValue::U64(u64::MAX)), (TENSORS, GgufValue::I32(1))];
        write(&path, keys, &[("a", 1.0)]);
        let error = crate::formats::open(&path).unwrap_err().to_string();
        assert!(error.contains("part 0 of 18446744073709551615"), "{error}");
    }
}
