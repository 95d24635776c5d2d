//! The stages of a decoder as `check` reports them: ten, whatever the family, and an eleventh for what belongs to none.

use super::bind::Problem;
use super::{ModelConfig, Position};
use serde::Serialize;

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

/// The stages of reference part B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StageName {
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
    /// What belongs to no stage; told only where something does.
    DataQuality,
}

impl StageName {
    const TEN: [StageName; 10] = [
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

    /// The stage that a tensor of that canonical pattern takes part in.
    pub fn of_tensor(canonical: Option<&str>) -> StageName {
        let Some(name) = canonical else { return StageName::DataQuality };
        let part = name.trim_start_matches("{n}.").split('.').next().unwrap_or(name);
        match part {
            "token_embd" => StageName::Embedding,
            "position_embd" => StageName::Positions,
            "q_proj" | "k_proj" | "v_proj" | "q_norm" | "k_norm" => StageName::Qkv,
            "o_proj" => StageName::Attention,
            "gate_proj" | "up_proj" | "down_proj" => StageName::FeedForward,
            "output" => StageName::Head,
            other if other.ends_with("norm") => StageName::Norms,
            _ => StageName::DataQuality,
        }
    }

    /// A contradiction of the config names the setting it is about.
    pub fn of_contradiction(what: &str) -> StageName {
        if what.starts_with("norm epsilon") {
            StageName::Norms
        } else if what.starts_with("rope_theta") || what.starts_with("rotated width") {
            StageName::Positions
        } else {
            StageName::Attention
        }
    }
}

/// What a passing stage can say about itself.
pub(super) struct Facts<'a> {
    pub config: Option<&'a ModelConfig>,
    /// Tokens of the vocabulary.
    pub tokens: Option<usize>,
}

#[derive(Default)]
pub(super) struct Findings(pub Vec<(StageName, Problem)>);

impl Findings {
    pub fn add(&mut self, stage: StageName, problem: Problem) {
        self.0.push((stage, problem));
    }

    /// The ten stages, and the eleventh where something belongs to it.
    pub fn stages(&self, facts: &Facts) -> Vec<Stage> {
        let rest = self.0.iter().any(|(stage, _)| *stage == StageName::DataQuality);
        let names = StageName::TEN.into_iter().chain(rest.then_some(StageName::DataQuality));
        names.map(|name| self.stage(name, facts)).collect()
    }

    fn stage(&self, name: StageName, facts: &Facts) -> Stage {
        let problems: Vec<String> =
            self.0.iter().filter(|(stage, _)| *stage == name).map(|(_, p)| p.to_string()).collect();
        let (status, details) = if problems.is_empty() {
            match facts.about(name) {
                Some(details) => (StageStatus::Pass, details),
                None => (StageStatus::Fail, "could not be checked: see the problems".to_owned()),
            }
        } else {
            (StageStatus::Fail, problems.join("; "))
        };
        Stage { name: name.title().to_owned(), status, details }
    }
}

impl Facts<'_> {
    /// What was looked at; `None` where that was impossible. The tokenizer needs no config, all other stages do.
    fn about(&self, stage: StageName) -> Option<String> {
        if stage == StageName::Tokenizer {
            return self.tokens.map(|tokens| format!("{tokens} tokens"));
        }
        let c = self.config?;
        let layers = c.n_layers;
        Some(match stage {
            StageName::Tokenizer | StageName::DataQuality => return None,
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
            StageName::Probabilities => {
                self.tokens.map(|tokens| format!("{} logits for {tokens} tokens", c.vocab_size))?
            }
            StageName::Sampler => self.tokens.map(|_| "an end token, and every token decodes".to_owned())?,
        })
    }
}
