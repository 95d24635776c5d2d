//! The peer: a command that prints what `llama-bench -o json` prints, run once for every measurement of ours.

use crate::infer::speed::{Round, SpeedOptions};
use crate::{Error, Kind, Result};
use serde_json::Value as Json;
use std::path::Path;
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;
use tokio::process::Command;

/// A command in words; placeholders are filled in for each run.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    words: Vec<String>,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(command: &str) -> std::result::Result<Peer, String> {
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        match words.is_empty() {
            true => Err("the command is empty".to_owned()),
            false => Ok(Peer { words }),
        }
    }
}

impl Peer {
    /// Runs it once.
    ///
    /// # Errors
    /// [`Kind::Environment`] where it cannot be started, fails, takes longer than `limit`, or prints something else.
    pub(super) fn run(
        &self,
        model: &Path,
        threads: usize,
        options: &SpeedOptions,
        limit: Duration,
    ) -> Result<Round> {
        let words = self.filled(model, threads, options);
        let (program, arguments) = words.split_first().ok_or_else(|| failed("", "the command is empty"))?;
        let printed = end_of(program, arguments, limit)?;
        speeds(&printed, options).ok_or_else(|| {
            failed(program, "its output is not the JSON of llama-bench with what was asked for")
                .hint("run it as `llama-bench -o json -m {model} -t {threads} -p {prompt} -n {gen} -d {depth} -r 1`")
        })
    }

    fn filled(&self, model: &Path, threads: usize, options: &SpeedOptions) -> Vec<String> {
        let fill = |word: &String| {
            word.replace("{model}", &model.display().to_string())
                .replace("{threads}", &threads.to_string())
                .replace("{prompt}", &options.prompt.to_string())
                .replace("{gen}", &options.generate.to_string())
                .replace("{depth}", &options.depth.to_string())
        };
        self.words.iter().map(fill).collect()
    }
}

/// What the command prints until it ends.
fn end_of(program: &str, arguments: &[String], limit: Duration) -> Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(program, error))?;
    runtime.block_on(async {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(program, format!("cannot be started: {error}")))?;
        // A command that does not end in time is killed when its future is dropped.
        let output = tokio::time::timeout(limit, child.wait_with_output())
            .await
            .map_err(|_| failed(program, format!("did not end within {} s", limit.as_secs())))?
            .map_err(|error| failed(program, error))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        Err(failed(program, format!("ended with {}: {last}", output.status)))
    })
}

fn failed(program: &str, what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Environment, format!("peer `{program}`"), what.to_string())
}

/// The `avg_ts` of the test that has a prompt only, and of the one that generates only; `None` where one that was
/// asked for is missing or no positive number.
fn speeds(printed: &[u8], options: &SpeedOptions) -> Option<Round> {
    let tests: Json = serde_json::from_slice(printed).ok()?;
    let of = |wanted: &str, other: &str, n: usize| {
        let is = |test: &&Json| test[wanted].as_u64() == Some(n as u64) && test[other].as_u64() == Some(0);
        tests.as_array()?.iter().find(is)?["avg_ts"].as_f64().filter(|rate| rate.is_finite() && *rate > 0.0)
    };
    let prompt = of("n_prompt", "n_gen", options.prompt);
    let generate = of("n_gen", "n_prompt", options.generate);
    let complete = (prompt.is_some() || options.prompt == 0) && (generate.is_some() || options.generate == 0);
    complete.then_some(Round {
        prompt: prompt.filter(|_| options.prompt > 0),
        generate: generate.filter(|_| options.generate > 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: SpeedOptions = SpeedOptions { prompt: 512, generate: 128, depth: 0 };

    #[test]
    fn the_json_of_llama_bench_is_read() {
        let printed = br#"[{"n_prompt": 512, "n_gen": 0, "avg_ts": 700.5, "samples_ts": [700.5]},
            {"n_prompt": 0, "n_gen": 128, "avg_ts": 160.25}]"#;
        let found = speeds(printed, &OPTIONS).expect("complete");
        assert_eq!((found.prompt, found.generate), (Some(700.5), Some(160.25)));
        let only = SpeedOptions { generate: 0, ..OPTIONS };
        assert_eq!(speeds(printed, &only).expect("complete").generate, None);
        let other = SpeedOptions { prompt: 511, ..OPTIONS };
        assert_eq!(speeds(printed, &other), None);
        for wrong in ["", "{}", "[]", "text", r#"[{"n_prompt": 512, "n_gen": 0, "avg_ts": 0}]"#] {
            assert_eq!(speeds(wrong.as_bytes(), &OPTIONS), None, "{wrong}");
        }
    }

    #[test]
    fn placeholders_are_filled_in_and_a_path_stays_one_word() {
        let peer: Peer =
            "bench -m {model} -t {threads} -p {prompt} -n {gen} -d {depth}".parse().expect("words");
        let words = peer.filled(Path::new("a b.gguf"), 2, &OPTIONS);
        assert_eq!(words, ["bench", "-m", "a b.gguf", "-t", "2", "-p", "512", "-n", "128", "-d", "0"]);
        assert!(" ".parse::<Peer>().is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_failure_is_one_error_that_says_what_happened() {
        let said = |words: &[&str], limit: Duration| {
            let peer = Peer { words: words.iter().map(|&w| w.to_owned()).collect() };
            let error = peer.run(Path::new("m"), 1, &OPTIONS, limit).expect_err("fails");
            assert_eq!(error.kind, Kind::Environment);
            error.to_string()
        };
        let minute = Duration::from_secs(60);
        assert!(said(&["/nowhere/llama-bench"], minute).contains("cannot be started"));
        assert!(said(&["sh", "-c", "echo no such model >&2; exit 3"], minute).contains("no such model"));
        assert!(said(&["echo", "hello"], minute).contains("not the JSON"));
        assert!(said(&["sleep", "600"], Duration::from_millis(50)).contains("did not end"));
    }
}
