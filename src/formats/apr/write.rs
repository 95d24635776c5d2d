//! APR version 2, one tensor in memory at a time; equal inputs give equal bytes.

use super::dialect::{self, AprDialect, CONTRACT_NAME, DIALECT_KEY};
use super::head::{ALIGNMENT, Entry, Head, ROW_MAJOR};
use crate::formats::TensorSource;
use crate::formats::sink::{Sink, padding};
use crate::quant::tiled;
use crate::tensor::{Bytes, DType, Shape, Tensor};
use crate::{Error, Kind, Result};
use serde_json::{Map, Value as Json};
use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::path::Path;

/// aprender's writer cuts longer names.
const MAX_NAME: usize = 256;

/// aprender's writer drops further dimensions.
const MAX_DIMS: usize = 8;

/// Writes `metadata` (keys sorted at every depth) and `tensors` (sorted by name) to a new file at `path`.
/// In the contract's dialect the metadata gains the key that declares it. Of the flags only row-major is
/// set, as aprender's importers do: readers must not branch on the others.
///
/// # Errors
/// [`Kind::Unsupported`] for an encoding that the dialect cannot store, a name over 256 bytes or more than
/// 8 dimensions; [`Kind::Usage`] for a name that stands twice; those of the producers; [`Kind::Io`].
pub fn write(
    path: &Path,
    mut metadata: Map<String, Json>,
    tensors: &[TensorSource<'_>],
    dialect: AprDialect,
) -> Result<()> {
    match dialect {
        AprDialect::Contract => drop(metadata.insert(DIALECT_KEY.into(), CONTRACT_NAME.into())),
        AprDialect::Aprender => drop(metadata.remove(DIALECT_KEY)),
    }
    write_as_given(path, sorted_json(metadata), tensors, Stored::Plain(dialect))
}

/// As [`write`] in the contract's dialect, with every matrix in row tiles whose encoding has them; the rest stays
/// plain. `threads` make the tiles; no byte depends on their number.
///
/// # Errors
/// Those of [`write`].
pub fn write_tiled(
    path: &Path,
    mut metadata: Map<String, Json>,
    tensors: &[TensorSource<'_>],
    threads: NonZeroUsize,
) -> Result<()> {
    metadata.insert(DIALECT_KEY.into(), CONTRACT_NAME.into());
    write_as_given(path, sorted_json(metadata), tensors, Stored::Tiled(threads))
}

/// Whether [`write_tiled`] puts such a tensor into tiles: every matrix in an encoding that has them, unless it is empty.
pub fn stands_tiled(dtype: DType, shape: &Shape) -> bool {
    tiled::tiled_len(dtype, shape).is_some_and(|size| size > 0)
}

fn sorted_json(metadata: Map<String, Json>) -> Vec<u8> {
    let mut metadata = Json::Object(metadata);
    metadata.sort_all_objects();
    metadata.to_string().into_bytes()
}

/// How tensors are stored, and under which bytes.
#[derive(Clone, Copy)]
enum Stored {
    Plain(AprDialect),
    /// The contract's dialect, tiles made by so many threads.
    Tiled(NonZeroUsize),
}

impl Stored {
    fn dialect(self) -> AprDialect {
        match self {
            Stored::Plain(dialect) => dialect,
            Stored::Tiled(_) => AprDialect::Contract,
        }
    }

    /// Byte and size where `tensor` is to stand in tiles.
    fn tiles(self, tensor: &TensorSource<'_>) -> Option<(u8, usize)> {
        match self {
            Stored::Plain(_) => None,
            Stored::Tiled(_) => {
                let size = tiled::tiled_len(tensor.dtype, &tensor.shape)?;
                let byte = dialect::tiled_byte(tensor.dtype)?;
                stands_tiled(tensor.dtype, &tensor.shape).then_some((byte, size))
            }
        }
    }

    fn bytes<'a>(self, tensor: &'a TensorSource<'_>) -> Result<Cow<'a, [u8]>> {
        let plain = tensor.bytes()?;
        match (self, self.tiles(tensor)) {
            (Stored::Tiled(threads), Some(_)) => {
                let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
                let bytes = Bytes::from_vec(plain.into_owned());
                Ok(Cow::Owned(tiled::pack(&Tensor { dtype, shape, bytes }, threads)?))
            }
            (Stored::Plain(_) | Stored::Tiled(_), _) => Ok(plain),
        }
    }
}

/// As [`write`], with the metadata's bytes as they are.
fn write_as_given(
    path: &Path,
    metadata: Vec<u8>,
    tensors: &[TensorSource<'_>],
    stored: Stored,
) -> Result<()> {
    let mut sorted: Vec<&TensorSource<'_>> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let entries = entries(path, &sorted, stored)?;
    let head =
        Head { version: (2, 0), flags: ROW_MAJOR, metadata, entries, data_offset: 0 }.to_bytes(path)?;
    let mut out = Checked { sink: Sink::create(path)?, crc: crc32fast::Hasher::new() };
    out.put(&head)?;
    for tensor in sorted {
        out.put(&stored.bytes(tensor)?)?;
        out.put(&padding(out.sink.written(), ALIGNMENT))?;
    }
    let crc = out.crc.clone().finalize();
    out.put(&crc.to_le_bytes())?;
    out.sink.commit()
}

/// A sink that keeps the CRC of what went in.
struct Checked<'a> {
    sink: Sink<'a>,
    crc: crc32fast::Hasher,
}

impl Checked<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.sink.put(bytes)
    }
}

fn entries(path: &Path, sorted: &[&TensorSource<'_>], stored: Stored) -> Result<Vec<Entry>> {
    let subject = || path.display().to_string();
    let mut offset = 0u64;
    let mut entries: Vec<Entry> = Vec::with_capacity(sorted.len());
    for tensor in sorted {
        let at = format!("tensor `{}`", tensor.name);
        if entries.last().is_some_and(|last| last.name == tensor.name) {
            return Err(Error::new(Kind::Usage, subject(), "the name is given twice").at(at));
        }
        if tensor.name.len() > MAX_NAME || tensor.shape.ndim() > MAX_DIMS {
            let what = format!("APR holds names of {MAX_NAME} bytes and {MAX_DIMS} dimensions at most");
            return Err(Error::unsupported(subject(), what).at(at));
        }
        let dialect = stored.dialect();
        let Some(plain) = dialect.byte(tensor.dtype) else {
            let what = format!("the {} dialect of APR has no {}", dialect.name(), tensor.dtype);
            return Err(Error::unsupported(subject(), what).at(at));
        };
        let (dtype, size) = stored.tiles(tensor).unwrap_or((plain, tensor.nbytes()?));
        let size = size as u64;
        let dims = tensor.shape.0.iter().map(|d| *d as u64).collect();
        entries.push(Entry { name: tensor.name.clone(), dtype, dims, offset, size });
        offset = (offset + size).next_multiple_of(ALIGNMENT);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{Container, Payload, apr};

    /// The metadata of `golden_v2.apr`, the fixture of aprender's own tests: 715 bytes.
    const GOLDEN_METADATA: &str = r#"{"model_type":"linear_regression","name":"golden-v2","description":null,"author":null,"license":null,"data_source":null,"data_license":null,"version":"0.0.0-golden","source":null,"original_format":null,"created_at":"1700000000","total_size":0,"param_count":8,"quantization":null,"sharding":null,"chat_template":null,"chat_format":null,"special_tokens":null,"architecture":null,"hf_architecture":null,"hf_model_type":null,"hidden_size":null,"num_layers":null,"num_heads":null,"num_kv_heads":null,"vocab_size":null,"intermediate_size":null,"max_position_embeddings":null,"rope_theta":null,"rope_type":null,"rms_norm_eps":null,"head_dim":null,"num_experts":null,"num_experts_per_tok":null,"moe_intermediate_size":null}"#;

    fn f32s(name: &str, values: &[f32]) -> TensorSource<'static> {
        let bytes = Bytes::from_vec(values.iter().flat_map(|v| v.to_le_bytes()).collect());
        let shape = [values.len()].into();
        TensorSource { name: name.into(), dtype: DType::F32, shape, payload: Payload::Bytes(bytes) }
    }

    #[test]
    fn aprenders_golden_file_comes_out_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("golden_v2.apr");
        let tensors = [f32s("weights", &[1.0, 2.0, 0.5, -0.5, 4.0, -2.0, 0.25, 8.0]), f32s("bias", &[0.125])];
        write_as_given(&path, GOLDEN_METADATA.into(), &tensors, Stored::Plain(AprDialect::Aprender)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        // Facts of the published file: its length, offsets, first index entry and both CRCs. The footer's
        // CRC covers every other byte.
        assert_eq!(bytes.len(), 1092);
        assert_eq!(bytes[20..40], [0xcb, 2, 0, 0, 0x40, 3, 0, 0, 0, 0, 0, 0, 0xc0, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[40..44], 0x9740_2698u32.to_le_bytes());
        assert_eq!(bytes[0x340..0x350], *b"\x04\0bias\0\x01\x01\0\0\0\0\0\0\0");
        assert_eq!(bytes[1088..], 0x3166_ac78u32.to_le_bytes());

        let checkpoint = apr::open(&path).unwrap();
        let Container::Apr(header) = &checkpoint.container else { panic!("an APR file") };
        assert_eq!(
            (header.version, header.flags, header.footer),
            ((2, 0), 0x0400, Some((0x3166_ac78, true)))
        );
        assert_eq!(checkpoint.get("weights").unwrap().offset, 0x400);
        assert!(!header.declares_contract());
    }

    #[test]
    fn keys_are_sorted_at_every_depth_and_the_dialect_is_declared() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a.apr", "b.apr"].map(|name| dir.path().join(name));
        let one = serde_json::from_str(r#"{"z":1,"a":{"y":2,"b":3}}"#).unwrap();
        let other = serde_json::from_str(r#"{"a":{"b":3,"y":2},"z":1}"#).unwrap();
        write(&a, one, &[f32s("y", &[1.0]), f32s("x", &[2.0])], AprDialect::Contract).unwrap();
        write(&b, other, &[f32s("x", &[2.0]), f32s("y", &[1.0])], AprDialect::Contract).unwrap();
        let bytes = std::fs::read(&a).unwrap();
        assert!(bytes == std::fs::read(&b).unwrap());
        let expected = r#"{"a":{"b":3,"y":2},"format_dialect":"contract-v1","z":1}"#;
        assert_eq!(&bytes[64..64 + expected.len()], expected.as_bytes());
    }

    #[test]
    fn what_a_dialect_cannot_store_is_refused_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.apr");
        let q8 = || TensorSource { dtype: DType::Q8_0, ..f32s("w", &[0.0; 32]) };
        let error = write(&path, Map::new(), &[q8()], AprDialect::Aprender).unwrap_err();
        assert_eq!((error.kind, error.at.as_deref()), (Kind::Unsupported, Some("tensor `w`")));
        // The bytes are those of 32 floats, not of one Q8_0 block.
        let error = write(&path, Map::new(), &[q8()], AprDialect::Contract).unwrap_err();
        assert_eq!(error.kind, Kind::Internal);
        let twice = [f32s("w", &[0.0]), f32s("w", &[0.0])];
        assert_eq!(write(&path, Map::new(), &twice, AprDialect::Contract).unwrap_err().kind, Kind::Usage);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
