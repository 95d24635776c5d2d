//! What the cases will cost, from file sizes alone. Each figure says what it assumes.

use super::explain::FileSizes;
use super::plan::SOURCE;
use super::schema::{Artifact, Format, Origin, Playbook};
use super::{Case, Catalog};
use crate::quant::Quantize;
use std::collections::BTreeSet;
use std::fmt;

/// What a run will cost.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// Seconds of the engine, conversions included.
    pub seconds: f64,
    /// Bytes of memory: the two largest files of one case, which are mapped, and room for the cache.
    pub memory: u64,
    /// Bytes of disk for the converted artifacts.
    pub disk: u64,
    /// Models or files whose size is not known; their cases are not in the figures.
    pub unknown: Vec<String>,
}

/// Bytes of weights that a run goes through in a second when generating: what two desktop cores sustain.
const GENERATE_BYTES_PER_S: f64 = 4e9;
/// How many tokens of a prompt or text go through in the time of one generated token.
const BATCH_GAIN: f64 = 4.0;
/// Bytes that a conversion reads and writes in a second.
const CONVERT_BYTES_PER_S: f64 = 2e8;
/// Bytes of text per token.
const BYTES_PER_TOKEN: f64 = 4.0;
/// Memory beside the files: cache, activations, vocabulary.
const ROOM: u64 = 200_000_000;

pub(super) fn estimate(
    playbook: &Playbook,
    cases: &[Case],
    catalog: &dyn Catalog,
    sizes: &FileSizes,
) -> Estimate {
    let mut estimate = Estimate { seconds: 0.0, memory: 0, disk: 0, unknown: Vec::new() };
    let mut unknown = BTreeSet::new();
    let mut made = BTreeSet::new();
    for case in cases {
        let sides =
            [Some(case.artifact.as_str()), case.against.as_deref().filter(|a| is_artifact(playbook, a))];
        let mut largest = 0;
        for artifact in sides.into_iter().flatten() {
            let Some(bytes) = size(playbook, artifact, &case.model, sizes, 0) else {
                unknown.insert(if sizes.models.contains_key(&case.model) { artifact } else { &case.model });
                continue;
            };
            largest += bytes;
            estimate.seconds += seconds(case, bytes, catalog, sizes);
            for (name, made_bytes) in conversions(playbook, artifact, &case.model, sizes) {
                if made.insert((name, case.model.as_str())) {
                    estimate.disk += made_bytes;
                    estimate.seconds += made_bytes as f64 / CONVERT_BYTES_PER_S;
                }
            }
        }
        estimate.memory = estimate.memory.max(largest + ROOM);
    }
    estimate.unknown = unknown.into_iter().map(str::to_owned).collect();
    estimate
}

/// Seconds for one side of a case whose weights take `bytes`.
fn seconds(case: &Case, bytes: u64, catalog: &dyn Catalog, sizes: &FileSizes) -> f64 {
    let read_once = bytes as f64 / GENERATE_BYTES_PER_S;
    if case.backend.is_empty() {
        return read_once;
    }
    if catalog.reads_text(&case.gate) {
        let text = sizes.texts.get(&case.model).copied().unwrap_or(0) as f64;
        return text / BYTES_PER_TOKEN * read_once / BATCH_GAIN;
    }
    let of_prompt =
        |text: &str| (text.len() as f64 / BYTES_PER_TOKEN / BATCH_GAIN + case.tokens as f64) * read_once;
    case.prompt.iter().chain(&case.prompts).map(|(_, text)| of_prompt(text)).sum()
}

fn is_artifact(playbook: &Playbook, name: &str) -> bool {
    name == SOURCE || playbook.artifacts.get(name).is_some()
}

/// The bytes of an artifact of a model, measured or reckoned from the source's.
fn size(playbook: &Playbook, name: &str, model: &str, sizes: &FileSizes, depth: usize) -> Option<u64> {
    let source = sizes.models.get(model).copied();
    let artifact = playbook.artifacts.get(name);
    match artifact.and_then(Artifact::origin) {
        None | Some(Origin::Source) => source,
        Some(Origin::File(_)) => sizes.files.get(name).copied(),
        Some(Origin::Converted { from, format }) => {
            if depth > playbook.artifacts.len() {
                return None;
            }
            let bits = artifact.and_then(|a| a.quantize).map(bits);
            match bits {
                // A source of 16-bit weights is the common case.
                Some(bits) => source.map(|bytes| (bytes as f64 / 16.0 * bits) as u64),
                None => size(playbook, &from.value, model, sizes, depth + 1).map(|bytes| {
                    if format == Format::Safetensors { bytes.max(source.unwrap_or(0)) } else { bytes }
                }),
            }
        }
    }
}

/// The artifact and those it is made from, as far as they are written to disk.
fn conversions<'a>(
    playbook: &'a Playbook,
    name: &'a str,
    model: &str,
    sizes: &FileSizes,
) -> Vec<(&'a str, u64)> {
    let mut all = Vec::new();
    let mut next = name;
    while let Some(Origin::Converted { from, .. }) = playbook.artifacts.get(next).and_then(Artifact::origin) {
        if all.len() > playbook.artifacts.len() {
            break;
        }
        all.push((next, size(playbook, next, model, sizes, 0).unwrap_or(0)));
        next = &from.value;
    }
    all
}

/// Bits per weight, scales included; of the ordinary matrix, and a little more where a mixture spends more.
fn bits(quantize: Quantize) -> f64 {
    let dtype = quantize.main();
    let plain = dtype.block_bytes() as f64 * 8.0 / dtype.block_len() as f64;
    match quantize {
        Quantize::F32 | Quantize::F16 | Quantize::Bf16 | Quantize::Int8 | Quantize::Q8_0 => plain,
        _ => plain + 0.5,
    }
}

/// A size for people: `9.3 MB`.
pub(super) fn in_bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        1_000_000_000.. => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "estimate, from file sizes alone")?;
        let time = match self.seconds {
            s if s < 90.0 => format!("{:.0} s", s.ceil()),
            s if s < 5400.0 => format!("{:.0} min", (s / 60.0).ceil()),
            s => format!("{:.1} h", s / 3600.0),
        };
        let gb = GENERATE_BYTES_PER_S / 1e9;
        writeln!(f, "    time    about {time}, if {gb:.0} GB of weights are gone through in a second")?;
        writeln!(f, "    memory  about {}, the largest case", in_bytes(self.memory))?;
        writeln!(f, "    disk    about {} of converted artifacts", in_bytes(self.disk))?;
        if !self.unknown.is_empty() {
            writeln!(f, "    not in these figures, as they were not found: {}", self.unknown.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, Shapes};
    use super::*;

    #[test]
    fn disk_counts_each_conversion_once() {
        let sizes =
            FileSizes { models: [("tiny-llama".to_owned(), 16_000_000)].into(), ..FileSizes::default() };
        let all = estimate(&fixture::playbook(), &fixture::cases(), &Shapes, &sizes);
        // int8 and the GGUF made of it at 8.5 bits, int4 at 5.
        assert_eq!(all.disk, 8_500_000 + 8_500_000 + 5_000_000);
        assert_eq!(all.unknown, ["real"], "its size is not known");
        assert!(all.seconds > 0.0 && all.memory > 16_000_000);
        let none = estimate(&fixture::playbook(), &[], &Shapes, &sizes);
        assert_eq!((none.seconds, none.memory, none.disk), (0.0, 0, 0));
    }

    #[test]
    fn more_tokens_and_larger_models_take_longer() {
        let playbook = fixture::playbook();
        let one: Vec<Case> = fixture::cases().into_iter().take(1).collect();
        let with = |bytes: u64, tokens: usize| {
            let sizes =
                FileSizes { models: [("tiny-llama".to_owned(), bytes)].into(), ..FileSizes::default() };
            let case = Case { tokens, ..one[0].clone() };
            estimate(&playbook, &[case], &Shapes, &sizes).seconds
        };
        assert!(with(1_000_000, 32) < with(2_000_000, 32));
        assert!(with(1_000_000, 32) < with(1_000_000, 64));
    }

    #[test]
    fn sizes_are_shown_for_people() {
        let shown: Vec<String> = [0, 999, 1_500, 9_300_000, 2_000_000_000].map(in_bytes).into();
        assert_eq!(shown, ["0 B", "999 B", "1.5 kB", "9.3 MB", "2.0 GB"]);
    }
}
