//! Where a result comes from: versions, digests, machine, threads. Ordered, as text.

use super::digest;
use crate::contract::Contract;
use crate::engine;
use crate::playbook::{Case, Playbook};
use crate::record::Adapter;
use std::collections::BTreeMap;

/// What is known before anything runs. Artifacts add their digests when they are made.
pub fn provenance(
    playbook: &Playbook,
    cases: &[Case],
    program: &str,
    (threads, adapter): (usize, Option<Adapter>),
) -> BTreeMap<String, String> {
    let is_fast = |case: &Case| engine::is_fast(&case.backend);
    let numerics = if cases.iter().any(is_fast) { "exact; fast where the backend says so" } else { "exact" };
    let mut all = BTreeMap::from([
        ("apr-qa-runner".into(), env!("CARGO_PKG_VERSION").into()),
        ("apr-qa-runner sha256".into(), program.into()),
        ("playbook sha256".into(), digest::of_text(playbook.source.text())),
        ("contract sha256".into(), digest::of_text(Contract::builtin_text())),
        ("system".into(), format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("cpu".into(), cpu_model()),
        ("cpu features".into(), cpu_features()),
        ("threads".into(), threads.to_string()),
        ("numerics".into(), numerics.into()),
        // Generation in gates is greedy: nothing is drawn.
        ("seed".into(), "none (greedy)".into()),
    ]);
    if let Some(adapter) = adapter {
        all.insert("adapter".into(), adapter.to_string());
        all.insert("adapter features".into(), adapter.features.join(" "));
    }
    all
}

/// The SHA-256 of the running program; a text that says why where it cannot be read.
pub fn program_digest() -> String {
    match std::env::current_exe() {
        Ok(path) => digest::of_path(&path).unwrap_or_else(|error| format!("unknown: {error}")),
        Err(error) => format!("unknown: {error}"),
    }
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    named.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> String {
    let known = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("f16c", std::arch::is_x86_feature_detected!("f16c")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512bw", std::arch::is_x86_feature_detected!("avx512bw")),
        ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
    ];
    let there: Vec<&str> = known.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    if there.is_empty() { "baseline".to_owned() } else { there.join(" ") }
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> String {
    if std::arch::is_aarch64_feature_detected!("dotprod") { "neon dotprod" } else { "neon" }.to_owned()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> String {
    "baseline".to_owned()
}
