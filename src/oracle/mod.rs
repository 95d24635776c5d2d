//! Recorded references: what another implementation generated, token by token, and the numbers behind it.
//!
//! `oracle/<slug>/<prompt>.json` holds the tokens and the text, `<prompt>.logits.json` the log-probabilities of the
//! same steps. Both are read strictly: a field too many or too few, or counts that disagree, is an error.

mod compact;
mod distributions;

pub use compact::{CompactRow, Entry};
pub use distributions::{ReferenceKey, StoredReference, parse as parse_distributions};

use crate::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// One recorded greedy generation; the fields are those of the owner's oracle generator.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oracle {
    /// Where the weights came from: a model hub id or a file name.
    pub model: String,
    /// The folder's name.
    pub model_slug: String,
    /// The prompt, unstripped.
    pub prompt: String,
    /// The prompt's file name, `arithmetic.txt`.
    pub prompt_file: String,
    /// `transformers`.
    pub runtime: String,
    /// `float32`.
    pub format: String,
    /// Version of the runtime.
    pub transformers_version: String,
    /// Version of its tensor library.
    pub torch_version: String,
    /// Generated ids only; the end token is one of them if it came.
    pub tokens: Vec<u32>,
    /// Those ids as text without special tokens, unstripped.
    pub text: String,
    /// `tokens.len()`.
    pub token_count: usize,
    /// How many were asked for.
    pub max_new_tokens: usize,
    /// Always false: greedy.
    pub do_sample: bool,
}

/// The numbers behind an [`Oracle`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OracleLogits {
    /// As in the oracle.
    pub model_slug: String,
    /// As in the oracle.
    pub prompt_file: String,
    /// The prompt's ids, special tokens included.
    pub prompt_ids: Vec<u32>,
    /// As in the oracle.
    pub tokens: Vec<u32>,
    /// The smallest distance between the two best logits on the path; under about 0.005 a tie may fall otherwise.
    pub min_top1_gap: f64,
    /// SHA-256 of the weights that were run, hex.
    pub weights_sha256: String,
    /// One per token.
    pub steps: Vec<OracleStep>,
}

/// The distribution that one recorded token was chosen from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OracleStep {
    /// Log-sum-exp of the raw logits.
    pub logsumexp: f64,
    /// Ids with natural-log probabilities, best first.
    pub top: Vec<(u32, f64)>,
}

/// Where the recording of `prompt` stands in a model's oracle folder.
pub fn path(folder: &Path, prompt: &str) -> PathBuf {
    folder.join(format!("{prompt}.json"))
}

/// Reads `<folder>/<prompt>.json`; the folder is called after the model's slug.
///
/// # Errors
/// [`crate::Kind::Io`] where there is no such file, [`crate::Kind::Malformed`] where it is no oracle.
pub fn load(folder: &Path, prompt: &str) -> Result<Oracle> {
    let path = path(folder, prompt);
    let oracle = parse(&path, &read(&path)?)?;
    same_slug(&path, folder, &oracle.model_slug)?;
    Ok(oracle)
}

/// Reads the text of an oracle; `path` is only for messages.
///
/// # Errors
/// [`crate::Kind::Malformed`] where it is none.
pub fn parse(path: &Path, text: &[u8]) -> Result<Oracle> {
    let oracle: Oracle = decode(path, text)?;
    let wrong = |key: &str, what: String| Err(Error::malformed(path, what).at(format!("key `{key}`")));
    if oracle.token_count != oracle.tokens.len() {
        let what =
            format!("token_count is {}, but there are {} tokens", oracle.token_count, oracle.tokens.len());
        return wrong("token_count", what);
    }
    if oracle.tokens.is_empty() {
        return wrong("tokens", "no tokens were recorded".into());
    }
    if oracle.tokens.len() > oracle.max_new_tokens {
        let what = format!("{} tokens, but max_new_tokens is {}", oracle.tokens.len(), oracle.max_new_tokens);
        return wrong("max_new_tokens", what);
    }
    if oracle.do_sample {
        return wrong("do_sample", "it was sampled; a reference must be greedy".into());
    }
    Ok(oracle)
}

/// Reads `<folder>/<prompt>.logits.json`; the folder is called after the model's slug.
///
/// # Errors
/// [`crate::Kind::Io`] where there is no such file, [`crate::Kind::Malformed`] where it is no recording of logits.
pub fn load_logits(folder: &Path, prompt: &str) -> Result<OracleLogits> {
    let path = folder.join(format!("{prompt}.logits.json"));
    let logits = parse_logits(&path, &read(&path)?)?;
    same_slug(&path, folder, &logits.model_slug)?;
    Ok(logits)
}

/// Reads the text of a recording of logits; `path` is only for messages.
///
/// # Errors
/// [`crate::Kind::Malformed`] where it is none.
pub fn parse_logits(path: &Path, text: &[u8]) -> Result<OracleLogits> {
    let logits: OracleLogits = decode(path, text)?;
    let wrong = |key: &str, what: String| Err(Error::malformed(path, what).at(format!("key `{key}`")));
    if logits.steps.len() != logits.tokens.len() || logits.tokens.is_empty() {
        return wrong("steps", format!("{} tokens, but {} steps", logits.tokens.len(), logits.steps.len()));
    }
    if logits.prompt_ids.is_empty() {
        return wrong("prompt_ids", "the prompt has no ids".into());
    }
    for (i, step) in logits.steps.iter().enumerate() {
        let finite =
            step.logsumexp.is_finite() && step.top.iter().all(|(_, lp)| lp.is_finite() && *lp <= 1e-9);
        if step.top.is_empty() || !finite {
            return wrong("steps", format!("step {i} holds no natural-log probabilities"));
        }
    }
    Ok(logits)
}

/// Refuses a recording that was made for another model than its folder says.
fn same_slug(path: &Path, folder: &Path, recorded: &str) -> Result<()> {
    match folder.file_name().and_then(|name| name.to_str()) {
        Some(slug) if slug != recorded => {
            let what = format!("it was recorded for `{recorded}`, not for `{slug}`");
            Err(Error::malformed(path, what).at("key `model_slug`"))
        }
        Some(_) | None => Ok(()),
    }
}

/// The largest recording that is read, in bytes: ten thousand steps with twenty alternatives are far below.
const LARGEST_FILE: u64 = 64 << 20;

fn read(path: &Path) -> Result<Vec<u8>> {
    let hint = "record it with `oracle/gen_oracle.py`, or name a model that has an oracle";
    let about = std::fs::metadata(path).map_err(|e| Error::io(path, &e).hint(hint))?;
    // Asked before opening: opening a named pipe would wait for its writer.
    if !about.is_file() || about.len() > LARGEST_FILE {
        return Err(Error::malformed(path, format!("not a regular file of at most {LARGEST_FILE} bytes")));
    }
    std::fs::read(path).map_err(|e| Error::io(path, &e).hint(hint))
}

fn decode<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|e| {
        let at = format!("line {}, column {}", e.line(), e.column());
        Error::malformed(path, e.to_string()).at(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    const TEXT: &str = r#"{"model": "m", "model_slug": "tiny", "prompt": "Hi", "prompt_file": "greeting.txt",
        "runtime": "transformers", "format": "float32", "transformers_version": "5", "torch_version": "2",
        "tokens": [5, 2], "text": " you", "token_count": 2, "max_new_tokens": 32, "do_sample": false}"#;
    const LOGITS: &str = r#"{"model_slug": "tiny", "prompt_file": "greeting.txt", "prompt_ids": [1], "tokens": [5],
        "min_top1_gap": 0.5, "weights_sha256": "00", "steps": [{"logsumexp": 9.5, "top": [[5, -0.1], [7, -2.5]]}]}"#;

    fn folder(name: &str, text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tiny")).unwrap();
        std::fs::write(dir.path().join("tiny").join(name), text).unwrap();
        dir
    }

    #[test]
    fn an_oracle_is_read_as_recorded() {
        let dir = folder("greeting.json", TEXT);
        let oracle = load(&dir.path().join("tiny"), "greeting").unwrap();
        assert_eq!((oracle.tokens.as_slice(), oracle.text.as_str()), ([5, 2].as_slice(), " you"));
        let dir = folder("greeting.logits.json", LOGITS);
        let logits = load_logits(&dir.path().join("tiny"), "greeting").unwrap();
        assert_eq!(logits.steps[0].top, vec![(5, -0.1), (7, -2.5)]);
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_says_so() {
        let cases = [
            (TEXT.replace("\"token_count\": 2", "\"token_count\": 3"), "token_count is 3"),
            (TEXT.replace("false}", "true}"), "greedy"),
            (TEXT.replace("\"tiny\"", "\"other\""), "`other`"),
            (TEXT.replace("\"do_sample\"", "\"sample\": 1, \"do_sample\""), "sample"),
            (TEXT.replace("[5, 2]", "[]").replace("\"token_count\": 2", "\"token_count\": 0"), "no tokens"),
        ];
        for (text, expected) in cases {
            let dir = folder("greeting.json", &text);
            let err = load(&dir.path().join("tiny"), "greeting").unwrap_err();
            assert_eq!(err.kind, Kind::Malformed);
            assert!(err.to_string().contains(expected), "{err}");
        }
    }

    #[test]
    fn probabilities_that_are_none_are_refused() {
        let dir = folder("greeting.logits.json", &LOGITS.replace("-0.1", "0.7"));
        assert!(
            load_logits(&dir.path().join("tiny"), "greeting").unwrap_err().to_string().contains("step 0")
        );
    }

    #[test]
    fn a_missing_oracle_says_how_to_record_one() {
        let dir = folder("greeting.json", TEXT);
        let err = load(&dir.path().join("tiny"), "code").unwrap_err();
        assert_eq!(err.kind, Kind::Io);
        assert!(err.to_string().contains("gen_oracle.py"), "{err}");
    }
}
