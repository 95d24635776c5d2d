//! APR v2: 64-byte header, JSON metadata, sorted tensor index, 64-byte aligned tensors, CRC footer; all
//! little-endian.
//!
//! Three tables of dtype bytes are in use: the owner's contract (GGML's numbers), aprender up to 0.26 and
//! aprender 0.72. [`dialect`] says how a byte is read. Files that this program writes in the contract's
//! dialect declare it in their metadata, so that nothing in them is open to a second reading.
//! Source: aprender's `apr-format` 0.72 and `contracts/apr-format-v1.yaml`.

pub mod dialect;
pub(super) mod fault;
mod head;
mod read;
mod write;

pub use dialect::{AprDialect, AprLayout};
pub use read::parse;
pub use write::{stands_tiled, write, write_tiled};

use super::{Checkpoint, Format, FormatKind, map};
use crate::Result;
use crate::tensor::Bytes;
use serde_json::{Map, Value as Json};
use std::path::Path;

/// The first four bytes that are written.
pub const MAGIC: &[u8; 4] = b"APR\0";

/// What an APR v2 file says before its tensors.
#[derive(Debug, Clone)]
pub struct AprHeader {
    /// Major and minor version.
    pub version: (u8, u8),
    /// Flag bits; `0x0400` says row-major.
    pub flags: u16,
    /// The metadata object, in file order.
    pub metadata: Map<String, Json>,
    /// The footer's CRC where there is a footer, and whether it holds. Opening refuses one that does not.
    pub footer: Option<(u32, bool)>,
}

impl AprHeader {
    /// The value of metadata key `key`.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.metadata.get(key)
    }

    /// Whether the file says that its dtype bytes are the contract's.
    pub fn declares_contract(&self) -> bool {
        dialect::declared(&self.metadata) == Ok(Some(AprDialect::Contract))
    }
}

/// The row of [`super::FORMATS`].
pub(super) struct Apr;

impl Format for Apr {
    fn kind(&self) -> FormatKind {
        FormatKind::Apr
    }

    fn recognizes(&self, file: &[u8]) -> bool {
        file.starts_with(b"APR") && file.get(3).is_none_or(|b| matches!(b, 0 | b'N' | b'1' | b'2'))
    }

    fn open(&self, path: &Path, file: Bytes) -> Result<Checkpoint> {
        parse(file, path)
    }
}

/// Opens the APR file at `path`.
///
/// # Errors
/// As [`super::open`].
pub fn open(path: &Path) -> Result<Checkpoint> {
    parse(map::map_file(path)?, path)
}
