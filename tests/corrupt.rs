//! A folder full of corrupt model files: each gets one clear error with its path, none a panic, and none an
//! allocation that the file's own size does not justify.

use crate::heap;
use crate::mutate::seal_apr;
use crate::samples::{self, Sample};
use apr_qa_runner::Error;
use apr_qa_runner::formats::{self, Checkpoint, FormatKind, Stage};
use apr_qa_runner::tensor::Bytes;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// No single allocation while reading `len` hostile bytes may be larger: parsed values are a few times the
/// size of what they are parsed from, and a hash table rounds up.
fn justified(len: usize) -> usize {
    64 * len + (64 << 10)
}

/// Runs a reader and fails the test where it panics or allocates beyond the file's own size.
fn read(
    what: &str,
    len: usize,
    reader: impl FnOnce() -> Result<Checkpoint, Error>,
) -> Result<Checkpoint, Error> {
    let (result, heap) = heap::measure(|| catch_unwind(AssertUnwindSafe(reader)));
    let largest = heap.largest;
    assert!(largest <= justified(len), "{what}: {largest} bytes allocated at once for a file of {len}");
    result.unwrap_or_else(|_| panic!("{what}: the reader panicked"))
}

/// Parses bytes in memory as what their sample is.
fn parse(sample: &Sample, what: &str, bytes: &[u8]) -> Result<Checkpoint, Error> {
    let path = Path::new("hostile.bin");
    let held = Bytes::from_vec(bytes.to_vec());
    let result = read(what, bytes.len(), || match sample.kind {
        FormatKind::Gguf => formats::gguf::parse(held, path),
        FormatKind::Apr => formats::apr::parse(held, path),
        FormatKind::HfFolder => {
            let part = formats::safetensors::parse(held, path)?;
            let side = formats::Container::Hf(Default::default());
            Checkpoint::new(path.to_owned(), side, vec![path.to_owned()], part.tensors)
        }
    });
    match &result {
        Err(error) => assert_eq!(error.subject, "hostile.bin", "{what}: {error}"),
        // A harmless flip: every tensor is still whole and decodes.
        Ok(checkpoint) => {
            for t in checkpoint.tensors() {
                assert_eq!(t.tensor.dtype.nbytes(&t.tensor.shape), Some(t.tensor.bytes.len()), "{what}");
                // What stands tiled must untile, in memory that its own tiles justify.
                let (plain, heap) = heap::measure(|| t.tensor.bytes.plain().len());
                assert_eq!(plain, t.tensor.bytes.len(), "{what}");
                assert!(heap.largest <= t.tensor.bytes.stored_len(), "{what}: {} bytes", heap.largest);
            }
        }
    }
    result
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for sample in samples::in_memory() {
        let whole = sample.bytes.len();
        assert!(parse(&sample, "whole", &sample.bytes).is_ok(), "{}", sample.name);
        for len in 0..whole {
            let what = format!("{} cut to {len} of {whole} bytes", sample.name);
            let result = parse(&sample, &what, &sample.bytes[..len]);
            // Complete without them: GGUF's padding after the last tensor, APR's footer.
            let spare = match sample.kind {
                FormatKind::Gguf => len >= sample.data_end,
                FormatKind::Apr => len == whole - 4,
                FormatKind::HfFolder => false,
            };
            assert_eq!(result.is_ok(), spare, "{what}: {:?}", result.err());
        }
    }
}

#[test]
fn every_single_bit_flip_in_the_first_kib_is_survived() {
    for sample in samples::in_memory() {
        for bit in 0..8 * sample.bytes.len().min(1024) {
            let mut bytes = sample.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let what = format!("{} with bit {} of byte {} flipped", sample.name, bit % 8, bit / 8);
            let result = parse(&sample, &what, &bytes);
            // Header and footer CRC leave no bit of an APR file unguarded.
            assert!(result.is_err() || sample.kind != FormatKind::Apr, "{what}: accepted");
        }
    }
}

#[test]
fn random_damage_is_survived_behind_valid_checksums_too() {
    // xorshift64*, so that the corpus is the same everywhere.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    for sample in samples::in_memory() {
        let head = sample.bytes.len().min(1024) as u64;
        let mut refused = 0;
        for round in 0..4000 {
            let mut bytes = sample.bytes.clone();
            for _ in 0..=next() % 4 {
                let at = (next() % head) as usize;
                match next() % 3 {
                    0 => bytes[at] = next() as u8,
                    // What hurts most in counts, sizes and offsets.
                    1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][(next() % 5) as usize],
                    _ => {
                        let end = (at + 8).min(bytes.len());
                        let hostile = [0, 1, u64::MAX, 1 << 60, 1 << 63, 1 << 32][(next() % 6) as usize];
                        bytes[at..end].copy_from_slice(&u64::to_le_bytes(hostile)[..end - at]);
                    }
                }
            }
            if sample.kind == FormatKind::Apr {
                seal_apr(&mut bytes);
            }
            let what = format!("{} after damage {round}", sample.name);
            refused += usize::from(parse(&sample, &what, &bytes).is_err());
        }
        assert!(refused > 1000, "{}: only {refused} of 4000 refused", sample.name);
    }
}

#[test]
fn every_fault_is_refused_in_the_words_that_it_expects() {
    let dir = tempfile::tempdir().unwrap();
    for (name, kind, path) in samples::on_disk(dir.path()) {
        let control = dir.path().join(format!("{name}-control"));
        formats::copy_artifact(&path, &control).unwrap();
        let sound = formats::open(&control).unwrap_or_else(|e| panic!("{name}: the control is refused: {e}"));
        assert_eq!(sound.kind(), kind);
        if name == "folder" {
            // The weights file stands for its folder.
            let again = dir.path().join("again");
            formats::copy_artifact(&path.join("model.safetensors"), &again).unwrap();
            formats::open(&again).unwrap();
        }
        let mut at_open = 0;
        for fault in formats::faults(kind) {
            let what = format!("{name} with {}", fault.name);
            let broken = dir.path().join(format!("{name}-{}", fault.name.replace('^', "")));
            (fault.apply)(&path, &broken).unwrap_or_else(|e| panic!("{what}: cannot be applied: {e}"));
            let result = read(&what, 64 << 10, || formats::open(&broken));
            match (fault.stage, result) {
                (Stage::Open, Err(error)) => {
                    let text = error.to_string();
                    assert!(text.contains(fault.expect), "{what}: expected `{}` in: {text}", fault.expect);
                    assert!(text.contains(&*broken.to_string_lossy()), "{what}: no path in: {text}");
                    at_open += 1;
                }
                (Stage::Open, Ok(_)) => panic!("{what}: accepted"),
                // The file is sound; the model in it is for `models` to judge.
                (Stage::Check, Ok(_)) => {}
                (Stage::Check, Err(error)) => panic!("{what}: refused too early: {error}"),
            }
        }
        assert!(at_open >= 9, "{name}: {at_open} faults at open");
        // The original is as it was, though folders share its files.
        formats::open(&path).unwrap();
    }
}

/// File name, bytes, and what the error must say.
fn hostile_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let gguf = |version: u32, tensors: u64, pairs: u64, rest: &[u8]| {
        [b"GGUF", &version.to_le_bytes()[..], &tensors.to_le_bytes(), &pairs.to_le_bytes(), rest].concat()
    };
    let pair =
        |key: &str, rest: &[u8]| [&(key.len() as u64).to_le_bytes()[..], key.as_bytes(), rest].concat();
    let array = |id: u32, n: u64| [&9u32.to_le_bytes()[..], &id.to_le_bytes(), &n.to_le_bytes()].concat();
    let nested = || {
        let mut value = 9u32.to_le_bytes().to_vec();
        (0..100).for_each(|_| value.extend([&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat()));
        pair("deep", &value)
    };
    let header = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let tensor = |fields: &str| header(&format!(r#"{{"w":{{{fields}}}}}"#));
    vec![
        ("v1.gguf", gguf(1, 0, 0, &[]), "version 1 is not read"),
        ("v9.gguf", gguf(9, 0, 0, &[]), "version 9 is unknown"),
        ("big-endian.gguf", gguf(3u32.swap_bytes(), 0, 0, &[]), "big-endian"),
        ("tensors.gguf", gguf(3, 1 << 60, 0, &[0; 64]), "1152921504606846976 tensors declared"),
        ("pairs.gguf", gguf(3, 0, u64::MAX, &[0; 64]), "metadata pairs declared"),
        ("key.gguf", gguf(3, 0, 1, &[0xff; 64]), "a metadata key declares"),
        (
            "string.gguf",
            gguf(3, 0, 1, &pair("k", &[8, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1])),
            "cut short",
        ),
        ("array.gguf", gguf(3, 0, 1, &pair("k", &array(12, 1 << 61))), "elements of metadata `k` declared"),
        ("strings.gguf", gguf(3, 0, 1, &pair("k", &array(8, 1 << 60))), "elements of metadata `k` declared"),
        ("nested.gguf", gguf(3, 0, 1, &nested()), "deeper than 4"),
        ("type.gguf", gguf(3, 0, 1, &pair("k", &[13, 0, 0, 0, 0])), "unknown value type 13"),
        ("bool.gguf", gguf(3, 0, 1, &pair("k", &[7, 0, 0, 0, 2])), "a bool that is 2"),
        ("utf8.gguf", gguf(3, 0, 1, &pair("k", &[8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff])), "not UTF-8"),
        (
            "alignment.gguf",
            gguf(3, 0, 1, &pair("general.alignment", &[4, 0, 0, 0, 48, 0, 0, 0])),
            "no power of two",
        ),
        ("split.gguf", gguf(3, 0, 1, &pair("split.count", &[2, 0, 0, 0, 3, 0])), "metadata `split.no`"),
        (
            "nvfp4.gguf",
            gguf(
                3,
                1,
                0,
                &pair("w", &[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ),
            "NVFP4",
        ),
        (
            "dims.gguf",
            gguf(3, 1, 0, &pair("w", &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            "5 dimensions",
        ),
        ("v1.apr", b"APRN rest".to_vec(), "version 1"),
        ("whisper.apr", b"APR1 rest".to_vec(), "version 1"),
        ("header.apr", [&b"APR\0\x02\0\0\x04"[..], &[0; 56]].concat(), "header CRC"),
        ("empty.safetensors", vec![], "empty"),
        ("length.safetensors", [&[0xff; 8][..], b"{}"].concat(), "header length 18446744073709551615"),
        ("beyond.safetensors", [&99u64.to_le_bytes()[..], b"{}"].concat(), "cut short"),
        ("array.safetensors", header("[1]"), "no model file begins like this"),
        ("json.safetensors", header(r#"{"w":"#), "invalid JSON"),
        (
            "bool.safetensors",
            tensor(r#""dtype":"BOOL","shape":[0],"data_offsets":[0,0]"#),
            "dtype BOOL is not read",
        ),
        (
            "dtype.safetensors",
            tensor(r#""dtype":"F33","shape":[0],"data_offsets":[0,0]"#),
            "unknown dtype `F33`",
        ),
        (
            "negative.safetensors",
            tensor(r#""dtype":"F32","shape":[-1],"data_offsets":[0,0]"#),
            "`shape` is missing",
        ),
        (
            "offsets.safetensors",
            tensor(r#""dtype":"F32","shape":[0],"data_offsets":[0]"#),
            "no pair of offsets",
        ),
        ("reversed.safetensors", tensor(r#""dtype":"F32","shape":[1],"data_offsets":[8,4]"#), "do not hold"),
        ("trailing.safetensors", [header("{}"), vec![0; 3]].concat(), "3 bytes follow"),
        (
            "hole.safetensors",
            [tensor(r#""dtype":"U8","shape":[2],"data_offsets":[1,3]"#), vec![0; 3]].concat(),
            "a hole",
        ),
        (
            "twice.safetensors",
            header(
                r#"{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
            ),
            "duplicate name `w`",
        ),
        ("notes.txt", b"hello there".to_vec(), "68 65 6c 6c 6f"),
    ]
}

#[test]
fn named_hostile_files_get_the_error_that_belongs_to_them() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes, says) in hostile_files() {
        let path = dir.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let Err(error) = read(name, bytes.len(), || formats::open(&path)) else { panic!("{name}: accepted") };
        let text = error.to_string();
        assert!(text.contains(says) && text.contains(name), "{name}: expected `{says}` in: {text}");
    }
}

#[test]
fn folders_that_are_no_model_say_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |path: &Path| formats::open(path).expect_err("a broken folder").to_string();
    assert!(refusal(dir.path()).contains("no config.json"));
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    assert!(refusal(dir.path()).contains("neither model.safetensors nor model.safetensors.index.json"));
    for (map, says) in [
        (r#"{}"#, "`weight_map`: the key is missing"),
        (r#"{"weight_map":{}}"#, "is empty"),
        (r#"{"weight_map":{"w":3}}"#, "no file name"),
        (r#"{"weight_map":{"w":"../outside.safetensors"}}"#, "no file of this folder"),
        (r#"{"weight_map":{"w":"/etc/passwd"}}"#, "no file of this folder"),
        (r#"{"weight_map":{"w":"absent.safetensors"}}"#, "absent.safetensors"),
        (r#"{"weight_map":{"w":"a","w":"b"}}"#, "duplicate name `w`"),
    ] {
        fs::write(dir.path().join("model.safetensors.index.json"), map).unwrap();
        let text = refusal(dir.path());
        assert!(text.contains(says), "expected `{says}` in: {text}");
    }
    fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    assert!(refusal(dir.path()).contains("a folder where a file should be"));
}

#[test]
fn an_index_and_its_shards_must_tell_the_same_story() {
    let dir = tempfile::tempdir().unwrap();
    let folder = samples::sharded(dir.path());
    let index = folder.join("model.safetensors.index.json");
    let sound = fs::read_to_string(&index).unwrap();
    for (from, to, says) in [
        (r#""a.bias":"one.safetensors""#, r#""a.bias":"two.safetensors""#, "it stands in one.safetensors"),
        (r#""b.weight":"two.safetensors""#, r#""c.weight":"two.safetensors""#, "which does not have it"),
        (r#""a.bias":"one.safetensors","#, "", "but not in the index (1 such tensors)"),
    ] {
        let changed = sound.replace(from, to);
        assert_ne!(changed, sound, "{from} stands in {sound}");
        fs::write(&index, changed).unwrap();
        let text = formats::open(&folder).expect_err("index and shards disagree").to_string();
        assert!(text.contains(says), "expected `{says}` in: {text}");
    }
    fs::write(&index, &sound).unwrap();
    fs::copy(folder.join("one.safetensors"), folder.join("two.safetensors")).unwrap();
    let text = formats::open(&folder).expect_err("both shards hold the same names").to_string();
    assert!(text.contains("duplicate name: it stands in one.safetensors and in two.safetensors"), "{text}");
}
