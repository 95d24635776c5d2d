//! The 13 metadata value types of GGUF, read from bounded bytes and written back.

use crate::Result;
use crate::formats::cursor::Cursor;

/// A metadata value. The variants stand in the order of GGUF's type numbers 0 to 12.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the type is the name
pub enum GgufValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(GgufArray),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// A GGUF array: all elements of one type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the type is the name
pub enum GgufArray {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<GgufArray>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// How deep arrays of arrays may nest. No known file nests at all; the specification sets no bound.
const MAX_DEPTH: usize = 4;

impl GgufValue {
    /// An integer of any width that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            GgufValue::U64(v) => Some(v),
            _ => self.as_i64().and_then(|v| u64::try_from(v).ok()),
        }
    }

    /// An integer of any width that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            GgufValue::U8(v) => Some(v.into()),
            GgufValue::I8(v) => Some(v.into()),
            GgufValue::U16(v) => Some(v.into()),
            GgufValue::I16(v) => Some(v.into()),
            GgufValue::U32(v) => Some(v.into()),
            GgufValue::I32(v) => Some(v.into()),
            GgufValue::U64(v) => i64::try_from(v).ok(),
            GgufValue::I64(v) => Some(v),
            GgufValue::F32(_)
            | GgufValue::F64(_)
            | GgufValue::Bool(_)
            | GgufValue::String(_)
            | GgufValue::Array(_) => None,
        }
    }

    /// A float of either width, or an integer.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            GgufValue::F32(v) => Some(v.into()),
            GgufValue::F64(v) => Some(v),
            _ => self.as_i64().map(|v| v as f64),
        }
    }

    /// A string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            GgufValue::String(v) => Some(v),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            GgufValue::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// An array.
    pub fn as_array(&self) -> Option<&GgufArray> {
        match self {
            GgufValue::Array(v) => Some(v),
            _ => None,
        }
    }

    /// The type's name in the specification: `uint32`, `array`.
    pub fn type_name(&self) -> &'static str {
        TYPE_NAMES[self.type_id() as usize]
    }

    /// The type's number in the file.
    pub(super) fn type_id(&self) -> u32 {
        match self {
            GgufValue::U8(_) => 0,
            GgufValue::I8(_) => 1,
            GgufValue::U16(_) => 2,
            GgufValue::I16(_) => 3,
            GgufValue::U32(_) => 4,
            GgufValue::I32(_) => 5,
            GgufValue::F32(_) => 6,
            GgufValue::Bool(_) => 7,
            GgufValue::String(_) => 8,
            GgufValue::Array(_) => 9,
            GgufValue::U64(_) => 10,
            GgufValue::I64(_) => 11,
            GgufValue::F64(_) => 12,
        }
    }

    /// Reads a value with its type number in front.
    pub(super) fn read(c: &mut Cursor<'_>, key: &str) -> Result<GgufValue> {
        let start = c.position();
        let what = format!("metadata `{key}`");
        Ok(match c.u32(&what)? {
            0 => GgufValue::U8(c.u8(&what)?),
            1 => GgufValue::I8(i8::from_le_bytes(c.array(&what)?)),
            2 => GgufValue::U16(c.u16(&what)?),
            3 => GgufValue::I16(i16::from_le_bytes(c.array(&what)?)),
            4 => GgufValue::U32(c.u32(&what)?),
            5 => GgufValue::I32(i32::from_le_bytes(c.array(&what)?)),
            6 => GgufValue::F32(f32::from_le_bytes(c.array(&what)?)),
            7 => GgufValue::Bool(read_bool(c, &what)?),
            8 => GgufValue::String(read_string(c, &what)?),
            9 => GgufValue::Array(GgufArray::read(c, &what, 1)?),
            10 => GgufValue::U64(c.u64(&what)?),
            11 => GgufValue::I64(i64::from_le_bytes(c.array(&what)?)),
            12 => GgufValue::F64(f64::from_le_bytes(c.array(&what)?)),
            id => return Err(unknown_type(c, start, &what, id)),
        })
    }

    /// Appends the value without its type number.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            GgufValue::U8(v) => out.extend(v.to_le_bytes()),
            GgufValue::I8(v) => out.extend(v.to_le_bytes()),
            GgufValue::U16(v) => out.extend(v.to_le_bytes()),
            GgufValue::I16(v) => out.extend(v.to_le_bytes()),
            GgufValue::U32(v) => out.extend(v.to_le_bytes()),
            GgufValue::I32(v) => out.extend(v.to_le_bytes()),
            GgufValue::F32(v) => out.extend(v.to_le_bytes()),
            GgufValue::Bool(v) => out.push(u8::from(*v)),
            GgufValue::String(v) => write_string(v, out),
            GgufValue::Array(v) => v.write(out),
            GgufValue::U64(v) => out.extend(v.to_le_bytes()),
            GgufValue::I64(v) => out.extend(v.to_le_bytes()),
            GgufValue::F64(v) => out.extend(v.to_le_bytes()),
        }
    }
}

const TYPE_NAMES: [&str; 13] = [
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array", "uint64",
    "int64", "float64",
];

impl GgufArray {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            GgufArray::U8(v) => v.len(),
            GgufArray::I8(v) => v.len(),
            GgufArray::U16(v) => v.len(),
            GgufArray::I16(v) => v.len(),
            GgufArray::U32(v) => v.len(),
            GgufArray::I32(v) => v.len(),
            GgufArray::F32(v) => v.len(),
            GgufArray::Bool(v) => v.len(),
            GgufArray::String(v) => v.len(),
            GgufArray::Array(v) => v.len(),
            GgufArray::U64(v) => v.len(),
            GgufArray::I64(v) => v.len(),
            GgufArray::F64(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements, where they are strings.
    pub fn as_strings(&self) -> Option<&[String]> {
        match self {
            GgufArray::String(v) => Some(v),
            _ => None,
        }
    }

    /// The elements as values, in order.
    pub fn values(&self) -> Vec<GgufValue> {
        fn each<T: Clone>(items: &[T], make: fn(T) -> GgufValue) -> Vec<GgufValue> {
            items.iter().cloned().map(make).collect()
        }
        match self {
            GgufArray::U8(v) => each(v, GgufValue::U8),
            GgufArray::I8(v) => each(v, GgufValue::I8),
            GgufArray::U16(v) => each(v, GgufValue::U16),
            GgufArray::I16(v) => each(v, GgufValue::I16),
            GgufArray::U32(v) => each(v, GgufValue::U32),
            GgufArray::I32(v) => each(v, GgufValue::I32),
            GgufArray::F32(v) => each(v, GgufValue::F32),
            GgufArray::Bool(v) => each(v, GgufValue::Bool),
            GgufArray::String(v) => each(v, GgufValue::String),
            GgufArray::Array(v) => each(v, GgufValue::Array),
            GgufArray::U64(v) => each(v, GgufValue::U64),
            GgufArray::I64(v) => each(v, GgufValue::I64),
            GgufArray::F64(v) => each(v, GgufValue::F64),
        }
    }

    /// The elements, where they are integers of any width that fit.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        self.values().iter().map(GgufValue::as_i64).collect()
    }

    /// The elements, where they are numbers.
    pub fn to_f64s(&self) -> Option<Vec<f64>> {
        self.values().iter().map(GgufValue::as_f64).collect()
    }

    fn read(c: &mut Cursor<'_>, what: &str, depth: usize) -> Result<GgufArray> {
        let start = c.position();
        let id = c.u32(what)?;
        let n = c.u64(what)?;
        if depth > MAX_DEPTH {
            return Err(c.broken(start, format!("{what} nests arrays deeper than {MAX_DEPTH}")));
        }
        Ok(match id {
            0 => GgufArray::U8(read_many(c, n, what, u8::from_le_bytes)?),
            1 => GgufArray::I8(read_many(c, n, what, i8::from_le_bytes)?),
            2 => GgufArray::U16(read_many(c, n, what, u16::from_le_bytes)?),
            3 => GgufArray::I16(read_many(c, n, what, i16::from_le_bytes)?),
            4 => GgufArray::U32(read_many(c, n, what, u32::from_le_bytes)?),
            5 => GgufArray::I32(read_many(c, n, what, i32::from_le_bytes)?),
            6 => GgufArray::F32(read_many(c, n, what, f32::from_le_bytes)?),
            7 => {
                let n = c.count(n, 1, &format!("elements of {what}"))?;
                GgufArray::Bool((0..n).map(|_| read_bool(c, what)).collect::<Result<_>>()?)
            }
            8 => {
                // A string is its length at least.
                let n = c.count(n, 8, &format!("elements of {what}"))?;
                GgufArray::String((0..n).map(|_| read_string(c, what)).collect::<Result<_>>()?)
            }
            9 => {
                // An array is its type and length at least.
                let n = c.count(n, 12, &format!("elements of {what}"))?;
                GgufArray::Array((0..n).map(|_| GgufArray::read(c, what, depth + 1)).collect::<Result<_>>()?)
            }
            10 => GgufArray::U64(read_many(c, n, what, u64::from_le_bytes)?),
            11 => GgufArray::I64(read_many(c, n, what, i64::from_le_bytes)?),
            12 => GgufArray::F64(read_many(c, n, what, f64::from_le_bytes)?),
            id => return Err(unknown_type(c, start, what, id)),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        fn plain<T: Copy, const N: usize>(out: &mut Vec<u8>, id: u32, items: &[T], bytes: fn(T) -> [u8; N]) {
            start(out, id, items.len());
            out.extend(items.iter().flat_map(|v| bytes(*v)));
        }
        fn start(out: &mut Vec<u8>, id: u32, n: usize) {
            out.extend(id.to_le_bytes());
            out.extend((n as u64).to_le_bytes());
        }
        match self {
            GgufArray::U8(v) => plain(out, 0, v, u8::to_le_bytes),
            GgufArray::I8(v) => plain(out, 1, v, i8::to_le_bytes),
            GgufArray::U16(v) => plain(out, 2, v, u16::to_le_bytes),
            GgufArray::I16(v) => plain(out, 3, v, i16::to_le_bytes),
            GgufArray::U32(v) => plain(out, 4, v, u32::to_le_bytes),
            GgufArray::I32(v) => plain(out, 5, v, i32::to_le_bytes),
            GgufArray::F32(v) => plain(out, 6, v, f32::to_le_bytes),
            GgufArray::Bool(v) => plain(out, 7, v, |b| [u8::from(b)]),
            GgufArray::String(v) => {
                start(out, 8, v.len());
                v.iter().for_each(|s| write_string(s, out));
            }
            GgufArray::Array(v) => {
                start(out, 9, v.len());
                v.iter().for_each(|a| a.write(out));
            }
            GgufArray::U64(v) => plain(out, 10, v, u64::to_le_bytes),
            GgufArray::I64(v) => plain(out, 11, v, i64::to_le_bytes),
            GgufArray::F64(v) => plain(out, 12, v, f64::to_le_bytes),
        }
    }
}

impl From<&str> for GgufValue {
    fn from(text: &str) -> Self {
        GgufValue::String(text.to_owned())
    }
}

/// Appends a string with its length in front.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Reads a string with its length in front.
fn read_string(c: &mut Cursor<'_>, what: &str) -> Result<String> {
    let n = c.u64(what)?;
    Ok(c.text(n, what)?.to_owned())
}

fn read_bool(c: &mut Cursor<'_>, what: &str) -> Result<bool> {
    let at = c.position();
    match c.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(c.broken(at, format!("{what} holds a bool that is {other}, not 0 or 1"))),
    }
}

fn read_many<T, const N: usize>(
    c: &mut Cursor<'_>,
    n: u64,
    what: &str,
    value: fn([u8; N]) -> T,
) -> Result<Vec<T>> {
    let n = c.count(n, N, &format!("elements of {what}"))?;
    // `count` made sure that `n * N` bytes are left.
    let bytes = c.take((n * N) as u64, what)?;
    Ok(bytes.as_chunks::<N>().0.iter().map(|b| value(*b)).collect())
}

fn unknown_type(c: &Cursor<'_>, at: usize, what: &str, id: u32) -> crate::Error {
    c.broken(at, format!("{what} has unknown value type {id}; GGUF has 0 to 12"))
}
