//! Every parser of files that others made, as one function over bytes: what the attack corpus, the property tests
//! and the fuzz targets call.
//!
//! Each also uses what it was given: a file that is accepted must be whole, decode and encode without a panic.

use apr_qa_runner::formats::{self, Checkpoint, Container, HfFolder};
use apr_qa_runner::playbook::{self, AgainstRule, Catalog, GateInfo, Param, ParamDefault};
use apr_qa_runner::tensor::Bytes;
use apr_qa_runner::tokenizer::{Tokenizer, TokenizerSpec};
use apr_qa_runner::{Error, Kind, Result, oracle, quant};
use std::path::Path;

/// A parser by name, as `tests/attacks/manifest.json` and the fuzz targets call it.
pub struct Parser {
    pub name: &'static str,
    pub parse: fn(&[u8]) -> Result<()>,
}

/// All of them.
pub const PARSERS: &[Parser] = &[
    Parser { name: "safetensors", parse: safetensors },
    Parser { name: "gguf", parse: gguf },
    Parser { name: "apr", parse: apr },
    Parser { name: "tokenizer_json", parse: tokenizer_json },
    Parser { name: "playbook", parse: playbook },
    Parser { name: "oracle_json", parse: oracle_json },
    Parser { name: "imatrix", parse: imatrix },
];

/// The parser of that name.
pub fn named(name: &str) -> Option<&'static Parser> {
    PARSERS.iter().find(|parser| parser.name == name)
}

/// A model file of the format whose parser has this name.
pub fn checkpoint(parser: &str, data: &[u8]) -> Result<Checkpoint> {
    let path = Path::new("hostile.bin");
    let bytes = Bytes::from_vec(data.to_vec());
    match parser {
        "gguf" => formats::gguf::parse(bytes, path),
        "apr" => formats::apr::parse(bytes, path),
        _ => {
            let file = formats::safetensors::parse(bytes, path)?;
            let container =
                Container::Hf(HfFolder { weights_metadata: file.metadata, ..HfFolder::default() });
            Checkpoint::new(path.to_owned(), container, vec![path.to_owned()], file.tensors)
        }
    }
}

fn safetensors(data: &[u8]) -> Result<()> {
    use_tensors(&checkpoint("safetensors", data)?)
}

fn gguf(data: &[u8]) -> Result<()> {
    let model = checkpoint("gguf", data)?;
    use_tensors(&model)?;
    use_tokenizer(TokenizerSpec::from_checkpoint(&model))
}

fn apr(data: &[u8]) -> Result<()> {
    let model = checkpoint("apr", data)?;
    use_tensors(&model)?;
    use_tokenizer(TokenizerSpec::from_checkpoint(&model))
}

fn tokenizer_json(data: &[u8]) -> Result<()> {
    let folder = HfFolder { tokenizer_json: Some(data.into()), ..HfFolder::default() };
    let tokenizer = Tokenizer::new(TokenizerSpec::from_hf(&folder)?)?;
    use_tokens(&tokenizer)
}

fn playbook(data: &[u8]) -> Result<()> {
    let complaint = |found: playbook::Diagnostics| {
        // The text of an error is what a person reads, so it is made here too.
        let at = found.items().first().map(|d| format!("line {}, column {}", d.at.line, d.at.column));
        Error::from(found).at(at.unwrap_or_default())
    };
    let book = playbook::parse_bytes("hostile.yaml", data).map_err(complaint)?;
    playbook::plan(&book, &OneGate).map_err(complaint).map(drop)
}

fn oracle_json(data: &[u8]) -> Result<()> {
    let path = Path::new("hostile.json");
    match data.windows(7).any(|w| w == b"\"steps\"") {
        true => oracle::parse_logits(path, data).map(drop),
        false => oracle::parse(path, data).map(drop),
    }
}

fn imatrix(data: &[u8]) -> Result<()> {
    let matrix = formats::imatrix::parse(Bytes::from_vec(data.to_vec()), Path::new("hostile.gguf"))?;
    for (name, entry) in &matrix.entries {
        let weights = matrix.importance_of(name).expect("every entry has weights");
        assert_eq!(weights.len(), entry.sums.len());
        assert!(weights.iter().all(|w| !w.is_nan() && *w >= 0.0), "{name} has a weight that is none");
    }
    Ok(())
}

/// An accepted file's tensors lie in it and decode.
fn use_tensors(model: &Checkpoint) -> Result<()> {
    for stored in model.tensors() {
        let tensor = &stored.tensor;
        assert_eq!(tensor.dtype.nbytes(&tensor.shape), Some(tensor.bytes.len()), "{}", stored.name);
        match quant::to_f32(tensor) {
            Ok(values) => assert_eq!(values.len(), tensor.shape.numel()),
            // Integer tensors are stored, and are no weights.
            Err(error) => assert_eq!(error.kind, Kind::Unsupported, "{error}"),
        }
        if tensor.shape.rows() > 0 {
            let mut row = vec![0.0; tensor.shape.row_len()];
            let _ = quant::row_to_f32(tensor, tensor.shape.rows() - 1, &mut row);
        }
    }
    Ok(())
}

/// A model need not have a tokenizer, and one that is refused is no fault of the container's.
fn use_tokenizer(spec: Result<TokenizerSpec>) -> Result<()> {
    match spec.and_then(Tokenizer::new) {
        Ok(tokenizer) => use_tokens(&tokenizer),
        Err(_) => Ok(()),
    }
}

/// An accepted tokenizer gives ids of its own vocabulary, and text for them.
fn use_tokens(tokenizer: &Tokenizer) -> Result<()> {
    for text in ["Hello, wörld!\n\n  12345 \u{0}日本", "<s></s><|im_end|>", &" ".repeat(300)] {
        // Not every vocabulary can write every text.
        let Ok(ids) = tokenizer.encode(text, true) else { continue };
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        let _ = tokenizer.decode(&ids, true);
    }
    Ok(())
}

/// A catalog with one gate that takes everything a gate can take.
struct OneGate;

const PARAMS: &[Param] = &[
    Param { name: "limit", doc: "a number", default: Some(ParamDefault::Number(0.0)) },
    Param { name: "choice", doc: "a word", default: Some(ParamDefault::Choice(&["a", "b"])) },
];

impl Catalog for OneGate {
    fn gate(&self, id: &str) -> Option<GateInfo> {
        (id == "gate").then_some(GateInfo {
            id: "gate",
            per_prompt: true,
            needs_backend: true,
            against: AgainstRule::ArtifactOrSource,
            params: PARAMS,
        })
    }

    fn gate_ids(&self) -> Vec<&'static str> {
        vec!["gate"]
    }

    fn backend_names(&self) -> Vec<&'static str> {
        vec!["cpu"]
    }
}
