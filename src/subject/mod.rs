//! The model under test as a gate sees it: text, tokens, logits, tensors, faults. No backend, no file format.
//!
//! A gate asks a [`Subject`] and gets an answer or an [`Unable`] that says whose fault it is: an artifact under test
//! that cannot be read is refused, a reference that cannot be read is an error of the run.

mod artifact;
mod distributions;
#[cfg(test)]
pub mod fake;
mod health;
mod loaded;
pub mod localise;
mod running;
mod stranger;

pub use distributions::{DistributionPlan, Divergences, KeptReference, SelfTest};
pub use loaded::{Opened, Place, Role, hyperparameters, open};
pub use localise::{Localisation, localise};

pub use crate::engine::{KernelFault, KernelResult};

use crate::oracle::StoredReference;
use crate::record::{Adapter, Unable};
use crate::tensor::{DType, Shape};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// An answer, or why there is none.
pub type Answer<T> = Result<T, Unable>;

/// How a text is cut where a perplexity is measured on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunking {
    /// Tokens of a chunk, of which the second half is scored; 0 scores every token of the whole text in one context.
    pub ctx: usize,
    /// At most so many chunks of the text, where it is cut.
    pub chunks: usize,
}

/// One artifact of one model on one backend. Answers are cached: asking twice costs once.
pub trait Subject: Send + Sync {
    /// What it is, for messages.
    fn info(&self) -> &SubjectInfo;

    /// The adapter that it has been computed on: none for a backend of the processor, and none before the first answer
    /// that took computing.
    fn adapter(&self) -> Option<Adapter> {
        None
    }

    /// Whether the contract's `tensor_naming` and `dtype_bytes` bind this file.
    fn under_contract(&self) -> Answer<bool>;

    /// Whether this program can run it: a family that it does not know it can only look at.
    ///
    /// # Errors
    /// [`Unable::UnknownFamily`] where it cannot; and where the file cannot be read.
    fn infers(&self) -> Answer<()>;

    /// The ids of `text`; `add_special` adds what the model's rules put around a prompt.
    fn encode(&self, text: &str, add_special: bool) -> Answer<Vec<u32>>;

    /// The text of `ids`; `skip_special` leaves control tokens out, as recorded oracles do.
    fn decode(&self, ids: &[u32], skip_special: bool) -> Answer<String>;

    /// Greedy generation of at most `tokens` tokens after `prompt`, which is encoded with special tokens.
    fn generate(&self, prompt: &str, tokens: usize) -> Answer<Arc<Generated>>;

    /// [`Subject::generate`] after every prompt, each as it is answered alone: one that cannot be answered spoils no
    /// other. Asked together they cost less.
    fn generate_many(&self, prompts: &[&str], tokens: usize) -> Vec<Answer<Arc<Generated>>> {
        prompts.iter().map(|prompt| self.generate(prompt, tokens)).collect()
    }

    /// Teacher-forced logits: row `i` is the distribution of what follows `ids[..=i]`.
    fn logits(&self, ids: &[u32]) -> Answer<Arc<LogitRows>>;

    /// Perplexity over `text` by llama.cpp's rule.
    fn perplexity(&self, text: &str, chunking: Chunking) -> Answer<Figure>;

    /// Hyperparameters by name, each as text that is equal exactly where the values are equal. Of an unknown family,
    /// what the file says under its own keys.
    fn hyperparameters(&self) -> Answer<BTreeMap<String, String>>;

    /// Every weight under its canonical name (of an unknown family: its stored one), sorted by it.
    fn tensors(&self) -> Answer<Arc<Vec<TensorFacts>>>;

    /// The values of one weight in canonical order, decoded to f32.
    fn values(&self, canonical: &str) -> Answer<Vec<f32>>;

    /// Everything that is wrong with the file by itself: missing and misshapen tensors, NaN and infinite weights.
    fn problems(&self) -> Answer<Arc<Checked>>;

    /// What readers of the file stumble over though nothing in it is broken.
    fn lint(&self) -> Answer<Arc<Linted>>;

    /// SHA-256 over settings and weights: equal exactly where two artifacts compute the same, bit for bit.
    fn identity(&self) -> Answer<[u8; 32]>;

    /// What the file says of the importance matrix that it was quantised with.
    fn importance(&self) -> Answer<Option<String>>;

    /// This model with every weight encoded in `types[canonical name]` by our own exact quantiser, in the role of a
    /// reference: what a correct conversion to those types is. A weight without an entry is kept.
    fn requantized(&self, types: &BTreeMap<String, DType>) -> Answer<Arc<dyn Subject>>;

    /// The distributions over a text, compactly: from where an earlier run stored them, else computed and stored.
    fn distributions(&self, plan: &DistributionPlan) -> Answer<Arc<KeptReference>>;

    /// How this artifact's distributions differ from those of a reference, on the reference's tokens.
    fn divergence(&self, reference: &StoredReference) -> Answer<Arc<Divergences>>;

    /// How this artifact differs from its own stored distributions when only the way of computing changes.
    fn self_test(&self, own: &StoredReference) -> Answer<Arc<Vec<SelfTest>>>;

    /// How fast it generates `tokens` tokens after `prompt`, greedily: measured anew at every call.
    fn speed(&self, prompt: &str, tokens: usize) -> Answer<Speed>;

    /// How every operation of the forward pass stands to its contract on this backend, with this artifact's weights.
    fn kernels(&self) -> Answer<Arc<Vec<KernelResult>>>;

    /// What the embedded tokenizer says of itself.
    fn tokenizer(&self) -> Answer<Arc<TokenizerFacts>>;

    /// What every single token id becomes on its way to text and back.
    fn single_tokens(&self) -> Answer<Arc<SingleTokens>>;

    /// The faults that this artifact's format knows to put into its own files.
    fn faults(&self) -> Answer<Vec<FaultOffer>>;

    /// Breaks a copy of the artifact inside `folder` and opens it. `None` copies it unbroken: the control.
    fn inject(&self, fault: Option<&FaultOffer>, folder: &Path) -> Answer<Injected>;
}

/// A runtime that is not ours, reached by a command or a URL.
pub trait OutsideRuntime: Send + Sync {
    /// Its name in the playbook.
    fn name(&self) -> &str;

    /// Greedy generation after `prompt` from the artifact that `subject` describes.
    fn complete(&self, subject: &SubjectInfo, prompt: &str, tokens: usize) -> Answer<OutsideText>;
}

/// What a subject is, for messages and reports.
#[derive(Debug, Clone, PartialEq)]
pub struct SubjectInfo {
    /// Model name in the playbook.
    pub model: String,
    /// Artifact name in the playbook.
    pub artifact: String,
    /// Its path as shown, by which an outside runtime opens it too.
    pub path: String,
    /// The backend it runs on; empty for a gate that only reads files.
    pub backend: String,
}

/// A greedy generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// What was fed.
    pub prompt_ids: Vec<u32>,
    /// Generated ids only, the end token included if it came.
    pub tokens: Vec<u32>,
    /// Those ids as text without special tokens, unstripped.
    pub text: String,
}

/// Logits of several positions.
#[derive(Debug, Clone, PartialEq)]
pub struct LogitRows {
    /// Width of a row.
    pub vocab: usize,
    /// [n_positions, vocab]
    pub data: Vec<f32>,
}

impl LogitRows {
    /// The number of positions.
    pub fn len(&self) -> usize {
        self.data.len().checked_div(self.vocab).unwrap_or(0)
    }

    /// Whether there is no position.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The logits of position `i`, or `None` past the end.
    pub fn row(&self, i: usize) -> Option<&[f32]> {
        self.data.get(i * self.vocab..(i + 1) * self.vocab)
    }
}

/// A perplexity and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// `exp` of the mean negative log-probability.
    pub perplexity: f64,
    /// Tokens whose probability entered.
    pub tokens_scored: u64,
}

/// One weight, without its values.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorFacts {
    /// Its canonical name, `0.q_proj.weight`.
    pub name: String,
    /// The names it is stored under: several where it is a part of a fused tensor or stored twice.
    pub stored: Vec<String>,
    /// Its encoding in the file.
    pub dtype: DType,
    /// Whether its blocks stand as row tiles in the file.
    pub tiled: bool,
    /// Its canonical shape, `[out, in]` for a linear weight.
    pub shape: Shape,
}

/// What a check of the file by itself came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Tensors looked at.
    pub tensors: u64,
    /// Subject and detail of each problem.
    pub problems: Vec<(String, String)>,
    /// The stages of a decoder: name, whether it is sound, and what was looked at or is wrong.
    pub stages: Vec<(String, bool, String)>,
    /// What the file calls its family, where no family answers to it: names, shapes and stages were not judged.
    pub unknown_family: Option<String>,
}

/// What a lint came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Linted {
    /// Rules that were tried.
    pub rules: u64,
    /// Each issue.
    pub issues: Vec<LintIssue>,
}

/// One issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LintIssue {
    /// `info`, `warn` or `error`.
    pub level: String,
    /// The rule's id.
    pub rule: String,
    /// A tensor, a key, or the file.
    pub at: String,
    /// What is odd, and what to do now.
    pub what: String,
}

/// How fast a generation was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Tokens generated, the end token included if it came.
    pub tokens: u64,
    /// From the first prompt token fed to the last token chosen.
    pub seconds: f64,
}

/// What a tokenizer says of itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenizerFacts {
    /// Algorithm, special ids, flags, chat template: key to value, each as text.
    pub settings: BTreeMap<String, String>,
    /// Text of every id and whether it is special (control or unknown); `None` for padding of the vocabulary.
    pub tokens: Vec<Option<(String, bool)>>,
    /// Merge rules in rank order; empty for a vocabulary that merges by score.
    pub merges: Vec<(String, String)>,
}

/// What every single token id becomes on its way to text and back.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SingleTokens {
    /// Ids tried: `0..tried`.
    pub tried: u64,
    /// Ids `i` with `encode(decode([i])) != [i]`: parts of a UTF-8 character and the like.
    pub not_back: Vec<u32>,
    /// The bytes of every id.
    pub bytes: Vec<Vec<u8>>,
}

/// A fault that a format can put into its own files.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultOffer {
    /// `unknown-dtype-byte`.
    pub name: String,
    /// What the reader must complain about.
    pub expect: String,
}

/// What became of a copy that was (or, as the control, was not) broken.
#[derive(Debug, Clone, PartialEq)]
pub enum Injected {
    /// Reader and check took it for sound.
    Accepted,
    /// Reader or check complained, in these words.
    Refused(String),
    /// This artifact has nothing that the fault could break.
    Unsuited(String),
}

/// What an outside runtime answered.
#[derive(Debug, Clone, PartialEq)]
pub struct OutsideText {
    /// The generated text, unstripped.
    pub text: String,
    /// The generated ids, where the runtime gives them.
    pub tokens: Option<Vec<u32>>,
}
