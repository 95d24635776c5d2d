//! The bytes of a file or a tensor, and what they decode to.

use crate::formats::NamedTensor;
use crate::tensor::DType;
use crate::{Error, Kind, Result, quant};
use serde::Serialize;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// `limit` bytes of the file at `path` from `offset` on; fewer where it ends.
///
/// # Errors
/// [`Kind::Usage`] for an offset behind the end; [`Kind::Io`].
pub fn bytes_at(path: &Path, offset: u64, limit: usize) -> Result<Bytes> {
    let io = |e: std::io::Error| Error::io(path, &e);
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    if offset >= size {
        let what = format!("offset {offset} is behind the end: the file has {size} bytes");
        return Err(Error::new(Kind::Usage, path.display().to_string(), what));
    }
    file.seek(SeekFrom::Start(offset)).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes).map_err(io)?;
    Ok(Bytes { offset, bytes })
}

/// Bytes and where they begin.
#[derive(Debug, Clone, PartialEq)]
pub struct Bytes {
    /// Of the first one, in the file.
    pub offset: u64,
    /// As they stand there.
    pub bytes: Vec<u8>,
}

impl Bytes {
    /// Sixteen bytes a row: offset, hexadecimal, and text where it is printable.
    pub fn rows(&self) -> Vec<Row> {
        let row = |(i, bytes): (usize, &[u8])| Row {
            offset: self.offset + 16 * i as u64,
            hex: bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" "),
            ascii: bytes.iter().map(|&b| if (0x20..0x7f).contains(&b) { b as char } else { '.' }).collect(),
        };
        self.bytes.chunks(16).enumerate().map(row).collect()
    }
}

/// A row of a dump.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Of its first byte, in the file.
    pub offset: u64,
    /// `47 47 55 46`.
    pub hex: String,
    /// Printable ASCII, a dot for every other byte.
    pub ascii: String,
}

/// The values in `limit` bytes of a tensor from byte `offset` on, in whole blocks. Of a tensor in row tiles the plain
/// blocks are shown, which stand nowhere in the file: their offsets count from the first of them.
///
/// # Errors
/// [`Kind::Usage`] for an offset behind its end; [`Kind::Unsupported`] for an encoding that is no number.
pub fn decoded(tensor: &NamedTensor, offset: usize, limit: usize) -> Result<Decoded> {
    let t = &tensor.tensor;
    let subject = || format!("tensor `{}`", tensor.name);
    if offset >= t.bytes.len() {
        let what = format!("offset {offset} is behind the end: it has {} bytes", t.bytes.len());
        return Err(Error::new(Kind::Usage, subject(), what));
    }
    quant::codec(t.dtype).map_err(|e| e.at(subject()))?;
    let (block_len, block_bytes) = (t.dtype.block_len(), t.dtype.block_bytes());
    // aprender's int8 begins with the scale of the whole tensor.
    let lead = if t.dtype == DType::AprQ8 { 4 } else { 0 };
    let first = offset.saturating_sub(lead) / block_bytes * block_len;
    let end = offset.saturating_add(limit).min(t.bytes.len()).saturating_sub(lead).div_ceil(block_bytes);
    let end = (end * block_len).min(t.shape.numel());
    let mut values = vec![0.0; end.saturating_sub(first)];
    if !values.is_empty() {
        quant::range_to_f32(t, first, &mut values).map_err(|e| e.at(subject()))?;
    }
    let bytes = t.bytes.plain()[offset..offset.saturating_add(limit).min(t.bytes.len())].to_vec();
    let start = if t.bytes.tiles().is_some() { 0 } else { tensor.offset };
    Ok(Decoded { bytes: Bytes { offset: start + offset as u64, bytes }, first_index: first, values })
}

/// A piece of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// As stored.
    pub bytes: Bytes,
    /// Flat index of the first value, row-major as stored.
    pub first_index: usize,
    /// Of every block that the bytes touch.
    pub values: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::fixture::tensor;
    use proptest::prelude::*;

    #[test]
    fn a_dump_shows_text_where_it_is_text() {
        let rows = Bytes { offset: 32, bytes: b"GGUF\x03\x00\x00\x00 and seventeen".to_vec() }.rows();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].ascii, "GGUF.... and sev");
        assert!(rows[0].hex.starts_with("47 47 55 46 03 00"));
        assert_eq!((rows[1].offset, rows[1].ascii.as_str()), (48, "enteen"));
    }

    #[test]
    fn an_offset_behind_the_end_is_refused() {
        let t = tensor("x", DType::F32, [2].into(), &[1.0, 2.0]);
        assert_eq!(decoded(&t, 8, 4).expect_err("behind the end").kind, Kind::Usage);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("f");
        std::fs::write(&path, b"1234").expect("writable");
        assert_eq!(bytes_at(&path, 4, 1).expect_err("behind the end").kind, Kind::Usage);
        assert_eq!(bytes_at(&path, 2, 9).expect("inside").bytes, b"34");
    }

    proptest! {
        /// Whatever piece is asked for, its values are those of the whole tensor.
        #[test]
        fn a_piece_decodes_as_the_whole_does(offset in 0usize..200, limit in 1usize..400) {
            let values: Vec<f32> = (0..256).map(|i| (i as f32 - 100.0) / 7.0).collect();
            for dtype in [DType::F32, DType::BF16, DType::Q8_0, DType::Q4_0, DType::AprQ4, DType::AprQ8] {
                let t = tensor("x", dtype, [256].into(), &values);
                if offset >= t.tensor.bytes.len() {
                    continue;
                }
                let whole = quant::to_f32(&t.tensor).expect("decodes");
                let piece = decoded(&t, offset, limit).expect("inside");
                let range = piece.first_index..piece.first_index + piece.values.len();
                prop_assert_eq!(&piece.values[..], &whole[range], "{}", dtype);
                prop_assert_eq!(piece.bytes.bytes.len(), limit.min(t.tensor.bytes.len() - offset));
            }
        }
    }
}
