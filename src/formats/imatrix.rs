//! An importance matrix: for every weight matrix, how strongly each of its input columns was used.
//!
//! A GGUF file of `general.type` "imatrix" with a pair of F32 tensors per weight, `<weight>.in_sum2` and
//! `<weight>.counts`. Source: llama.cpp's `llama-imatrix`, which writes it, and `llama-quantize`, which reads it;
//! its older `.dat` form is refused by name.

use super::gguf::{self, GgufArray, GgufHeader, GgufValue};
use super::{Checkpoint, Container, NamedTensor, TensorSource, map};
use crate::tensor::{Bytes, DType, Shape};
use crate::{Error, Kind, Result};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// What the activations of a text say about the columns of a model's weight matrices.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImportanceMatrix {
    /// By the weight's GGUF name, `blk.0.attn_q.weight`.
    pub entries: BTreeMap<String, Importance>,
    /// How many chunks of text went in.
    pub chunk_count: u32,
    /// Tokens in a chunk.
    pub chunk_size: u32,
    /// The texts' names, as given to the program that recorded them.
    pub datasets: Vec<String>,
}

/// The record of one weight, or of a stack of `n_mat` weights (experts) in one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Importance {
    /// `[n_mat, columns]`: the sum over tokens of the squared input to each column; finite, not negative.
    pub sums: Vec<f32>,
    /// `[n_mat]`: over how many tokens. Stored as F32, so exact up to 2^24.
    pub counts: Vec<u64>,
}

impl ImportanceMatrix {
    /// The weights `[n_mat * columns]` that quantisers take for tensor `name`: mean squared inputs, and 1 for
    /// every column of a matrix that no token reached, as llama-quantize has it. `None` where there is no entry.
    pub fn importance_of(&self, name: &str) -> Option<Vec<f32>> {
        self.entries.get(name).map(Importance::mean_squares)
    }
}

impl Importance {
    /// `sums` divided by their matrix's count; 1 where the count is 0.
    fn mean_squares(&self) -> Vec<f32> {
        let columns = self.sums.len() / self.counts.len().max(1);
        let matrices = self.sums.chunks(columns.max(1)).zip(&self.counts);
        let mean = |sum: f32, count: u64| if count > 0 { sum / count as f32 } else { 1.0 };
        matrices.flat_map(|(sums, &count)| sums.iter().map(move |&sum| mean(sum, count))).collect()
    }
}

/// Opens the importance matrix at `path`.
///
/// # Errors
/// As [`parse`]; [`Kind::Io`].
pub fn open(path: &Path) -> Result<ImportanceMatrix> {
    parse(map::map_file(path)?, path)
}

/// Reads an importance matrix; `path` is only for messages. Tensors with other suffixes are left alone, as
/// llama-quantize does.
///
/// # Errors
/// [`Kind::Malformed`] for a broken GGUF, one without the keys above, half a pair, counts that do not divide the
/// sums, and values that no sum of squares can have; [`Kind::Unsupported`] for the `.dat` form and for a GGUF that
/// is something else.
pub fn parse(bytes: Bytes, path: &Path) -> Result<ImportanceMatrix> {
    if !bytes.starts_with(gguf::MAGIC) {
        return Err(not_gguf(&bytes, path));
    }
    let file = gguf::parse(bytes, path)?;
    let Container::Gguf(header) = &file.container else {
        return Err(Error::new(
            Kind::Internal,
            path.display().to_string(),
            "a GGUF file was opened as another",
        ));
    };
    check_type(header, path)?;
    let matrix = ImportanceMatrix {
        entries: entries(&file, path)?,
        chunk_count: count_of(header, CHUNK_COUNT, path)?,
        chunk_size: count_of(header, CHUNK_SIZE, path)?,
        datasets: datasets(header, path)?,
    };
    Ok(matrix)
}

/// Writes `matrix` to a new file at `path`: the bytes that llama-imatrix writes for it.
///
/// # Errors
/// [`Kind::Usage`] where counts do not divide the sums or a value is none that [`parse`] would take;
/// [`Kind::Unsupported`] for a name that is too long for GGUF; [`Kind::Io`].
pub fn write(path: &Path, matrix: &ImportanceMatrix) -> Result<()> {
    let metadata = [
        ("general.type", GgufValue::from(TYPE)),
        (DATASETS, GgufValue::Array(GgufArray::String(matrix.datasets.clone()))),
        (CHUNK_COUNT, GgufValue::U32(matrix.chunk_count)),
        (CHUNK_SIZE, GgufValue::U32(matrix.chunk_size)),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    let mut tensors = Vec::with_capacity(2 * matrix.entries.len());
    for (name, entry) in &matrix.entries {
        let refuse =
            |what| Error::new(Kind::Usage, path.display().to_string(), what).at(format!("tensor `{name}`"));
        check_entry(&entry.sums, entry.counts.len()).map_err(refuse)?;
        // GGUF drops outer dimensions of 1, and one matrix is the usual case.
        let shape = |columns| match entry.counts.len() {
            1 => Shape::from([columns]),
            n_mat => Shape::from([n_mat, columns]),
        };
        let counts: Vec<f32> = entry.counts.iter().map(|&n| n as f32).collect();
        tensors.push(f32s(format!("{name}{SUMS}"), shape(entry.sums.len() / counts.len()), &entry.sums[..]));
        tensors.push(f32s(format!("{name}{COUNTS}"), shape(1), counts));
    }
    gguf::write(path, &metadata, &tensors)
}

const TYPE: &str = "imatrix";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

fn f32s<'a>(name: String, shape: Shape, values: impl Into<Cow<'a, [f32]>>) -> TensorSource<'a> {
    let values = values.into();
    let bytes = move || Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect());
    TensorSource::produced(name, DType::F32, shape, bytes)
}

fn entries(file: &Checkpoint, path: &Path) -> Result<BTreeMap<String, Importance>> {
    let mut entries = BTreeMap::new();
    for tensor in file.tensors() {
        let partner = |name: String| {
            let missing = Error::malformed(path, format!("it has no `{name}` beside it"));
            file.get(&name).ok_or_else(|| missing.at(format!("tensor `{}`", tensor.name)))
        };
        if let Some(name) = tensor.name.strip_suffix(SUMS) {
            let entry = entry(tensor, partner(format!("{name}{COUNTS}"))?, path)?;
            entries.insert(name.to_owned(), entry);
        } else if let Some(name) = tensor.name.strip_suffix(COUNTS) {
            partner(format!("{name}{SUMS}"))?;
        }
    }
    match entries.is_empty() {
        true => {
            Err(Error::malformed(path, format!("no tensor `….weight{SUMS}`: the matrix is empty"))
                .at("byte 8"))
        }
        false => Ok(entries),
    }
}

fn entry(sums: &NamedTensor, counts: &NamedTensor, path: &Path) -> Result<Importance> {
    let sums_at = |what| Error::malformed(path, what).at(format!("tensor `{}`", sums.name));
    let values = floats(sums, path)?;
    let numbers = floats(counts, path)?;
    check_entry(&values, numbers.len()).map_err(sums_at)?;
    // What no count of tokens is: a fraction, a negative or infinite number, NaN.
    if let Some(bad) = numbers.iter().find(|n| n.fract() != 0.0 || n.is_sign_negative() || !n.is_finite()) {
        let what = format!("{bad} is no count of tokens");
        return Err(Error::malformed(path, what).at(format!("tensor `{}`", counts.name)));
    }
    Ok(Importance { sums: values, counts: numbers.iter().map(|&n| n as u64).collect() })
}

/// What must hold of an entry, or what is wrong with it.
fn check_entry(sums: &[f32], n_counts: usize) -> Result<(), String> {
    if sums.is_empty() || n_counts == 0 || !sums.len().is_multiple_of(n_counts) {
        return Err(format!("{} sums cannot belong to {n_counts} counts", sums.len()));
    }
    match sums.iter().position(|s| !s.is_finite() || *s < 0.0) {
        Some(i) => Err(format!("element {i} is {}, which no sum of squares is", sums[i])),
        None => Ok(()),
    }
}

fn floats(tensor: &NamedTensor, path: &Path) -> Result<Vec<f32>> {
    if tensor.tensor.dtype != DType::F32 {
        let what = format!("dtype {}, an importance matrix holds F32", tensor.tensor.dtype);
        return Err(Error::malformed(path, what).at(format!("tensor `{}`", tensor.name)));
    }
    Ok(tensor.tensor.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn check_type(header: &GgufHeader, path: &Path) -> Result<()> {
    match header.get("general.type").and_then(GgufValue::as_str) {
        Some(TYPE) => Ok(()),
        other => {
            let what =
                format!("this GGUF is {}, no importance matrix", other.unwrap_or("of no type (a model)"));
            Err(Error::unsupported(path.display().to_string(), what)
                .at("metadata `general.type`")
                .hint("llama-imatrix makes one, and so does `apr-qa-runner imatrix`"))
        }
    }
}

fn count_of(header: &GgufHeader, key: &str, path: &Path) -> Result<u32> {
    match header.get(key) {
        Some(GgufValue::U32(n)) => Ok(*n),
        Some(other) => {
            Err(Error::malformed(path, format!("the key holds {}, not uint32", other.type_name()))
                .at(format!("metadata `{key}`")))
        }
        None => Err(Error::malformed(path, "the key is missing").at(format!("metadata `{key}`"))),
    }
}

fn datasets(header: &GgufHeader, path: &Path) -> Result<Vec<String>> {
    let names = header.get(DATASETS).and_then(GgufValue::as_array).and_then(GgufArray::as_strings);
    names.map(<[String]>::to_vec).ok_or_else(|| {
        Error::malformed(path, "the key is missing or no array of strings")
            .at(format!("metadata `{DATASETS}`"))
    })
}

/// What a file without GGUF's magic is. The `.dat` form begins with a number of entries, then a name's length and
/// the name.
fn not_gguf(bytes: &[u8], path: &Path) -> Error {
    let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(i32::from_le_bytes);
    let name =
        number(4).and_then(|n| usize::try_from(n).ok()).and_then(|n| bytes.get(8..8usize.checked_add(n)?));
    let is_name = |name: &[u8]| !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    match number(0) {
        Some(1..) if name.is_some_and(is_name) => {
            let what = "this is the old .dat form of an importance matrix, which is not read";
            Error::unsupported(path.display().to_string(), what)
                .at("byte 0")
                .hint("rewrite it: `llama-imatrix --in-file OLD.dat -o NEW.gguf`")
        }
        _ => Error::malformed(path, "no importance matrix begins like this")
            .at("byte 0")
            .hint("expected llama.cpp's GGUF form"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ImportanceMatrix {
        let dense = Importance { sums: vec![2.0, 8.0, 0.0], counts: vec![4] };
        let experts = Importance { sums: vec![3.0, 6.0, 5.0, 7.0], counts: vec![3, 0] };
        ImportanceMatrix {
            entries: [("blk.0.ffn_down.weight", dense), ("blk.0.ffn_up_exps.weight", experts)]
                .map(|(name, entry)| (name.to_owned(), entry))
                .into(),
            chunk_count: 7,
            chunk_size: 512,
            datasets: vec!["a.txt".into(), "b/c.txt".into()],
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_divided_by_its_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("imatrix.gguf");
        write(&path, &sample()).unwrap();
        let read = open(&path).unwrap();
        assert_eq!(read, sample());
        assert_eq!(read.importance_of("blk.0.ffn_down.weight"), Some(vec![0.5, 2.0, 0.0]));
        // No token reached the second expert.
        assert_eq!(read.importance_of("blk.0.ffn_up_exps.weight"), Some(vec![1.0, 2.0, 1.0, 1.0]));
        assert_eq!(read.importance_of("blk.1.ffn_down.weight"), None);
    }

    /// A file with the pair `w` of these sums and counts.
    fn pair(dir: &Path, dtype: DType, sums: &[f32], counts: &[f32]) -> Result<ImportanceMatrix> {
        let path = dir.join("pair.gguf");
        let keys = ["general.type", DATASETS, CHUNK_COUNT, CHUNK_SIZE].map(str::to_owned);
        let none = GgufValue::Array(GgufArray::String(vec![]));
        let values = [TYPE.into(), none, GgufValue::U32(1), GgufValue::U32(8)];
        let metadata: Vec<_> = keys.into_iter().zip(values).collect();
        let mut first = f32s(format!("w{SUMS}"), Shape::from([sums.len()]), sums);
        first.dtype = dtype;
        let second = f32s(format!("w{COUNTS}"), Shape::from([counts.len()]), counts);
        gguf::write(&path, &metadata, &[first, second])?;
        open(&path)
    }

    #[test]
    fn values_that_no_activation_can_have_are_refused_with_their_tensor() {
        let dir = tempfile::tempdir().unwrap();
        assert!(pair(dir.path(), DType::F32, &[1.0, 2.0], &[2.0]).is_ok());
        for (dtype, sums, counts, at, says) in [
            (DType::F32, &[1.0, f32::NAN][..], &[1.0][..], "`w.in_sum2`", "element 1 is NaN"),
            (DType::F32, &[f32::INFINITY], &[1.0], "`w.in_sum2`", "element 0 is inf"),
            (DType::F32, &[-1.0], &[1.0], "`w.in_sum2`", "element 0 is -1"),
            (DType::F32, &[1.0, 2.0, 3.0], &[1.0, 1.0], "`w.in_sum2`", "3 sums cannot belong to 2 counts"),
            (DType::F32, &[1.0], &[], "`w.in_sum2`", "1 sums cannot belong to 0 counts"),
            (DType::F32, &[], &[1.0], "`w.in_sum2`", "0 sums"),
            (DType::F32, &[1.0], &[1.5], "`w.counts`", "1.5 is no count"),
            (DType::F32, &[1.0], &[-1.0], "`w.counts`", "-1 is no count"),
            (DType::F32, &[1.0], &[f32::INFINITY], "`w.counts`", "inf is no count"),
            (DType::I32, &[1.0], &[1.0], "`w.in_sum2`", "dtype I32"),
        ] {
            let error = pair(dir.path(), dtype, sums, counts).unwrap_err().to_string();
            assert!(error.contains(at) && error.contains(says), "expected {at} and {says} in: {error}");
        }
    }

    #[test]
    fn what_is_no_importance_matrix_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let parse_bytes =
            |bytes: &[u8]| parse(Bytes::from_vec(bytes.to_vec()), Path::new("i.dat")).unwrap_err();
        let old = [&1i32.to_le_bytes()[..], &5i32.to_le_bytes(), b"blk.0", &[0; 16]].concat();
        let error = parse_bytes(&old);
        assert!(error.kind == Kind::Unsupported && error.to_string().contains("old .dat form"), "{error}");
        for bytes in [&b""[..], b"GGU", &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f], &[0xff; 40]] {
            assert_eq!(parse_bytes(bytes).kind, Kind::Malformed);
        }
        let path = dir.path().join("model.gguf");
        gguf::write(&path, &[("general.type".into(), "model".into())], &[]).unwrap();
        let error = open(&path).unwrap_err();
        assert!(
            error.kind == Kind::Unsupported && error.to_string().contains("this GGUF is model"),
            "{error}"
        );
        for key in [DATASETS, CHUNK_COUNT, CHUNK_SIZE] {
            write(&path, &sample()).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let at = bytes.windows(key.len()).position(|w| w == key.as_bytes()).unwrap();
            bytes[at] = b'x';
            let error = parse(Bytes::from_vec(bytes), &path).unwrap_err();
            assert!(error.at.as_deref().is_some_and(|at| at.contains(key)), "{error}");
        }
    }

    #[test]
    fn half_a_pair_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("half.gguf");
        write(&path, &sample()).unwrap();
        let sound = std::fs::read(&path).unwrap();
        for (from, to, lonely) in [(".counts", ".countz", ".in_sum2`"), (".in_sum2", ".in_sum9", ".counts`")]
        {
            let at = sound.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
            let mut bytes = sound.clone();
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            let error = parse(Bytes::from_vec(bytes), &path).unwrap_err().to_string();
            assert!(error.contains(lonely) && error.contains("beside it"), "{error}");
        }
    }
}
