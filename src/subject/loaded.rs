//! The real [`Subject`]: an artifact, perhaps on a backend, in the role that decides whose fault an error is.

use super::artifact::{Artifact, tensor_facts, tokenizer_facts};
use super::running::Running;
use super::{
    Answer, Checked, Chunking, DistributionPlan, Divergences, FaultOffer, Figure, Generated, Injected,
    KeptReference, KernelResult, Linted, LogitRows, SelfTest, SingleTokens, Speed, Subject, SubjectInfo,
    TensorFacts, TokenizerFacts, stranger,
};
use crate::infer::EngineOptions;
use crate::models::{Ffn, ModelConfig, NormKind, Position};
use crate::oracle::StoredReference;
use crate::record::{Adapter, Unable};
use crate::tensor::DType;
use crate::{Kind, Result};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Opens the artifact at `place` at the first question; opening itself cannot fail.
///
/// An error of the file becomes [`Unable::Refused`] or [`Unable::Reference`], by the role.
pub fn open(place: Place) -> Arc<dyn Subject> {
    let role = place.role;
    Opened::new(place).in_role(role)
}

/// An artifact, where it runs, and what it is there for.
#[derive(Debug, Clone)]
pub struct Place {
    /// Model name in the playbook.
    pub model: String,
    /// Artifact name in the playbook.
    pub artifact: String,
    /// Where it lies.
    pub path: PathBuf,
    /// The path as reports show it.
    pub shown: String,
    /// The backend; empty for the files alone.
    pub backend: String,
    /// Threads of the engine; no result depends on it.
    pub threads: usize,
    /// The adapter of a GPU backend, as [`choose_device`](crate::engine::choose_device) reads it; none for the best.
    pub adapter: Option<String>,
    /// Under test, or the reference.
    pub role: Role,
    /// Where its distributions are kept between runs; `None` keeps them for this run alone.
    pub kept: Option<PathBuf>,
}

/// What a subject is in a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Under test: a file that cannot be read is refused, which is its verdict.
    UnderTest,
    /// What it is held against: a file that cannot be read is an error of the run.
    Reference,
}

/// An artifact on its backend with everything it has answered so far, to be seen in either role.
#[derive(Clone)]
pub struct Opened {
    info: SubjectInfo,
    artifact: Arc<Artifact>,
    running: Option<Arc<Running>>,
    threads: usize,
    /// Oldest first; what they hold in memory is bounded by [`KEPT_TWINS`].
    twins: Arc<Mutex<VecDeque<Twin>>>,
}

/// The types of a twin, by canonical name, and the twin.
type Twin = (BTreeMap<String, DType>, Opened);

impl Opened {
    /// The artifact at `place`, whatever its role there. Nothing is read yet.
    pub fn new(place: Place) -> Opened {
        let Place { model, artifact, path, shown, backend, threads, adapter, role: _, kept } = place;
        let files = Arc::new(Artifact::new(path));
        let running = (!backend.is_empty()).then(|| {
            let options = EngineOptions { backend: backend.clone(), threads, adapter };
            Arc::new(Running::new(Arc::clone(&files), options, kept))
        });
        let info = SubjectInfo { model, artifact, path: shown, backend };
        Opened { info, artifact: files, running, threads, twins: Arc::default() }
    }

    /// This model encoded in other types, made once.
    pub(super) fn twin(&self, types: &BTreeMap<String, DType>) -> Result<Opened> {
        // Held while a twin is made: whoever asks for the same one meanwhile waits for it.
        let mut twins = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = twins.iter().find(|(of, _)| of == types) {
            return Ok(known.clone());
        }
        let artifact = Arc::new(self.artifact.twin(types, self.threads)?);
        let running = self.running.as_ref().map(|running| Arc::new(running.of(Arc::clone(&artifact))));
        let info = SubjectInfo { artifact: format!("twin of {}", self.info.artifact), ..self.info.clone() };
        let twin = Opened { info, artifact, running, threads: self.threads, twins: Arc::default() };
        twins.push_back((types.clone(), twin.clone()));
        let size = |twin: &Opened| -> usize {
            let made = twin.artifact.model().map(|m| m.weights.values().map(|w| w.tensor.bytes.len()).sum());
            made.unwrap_or(0)
        };
        while twins.len() > 1 && twins.iter().map(|(_, twin)| size(twin)).sum::<usize>() > KEPT_TWINS {
            twins.pop_front();
        }
        Ok(twin)
    }

    /// Its name in messages.
    pub(super) fn name(&self) -> &str {
        &self.info.artifact
    }

    /// What was read.
    pub(super) fn files(&self) -> &Artifact {
        &self.artifact
    }

    /// What runs it, where it runs.
    pub(super) fn engine(&self) -> Option<&Running> {
        self.running.as_deref()
    }

    /// The subject that a case sees. Both roles share what was read and answered.
    pub fn in_role(&self, role: Role) -> Arc<dyn Subject> {
        Arc::new(Loaded { opened: self.clone(), role })
    }
}

/// Bytes of weights that twins may hold; one is always kept.
const KEPT_TWINS: usize = 1 << 30;

/// A view of shared, cached things; cheap to make for every case.
struct Loaded {
    opened: Opened,
    role: Role,
}

impl Loaded {
    fn files(&self) -> &Artifact {
        &self.opened.artifact
    }

    fn engine(&self) -> Answer<&Running> {
        self.infers()?;
        self.opened.running.as_deref().ok_or_else(|| Unable::Failed {
            kind: "usage".into(),
            message: format!("{} runs on no backend in this case", self.opened.info.artifact),
        })
    }

    /// Whose fault an error is.
    fn blame<T>(&self, answer: Result<T>) -> Answer<T> {
        answer.map_err(|error| {
            let kind = match error.kind {
                Kind::Io
                | Kind::Malformed
                | Kind::Unsupported
                | Kind::Contract
                | Kind::NonFinite
                | Kind::Lossy => {
                    return match self.role {
                        Role::UnderTest => Unable::Refused(error),
                        Role::Reference => Unable::Reference(error),
                    };
                }
                Kind::Usage => "usage",
                Kind::Environment => "environment",
                Kind::Internal => "internal",
            };
            Unable::Failed { kind: kind.into(), message: error.to_string() }
        })
    }
}

impl Subject for Loaded {
    fn info(&self) -> &SubjectInfo {
        &self.opened.info
    }

    fn adapter(&self) -> Option<Adapter> {
        self.opened.running.as_ref()?.adapter()
    }

    fn under_contract(&self) -> Answer<bool> {
        self.blame(self.files().under_contract())
    }

    fn infers(&self) -> Answer<()> {
        match self.blame(self.files().unknown_family())? {
            Some(name) => Err(Unable::UnknownFamily(format!(
                "no family answers to `{name}`: only the structure of the file can be judged"
            ))),
            None => Ok(()),
        }
    }

    fn encode(&self, text: &str, add_special: bool) -> Answer<Vec<u32>> {
        self.blame(self.files().tokenizer().and_then(|t| t.encode(text, add_special)))
    }

    fn decode(&self, ids: &[u32], skip_special: bool) -> Answer<String> {
        self.blame(self.files().tokenizer().map(|t| t.decode(ids, skip_special)))
    }

    fn generate(&self, prompt: &str, tokens: usize) -> Answer<Arc<Generated>> {
        let mut answers = self.generate_many(&[prompt], tokens);
        answers.pop().unwrap_or_else(|| Err(Unable::Vacuous("a prompt was not answered".into())))
    }

    fn generate_many(&self, prompts: &[&str], tokens: usize) -> Vec<Answer<Arc<Generated>>> {
        match self.engine() {
            Ok(engine) => {
                engine.generate_many(prompts, tokens).into_iter().map(|answer| self.blame(answer)).collect()
            }
            Err(unable) => prompts.iter().map(|_| Err(unable.clone())).collect(),
        }
    }

    fn logits(&self, ids: &[u32]) -> Answer<Arc<LogitRows>> {
        let engine = self.engine()?;
        self.blame(engine.logits(ids))
    }

    fn perplexity(&self, text: &str, chunking: Chunking) -> Answer<Figure> {
        let engine = self.engine()?;
        self.blame(engine.perplexity(text, chunking))
    }

    fn hyperparameters(&self) -> Answer<BTreeMap<String, String>> {
        if self.blame(self.files().unknown_family())?.is_some() {
            return self.blame(self.files().checkpoint().map(|checkpoint| stranger::settings(&checkpoint)));
        }
        self.blame(self.files().model().map(|model| hyperparameters(&model.config)))
    }

    fn tensors(&self) -> Answer<Arc<Vec<TensorFacts>>> {
        self.blame(self.files().weights().map(|weights| Arc::new(tensor_facts(&weights))))
    }

    fn values(&self, canonical: &str) -> Answer<Vec<f32>> {
        self.blame(self.files().values(canonical))
    }

    fn problems(&self) -> Answer<Arc<Checked>> {
        self.blame(self.files().problems())
    }

    fn lint(&self) -> Answer<Arc<Linted>> {
        self.blame(self.files().lint())
    }

    fn identity(&self) -> Answer<[u8; 32]> {
        self.infers()?;
        self.blame(self.files().identity(self.opened.threads))
    }

    fn importance(&self) -> Answer<Option<String>> {
        self.blame(self.files().importance())
    }

    fn requantized(&self, types: &BTreeMap<String, DType>) -> Answer<Arc<dyn Subject>> {
        self.infers()?;
        Ok(self.blame(self.opened.twin(types))?.in_role(Role::Reference))
    }

    fn distributions(&self, plan: &DistributionPlan) -> Answer<Arc<KeptReference>> {
        let engine = self.engine()?;
        self.blame(engine.distributions(plan))
    }

    fn divergence(&self, reference: &StoredReference) -> Answer<Arc<Divergences>> {
        let engine = self.engine()?;
        self.blame(engine.divergence(reference))
    }

    fn self_test(&self, own: &StoredReference) -> Answer<Arc<Vec<SelfTest>>> {
        let engine = self.engine()?;
        self.blame(engine.self_test(own))
    }

    fn speed(&self, prompt: &str, tokens: usize) -> Answer<Speed> {
        let engine = self.engine()?;
        self.blame(engine.speed(prompt, tokens))
    }

    fn kernels(&self) -> Answer<Arc<Vec<KernelResult>>> {
        let engine = self.engine()?;
        self.blame(engine.kernels())
    }

    fn tokenizer(&self) -> Answer<Arc<TokenizerFacts>> {
        self.blame(self.files().tokenizer().map(|t| Arc::new(tokenizer_facts(t.spec()))))
    }

    fn single_tokens(&self) -> Answer<Arc<SingleTokens>> {
        self.blame(self.files().single_tokens())
    }

    fn faults(&self) -> Answer<Vec<FaultOffer>> {
        self.blame(self.files().faults())
    }

    fn inject(&self, fault: Option<&FaultOffer>, folder: &Path) -> Answer<Injected> {
        self.blame(self.files().inject(fault, folder))
    }
}

/// Every hyperparameter by name. Floats are written so that different ones read differently.
pub fn hyperparameters(config: &ModelConfig) -> BTreeMap<String, String> {
    let ModelConfig {
        family,
        hidden_size,
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim,
        intermediate_size,
        vocab_size,
        max_positions,
        norm,
        norm_eps,
        position,
        ffn,
        tied_embeddings,
        attn_scale,
        rope_scaling,
        window,
        qk_norm,
        post_norms,
        embed_scale,
    } = config;
    let norm = match norm {
        NormKind::Rms => "rms",
        NormKind::Layer => "layer",
    };
    let (position, theta, rope_dim) = match position {
        Position::Rope { theta, dim } => ("rope", theta.to_string(), dim.to_string()),
        Position::Learned => ("learned", "none".to_owned(), "none".to_owned()),
    };
    let ffn = match ffn {
        Ffn::SiluGated => "silu gated",
        Ffn::GeluTanh => "gelu tanh",
        Ffn::GeluGated => "gelu gated",
    };
    let window = match window {
        None => "none".to_owned(),
        Some(w) => {
            format!("{} positions, full every {:?}, local theta {:?}", w.size, w.global_every, w.local_theta)
        }
    };
    let rows = [
        ("family", family.clone()),
        ("hidden_size", hidden_size.to_string()),
        ("n_layers", n_layers.to_string()),
        ("n_heads", n_heads.to_string()),
        ("n_kv_heads", n_kv_heads.to_string()),
        ("head_dim", head_dim.to_string()),
        ("intermediate_size", intermediate_size.to_string()),
        ("vocab_size", vocab_size.to_string()),
        ("max_positions", max_positions.to_string()),
        ("norm", norm.to_owned()),
        ("norm_eps", norm_eps.to_string()),
        ("position", position.to_owned()),
        ("rope_theta", theta),
        ("rope_dim", rope_dim),
        ("ffn", ffn.to_owned()),
        ("tied_embeddings", tied_embeddings.to_string()),
        ("attn_scale", attn_scale.to_string()),
        ("rope_scaling", rope_scaling.describe()),
        ("window", window),
        ("qk_norm", qk_norm.to_string()),
        ("post_norms", post_norms.to_string()),
        ("embed_scale", embed_scale.to_string()),
    ];
    rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
