//! Checking a checkpoint: everything that is wrong with it at once, sorted into the stages of a decoder.
//! Names, shapes, settings, the tokenizer, and every single weight: finite, and not all zero.

use super::bind::{Problem, bind};
use super::family::{Family, family_of};
use super::scan::scan;
use super::{ModelConfig, Position};
use crate::Kind;
use crate::contract::families::{FamilyContract, Role};
use crate::formats::{Checkpoint, NamedTensor};
use crate::tokenizer::{Tokenizer, TokenizerSpec};
use serde::Serialize;

/// Every problem of `checkpoint`; a checkpoint without any is one that `open` accepts and whose weights are
/// all finite. Reads every weight once, in a fixed amount of memory.
pub fn check(checkpoint: &Checkpoint) -> CheckReport {
    let mut findings = Findings::default();
    let family = family_of(checkpoint).map_err(|e| findings.add(StageName::DataQuality, problem_of(&e))).ok();
    let config = family.and_then(|family| check_structure(checkpoint, family, &mut findings));
    let weights = check_weights(checkpoint, family, &mut findings);
    let tokens = check_tokenizer(checkpoint, config.as_ref(), &mut findings);
    let facts = Facts { config: config.as_ref(), weights, tokens, stored: checkpoint.tensors().len() };
    let stages = StageName::ALL.iter().map(|stage| findings.stage(*stage, &facts)).collect();
    CheckReport {
        family: family.map_or_else(|| "unknown".to_owned(), |f| f.id().to_owned()),
        stages,
        problems: findings.0.into_iter().map(|(_, problem)| problem).collect(),
    }
}

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// Family id, or `unknown`.
    pub family: String,
    /// The stages of a decoder, in order, and the data they rest on.
    pub stages: Vec<Stage>,
    /// Every problem, in the order found.
    pub problems: Vec<Problem>,
}

/// One stage and whether anything is wrong in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// `Q/K/V Projection`; the stages of reference part B.
    pub name: String,
    /// `PASS` or `FAIL`.
    pub status: StageStatus,
    /// What was looked at, or the problems of this stage.
    pub details: String,
}

/// Whether a stage is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StageStatus {
    /// Nothing is wrong.
    Pass,
    /// Something is.
    Fail,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn all_passed(&self) -> bool {
        self.problems.is_empty()
    }
}

/// The stages of reference part B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StageName {
    Tokenizer,
    Embedding,
    Positions,
    Qkv,
    Attention,
    FeedForward,
    Norms,
    Head,
    Probabilities,
    Sampler,
    DataQuality,
}

impl StageName {
    const ALL: &'static [StageName] = &[
        StageName::Tokenizer,
        StageName::Embedding,
        StageName::Positions,
        StageName::Qkv,
        StageName::Attention,
        StageName::FeedForward,
        StageName::Norms,
        StageName::Head,
        StageName::Probabilities,
        StageName::Sampler,
        StageName::DataQuality,
    ];

    fn title(self) -> &'static str {
        match self {
            StageName::Tokenizer => "Tokenizer",
            StageName::Embedding => "Embedding",
            StageName::Positions => "Positional Encoding",
            StageName::Qkv => "Q/K/V Projection",
            StageName::Attention => "Attention Scores",
            StageName::FeedForward => "Feed-Forward (MLP)",
            StageName::Norms => "Layer Norm",
            StageName::Head => "LM Head",
            StageName::Probabilities => "Logits \u{2192} Probs",
            StageName::Sampler => "Sampler/Decode",
            StageName::DataQuality => "Data Quality",
        }
    }

    /// The stage that a canonical tensor takes part in.
    fn of_tensor(canonical: Option<&str>) -> StageName {
        let Some(name) = canonical else { return StageName::DataQuality };
        let part = name.trim_start_matches("{n}.").split('.').next().unwrap_or(name);
        match part {
            "token_embd" => StageName::Embedding,
            "position_embd" => StageName::Positions,
            "q_proj" | "k_proj" | "v_proj" => StageName::Qkv,
            "o_proj" => StageName::Attention,
            "gate_proj" | "up_proj" | "down_proj" => StageName::FeedForward,
            "attn_norm" | "ffn_norm" | "output_norm" => StageName::Norms,
            "output" => StageName::Head,
            _ => StageName::DataQuality,
        }
    }
}

/// What a passing stage can say about itself.
struct Facts<'a> {
    config: Option<&'a ModelConfig>,
    /// Weights looked at.
    weights: usize,
    /// Tokens of the vocabulary.
    tokens: Option<usize>,
    stored: usize,
}

#[derive(Default)]
struct Findings(Vec<(StageName, Problem)>);

impl Findings {
    fn add(&mut self, stage: StageName, problem: Problem) {
        self.0.push((stage, problem));
    }

    fn stage(&self, name: StageName, facts: &Facts) -> Stage {
        let problems: Vec<String> =
            self.0.iter().filter(|(stage, _)| *stage == name).map(|(_, p)| p.to_string()).collect();
        let (status, details) = match (problems.is_empty(), facts.config) {
            (false, _) => (StageStatus::Fail, problems.join("; ")),
            (true, Some(config)) => (StageStatus::Pass, facts.about(name, config)),
            // Tokenizer and weights can be looked at without a config, the decoder's own stages cannot.
            (true, None) => match name {
                StageName::Tokenizer if facts.tokens.is_some() => {
                    (StageStatus::Pass, format!("{} tokens", facts.tokens.unwrap_or(0)))
                }
                StageName::Tokenizer
                | StageName::Embedding
                | StageName::Positions
                | StageName::Qkv
                | StageName::Attention
                | StageName::FeedForward
                | StageName::Norms
                | StageName::Head
                | StageName::Probabilities
                | StageName::Sampler
                | StageName::DataQuality => {
                    (StageStatus::Fail, "could not be checked: see the problems".to_owned())
                }
            },
        };
        Stage { name: name.title().to_owned(), status, details }
    }
}

impl Facts<'_> {
    fn about(&self, stage: StageName, c: &ModelConfig) -> String {
        let layers = c.n_layers;
        match stage {
            StageName::Tokenizer => format!("{} tokens", self.tokens.unwrap_or(0)),
            StageName::Embedding => format!("[{}, {}]", c.vocab_size, c.hidden_size),
            StageName::Positions => match c.position {
                Position::Rope { theta, dim } => format!("rotary, theta {theta}, width {dim}"),
                Position::Learned => format!("learned, [{}, {}]", c.max_positions, c.hidden_size),
            },
            StageName::Qkv => {
                format!("{} query and {} key-value heads in {layers} layers", c.n_heads, c.n_kv_heads)
            }
            StageName::Attention => format!("head width {}, scale {}", c.head_dim, c.attn_scale),
            StageName::FeedForward => format!("width {} in {layers} layers", c.intermediate_size),
            StageName::Norms => {
                let per_layer = 2 + 2 * usize::from(c.qk_norm) + 2 * usize::from(c.post_norms);
                format!("epsilon {} in {} norms", c.norm_eps, per_layer * layers + 1)
            }
            StageName::Head if c.tied_embeddings => "the embedding".to_owned(),
            StageName::Head => format!("[{}, {}]", c.vocab_size, c.hidden_size),
            StageName::Probabilities => format!("{} logits cover every token", c.vocab_size),
            StageName::Sampler => "an end token inside the vocabulary, and every token decodes".to_owned(),
            StageName::DataQuality => {
                format!("{} weights in {} tensors are finite", self.weights, self.stored)
            }
        }
    }
}

fn check_structure(
    checkpoint: &Checkpoint,
    family: &'static dyn Family,
    findings: &mut Findings,
) -> Option<ModelConfig> {
    match bind(checkpoint) {
        Err(error) => {
            findings.add(StageName::DataQuality, problem_of(&error));
            None
        }
        Ok((bound, problems)) => {
            debug_assert_eq!(bound.family.id(), family.id());
            for problem in problems {
                let stage = match problem.tensor {
                    Some(_) => StageName::of_tensor(problem.canonical.as_deref()),
                    None => stage_of_contradiction(&problem.what),
                };
                findings.add(stage, problem);
            }
            Some(bound.config)
        }
    }
}

/// A contradiction of the config names the setting it is about.
fn stage_of_contradiction(what: &str) -> StageName {
    if what.starts_with("norm epsilon") {
        StageName::Norms
    } else if what.starts_with("rope_theta") || what.starts_with("rotated width") {
        StageName::Positions
    } else {
        StageName::Attention
    }
}

/// Looks at every stored float; returns how many there are.
fn check_weights(
    checkpoint: &Checkpoint,
    family: Option<&'static dyn Family>,
    findings: &mut Findings,
) -> usize {
    let contract = family.map(Family::contract);
    let mut weights = 0;
    for stored in checkpoint.tensors() {
        let tensor = &stored.tensor;
        if !tensor.dtype.is_plain_float() && !tensor.dtype.is_quantized() {
            continue;
        }
        weights += tensor.shape.numel();
        let problem = |index, what: String| Problem {
            index,
            kind: Kind::NonFinite,
            ..Problem::of_tensor(&stored.name, None, what)
        };
        match scan(tensor) {
            Err(error) => findings.add(StageName::DataQuality, problem(None, error.what)),
            Ok(found) => match found.non_finite {
                Some((index, value)) => {
                    findings
                        .add(StageName::DataQuality, problem(Some(index), format!("the weight is {value}")));
                }
                None if found.all_zero && must_not_vanish(stored, contract) => {
                    findings.add(StageName::DataQuality, problem(None, "every weight is zero".to_owned()));
                }
                None => {}
            },
        }
    }
    weights
}

/// A bias may be zero throughout; a matrix or a norm that is makes the layer vanish.
fn must_not_vanish(stored: &NamedTensor, contract: Option<&FamilyContract>) -> bool {
    let (pattern, _) = super::names::generalize(&stored.name);
    let is_bias = |row: &crate::contract::families::TensorRow| {
        let names = [&*row.name, &*row.hf, &*row.gguf, row.apr_hf()];
        row.role == Role::Bias && names.iter().any(|name| name.ends_with(&pattern))
    };
    let ignored = |contract: &FamilyContract| contract.hf.ignored.iter().any(|name| name.ends_with(&pattern));
    !contract.is_some_and(|c| c.tensors.iter().any(is_bias) || ignored(c))
}

/// Reads the tokenizer, holds it against the embedding and decodes every token once. Returns its size.
fn check_tokenizer(
    checkpoint: &Checkpoint,
    config: Option<&ModelConfig>,
    findings: &mut Findings,
) -> Option<usize> {
    let spec = match TokenizerSpec::from_checkpoint(checkpoint) {
        Ok(spec) => spec,
        Err(error) => {
            findings.add(StageName::Tokenizer, problem_of(&error));
            return None;
        }
    };
    let tokens = spec.tokens.len();
    let rows = config.map_or(usize::MAX, |c| c.vocab_size);
    if tokens > rows {
        let what = format!("{tokens} tokens, but only {rows} rows of the embedding");
        findings.add(StageName::Probabilities, Problem::of_model(Kind::Contract, what));
    }
    let ends = spec.stop_ids();
    if ends.is_empty() {
        let what = "no token ends a generation".to_owned();
        findings.add(StageName::Sampler, Problem::of_model(Kind::Contract, what));
    }
    for id in ends.into_iter().chain(spec.bos).filter(|&id| id as usize >= tokens) {
        let what = format!("special token {id} lies outside the {tokens} tokens");
        findings.add(StageName::Sampler, Problem::of_model(Kind::Contract, what));
    }
    match Tokenizer::new(spec) {
        Err(error) => findings.add(StageName::Tokenizer, problem_of(&error)),
        Ok(tokenizer) => {
            let dumb = (0..tokens as u32).find(|&id| tokenizer.piece(id).is_none());
            if let Some(id) = dumb {
                findings.add(
                    StageName::Sampler,
                    Problem::of_model(Kind::Contract, format!("token {id} has no text")),
                );
            }
        }
    }
    Some(tokens)
}

fn problem_of(error: &crate::Error) -> Problem {
    let at = error.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
    let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    Problem::of_model(error.kind, format!("{at}{}{hint}", error.what))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Tiny, tensor, with_tensors};
    use super::*;
    use crate::tensor::{Bytes, DType};

    fn failed(report: &CheckReport) -> Vec<&str> {
        report.stages.iter().filter(|s| s.status == StageStatus::Fail).map(|s| s.name.as_str()).collect()
    }

    #[test]
    fn the_stages_are_those_of_the_reference_and_a_sound_decoder_passes_its_own() {
        for family in super::super::FAMILIES {
            let report = check(&Tiny::new(family.id()).hf(DType::F32));
            assert_eq!(report.family, family.id());
            assert_eq!(report.stages.len(), 11);
            assert_eq!(report.stages[8].name, "Logits → Probs");
            // The fixture has no tokenizer, which is the one thing to be wrong with it.
            assert_eq!(failed(&report), ["Tokenizer"], "{report:?}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once_each_in_its_stage() {
        let sick = with_tensors(&Tiny::new("llama").hf(DType::F32), |tensors| {
            tensors.retain(|t| t.name != "model.layers.1.self_attn.k_proj.weight");
            tensors.push(tensor("spare.weight", DType::F32, [2].into(), &[1.0, 2.0]));
            let mut poison = |name: &str, index: usize, value: f32| {
                let t = tensors.iter_mut().find(|t| t.name == name).expect("a tensor of the family");
                let mut bytes = t.tensor.bytes.to_vec();
                bytes[index * 4..index * 4 + 4].copy_from_slice(&value.to_le_bytes());
                t.tensor.bytes = Bytes::from_vec(bytes);
            };
            poison("model.norm.weight", 7, f32::NAN);
            poison("model.layers.0.mlp.up_proj.weight", 4099, f32::INFINITY);
            let zero = tensors.iter_mut().find(|t| t.name.ends_with("0.self_attn.v_proj.weight"));
            let zero = zero.expect("a tensor of the family");
            zero.tensor.bytes = Bytes::from_vec(vec![0; zero.tensor.bytes.len()]);
        });
        let report = check(&sick);
        let told =
            |name: &str| report.problems.iter().find(|p| p.tensor.as_deref() == Some(name)).expect(name);
        assert_eq!(told("model.layers.1.self_attn.k_proj.weight").what, "is missing");
        assert!(told("spare.weight").what.contains("no tensor of family llama"));
        assert_eq!(told("model.norm.weight").index, Some(7));
        assert_eq!(told("model.layers.0.mlp.up_proj.weight").index, Some(4099));
        assert_eq!(told("model.layers.0.self_attn.v_proj.weight").what, "every weight is zero");
        assert_eq!(failed(&report), ["Tokenizer", "Q/K/V Projection", "Data Quality"]);
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!(json["stages"][3]["status"], "FAIL");
        assert!(!report.all_passed());
    }

    #[test]
    fn implausible_settings_fail_their_stage() {
        let sick = |key: &str, value: serde_json::Value| {
            let mut sound = Tiny::new("llama").hf(DType::F32);
            let crate::formats::Container::Hf(folder) = &mut sound.container else { panic!("an HF folder") };
            folder.config.insert(key.into(), value);
            check(&sound)
        };
        assert!(failed(&sick("rms_norm_eps", (-1e-5).into())).contains(&"Layer Norm"));
        let theta = sick("rope_parameters", serde_json::json!({"rope_theta": 0.0, "rope_type": "default"}));
        assert!(failed(&theta).contains(&"Positional Encoding"));
        let unknown = sick("model_type", "mamba".into());
        assert_eq!(unknown.family, "unknown");
        assert!(unknown.problems[0].what.contains("`mamba`"), "{:?}", unknown.problems);
        assert!(unknown.stages.iter().all(|s| s.status == StageStatus::Fail), "nothing unchecked passes");
    }

    #[test]
    fn a_bias_may_be_zero_but_a_weight_may_not() {
        let report = check(&with_tensors(&Tiny::new("qwen2").hf(DType::F32), |tensors| {
            for t in tensors.iter_mut().filter(|t| t.name.ends_with("k_proj.bias")) {
                t.tensor.bytes = Bytes::from_vec(vec![0; t.tensor.bytes.len()]);
            }
        }));
        assert_eq!(failed(&report), ["Tokenizer"]);
    }
}
