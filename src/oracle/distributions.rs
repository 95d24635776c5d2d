//! A reference's distributions over a text, in one small file that another run can use instead of the model.
//!
//! The name holds the digest of everything that the content depends on. All numbers are little-endian:
//! magic, version, [`ReferenceKey`] (the header), `[chunks * ctx]` token ids, one record a scored position, and the
//! SHA-256 of all that. At 256 kept tokens and 32 of the tail a position takes 2336 bytes, 20,000 positions 46.7 MB,
//! whatever the vocabulary.

use super::compact::{CompactRow, Entry};
use crate::{Error, Kind, Result};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Everything that stored distributions depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceKey {
    /// Digest of weights and settings of the model.
    pub model: [u8; 32],
    /// Digest of the token ids that were scored.
    pub text: [u8; 32],
    /// Tokens per chunk, of which the second half is scored.
    pub ctx: u32,
    /// Chunks.
    pub chunks: u32,
    /// Width of a row of logits.
    pub vocab: u32,
    /// Tokens kept of a position, at most `vocab`.
    pub top: u32,
    /// Tokens drawn from the rest of a position.
    pub samples: u32,
    /// Of the draws.
    pub seed: u64,
}

/// The distributions of one model over one text.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredReference {
    /// What they depend on.
    pub key: ReferenceKey,
    /// `[chunks * ctx]`, BOS put in already.
    pub ids: Vec<u32>,
    /// `[chunks * per_chunk]`
    pub rows: Vec<CompactRow>,
}

const MAGIC: &[u8; 8] = b"AQRDIST\0";
const VERSION: u32 = 1;
const HEADER: usize = 8 + 4 + 32 + 32 + 5 * 4 + 8;
const CHECKSUM: usize = 32;

impl ReferenceKey {
    /// Positions that are scored of a chunk of `ctx` tokens: llama.cpp scores the second half but for its first
    /// token, which the first half predicts.
    pub fn per_chunk(&self) -> usize {
        let ctx = self.ctx as usize;
        ctx.saturating_sub(1 + ctx / 2)
    }

    /// The file's name: half of the digest of the key.
    pub fn file_name(&self) -> String {
        let digest = Sha256::digest(self.header());
        let hex: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
        format!("{hex}.dist")
    }

    fn header(&self) -> Vec<u8> {
        let ReferenceKey { model, text, ctx, chunks, vocab, top, samples, seed } = self;
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(model);
        out.extend_from_slice(text);
        [ctx, chunks, vocab, top, samples].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        out.extend_from_slice(&seed.to_le_bytes());
        out
    }

    /// Bytes of one record.
    fn record(&self) -> usize {
        4 + 4 + 3 * 8 + 8 * (self.top as usize + self.samples as usize)
    }

    /// Bytes of the whole file; `None` where they cannot be counted.
    fn file_len(&self) -> Option<usize> {
        let chunks = self.chunks as usize;
        let ids = chunks.checked_mul(self.ctx as usize)?.checked_mul(4)?;
        let rows = chunks.checked_mul(self.per_chunk())?.checked_mul(self.record())?;
        HEADER.checked_add(ids)?.checked_add(rows)?.checked_add(CHECKSUM)
    }
}

impl StoredReference {
    /// Reads what was stored for `key` in `folder`; `None` where there is no such file.
    ///
    /// # Errors
    /// [`Kind::Malformed`] for a file that is cut short, changed or another one's; [`Kind::Io`].
    pub fn read(folder: &Path, key: &ReferenceKey) -> Result<Option<StoredReference>> {
        let path = folder.join(key.file_name());
        let found = match std::fs::metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path, &error)),
        };
        // The key says how long the file is, so nothing is allocated that a file merely claims.
        let expected = key.file_len().filter(|len| found.is_file() && found.len() == *len as u64);
        if expected.is_none() {
            return Err(broken(
                &path,
                format!("it has {} bytes, which is not what its key asks for", found.len()),
            ));
        }
        let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, &error))?;
        parse(&path, key, &bytes).map(Some)
    }

    /// Stores it in `folder` under its key's name; the file appears whole or not at all. Returns its path.
    ///
    /// # Errors
    /// [`Kind::Io`]; [`Kind::Internal`] where the rows are not those that the key names.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(self.key.file_name());
        let bytes = self.bytes().ok_or_else(|| {
            Error::new(
                Kind::Internal,
                path.display().to_string(),
                "the rows are not those that the key names",
            )
        })?;
        let io = |error: &std::io::Error| Error::io(&path, error);
        std::fs::create_dir_all(folder).map_err(|error| io(&error))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| io(&error))?;
        file.write_all(&bytes).map_err(|error| io(&error))?;
        file.persist(&path).map_err(|error| io(&error.error))?;
        Ok(path)
    }

    /// The file's bytes; `None` where rows and key disagree.
    fn bytes(&self) -> Option<Vec<u8>> {
        let key = &self.key;
        let mut out = key.header();
        self.ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
        for row in &self.rows {
            out.extend_from_slice(&row.label.to_le_bytes());
            out.extend_from_slice(&row.label_logit.to_le_bytes());
            [row.logsumexp, row.tail_mass, row.tail_plogp]
                .iter()
                .for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
            // A tail that underflowed has no sample; the best token fills its place and weighs nothing.
            let filler = *row.top.first()?;
            let missing = (key.samples as usize).checked_sub(row.sample.len())?;
            let sample = row.sample.iter().copied().chain(std::iter::repeat_n(filler, missing));
            for (id, logit) in row.top.iter().copied().chain(sample) {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&logit.to_le_bytes());
            }
        }
        out.extend_from_slice(&Sha256::digest(&out));
        (Some(out.len()) == key.file_len()).then_some(out)
    }
}

/// The reference in the bytes of the file at `path`, which is only for messages.
///
/// # Errors
/// [`Kind::Malformed`] where they are not the distributions of `key`, whole and unchanged.
pub fn parse(path: &Path, key: &ReferenceKey, bytes: &[u8]) -> Result<StoredReference> {
    if !bytes.starts_with(MAGIC) {
        return Err(broken(path, "it does not begin like stored distributions"));
    }
    if key.file_len() != Some(bytes.len()) || !bytes.starts_with(&key.header()) {
        return Err(broken(path, "it was stored for another model, text, chunking or version"));
    }
    // `file_len` counts the checksum in.
    let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
    if Sha256::digest(content)[..] != *checksum {
        return Err(broken(path, "its checksum does not fit: it was changed or not written whole"));
    }
    let mut words = Words(&content[HEADER..]);
    let short = || broken(path, "it ends early");
    let n_ids = key.chunks as usize * key.ctx as usize;
    let ids: Vec<u32> = (0..n_ids).map(|_| words.u32()).collect::<Option<_>>().ok_or_else(short)?;
    let n_rows = key.chunks as usize * key.per_chunk();
    let rows: Vec<CompactRow> =
        (0..n_rows).map(|_| words.row(key)).collect::<Option<_>>().ok_or_else(short)?;
    let inside = |id: &u32| *id < key.vocab;
    let sound = |row: &CompactRow| {
        row.top.iter().chain(&row.sample).all(|(id, logit)| inside(id) && !logit.is_nan())
            && inside(&row.label)
            && row.logsumexp.is_finite()
            && (0.0..=1.0 + 1e-9).contains(&row.tail_mass)
    };
    if !ids.iter().all(inside) || !rows.iter().all(sound) {
        return Err(broken(path, "a token or a probability in it is none"));
    }
    Ok(StoredReference { key: key.clone(), ids, rows })
}

fn broken(path: &Path, what: impl Into<String>) -> Error {
    Error::malformed(path, what).hint("remove it; it is computed again")
}

/// Numbers, one after the other.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn entries(&mut self, n: u32) -> Option<Vec<Entry>> {
        (0..n).map(|_| Some((self.u32()?, f32::from_le_bytes(self.take()?)))).collect()
    }

    fn row(&mut self, key: &ReferenceKey) -> Option<CompactRow> {
        Some(CompactRow {
            label: self.u32()?,
            label_logit: f32::from_le_bytes(self.take()?),
            logsumexp: f64::from_le_bytes(self.take()?),
            tail_mass: f64::from_le_bytes(self.take()?),
            tail_plogp: f64::from_le_bytes(self.take()?),
            top: self.entries(key.top)?,
            sample: self.entries(key.samples)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::SplitMix;

    fn stored() -> StoredReference {
        let key = ReferenceKey {
            model: [7; 32],
            text: [9; 32],
            ctx: 8,
            chunks: 3,
            vocab: 50,
            top: 12,
            samples: 4,
            seed: 5,
        };
        let mut random = SplitMix(3);
        let ids = (0..24).map(|_| random.below(50) as u32).collect();
        let mut row = |i: u64| {
            let logits: Vec<f32> = (0..50).map(|_| 9.0 * random.unit() as f32).collect();
            CompactRow::of(&logits, random.below(50) as u32, 12, 4, i).expect("a sound row")
        };
        let rows = (0..9).map(&mut row).collect();
        StoredReference { key, ids, rows }
    }

    #[test]
    fn what_was_stored_is_read_back_and_nothing_is_read_for_another_key() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let reference = stored();
        assert_eq!(StoredReference::read(folder.path(), &reference.key), Ok(None));
        let path = reference.write(folder.path()).expect("writable");
        assert_eq!(StoredReference::read(folder.path(), &reference.key), Ok(Some(reference.clone())));
        let other = ReferenceKey { seed: 6, ..reference.key.clone() };
        assert_eq!(StoredReference::read(folder.path(), &other), Ok(None));
        std::fs::copy(&path, folder.path().join(other.file_name())).expect("writable");
        let foreign = StoredReference::read(folder.path(), &other).expect_err("another key's");
        assert!(foreign.to_string().contains("another model, text"), "{foreign}");
    }

    #[test]
    fn every_cut_and_every_flip_is_one_clear_error() {
        let reference = stored();
        let bytes = reference.bytes().expect("consistent");
        let path = Path::new("x.dist");
        assert_eq!(parse(path, &reference.key, &bytes).as_ref(), Ok(&reference));
        for len in (0..bytes.len()).step_by(41) {
            let error = parse(path, &reference.key, &bytes[..len]).expect_err("cut short");
            assert!(error.kind == Kind::Malformed && error.hint.is_some(), "{error}");
        }
        for at in (0..bytes.len()).step_by(37) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            let error = parse(path, &reference.key, &changed).expect_err("changed");
            assert_eq!(error.kind, Kind::Malformed);
        }
        // Whole by its checksum, and nonsense all the same.
        let mut nonsense = stored();
        nonsense.rows[2].top[1].0 = 50;
        let bytes = nonsense.bytes().expect("consistent");
        let error = parse(path, &nonsense.key, &bytes).expect_err("an id outside of the vocabulary");
        assert!(error.to_string().contains("is none"), "{error}");
    }

    #[test]
    fn a_file_of_the_wrong_length_is_never_read_whole() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let reference = stored();
        let path = reference.write(folder.path()).expect("writable");
        std::fs::write(&path, vec![0; 1000]).expect("writable");
        let error = StoredReference::read(folder.path(), &reference.key).expect_err("the wrong length");
        assert!(error.to_string().contains("1000 bytes"), "{error}");
        let huge = ReferenceKey { ctx: u32::MAX, chunks: u32::MAX, top: u32::MAX, ..reference.key };
        std::fs::copy(&path, folder.path().join(huge.file_name())).expect("writable");
        assert!(StoredReference::read(folder.path(), &huge).is_err());
    }

    #[test]
    fn twenty_thousand_positions_of_any_vocabulary_stay_under_fifty_megabytes() {
        let key =
            ReferenceKey { ctx: 512, chunks: 79, vocab: 152_064, top: 256, samples: 32, ..stored().key };
        assert!(79 * key.per_chunk() > 20_000 && key.file_len().expect("countable") < 50_000_000);
    }

    #[test]
    fn rows_that_are_not_the_keys_are_not_written() {
        let mut short = stored();
        short.rows.pop();
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(short.write(folder.path()).expect_err("too few").kind, Kind::Internal);
    }
}
