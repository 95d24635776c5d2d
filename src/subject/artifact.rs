//! One artifact's files: opened, bound to their family and read once, however many cases and backends ask.

use super::{Checked, LintIssue, Linted, SingleTokens, TensorFacts, TokenizerFacts, hyperparameters};
use crate::formats::{Checkpoint, Container, GgufValue, open};
use crate::inspect::{self, Severity, View};
use crate::models::{self, Model};
use crate::tensor::DType;
use crate::tokenizer::{Token, TokenKind, Tokenizer, TokenizerModel, TokenizerSpec};
use crate::{Error, Result, convert};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// An artifact, opened when first asked.
pub(super) struct Artifact {
    path: PathBuf,
    checkpoint: OnceLock<Result<Arc<Checkpoint>>>,
    model: OnceLock<Result<Arc<Model>>>,
    weights: OnceLock<Result<Arc<View>>>,
    tokenizer: OnceLock<Result<Arc<Tokenizer>>>,
    single_tokens: OnceLock<Result<Arc<SingleTokens>>>,
    pub(super) checked: OnceLock<Result<Arc<Checked>>>,
    linted: OnceLock<Result<Arc<Linted>>>,
    identity: OnceLock<Result<[u8; 32]>>,
}

impl Artifact {
    pub fn new(path: PathBuf) -> Artifact {
        Artifact {
            path,
            checkpoint: OnceLock::new(),
            model: OnceLock::new(),
            weights: OnceLock::new(),
            tokenizer: OnceLock::new(),
            single_tokens: OnceLock::new(),
            checked: OnceLock::new(),
            linted: OnceLock::new(),
            identity: OnceLock::new(),
        }
    }

    /// This model with its weights encoded as `types` says, by this program's quantiser; all else is this one's. It
    /// stands in no file: what is asked of the file is answered by this one.
    pub fn twin(&self, types: &BTreeMap<String, DType>, threads: usize) -> Result<Artifact> {
        let checkpoint = self.checkpoint()?;
        let made = Arc::new(convert::twin(&checkpoint, types, threads)?);
        let twin = Artifact::new(self.path.clone());
        let weights = Arc::new(inspect::view_of_model(&made));
        // A cell that was just made is empty.
        let _ = twin.checkpoint.set(Ok(checkpoint));
        let _ = twin.weights.set(Ok(weights));
        let _ = twin.model.set(Ok(made));
        let _ = twin.tokenizer.set(self.tokenizer());
        Ok(twin)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn checkpoint(&self) -> Result<Arc<Checkpoint>> {
        self.checkpoint.get_or_init(|| open(&self.path).map(Arc::new)).clone()
    }

    pub fn model(&self) -> Result<Arc<Model>> {
        let checkpoint = self.checkpoint()?;
        self.model.get_or_init(|| crate::models::open(&checkpoint).map(Arc::new)).clone()
    }

    /// What the file calls its family, where no family answers to it.
    pub fn unknown_family(&self) -> Result<Option<String>> {
        Ok(models::unknown_family(&*self.checkpoint()?))
    }

    pub fn weights(&self) -> Result<Arc<View>> {
        let checkpoint = self.checkpoint()?;
        self.weights.get_or_init(|| inspect::view(&checkpoint).map(Arc::new)).clone()
    }

    /// The values of one weight.
    pub fn values(&self, name: &str) -> Result<Vec<f32>> {
        let weights = self.weights()?;
        let missing = || Error::malformed(&self.path, "it is not in the file").at(format!("tensor `{name}`"));
        weights.get(name).ok_or_else(missing)?.values()
    }

    pub fn lint(&self) -> Result<Arc<Linted>> {
        let checkpoint = self.checkpoint()?;
        self.linted
            .get_or_init(|| {
                // Weights that cannot be bound are `problems`' to tell.
                let weights = self.weights().ok();
                let issues =
                    inspect::lint(&checkpoint, weights.as_deref()).into_iter().map(|issue| LintIssue {
                        level: match issue.severity {
                            Severity::Info => "info",
                            Severity::Warn => "warn",
                            Severity::Error => "error",
                        }
                        .to_owned(),
                        rule: issue.id.to_owned(),
                        at: issue.at,
                        what: format!("{}; now: {}", issue.what, issue.now),
                    });
                Ok(Arc::new(Linted { rules: inspect::RULES.len() as u64, issues: issues.collect() }))
            })
            .clone()
    }

    pub fn tokenizer(&self) -> Result<Arc<Tokenizer>> {
        let checkpoint = self.checkpoint()?;
        self.tokenizer.get_or_init(|| Tokenizer::from_checkpoint(&checkpoint).map(Arc::new)).clone()
    }

    pub fn single_tokens(&self) -> Result<Arc<SingleTokens>> {
        let tokenizer = self.tokenizer()?;
        self.single_tokens.get_or_init(|| single_tokens(&tokenizer).map(Arc::new)).clone()
    }

    /// SHA-256 over settings and weights: equal exactly where the engine computes the same, bit for bit.
    pub fn identity(&self, threads: usize) -> Result<[u8; 32]> {
        let weights = self.weights()?;
        let compute = || {
            let mut hash = Sha256::new();
            for (name, value) in hyperparameters(&self.model()?.config) {
                hash.update(format!("{name}={value}\n"));
            }
            hash.update(inspect::identity(&weights, threads)?);
            Ok(hash.finalize().into())
        };
        self.identity.get_or_init(compute).clone()
    }

    /// What the file says of the importance matrix that it was quantised with: key and value.
    pub fn importance(&self) -> Result<Option<String>> {
        const GGUF: &str = "quantize.imatrix.file";
        const APR: &str = "quantization_importance";
        Ok(match &self.checkpoint()?.container {
            Container::Hf(_) => None,
            Container::Gguf(header) => {
                header.get(GGUF).and_then(GgufValue::as_str).map(|file| format!("{GGUF} = {file}"))
            }
            Container::Apr(header) => header.metadata.get(APR).map(|said| format!("{APR} = {said}")),
        })
    }

    /// Whether the file is an APR file that says its names and bytes are the contract's.
    pub fn under_contract(&self) -> Result<bool> {
        Ok(match &self.checkpoint()?.container {
            Container::Apr(header) => header.declares_contract(),
            Container::Hf(_) | Container::Gguf(_) => false,
        })
    }
}

/// What gates see of the weights, sorted by name.
pub(super) fn tensor_facts(weights: &View) -> Vec<TensorFacts> {
    let mut facts: Vec<TensorFacts> = Vec::with_capacity(weights.tensors.len());
    for t in &weights.tensors {
        let (name, stored) = (t.name().to_owned(), vec![t.stored().to_owned()]);
        let (dtype, tiled) = (t.dtype(), t.tiled());
        facts.push(TensorFacts { name, stored, dtype, tiled, shape: t.shape().clone() });
    }
    facts.sort_by(|a, b| a.name.cmp(&b.name));
    facts
}

/// What a tokenizer says of itself, key by key.
pub(super) fn tokenizer_facts(spec: &TokenizerSpec) -> TokenizerFacts {
    let id = |id: Option<u32>| id.map_or("none".to_owned(), |id| id.to_string());
    let mut stop = spec.stop_ids();
    stop.sort_unstable();
    let model = match &spec.model {
        TokenizerModel::ByteLevelBpe { pre } => format!("byte-level BPE, pre-tokenizer {pre}"),
        TokenizerModel::SentencePiece => "SentencePiece BPE".to_owned(),
    };
    // `nfc` is left out: it is never applied, and a GGUF has no place for it.
    let settings = [
        ("model", model),
        ("bos", id(spec.bos)),
        ("eos", id(spec.eos)),
        ("stop ids", format!("{stop:?}")),
        ("unk", id(spec.unk)),
        ("pad", id(spec.pad)),
        ("add_bos", spec.add_bos.to_string()),
        ("add_eos", spec.add_eos.to_string()),
        ("add_space_prefix", spec.add_space_prefix.to_string()),
        ("chat_template", spec.chat_template.clone().unwrap_or_else(|| "none".to_owned())),
    ];
    let token = |t: &Token| match t.kind {
        TokenKind::Unused => None,
        TokenKind::Control | TokenKind::Unknown => Some((t.text.clone(), true)),
        TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte => Some((t.text.clone(), false)),
    };
    TokenizerFacts {
        settings: settings
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect::<BTreeMap<_, _>>(),
        tokens: spec.tokens.iter().map(token).collect(),
        merges: spec.merges.clone(),
    }
}

fn single_tokens(tokenizer: &Tokenizer) -> Result<SingleTokens> {
    let mut found = SingleTokens::default();
    for id in 0..tokenizer.vocab_size() as u32 {
        found.tried += 1;
        found.bytes.push(tokenizer.decode_bytes(&[id], false));
        if tokenizer.encode(&tokenizer.decode(&[id], false), false)? != [id] {
            found.not_back.push(id);
        }
    }
    Ok(found)
}
