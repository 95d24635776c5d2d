//! One artifact's files: opened, bound to their family and read once, however many cases and backends ask.

use super::{Checked, SingleTokens, TensorFacts, TokenizerFacts};
use crate::formats::{Checkpoint, Container, open};
use crate::models::{CanonicalTensor, Model, canonical_tensors};
use crate::tokenizer::{Token, TokenKind, Tokenizer, TokenizerModel, TokenizerSpec};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// An artifact, opened when first asked.
pub(super) struct Artifact {
    path: PathBuf,
    checkpoint: OnceLock<Result<Arc<Checkpoint>>>,
    model: OnceLock<Result<Arc<Model>>>,
    tensors: OnceLock<Result<Arc<Vec<CanonicalTensor>>>>,
    tokenizer: OnceLock<Result<Arc<Tokenizer>>>,
    single_tokens: OnceLock<Result<Arc<SingleTokens>>>,
    pub(super) checked: OnceLock<Result<Arc<Checked>>>,
}

impl Artifact {
    pub fn new(path: PathBuf) -> Artifact {
        Artifact {
            path,
            checkpoint: OnceLock::new(),
            model: OnceLock::new(),
            tensors: OnceLock::new(),
            tokenizer: OnceLock::new(),
            single_tokens: OnceLock::new(),
            checked: OnceLock::new(),
        }
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

    pub fn tensors(&self) -> Result<Arc<Vec<CanonicalTensor>>> {
        let checkpoint = self.checkpoint()?;
        self.tensors.get_or_init(|| canonical_tensors(&checkpoint).map(Arc::new)).clone()
    }

    /// The values of one canonical tensor.
    pub fn values(&self, canonical: &str) -> Result<Vec<f32>> {
        let tensors = self.tensors()?;
        let found = tensors.iter().find(|t| t.name == canonical);
        let missing =
            || Error::malformed(&self.path, "it is not in the file").at(format!("tensor `{canonical}`"));
        found.ok_or_else(missing)?.to_f32()
    }

    pub fn tokenizer(&self) -> Result<Arc<Tokenizer>> {
        let checkpoint = self.checkpoint()?;
        self.tokenizer.get_or_init(|| Tokenizer::from_checkpoint(&checkpoint).map(Arc::new)).clone()
    }

    pub fn single_tokens(&self) -> Result<Arc<SingleTokens>> {
        let tokenizer = self.tokenizer()?;
        self.single_tokens.get_or_init(|| single_tokens(&tokenizer).map(Arc::new)).clone()
    }

    /// Whether the file is an APR file that says its names and bytes are the contract's.
    pub fn under_contract(&self) -> Result<bool> {
        Ok(match &self.checkpoint()?.container {
            Container::Apr(header) => header.declares_contract(),
            Container::Hf(_) | Container::Gguf(_) => false,
        })
    }
}

/// What gates see of the canonical tensors, sorted by name.
pub(super) fn tensor_facts(tensors: &[CanonicalTensor]) -> Vec<TensorFacts> {
    let mut facts: Vec<TensorFacts> = Vec::with_capacity(tensors.len());
    for t in tensors {
        let stored = vec![t.stored.clone()];
        facts.push(TensorFacts { name: t.name.clone(), stored, dtype: t.dtype, shape: t.shape.clone() });
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
