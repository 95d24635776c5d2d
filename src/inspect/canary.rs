//! Canaries: what a model said when it was sound, frozen with its log-probabilities, to be held against it later.

use super::fingerprint::Fingerprints;
use crate::formats::Checkpoint;
use crate::infer::{self, GenerateOptions, LoadedModel, Sampling};
use crate::stats::{count_mismatches, first_difference};
use crate::tokenizer::Tokenizer;
use crate::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// Greedy generations of `tokens` tokens after each prompt, frozen.
///
/// # Errors
/// [`Kind::Usage`] for no prompt or no token; and where the model cannot run.
pub fn create(
    model: &LoadedModel,
    tokenizer: &Tokenizer,
    prompts: &[String],
    tokens: usize,
    provenance: Provenance,
) -> Result<Canary> {
    if prompts.is_empty() || tokens == 0 {
        let what = "a canary needs a prompt and at least one token";
        return Err(Error::new(Kind::Usage, "canary", what));
    }
    let songs = prompts.iter().map(|prompt| sing(model, tokenizer, prompt, tokens)).collect::<Result<_>>()?;
    Ok(Canary { schema: SCHEMA, provenance, songs })
}

/// Holds a canary against a model: the same prompt ids, the same greedy tokens, and the log-probability of every
/// frozen token, both models fed the frozen tokens.
///
/// # Errors
/// [`Kind::Malformed`] for a canary of nothing; and where the model cannot run.
pub fn check(model: &LoadedModel, tokenizer: &Tokenizer, canary: &Canary) -> Result<Vec<Heard>> {
    canary.validate()?;
    let mut heard = Vec::new();
    for song in &canary.songs {
        let now = sing(model, tokenizer, &song.prompt, song.max_tokens)?;
        let log_probs = log_probs(model, &song.prompt_ids, &song.tokens)?;
        let off = song.log_probs.iter().zip(&log_probs).map(|(a, b)| (a - b).abs());
        heard.push(Heard {
            prompt: song.prompt.clone(),
            prompt_ids_equal: now.prompt_ids == song.prompt_ids,
            tokens: song.tokens.len(),
            mismatches: count_mismatches(&song.tokens, &now.tokens),
            first_mismatch: first_difference(&song.tokens, &now.tokens),
            // A NaN must not hide behind `max`.
            max_logprob_diff: off.fold(0.0, |most: f64, d| if d.is_nan() || d > most { d } else { most }),
            text: now.text,
        });
    }
    Ok(heard)
}

/// The version of the file that this program writes.
pub const SCHEMA: u32 = 1;

/// A canary file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What it was made with.
    pub provenance: Provenance,
    /// One per prompt.
    #[serde(rename = "prompts")]
    pub songs: Vec<Song>,
}

/// What a canary was made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// File or folder name of the model.
    pub model_name: String,
    /// Container.
    pub format: String,
    /// Family.
    pub architecture: String,
    /// Over the values of all tensors: [`Fingerprints::model`].
    pub model_checksum: String,
    /// Tensors of the file.
    pub tensor_count: usize,
    /// Backend that ran.
    pub backend: String,
    /// Program and version.
    pub created_by: String,
    /// RFC 3339, UTC.
    pub created_at: String,
}

impl Provenance {
    /// Of this model, as of now; the caller names backend and time.
    pub fn of(
        checkpoint: &Checkpoint,
        family: &str,
        prints: &Fingerprints,
        backend: &str,
        now: &str,
    ) -> Self {
        let name = checkpoint.path.file_name().map(|n| n.to_string_lossy().into_owned());
        Provenance {
            model_name: name.unwrap_or_default(),
            format: checkpoint.kind().name().to_owned(),
            architecture: family.to_owned(),
            model_checksum: prints.model.clone(),
            tensor_count: checkpoint.tensors().len(),
            backend: backend.to_owned(),
            created_by: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
            created_at: now.to_owned(),
        }
    }
}

/// One frozen generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Song {
    /// As given.
    pub prompt: String,
    /// Its ids, special tokens included.
    pub prompt_ids: Vec<u32>,
    /// How many tokens were asked for.
    pub max_tokens: usize,
    /// Generated ids, the end token included if it came.
    pub tokens: Vec<u32>,
    /// Their text, special tokens left out.
    pub text: String,
    /// The natural-log probability of each of them.
    pub log_probs: Vec<f64>,
}

/// What became of one prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Heard {
    /// As frozen.
    pub prompt: String,
    /// Whether the tokenizer still makes the same ids of it.
    pub prompt_ids_equal: bool,
    /// Frozen tokens.
    pub tokens: usize,
    /// Generated tokens that differ from them.
    pub mismatches: usize,
    /// Position of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_mismatch: Option<usize>,
    /// Largest difference of the log-probabilities of the frozen tokens.
    pub max_logprob_diff: f64,
    /// What the model says now.
    pub text: String,
}

impl Heard {
    /// Whether it says the same, each log-probability within `tolerance`.
    pub fn holds(&self, tolerance: f64) -> bool {
        self.prompt_ids_equal && self.mismatches == 0 && self.max_logprob_diff <= tolerance
    }
}

impl Canary {
    /// Reads a canary; `file` names it in errors.
    ///
    /// # Errors
    /// [`Kind::Malformed`] where it is none, [`Kind::Unsupported`] for another schema.
    pub fn parse(file: &str, text: &str) -> Result<Canary> {
        let canary: Canary = serde_json::from_str(text)
            .map_err(|e| Error::malformed(file, e.to_string()).hint("a canary is made by `canary create`"))?;
        canary.validate().map_err(|mut error| {
            error.subject = file.to_owned();
            error
        })?;
        Ok(canary)
    }

    fn validate(&self) -> Result<()> {
        if self.schema != SCHEMA {
            return Err(Error::unsupported("canary", format!("schema {} is not {SCHEMA}", self.schema)));
        }
        if self.songs.is_empty() {
            return Err(Error::malformed("canary", "it holds no prompt: nothing would be compared"));
        }
        for song in &self.songs {
            if song.tokens.is_empty() || song.prompt_ids.is_empty() {
                let what = format!("prompt {:?} has no tokens: nothing would be compared", song.prompt);
                return Err(Error::malformed("canary", what));
            }
            if song.log_probs.len() != song.tokens.len() {
                let what = format!(
                    "prompt {:?}: {} log-probabilities for {} tokens",
                    song.prompt,
                    song.log_probs.len(),
                    song.tokens.len()
                );
                return Err(Error::malformed("canary", what));
            }
        }
        Ok(())
    }
}

fn sing(model: &LoadedModel, tokenizer: &Tokenizer, prompt: &str, tokens: usize) -> Result<Song> {
    let prompt_ids = tokenizer.encode(prompt, true)?;
    let options = GenerateOptions {
        max_tokens: tokens,
        stop: tokenizer.stop_ids(),
        sampling: Sampling::Greedy,
        logprobs: 0,
    };
    let made = infer::generate(model, &prompt_ids, &options, &mut |_| ControlFlow::Continue(()))?;
    Ok(Song {
        prompt: prompt.to_owned(),
        log_probs: log_probs(model, &prompt_ids, &made.tokens)?,
        text: tokenizer.decode(&made.tokens, true),
        max_tokens: tokens,
        tokens: made.tokens,
        prompt_ids,
    })
}

/// The log-probability of each of `tokens` after `prompt` and those before it.
fn log_probs(model: &LoadedModel, prompt: &[u32], tokens: &[u32]) -> Result<Vec<f64>> {
    let ids: Vec<u32> = prompt.iter().chain(tokens).copied().collect();
    let scores = infer::score(model, &ids)?;
    Ok(scores[scores.len().saturating_sub(tokens.len())..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn song() -> Song {
        Song {
            prompt: "a".into(),
            prompt_ids: vec![1],
            max_tokens: 2,
            tokens: vec![2, 3],
            text: "bc".into(),
            log_probs: vec![-0.5, -1.0],
        }
    }

    fn canary(songs: Vec<Song>) -> Canary {
        let provenance = Provenance {
            model_name: "m".into(),
            format: "gguf".into(),
            architecture: "llama".into(),
            model_checksum: "00".into(),
            tensor_count: 1,
            backend: "cpu".into(),
            created_by: "test".into(),
            created_at: "2026-01-01T00:00:00Z".into(),
        };
        Canary { schema: SCHEMA, provenance, songs }
    }

    #[test]
    fn a_canary_of_nothing_is_no_canary() {
        let text = |c: &Canary| serde_json::to_string(c).expect("plain data");
        assert!(Canary::parse("c.json", &text(&canary(vec![song()]))).is_ok());
        let empty = Canary::parse("c.json", &text(&canary(Vec::new()))).expect_err("no prompt");
        assert!(empty.to_string().starts_with("c.json") && empty.kind == Kind::Malformed, "{empty}");
        let silent = Song { tokens: Vec::new(), log_probs: Vec::new(), ..song() };
        assert!(Canary::parse("c.json", &text(&canary(vec![silent]))).is_err());
        let short = Song { log_probs: vec![-0.5], ..song() };
        assert!(Canary::parse("c.json", &text(&canary(vec![short]))).is_err());
        let other = Canary { schema: 2, ..canary(vec![song()]) };
        assert_eq!(Canary::parse("c.json", &text(&other)).expect_err("schema 2").kind, Kind::Unsupported);
        assert!(Canary::parse("c.json", "{}").is_err());
    }

    #[test]
    fn tokens_ids_and_log_probabilities_must_all_hold() {
        let heard = Heard {
            prompt: "a".into(),
            prompt_ids_equal: true,
            tokens: 2,
            mismatches: 0,
            first_mismatch: None,
            max_logprob_diff: 1e-4,
            text: "bc".into(),
        };
        assert!(heard.holds(1e-3));
        assert!(!heard.holds(1e-5));
        assert!(!Heard { mismatches: 1, ..heard.clone() }.holds(1e-3));
        assert!(!Heard { prompt_ids_equal: false, ..heard.clone() }.holds(1e-3));
        assert!(!Heard { max_logprob_diff: f64::NAN, ..heard }.holds(1e-3));
    }
}
