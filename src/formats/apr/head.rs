//! Everything before APR's tensor data, as stored: readable, changeable, writable, not yet judged.

use super::MAGIC;
use crate::formats::cursor::Cursor;
use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// Header, metadata and every tensor start on a multiple of this.
pub(super) const ALIGNMENT: u64 = 64;

/// Bytes of the header.
pub(super) const HEADER: usize = 64;

/// Row-major: set in everything that aprender's importers and this program write.
pub(super) const ROW_MAJOR: u16 = 0x0400;

/// Where the header keeps its own CRC.
pub(super) const HEADER_CRC: Range<usize> = 40..44;

/// The head of a file. The reader judges it; the writer and the fault injectors build it.
pub(super) struct Head {
    pub(super) version: (u8, u8),
    pub(super) flags: u16,
    /// JSON, unpadded.
    pub(super) metadata: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    /// Where the data section starts. Set by [`Head::read`]; [`Head::to_bytes`] computes its own.
    pub(super) data_offset: u64,
}

/// One tensor's index entry, as stored.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: u8,
    /// Outermost first.
    pub(super) dims: Vec<u64>,
    /// From the start of the data section.
    pub(super) offset: u64,
    /// Unpadded.
    pub(super) size: u64,
}

/// Flags whose files this program does not read, with what to say and what to do.
const REFUSED_FLAGS: &[(u16, &str, &str)] = &[
    (0x0001, "LZ4-compressed", "import the model again without compression"),
    (0x0002, "ZSTD-compressed", "import the model again without compression"),
    (0x0004, "encrypted", "decrypt it with the program that encrypted it"),
    (0x0010, "one shard of several", "import the model again into one file"),
    (0x0800, "column-major", "import the model again with a current aprender, which writes rows"),
    (
        0xf000,
        "marked with flags that no version of the format defines",
        "a newer program wrote it, or it is damaged",
    ),
];

impl Head {
    /// Reads the head. Everything in it lies inside the file; whether it makes sense is not decided here.
    pub(super) fn read(bytes: &[u8], path: &Path) -> Result<Head> {
        let mut c = Cursor::new(path, bytes);
        check_magic(path, c.array("the magic")?)?;
        let version = (c.u8("the version")?, c.u8("the version")?);
        if version.0 != 2 {
            let what = format!("APR version {}.{} is not read", version.0, version.1);
            return Err(Error::unsupported(path.display().to_string(), what)
                .at("byte 4")
                .hint("version 2 is"));
        }
        let flags = c.u16("the flags")?;
        let count = c.u32("the tensor count")?;
        let metadata_offset = c.u64("the metadata offset")?;
        let metadata_size = u64::from(c.u32("the metadata size")?);
        let index_offset = c.u64("the index offset")?;
        let data_offset = c.u64("the data offset")?;
        let stored = c.u32("the header CRC")?;
        c.take(20, "the reserved bytes")?;
        let computed = header_crc(&bytes[..HEADER]);
        if stored != computed {
            let what = format!("header CRC is {stored:08x}, the header's bytes give {computed:08x}");
            return Err(c.broken(HEADER_CRC.start, what));
        }
        if let Some((_, what, hint)) = REFUSED_FLAGS.iter().find(|(bits, ..)| flags & bits != 0) {
            let what = format!("this file is {what} (flags {flags:#06x}), which is not read");
            return Err(Error::unsupported(path.display().to_string(), what).at("byte 6").hint(*hint));
        }
        check_sections(&c, [metadata_offset, metadata_size, index_offset, data_offset], bytes.len())?;
        // `check_sections` made sure that all three lie in the file, in this order.
        let (from, to) = (metadata_offset as usize, (metadata_offset + metadata_size) as usize);
        let metadata = bytes[from..to].to_vec();
        let mut index = Cursor::new(path, &bytes[..data_offset as usize]);
        index.take(index_offset, "what comes before the index")?;
        // Smallest entry: name length, dtype, dimension count, offset, size.
        let count = index.count(count.into(), 20, "tensors")?;
        let entries = (0..count).map(|_| Entry::read(&mut index)).collect::<Result<_>>()?;
        Ok(Head { version, flags, metadata, entries, data_offset })
    }

    /// The head's bytes up to the data section, with a valid header CRC.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] where a size does not fit its field.
    pub(super) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>> {
        let too_large =
            |what: &str| Error::unsupported(path.display().to_string(), format!("{what} too large for APR"));
        let mut index = Vec::new();
        for entry in &self.entries {
            let name_len = u16::try_from(entry.name.len()).map_err(|_| too_large("a tensor name is"))?;
            let n_dims = u8::try_from(entry.dims.len()).map_err(|_| too_large("a dimension count is"))?;
            index.extend(name_len.to_le_bytes());
            index.extend(entry.name.as_bytes());
            index.extend([entry.dtype, n_dims]);
            entry.dims.iter().for_each(|d| index.extend(d.to_le_bytes()));
            index.extend(entry.offset.to_le_bytes());
            index.extend(entry.size.to_le_bytes());
        }
        let metadata_size = u32::try_from(self.metadata.len()).map_err(|_| too_large("the metadata is"))?;
        let count = u32::try_from(self.entries.len()).map_err(|_| too_large("the tensor count is"))?;
        let index_offset = (HEADER as u64 + u64::from(metadata_size)).next_multiple_of(ALIGNMENT);
        let data_offset = (index_offset + index.len() as u64).next_multiple_of(ALIGNMENT);

        let mut out = MAGIC.to_vec();
        out.extend([self.version.0, self.version.1]);
        out.extend(self.flags.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend((HEADER as u64).to_le_bytes());
        out.extend(metadata_size.to_le_bytes());
        out.extend(index_offset.to_le_bytes());
        out.extend(data_offset.to_le_bytes());
        out.resize(HEADER, 0);
        seal(&mut out);
        out.extend(&self.metadata);
        out.resize(index_offset as usize, 0);
        out.extend(index);
        out.resize(data_offset as usize, 0);
        Ok(out)
    }
}

impl Entry {
    fn read(c: &mut Cursor<'_>) -> Result<Entry> {
        let name_len = c.u16("a tensor's name length")?;
        let name = c.text(name_len.into(), "a tensor name")?.to_owned();
        let what = format!("the index entry of tensor `{name}`");
        let dtype = c.u8(&what)?;
        let n_dims = c.u8(&what)?;
        let dims = (0..n_dims).map(|_| c.u64(&what)).collect::<Result<_>>()?;
        Ok(Entry { name, dtype, dims, offset: c.u64(&what)?, size: c.u64(&what)? })
    }
}

/// Puts the header's CRC in its place.
pub(super) fn seal(head: &mut [u8]) {
    let crc = header_crc(&head[..HEADER]);
    head[HEADER_CRC].copy_from_slice(&crc.to_le_bytes());
}

/// The CRC of a 64-byte header but for the field that holds it.
fn header_crc(header: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..HEADER_CRC.start]);
    crc.update(&header[HEADER_CRC.end..]);
    crc.finalize()
}

fn check_magic(path: &Path, magic: [u8; 4]) -> Result<()> {
    match &magic {
        b"APR\0" | b"APR2" => Ok(()),
        b"APRN" | b"APR1" => {
            let what = format!("APR version 1 (magic {}) is not read", magic.escape_ascii());
            Err(Error::unsupported(path.display().to_string(), what)
                .at("byte 0")
                .hint("import the model again with a current aprender"))
        }
        other => {
            Err(Error::malformed(path, format!("the magic is {}, not APR\\0", other.escape_ascii()))
                .at("byte 0"))
        }
    }
}

/// Header, metadata, index and data must follow each other inside the file.
fn check_sections(c: &Cursor<'_>, [metadata, size, index, data]: [u64; 4], file_len: usize) -> Result<()> {
    let metadata_end = metadata.checked_add(size);
    let ordered = metadata >= HEADER as u64 && metadata_end.is_some_and(|end| end <= index) && index <= data;
    if !ordered || data > file_len as u64 {
        let what = format!(
            "metadata at {metadata} ({size} bytes), index at {index} and data at {data} do not follow each other inside \
             the file's {file_len} bytes"
        );
        return Err(c.broken(12, what));
    }
    if !data.is_multiple_of(ALIGNMENT) {
        return Err(c.broken(32, format!("data offset {data} is no multiple of {ALIGNMENT}")));
    }
    Ok(())
}
