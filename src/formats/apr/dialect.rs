//! What a dtype byte in an APR index means: one reading that fits the entry's size, or an error.
//!
//! Bytes 2, 3 and 6 to 9 have two readings: the contract's (GGML's type number) and aprender's own, of 0.25
//! or 0.72. They never need the same number of bytes for one shape, with two exceptions: an empty tensor,
//! and byte 9 for 32 elements (Q8_1 and aprender's int8 both need 36 bytes). So:
//!
//! - A file whose metadata says `"format_dialect": "contract-v1"` has the contract's bytes and no others.
//!   Every file that this program writes with [`AprDialect::Contract`] says so. One that says `"aprender"` has
//!   aprender's, old and new: a way to settle by hand what sizes do not.
//! - In any other file the reading is the one whose size is the entry's. None, or two, is an error.
//! - Bytes from 0xA0 on are ours: GGML's number plus 0xA0 says that the blocks stand as row tiles (`quant::tiled`). No
//!   other program has them. They go with the contract's table.
//! - A byte in no table is an error that names tensor and byte. It is never taken for F32.

use crate::quant::tiled;
use crate::tensor::{DType, Shape};
use DType::*;
use serde_json::{Map, Value as Json};

/// Which table of dtype bytes a file is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AprDialect {
    /// The owner's contract: GGML's type numbers.
    #[default]
    Contract,
    /// aprender 0.72: its own int4 (128) and int8 (129), no GGML 32-blocks.
    Aprender,
}

impl AprDialect {
    /// The byte that stands for `dtype`, or `None` where the dialect cannot store it.
    pub fn byte(self, dtype: DType) -> Option<u8> {
        let table = match self {
            AprDialect::Contract => CONTRACT,
            AprDialect::Aprender => APRENDER,
        };
        table.iter().find(|(d, _)| *d == dtype).map(|(_, byte)| *byte)
    }

    /// The name on the command line and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            AprDialect::Contract => "contract",
            AprDialect::Aprender => "aprender",
        }
    }
}

/// How the blocks of a file's matrices stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AprLayout {
    /// Row after row, as GGML has them.
    #[default]
    Plain,
    /// As row tiles where the encoding and the shape allow it, under dtype bytes of our own.
    Tiled,
}

impl AprLayout {
    /// Every choice.
    pub const ALL: &'static [AprLayout] = &[AprLayout::Plain, AprLayout::Tiled];

    /// The name on the command line and in playbooks.
    pub const fn name(self) -> &'static str {
        match self {
            AprLayout::Plain => "plain",
            AprLayout::Tiled => "tiled",
        }
    }
}

/// The byte that stands for row tiles of `dtype`, where it has them.
pub fn tiled_byte(dtype: DType) -> Option<u8> {
    TILED.iter().find(|(d, _)| *d == dtype).map(|(_, byte)| *byte)
}

/// The metadata key under which a file names its table.
pub const DIALECT_KEY: &str = "format_dialect";

/// The value of [`DIALECT_KEY`] in files with the contract's table.
pub const CONTRACT_NAME: &str = "contract-v1";

/// The value of [`DIALECT_KEY`] in files with aprender's tables. aprender itself writes no such key.
pub const APRENDER_NAME: &str = "aprender";

/// The contract's table with its extension (Q4_1 and Q5_1, by the same rule).
pub const CONTRACT: &[(DType, u8)] = &[
    (F32, 0),
    (F16, 1),
    (Q4_0, 2),
    (Q4_1, 3),
    (Q5_0, 6),
    (Q5_1, 7),
    (Q8_0, 8),
    (Q2_K, 10),
    (Q3_K, 11),
    (Q4_K, 12),
    (Q5_K, 13),
    (Q6_K, 14),
    (BF16, 30),
];

/// Row tiles, in files with the contract's table: the contract's byte plus 0xA0.
pub const TILED: &[(DType, u8)] = &[
    (Q4_0, 0xa2),
    (Q4_1, 0xa3),
    (Q5_0, 0xa6),
    (Q5_1, 0xa7),
    (Q8_0, 0xa8),
    (Q2_K, 0xaa),
    (Q3_K, 0xab),
    (Q4_K, 0xac),
    (Q5_K, 0xad),
    (Q6_K, 0xae),
];

/// What aprender 0.72 writes for weights.
pub const APRENDER: &[(DType, u8)] =
    &[(F32, 0), (F16, 1), (Q4_K, 12), (Q6_K, 14), (BF16, 30), (AprQ4, 128), (AprQ8, 129)];

/// What else aprender writes or has written, before 0.72 and for tensors that are no weights.
const APRENDER_OTHER: &[(DType, u8)] =
    &[(BF16, 2), (F64, 3), (I32, 4), (I64, 5), (I8, 6), (U8, 7), (AprQ4, 8), (AprQ8, 9)];

/// What the metadata says about the table, if it says anything; the error is what it says in vain.
pub(super) fn declared(metadata: &Map<String, Json>) -> Result<Option<AprDialect>, &Json> {
    match metadata.get(DIALECT_KEY) {
        None => Ok(None),
        Some(value) if value == CONTRACT_NAME => Ok(Some(AprDialect::Contract)),
        Some(value) if value == APRENDER_NAME => Ok(Some(AprDialect::Aprender)),
        Some(value) => Err(value),
    }
}

/// How byte `byte` of an entry with `shape` and `size` is read in a file that declares this table, or none. The
/// error is what to tell about the tensor.
pub(super) fn resolve(
    byte: u8,
    shape: &Shape,
    size: u64,
    declared: Option<AprDialect>,
) -> Result<(DType, AprLayout), String> {
    let readings = readings(byte, declared);
    let mut fitting =
        readings.iter().filter(|r| r.nbytes(shape).and_then(|n| u64::try_from(n).ok()) == Some(size));
    match (readings.as_slice(), fitting.next(), fitting.next()) {
        ([], _, _) => Err(match declared.filter(|_| !self::readings(byte, None).is_empty()) {
            Some(AprDialect::Contract) => format!(
                "dtype byte {byte} is aprender's, but the file declares the contract's table: unknown dtype there"
            ),
            Some(AprDialect::Aprender) => format!(
                "dtype byte {byte} is the contract's, but the file declares aprender's table: unknown dtype there"
            ),
            None => format!("unknown dtype byte {byte}"),
        }),
        (_, Some(Reading::Held(dtype)), None) => Ok((*dtype, AprLayout::Plain)),
        (_, Some(Reading::Tiled(dtype)), None) => Ok((*dtype, AprLayout::Tiled)),
        (_, Some(Reading::Q8_1), None) => {
            Err(format!("dtype byte {byte} is Q8_1, which holds activations, not weights"))
        }
        (_, Some(_), Some(_)) => Err(format!(
            "dtype byte {byte} is ambiguous: with {size} bytes it may be {}; metadata `{DIALECT_KEY}` settles it: \
             \"{CONTRACT_NAME}\" for the contract's table, \"{APRENDER_NAME}\" for aprender's",
            names(&readings)
        )),
        (_, None, _) => Err(format!("size {size} does not fit: {}", needs(byte, &readings, shape))),
    }
}

/// One thing that a byte may stand for.
#[derive(Clone, Copy)]
enum Reading {
    Held(DType),
    /// Row tiles of that encoding.
    Tiled(DType),
    /// GGML's activation blocks: 36 bytes for 32 elements. Known only so that it is not taken for int8.
    Q8_1,
}

impl Reading {
    fn nbytes(self, shape: &Shape) -> Option<usize> {
        match self {
            Reading::Held(dtype) => dtype.nbytes(shape),
            Reading::Tiled(dtype) => tiled::tiled_len(dtype, shape),
            Reading::Q8_1 if shape.row_len().is_multiple_of(32) => {
                (shape.checked_numel()? / 32).checked_mul(36)
            }
            Reading::Q8_1 => None,
        }
    }

    fn name(self) -> String {
        match self {
            Reading::Held(dtype) => dtype.name().to_owned(),
            Reading::Tiled(dtype) => format!("tiled {dtype}"),
            Reading::Q8_1 => "Q8_1".to_owned(),
        }
    }
}

fn readings(byte: u8, declared: Option<AprDialect>) -> Vec<Reading> {
    let tables: &[&[(DType, u8)]] = match declared {
        Some(AprDialect::Contract) => &[CONTRACT],
        Some(AprDialect::Aprender) => &[APRENDER, APRENDER_OTHER],
        None => &[CONTRACT, APRENDER, APRENDER_OTHER],
    };
    let mut dtypes: Vec<DType> =
        tables.iter().flat_map(|t| t.iter()).filter(|(_, b)| *b == byte).map(|(d, _)| *d).collect();
    // The tables agree on most bytes.
    dtypes.dedup();
    let activations = (byte == 9 && declared != Some(AprDialect::Aprender)).then_some(Reading::Q8_1);
    let tiles = TILED.iter().filter(|(_, b)| *b == byte && declared != Some(AprDialect::Aprender));
    let tiles = tiles.map(|(dtype, _)| Reading::Tiled(*dtype));
    activations.into_iter().chain(dtypes.into_iter().map(Reading::Held)).chain(tiles).collect()
}

fn names(readings: &[Reading]) -> String {
    readings.iter().map(|r| r.name()).collect::<Vec<_>>().join(" or ")
}

fn needs(byte: u8, readings: &[Reading], shape: &Shape) -> String {
    let one = |r: &Reading| match r.nbytes(shape) {
        Some(n) => format!("{} needs {n} bytes", r.name()),
        None if matches!(r, Reading::Tiled(_)) && shape.ndim() != 2 => {
            format!("{} needs two dimensions", r.name())
        }
        None => format!("{} has no whole number of blocks in a row, or its size overflows", r.name()),
    };
    format!(
        "for dtype byte {byte} and shape {shape}, {}",
        readings.iter().map(one).collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Contract;

    #[test]
    fn the_size_decides_between_two_readings() {
        let shape = Shape::from([4, 64]);
        for (byte, size, expected) in [
            (2, 144, Q4_0),
            (2, 512, BF16),
            (3, 160, Q4_1),
            (3, 2048, F64),
            (6, 176, Q5_0),
            (6, 256, I8),
            (7, 192, Q5_1),
            (7, 256, U8),
            (8, 272, Q8_0),
            (8, 144, AprQ4),
            (9, 260, AprQ8),
            (30, 512, BF16),
            (128, 144, AprQ4),
            (129, 260, AprQ8),
        ] {
            let expected = Ok((expected, AprLayout::Plain));
            assert_eq!(resolve(byte, &shape, size, None), expected, "byte {byte}, {size} bytes");
        }
    }

    #[test]
    fn every_byte_and_size_has_at_most_one_reading_but_for_the_named_exceptions() {
        for byte in 0..=255u8 {
            for cols in 1..=64usize {
                for rows in 1..=8 {
                    let shape = Shape::from([rows, cols]);
                    let sizes: Vec<_> =
                        readings(byte, None).iter().filter_map(|r| r.nbytes(&shape)).collect();
                    let ambiguous = sizes.iter().any(|s| sizes.iter().filter(|t| *t == s).count() > 1);
                    assert_eq!(ambiguous, byte == 9 && rows * cols == 32 && cols == 32, "{byte} {shape}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_decided_is_an_error_that_says_so() {
        let shape = Shape::from([1, 32]);
        let contract = Some(AprDialect::Contract);
        let aprender = Some(AprDialect::Aprender);
        let says = |byte, size, declared| resolve(byte, &shape, size, declared).unwrap_err();
        assert!(says(9, 36, None).contains("ambiguous"));
        assert!(says(9, 36, None).contains("metadata `format_dialect` settles it"));
        assert!(says(9, 36, contract).contains("Q8_1"));
        assert!(says(200, 128, None).contains("unknown dtype byte 200"));
        assert!(says(128, 18, contract).contains("declares the contract"));
        assert!(says(13, 176, aprender).contains("declares aprender's table"));
        assert!(says(8, 33, None).contains("Q8_0 needs 34 bytes, APR_Q4 needs 18 bytes"));
        assert!(says(12, 144, None).contains("no whole number of blocks"));
        assert_eq!(
            resolve(8, &shape, 18, contract).unwrap_err(),
            "size 18 does not fit: for dtype byte 8 and shape [1, 32], Q8_0 needs 34 bytes"
        );
        assert!(resolve(8, &Shape::from([0, 32]), 0, None).unwrap_err().contains("ambiguous"));
    }

    #[test]
    fn a_declared_table_settles_what_sizes_do_not() {
        let empty = Shape::from([0, 32]);
        for (byte, shape, size, contract, aprender) in [
            (9, Shape::from([1, 32]), 36, None, Some(AprQ8)),
            (2, empty.clone(), 0, Some(Q4_0), Some(BF16)),
            (8, empty.clone(), 0, Some(Q8_0), Some(AprQ4)),
            (7, empty, 0, Some(Q5_1), Some(U8)),
        ] {
            assert!(resolve(byte, &shape, size, None).is_err());
            let reads = |dialect| resolve(byte, &shape, size, Some(dialect)).ok().map(|(dtype, _)| dtype);
            assert_eq!((reads(AprDialect::Contract), reads(AprDialect::Aprender)), (contract, aprender));
        }
    }

    #[test]
    fn tiles_have_the_bytes_of_the_contract_and_go_with_its_table_only() {
        let law = Contract::builtin();
        for &dtype in DType::ALL {
            assert_eq!(tiled_byte(dtype), law.tiled_byte(dtype), "{dtype}");
            assert_eq!(tiled_byte(dtype).is_some(), tiled::is_tiled(dtype), "{dtype}");
            let Some(byte) = tiled_byte(dtype) else { continue };
            // Two tiles for 17 rows.
            let (shape, size) =
                (Shape::from([17, 256]), (32 * 256 / dtype.block_len() * dtype.block_bytes()) as u64);
            for declared in [None, Some(AprDialect::Contract)] {
                assert_eq!(resolve(byte, &shape, size, declared), Ok((dtype, AprLayout::Tiled)));
            }
            let error = |shape: &Shape, size, declared| resolve(byte, shape, size, declared).unwrap_err();
            assert!(error(&shape, size, Some(AprDialect::Aprender)).contains("declares aprender's table"));
            // The size of plain blocks is not that of tiles.
            let plain = size / 32 * 17;
            assert!(error(&shape, plain, None).contains(&format!("tiled {dtype} needs {size} bytes")));
            assert!(error(&[17 * 256].into(), plain, None).contains("needs two dimensions"));
            assert!(error(&[17, 255].into(), plain, None).contains("no whole number of blocks"));
            assert!(error(&[usize::MAX - 3, 256].into(), plain, None).contains("overflows"));
        }
    }
}
