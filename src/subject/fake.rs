//! A subject made of a table: what a gate is tested with. Nothing is read and nothing is loaded.
//!
//! One character is one token. The fake model knows for every token which one follows; [`FakeSubject::noise`] and the
//! public fields break it in the ways that gates must notice.

use super::*;
use crate::oracle::{CompactRow, ReferenceKey};
use crate::quant;
use crate::tensor::{Bytes, Tensor};
use std::collections::HashMap;

/// A scripted subject. The fields are what its answers are made of.
#[derive(Clone)]
pub struct FakeSubject {
    /// As given.
    pub info: SubjectInfo,
    /// Index = id; the last one ends a generation and is special.
    pub vocabulary: Vec<char>,
    /// Which token follows which; another one is followed by the end token.
    pub next: HashMap<u32, u32>,
    /// How far the best logit is from the others.
    pub gap: f32,
    /// Added to the logit of every odd id: harm that changes numbers before it changes tokens.
    pub noise: f32,
    /// The same of its twin: what a correct conversion costs.
    pub twin_noise: f32,
    /// What its distributions differ by when they are computed in another way.
    pub floor: f64,
    /// What the file says of an importance matrix.
    pub importance: Option<String>,
    /// Perplexity of any text.
    pub perplexity: f64,
    /// As given.
    pub hyperparameters: BTreeMap<String, String>,
    /// Facts and values of every weight.
    pub weights: Vec<(TensorFacts, Vec<f32>)>,
    /// As given.
    pub problems: Vec<(String, String)>,
    /// As given.
    pub tokenizer: TokenizerFacts,
    /// As given; `None` derives it from the vocabulary.
    pub single_tokens: Option<SingleTokens>,
    /// Each fault with the complaint of the reader.
    pub faults: Vec<(FaultOffer, Option<String>)>,
    /// What the unbroken copy is refused with.
    pub control: Option<String>,
    /// Whether the contract binds it.
    pub under_contract: bool,
    /// Name, soundness and details of every stage.
    pub stages: Vec<(String, bool, String)>,
    /// As given.
    pub lint: Linted,
    /// As given.
    pub kernels: Vec<KernelResult>,
    /// As given.
    pub speed: Speed,
    /// What the file calls its family, where that is unknown.
    pub unknown_family: Option<String>,
    /// What everything is refused with.
    pub refuses: Option<Unable>,
}

impl FakeSubject {
    /// A sound one: after `a` comes `b`, then `c`, `d` and the end.
    pub fn new(artifact: &str) -> FakeSubject {
        let vocabulary: Vec<char> = "abcd xyz$".chars().collect();
        let facts = |name: &str, shape: &[usize], dtype| TensorFacts {
            name: name.into(),
            stored: vec![name.into()],
            dtype,
            tiled: false,
            shape: Shape::from(shape),
        };
        let ramp = |n: usize| (0..n).map(|i| (i as f32 - n as f32 / 3.0) / n as f32).collect::<Vec<f32>>();
        let tokens = vocabulary.iter().map(|c| Some((c.to_string(), *c == '$'))).collect();
        FakeSubject {
            info: SubjectInfo {
                model: "fake".into(),
                artifact: artifact.into(),
                path: format!("{artifact}.bin"),
                backend: "cpu".into(),
            },
            next: HashMap::from([(0, 1), (1, 2), (2, 3)]),
            gap: 8.0,
            noise: 0.0,
            twin_noise: 0.0,
            floor: 0.0,
            importance: None,
            perplexity: 7.0,
            hyperparameters: BTreeMap::from([
                ("norm_eps".into(), "0.00001".into()),
                ("n_heads".into(), "4".into()),
            ]),
            weights: vec![
                (facts("0.attn_norm.weight", &[32], DType::F32), ramp(32)),
                (facts("0.q_proj.weight", &[2, 32], DType::F32), ramp(64)),
            ],
            problems: Vec::new(),
            tokenizer: TokenizerFacts {
                settings: BTreeMap::from([("add_bos".into(), "false".into()), ("eos".into(), "8".into())]),
                tokens,
                merges: vec![("a".into(), "b".into()), ("c".into(), "d".into())],
            },
            single_tokens: None,
            faults: vec![(
                FaultOffer { name: "unknown-dtype".into(), expect: "dtype".into() },
                Some("dtype 99 is unknown".into()),
            )],
            control: None,
            under_contract: true,
            stages: (1..=10).map(|i| (format!("stage {i}"), true, "sound".into())).collect(),
            lint: Linted { rules: 15, issues: Vec::new() },
            kernels: [("linear", "matmul"), ("attend", "attention")]
                .map(|(operation, contract)| KernelResult {
                    operation,
                    contract,
                    compared: 102,
                    worst: 0.25,
                    faults: Vec::new(),
                })
                .into(),
            speed: Speed { tokens: 8, seconds: 0.5 },
            unknown_family: None,
            refuses: None,
            vocabulary,
        }
    }

    fn end(&self) -> u32 {
        self.vocabulary.len() as u32 - 1
    }

    fn willing(&self) -> Answer<()> {
        self.refuses.clone().map_or(Ok(()), Err)
    }
}

impl Subject for FakeSubject {
    fn info(&self) -> &SubjectInfo {
        &self.info
    }

    fn under_contract(&self) -> Answer<bool> {
        self.willing()?;
        Ok(self.under_contract)
    }

    fn infers(&self) -> Answer<()> {
        self.willing()?;
        match &self.unknown_family {
            Some(name) => Err(Unable::UnknownFamily(format!("no family answers to `{name}`"))),
            None => Ok(()),
        }
    }

    fn encode(&self, text: &str, _add_special: bool) -> Answer<Vec<u32>> {
        self.willing()?;
        let id = |c: char| self.vocabulary.iter().position(|v| *v == c).unwrap_or(4) as u32;
        Ok(text.chars().map(id).collect())
    }

    fn decode(&self, ids: &[u32], skip_special: bool) -> Answer<String> {
        self.willing()?;
        let shown = ids.iter().filter(|id| !(skip_special && **id == self.end()));
        Ok(shown.filter_map(|id| self.vocabulary.get(*id as usize)).collect())
    }

    fn generate(&self, prompt: &str, tokens: usize) -> Answer<Arc<Generated>> {
        let prompt_ids = self.encode(prompt, true)?;
        let mut last = *prompt_ids.last().expect("fake prompts are not empty");
        let mut generated = Vec::new();
        while generated.len() < tokens && (generated.is_empty() || last != self.end()) {
            last = self.next.get(&last).copied().unwrap_or(self.end());
            generated.push(last);
        }
        let text = self.decode(&generated, true)?;
        Ok(Arc::new(Generated { prompt_ids, tokens: generated, text }))
    }

    fn logits(&self, ids: &[u32]) -> Answer<Arc<LogitRows>> {
        self.willing()?;
        let vocab = self.vocabulary.len();
        let mut data = Vec::new();
        for id in ids {
            let best = self.next.get(id).copied().unwrap_or(self.end());
            data.extend((0..vocab as u32).map(|i| {
                let noise = if i % 2 == 1 { self.noise } else { 0.0 };
                noise + if i == best { self.gap } else { 0.0 }
            }));
        }
        Ok(Arc::new(LogitRows { vocab, data }))
    }

    fn perplexity(&self, text: &str, chunking: Chunking) -> Answer<Figure> {
        self.willing()?;
        Ok(Figure {
            perplexity: self.perplexity,
            tokens_scored: text.len().min(chunking.chunks.saturating_mul(chunking.ctx)) as u64,
        })
    }

    fn hyperparameters(&self) -> Answer<BTreeMap<String, String>> {
        self.willing()?;
        Ok(self.hyperparameters.clone())
    }

    fn tensors(&self) -> Answer<Arc<Vec<TensorFacts>>> {
        self.willing()?;
        Ok(Arc::new(self.weights.iter().map(|(facts, _)| facts.clone()).collect()))
    }

    fn values(&self, canonical: &str) -> Answer<Vec<f32>> {
        let found = self.weights.iter().find(|(facts, _)| facts.name == canonical);
        found
            .map(|(_, values)| values.clone())
            .ok_or_else(|| Unable::Vacuous(format!("no tensor {canonical}")))
    }

    fn problems(&self) -> Answer<Arc<Checked>> {
        self.willing()?;
        Ok(Arc::new(Checked {
            tensors: self.weights.len() as u64,
            problems: self.problems.clone(),
            stages: self.stages.clone(),
            unknown_family: self.unknown_family.clone(),
        }))
    }

    fn lint(&self) -> Answer<Arc<Linted>> {
        self.willing()?;
        Ok(Arc::new(self.lint.clone()))
    }

    fn identity(&self) -> Answer<[u8; 32]> {
        self.willing()?;
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&self.noise.to_le_bytes());
        let values = self.weights.iter().flat_map(|(_, values)| values);
        for (i, byte) in values.flat_map(|v| v.to_le_bytes()).enumerate() {
            digest[4 + i % 28] = digest[4 + i % 28].wrapping_mul(31).wrapping_add(byte);
        }
        Ok(digest)
    }

    fn importance(&self) -> Answer<Option<String>> {
        self.willing()?;
        Ok(self.importance.clone())
    }

    fn requantized(&self, types: &BTreeMap<String, DType>) -> Answer<Arc<dyn Subject>> {
        self.willing()?;
        let mut twin = self.clone();
        twin.noise = self.twin_noise;
        for (facts, values) in &mut twin.weights {
            let Some(dtype) = types.get(&facts.name) else { continue };
            let shape = facts.shape.clone();
            let bytes = quant::from_f32(*dtype, &shape, values).map_err(Unable::Reference)?;
            let tensor = Tensor { dtype: *dtype, shape, bytes: Bytes::from_vec(bytes) };
            facts.dtype = *dtype;
            *values = quant::to_f32(&tensor).map_err(Unable::Reference)?;
        }
        Ok(Arc::new(twin))
    }

    fn distributions(&self, plan: &DistributionPlan) -> Answer<Arc<KeptReference>> {
        let ids = self.encode(&plan.text, true)?;
        let chunks = (ids.len() / plan.ctx).min(plan.chunks);
        let vocab = self.vocabulary.len();
        let key = ReferenceKey {
            model: self.identity()?,
            text: [0; 32],
            ctx: plan.ctx as u32,
            chunks: chunks as u32,
            vocab: vocab as u32,
            top: plan.top.min(vocab) as u32,
            samples: 0,
            seed: plan.seed,
        };
        let ids = ids[..chunks * plan.ctx].to_vec();
        let mut rows = Vec::new();
        for chunk in ids.chunks(plan.ctx) {
            let logits = self.logits(chunk)?;
            for at in plan.ctx / 2..plan.ctx - 1 {
                let row = logits.row(at).expect("a row per token");
                rows.push(CompactRow::of(row, chunk[at + 1], vocab, 0, 1).expect("numbers"));
            }
        }
        let stored = StoredReference { key, ids, rows };
        Ok(Arc::new(KeptReference { stored, provenance: "computed".into() }))
    }

    fn divergence(&self, reference: &StoredReference) -> Answer<Arc<Divergences>> {
        self.infers()?;
        let (ctx, mut rows) = (reference.key.ctx as usize, reference.rows.iter());
        let mut positions = Vec::new();
        for chunk in reference.ids.chunks(ctx) {
            let logits = self.logits(chunk)?;
            for at in ctx / 2..ctx - 1 {
                let kept = rows.next().expect("a row per position");
                let compared = kept.compare(logits.row(at).expect("a row per token"));
                positions.push(compared.ok_or_else(|| {
                    Unable::Refused(crate::Error::new(crate::Kind::NonFinite, "scoring", "a logit is NaN"))
                })?);
            }
        }
        Ok(Arc::new(Divergences { positions, per_chunk: reference.key.per_chunk() }))
    }

    fn self_test(&self, own: &StoredReference) -> Answer<Arc<Vec<SelfTest>>> {
        self.willing()?;
        let positions = own.rows.len() as u64;
        Ok(Arc::new(vec![SelfTest { what: "2 threads".into(), positions, kl: self.floor, same_top: 1.0 }]))
    }

    fn speed(&self, _prompt: &str, _tokens: usize) -> Answer<Speed> {
        self.infers()?;
        Ok(self.speed)
    }

    fn kernels(&self) -> Answer<Arc<Vec<KernelResult>>> {
        self.infers()?;
        Ok(Arc::new(self.kernels.clone()))
    }

    fn tokenizer(&self) -> Answer<Arc<TokenizerFacts>> {
        self.willing()?;
        Ok(Arc::new(self.tokenizer.clone()))
    }

    fn single_tokens(&self) -> Answer<Arc<SingleTokens>> {
        self.willing()?;
        let bytes: Vec<Vec<u8>> = self.vocabulary.iter().map(|c| c.to_string().into_bytes()).collect();
        let derived = SingleTokens { tried: bytes.len() as u64, not_back: Vec::new(), bytes };
        Ok(Arc::new(self.single_tokens.clone().unwrap_or(derived)))
    }

    fn faults(&self) -> Answer<Vec<FaultOffer>> {
        self.willing()?;
        Ok(self.faults.iter().map(|(offer, _)| offer.clone()).collect())
    }

    fn inject(&self, fault: Option<&FaultOffer>, _folder: &Path) -> Answer<Injected> {
        let complaint = match fault {
            None => self.control.clone(),
            Some(fault) => self.faults.iter().find(|(offer, _)| offer == fault).and_then(|(_, c)| c.clone()),
        };
        Ok(complaint.map_or(Injected::Accepted, Injected::Refused))
    }
}
