//! The time of each kernel on the device, apart for the prompt and the generation.

use crate::Result;
use crate::engine::KernelTime;
use crate::infer::LoadedModel;
use crate::infer::speed::{SpeedOptions, SpeedTest};
use serde_json::{Value as Json, json};
use std::fmt::Write;

/// Kernels of one phase, the longest first.
pub(super) struct Phase {
    /// `prompt` or `generation`.
    what: &'static str,
    tokens: usize,
    kernels: Vec<KernelTime>,
}

/// Runs each phase of the measurement once more with every kernel timed.
///
/// # Errors
/// Those of [`LoadedModel::begin_profile`] and of running.
pub(super) fn profile(model: &LoadedModel, options: SpeedOptions) -> Result<Vec<Phase>> {
    let alone = [
        ("prompt", options.prompt, SpeedOptions { generate: 0, ..options }),
        ("generation", options.generate, SpeedOptions { prompt: 0, ..options }),
    ];
    let mut phases = Vec::new();
    for (what, tokens, options) in alone.into_iter().filter(|(_, tokens, _)| *tokens > 0) {
        let mut test = SpeedTest::new(model, options)?;
        test.fill()?;
        model.begin_profile()?;
        let ran = test.append();
        // The profile ends in any case; an error of running is the one to tell.
        let kernels = model.end_profile();
        ran?;
        phases.push(Phase { what, tokens, kernels: kernels? });
    }
    Ok(phases)
}

impl Phase {
    fn seconds(&self) -> f64 {
        self.kernels.iter().map(|kernel| kernel.seconds).sum()
    }

    pub(super) fn to_json(&self) -> Json {
        json!({ "phase": self.what, "tokens": self.tokens, "seconds": self.seconds(), "kernels": self.kernels })
    }

    /// A table of the kernels, indented below its model.
    pub(super) fn to_text(&self) -> String {
        let all = self.seconds();
        let mut out =
            format!("  kernels of the {}, {:.3} ms for {} tokens\n", self.what, all * 1e3, self.tokens);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "    {:<24} {:>10} {:>11} {:>9} {:>7} {:>12}",
            "kernel", "dispatches", "ms", "us each", "share", "weights GB/s"
        );
        for KernelTime { name, dispatches, seconds, weight_bytes } in &self.kernels {
            let rate = match (*weight_bytes, *seconds > 0.0) {
                (0, _) | (_, false) => "-".to_owned(),
                (bytes, true) => format!("{:.1}", bytes as f64 / seconds / 1e9),
            };
            let share = if all > 0.0 { 100.0 * seconds / all } else { 0.0 };
            let _ = writeln!(
                out,
                "    {name:<24} {dispatches:>10} {:>11.3} {:>9.1} {share:>5.1} % {rate:>12}",
                seconds * 1e3,
                seconds * 1e6 / *dispatches as f64,
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_has_its_share_its_time_and_what_it_reads_a_second() {
        let time = |name: &str, dispatches, seconds, weight_bytes| KernelTime {
            name: name.into(),
            dispatches,
            seconds,
            weight_bytes,
        };
        let kernels = vec![time("matvec q8_0", 300, 0.003, 600_000_000), time("rms_norm", 100, 0.001, 0)];
        let phase = Phase { what: "generation", tokens: 4, kernels };
        let text = phase.to_text();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0].join(" "), "kernels of the generation, 4.000 ms for 4 tokens");
        assert_eq!(rows[2], ["matvec", "q8_0", "300", "3.000", "10.0", "75.0", "%", "200.0"]);
        assert_eq!(rows[3], ["rms_norm", "100", "1.000", "10.0", "25.0", "%", "-"]);
        let json = phase.to_json();
        assert_eq!(
            (&json["phase"], &json["kernels"][0]["weight_bytes"]),
            (&"generation".into(), &600_000_000.into())
        );
    }

    #[test]
    fn nothing_timed_divides_by_nothing() {
        let none = |seconds| KernelTime { name: "k".into(), dispatches: 1, seconds, weight_bytes: 8 };
        let phase = Phase { what: "prompt", tokens: 1, kernels: vec![none(0.0)] };
        assert!(!phase.to_text().contains("NaN") && !phase.to_text().contains("inf"), "{}", phase.to_text());
    }
}
