//! Fuzzing of every parser: with libFuzzer where cargo-fuzz builds this, else blindly on stable, from the seeds and
//! attacks of `tests/attacks` and by the damage of `tests/mutate.rs`.

#[path = "../../tests/mutate.rs"]
mod mutate;
#[allow(dead_code)] // the corpus's own tests use the rest
#[path = "../../tests/parsers.rs"]
mod parsers;

use mutate::Mutator;
use parsers::Parser;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[cfg(fuzzing)]
pub use libfuzzer_sys;

/// The body of a target: libFuzzer's entry, or a `main` that fuzzes for the seconds of its argument.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::once($name, data));

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            let seconds = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(60);
            $crate::stable($name, seconds)
        }
    };
}

/// One run of the parser of that name; a panic is a finding.
pub fn once(name: &str, data: &[u8]) {
    if let Some(parser) = parsers::named(name) {
        let _ = (parser.parse)(data);
    }
}

/// Fuzzes the parser of that name for so long. Prints the executions and fails where one panicked or hung; its input
/// is then in `fuzz/artifacts`.
pub fn stable(name: &str, seconds: u64) -> std::process::ExitCode {
    let Some(parser) = parsers::named(name) else {
        let known: Vec<&str> = parsers::PARSERS.iter().map(|p| p.name).collect();
        eprintln!("no parser `{name}`; there are {}", known.join(", "));
        return std::process::ExitCode::from(2);
    };
    let sound = corpus(parser);
    let first = std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos() as u64);
    println!("{name}: {} files to begin with, first damage {first}", sound.len());
    // The message is printed below, once for each finding.
    std::panic::set_hook(Box::new(|_| {}));
    let start = Instant::now();
    let (mut executions, mut accepted, mut findings) = (0u64, 0u64, 0);
    while start.elapsed() < Duration::from_secs(seconds) && findings < MOST_FINDINGS {
        let data = Mutator::new(first.wrapping_add(executions)).damage(name, &sound);
        executions += 1;
        match run(parser, &data) {
            Ok(was_accepted) => accepted += u64::from(was_accepted),
            Err(why) => {
                findings += 1;
                println!("FINDING {}: {why}", save(name, findings, &data).display());
            }
        }
    }
    let rate = executions as f64 / start.elapsed().as_secs_f64();
    println!(
        "{name}: {executions} executions in {seconds} s ({rate:.0}/s), {accepted} accepted, {findings} findings"
    );
    std::process::ExitCode::from(u8::from(findings > 0))
}

/// A parser that needs this long for 64 KiB hangs on a real file.
const LONGEST: Duration = Duration::from_secs(2);

/// Enough to look at.
const MOST_FINDINGS: usize = 10;

/// Whether the input was accepted, or what is wrong with the parser.
fn run(parser: &Parser, data: &[u8]) -> Result<bool, String> {
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (parser.parse)(data)));
    if start.elapsed() > LONGEST {
        return Err(format!("took {:?}", start.elapsed()));
    }
    match result {
        Ok(result) => Ok(result.is_ok()),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            Err(text.or_else(|| payload.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default())
        }
    }
}

/// The seeds and attacks of the corpus that are meant for this parser.
fn corpus(parser: &Parser) -> Vec<Vec<u8>> {
    let folder = root().join("tests").join("attacks");
    let manifest = std::fs::read(folder.join("manifest.json")).expect("the manifest is committed");
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&manifest).expect("the manifest is a list");
    let meant = |row: &&serde_json::Value| {
        row["parser"].as_str().is_some_and(|p| p.trim_end_matches("-weights") == parser.name)
    };
    let read = |row: &serde_json::Value| std::fs::read(folder.join(row["file"].as_str()?)).ok();
    let files: Vec<Vec<u8>> = rows.iter().filter(meant).filter_map(read).filter(|f| !f.is_empty()).collect();
    // Half of the damage begins at what is accepted, or little would reach the later checks.
    let sound: Vec<Vec<u8>> = files.iter().filter(|f| (parser.parse)(f).is_ok()).cloned().collect();
    let copies = files.len() / sound.len().max(1);
    let repeated = sound.into_iter().flat_map(|file| vec![file; copies]);
    files.iter().cloned().chain(repeated).collect()
}

fn save(name: &str, number: usize, data: &[u8]) -> PathBuf {
    let folder = root().join("fuzz").join("artifacts").join(name);
    let path = folder.join(format!("stable-{number}"));
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, data));
    written.expect("the artifacts folder can be written");
    path
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
