//! Everything before GGUF's tensor data, as stored: readable, changeable, writable, not yet judged.

use super::value::write_string;
use super::{GgufValue, MAGIC};
use crate::formats::cursor::Cursor;
use crate::{Error, Result};
use std::borrow::Cow;
use std::path::Path;

/// The head of a file. The reader judges it; the writer and the fault injectors build it.
pub(super) struct Head<'a> {
    /// 2 or 3.
    pub(super) version: u32,
    /// File order.
    pub(super) metadata: Cow<'a, [(String, GgufValue)]>,
    /// File order.
    pub(super) tensors: Vec<Info>,
}

/// One tensor's description, as stored.
#[derive(Clone)]
pub(super) struct Info {
    pub(super) name: String,
    /// Innermost first.
    pub(super) dims: Vec<u64>,
    /// GGML's type number, known or not.
    pub(super) dtype: u32,
    /// From the start of the data section.
    pub(super) offset: u64,
}

/// GGML tensors have at most four dimensions.
pub(super) const MAX_DIMS: u32 = 4;

/// The specification's bound on keys; tensor names are held to it too when read.
const MAX_NAME: u64 = 65_535;

impl Head<'_> {
    /// Reads the head. Everything in it lies inside the file; whether it makes sense is not decided here.
    pub(super) fn read(c: &mut Cursor<'_>, path: &Path) -> Result<Head<'static>> {
        c.take(4, "the magic")?;
        let version = c.u32("the version")?;
        check_version(path, version)?;
        let n_tensors = c.u64("the tensor count")?;
        let n_metadata = c.u64("the metadata count")?;
        // Smallest pair: key length, type, one byte. Smallest description: name length, dimension count,
        // type, offset.
        let n_metadata = c.count(n_metadata, 13, "metadata pairs")?;
        c.count(n_tensors, 24, "tensors")?;
        let mut metadata = Vec::with_capacity(n_metadata);
        for _ in 0..n_metadata {
            let key = read_name(c, "a metadata key")?;
            let value = GgufValue::read(c, &key)?;
            metadata.push((key, value));
        }
        let n_tensors = c.count(n_tensors, 24, "tensors")?;
        let mut tensors = Vec::with_capacity(n_tensors);
        for _ in 0..n_tensors {
            tensors.push(Info::read(c)?);
        }
        Ok(Head { version, metadata: Cow::Owned(metadata), tensors })
    }

    /// The head's bytes, unpadded.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in self.metadata.iter() {
            write_string(key, &mut out);
            out.extend(value.type_id().to_le_bytes());
            value.write(&mut out);
        }
        for info in &self.tensors {
            write_string(&info.name, &mut out);
            out.extend((info.dims.len() as u32).to_le_bytes());
            info.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(info.dtype.to_le_bytes());
            out.extend(info.offset.to_le_bytes());
        }
        out
    }
}

impl Info {
    fn read(c: &mut Cursor<'_>) -> Result<Info> {
        let name = read_name(c, "a tensor name")?;
        let what = format!("the description of tensor `{name}`");
        let at = c.position();
        let n_dims = c.u32(&what)?;
        if n_dims > MAX_DIMS {
            return Err(c.broken(
                at,
                format!("tensor `{name}` has {n_dims} dimensions, GGML has at most {MAX_DIMS}"),
            ));
        }
        let dims = (0..n_dims).map(|_| c.u64(&what)).collect::<Result<_>>()?;
        Ok(Info { name, dims, dtype: c.u32(&what)?, offset: c.u64(&what)? })
    }
}

fn read_name(c: &mut Cursor<'_>, what: &str) -> Result<String> {
    let at = c.position();
    let declared = u64::from_le_bytes(c.array(what)?);
    if declared > MAX_NAME {
        return Err(c.broken(at, format!("{what} declares {declared} bytes, at most {MAX_NAME} are allowed")));
    }
    Ok(c.text(declared, what)?.to_owned())
}

fn check_version(path: &Path, version: u32) -> Result<()> {
    let refuse = |what: String, hint: &str| {
        Err(Error::unsupported(path.display().to_string(), what).at("byte 4").hint(hint))
    };
    match version {
        2 | 3 => Ok(()),
        1 => refuse("GGUF version 1 is not read".into(), "convert it with a current llama.cpp"),
        v if matches!(v.swap_bytes(), 1..=3) => refuse(
            format!("big-endian GGUF (version {}) is not read", v.swap_bytes()),
            "convert it to little-endian",
        ),
        v => refuse(format!("GGUF version {v} is unknown"), "versions 2 and 3 are read"),
    }
}
