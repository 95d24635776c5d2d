//! The header of a safetensors file, as stored: readable, changeable, writable, not yet judged.

use crate::formats::cursor::Cursor;
use crate::formats::json;
use crate::{Error, Result};
use serde_json::{Map, Value as Json};
use std::path::Path;

/// The reference implementation's bound on the header.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// The header and where the data begins.
pub(in crate::formats) struct Head {
    /// `__metadata__` and the tensors, in file order.
    pub(in crate::formats) object: Map<String, Json>,
    /// From the start of the file.
    pub(in crate::formats) data_start: usize,
}

impl Head {
    /// Reads the header: JSON, an object, inside the file. Its entries are not looked at here.
    pub(in crate::formats) fn read(bytes: &[u8], path: &Path) -> Result<Head> {
        let mut c = Cursor::new(path, bytes);
        let length = c.u64("the header length")?;
        if length > MAX_HEADER {
            return Err(c.broken(0, format!("header length {length} is over the format's {MAX_HEADER}")));
        }
        let text = c.take(length, "the header")?;
        if text.first() != Some(&b'{') {
            return Err(c.broken(8, "the header does not begin with `{`"));
        }
        let object = json::object(path, "the header", text)?;
        Ok(Head { object, data_start: c.position() })
    }

    /// The header's bytes with the length in front, padded with spaces so that the data is aligned to 8.
    pub(in crate::formats) fn bytes_of(object: &str, path: &Path) -> Result<Vec<u8>> {
        let length = object.len().next_multiple_of(8);
        if length as u64 > MAX_HEADER {
            let what = format!("the header would have {length} bytes, the format allows {MAX_HEADER}");
            return Err(Error::unsupported(path.display().to_string(), what));
        }
        let mut out = (length as u64).to_le_bytes().to_vec();
        out.extend(object.as_bytes());
        out.resize(8 + length, b' ');
        Ok(out)
    }
}
