//! What `bench` found: a table for a reader, one JSON object for a program.

use super::Args;
use super::kernels::Phase;
use crate::engine::cpu::{Isa, Limits};
use crate::engine::{DeviceRates, usable_cpus};
use crate::infer::EngineOptions;
use crate::infer::speed::{Memory, Product, Round, Spread, Work};
use crate::record::Adapter;
use serde_json::{Value as Json, json};
use std::fmt::Write;

/// Everything that was measured.
pub(super) struct Report {
    pub isa: Isa,
    /// Of the processor.
    pub limits: Option<Limits>,
    /// Of the adapter.
    pub rates: Option<DeviceRates>,
    pub rows: Vec<Row>,
    threads: usize,
    prompt: usize,
    generate: usize,
    depth: usize,
    repeat: usize,
}

/// One model.
pub(super) struct Row {
    pub model: String,
    pub backend: &'static str,
    /// What it was computed on; none for the processor.
    pub adapter: Option<Adapter>,
    pub load_s: f64,
    pub prompt: Option<Spread>,
    pub generate: Option<Spread>,
    pub memory: Memory,
    pub work: Work,
    pub product: Product,
    pub kernels: Vec<Phase>,
    pub pairs: Vec<Pair>,
}

/// Ours and the peer's, one right after the other.
pub(super) struct Pair {
    pub ours: Round,
    pub theirs: Round,
}

/// A model's use of the machine, and its share of what the machine can do; shares are `None` without limits.
struct Use {
    bytes_per_token: u64,
    bytes_per_s: Option<f64>,
    share_of_read: Option<f64>,
    operations_per_s: Option<f64>,
    share_of_peak: Option<f64>,
}

impl Report {
    pub(super) fn new(args: &Args, engine: &EngineOptions, isa: Isa) -> Report {
        Report {
            isa,
            limits: None,
            rates: None,
            rows: Vec::new(),
            threads: engine.threads,
            prompt: args.prompt,
            generate: args.generate,
            depth: args.depth,
            repeat: args.repeat.get(),
        }
    }

    fn use_of(&self, row: &Row) -> Use {
        let bytes_per_token = row.work.weight_bytes + row.work.cache_bytes;
        let bytes_per_s = row.generate.map(|g| g.median * bytes_per_token as f64);
        let seconds = row.prompt.map(|p| self.prompt as f64 / p.median);
        let operations_per_s = seconds.map(|s| row.work.prompt_operations as f64 / s);
        let peaks = self.peaks(row);
        let share = |of: Option<f64>, peak: fn((f64, f64)) -> f64| {
            let peak = peak(peaks?);
            of.filter(|_| peak > 0.0).map(|of| of / peak)
        };
        Use {
            bytes_per_token,
            bytes_per_s,
            share_of_read: share(bytes_per_s, |(read, _)| read),
            operations_per_s,
            share_of_peak: share(operations_per_s, |(_, product)| product),
        }
    }

    /// The limits of reading and of the row's products, where it was computed.
    fn peaks(&self, row: &Row) -> Option<(f64, f64)> {
        let (read, fma, int8, cooperative) = match row.adapter {
            None => self.limits.map(|l| (l.read, l.fma, l.int8, None))?,
            Some(_) => self.rates.map(|r| (r.read, r.f32, r.int8, r.cooperative))?,
        };
        Some(match row.product {
            Product::Fma => (read, fma),
            Product::Int8 => (read, int8),
            Product::Cooperative => (read, cooperative?),
        })
    }

    pub(super) fn to_json(&self) -> Json {
        let limits = self.limits.map(|l| {
            let there = |rate: f64| (rate > 0.0).then_some(rate);
            json!({
                "read_bytes_per_s": l.read,
                "f32_operations_per_s": l.fma,
                "int8_operations_per_s": there(l.int8),
                "bf16_operations_per_s": there(l.bf16),
            })
        });
        json!({
            "threads": self.threads,
            "usable_cpus": usable_cpus(),
            "instruction_set": self.isa.name(),
            "prompt": self.prompt,
            "gen": self.generate,
            "depth": self.depth,
            "repeat": self.repeat,
            "limits": limits,
            "adapter_limits": self.rates,
            "results": self.rows.iter().map(|row| self.row_json(row)).collect::<Vec<_>>(),
        })
    }

    fn row_json(&self, row: &Row) -> Json {
        let found = self.use_of(row);
        let spread = |s: Option<Spread>| s.map(|s| json!({ "min": s.min, "max": s.max }));
        let mut json = json!({
            "model": row.model,
            "backend": row.backend,
            "adapter": row.adapter,
            "threads": self.threads,
            "encoding": row.work.main.name(),
            "prompt_tokens_per_s": row.prompt.map(|s| s.median),
            "prompt_spread": spread(row.prompt),
            "gen_tokens_per_s": row.generate.map(|s| s.median),
            "gen_spread": spread(row.generate),
            "load_s": row.load_s,
            "peak_memory_bytes": row.memory.peak,
            "private_memory_bytes": row.memory.private,
            "weight_bytes_per_token": row.work.weight_bytes,
            "cache_bytes_per_token": row.work.cache_bytes,
            "bytes_per_token": found.bytes_per_token,
            "gen_bytes_per_s": found.bytes_per_s,
            "gen_share_of_read": found.share_of_read,
            "prompt_operations": row.work.prompt_operations,
            "prompt_operations_per_s": found.operations_per_s,
            "prompt_instruction": row.product.name(),
            "prompt_share_of_peak": found.share_of_peak,
        });
        if !row.kernels.is_empty() {
            json["kernels"] = row.kernels.iter().map(Phase::to_json).collect();
        }
        if !row.pairs.is_empty() {
            let side = |of: fn(&Pair) -> Option<f64>| row.pairs.iter().map(of).collect::<Vec<_>>();
            let ratio = |of: fn(&Round) -> Option<f64>| {
                let (each, all) = ratios(&row.pairs, of)?;
                Some(json!({ "pairs": each, "median": all.median, "min": all.min, "max": all.max }))
            };
            json["peer"] = json!({
                "prompt_tokens_per_s": side(|p| p.theirs.prompt),
                "gen_tokens_per_s": side(|p| p.theirs.generate),
                "prompt_ratio": ratio(|r| r.prompt),
                "gen_ratio": ratio(|r| r.generate),
            });
        }
        json
    }

    pub(super) fn to_text(&self) -> String {
        let Report { threads, prompt, generate, depth, repeat, .. } = self;
        let mut out = format!(
            "{threads} threads on {} usable processors, {}; prompt {prompt}, generation {generate}, depth {depth}; \
             median of {repeat} (least to most)\n",
            usable_cpus(),
            self.isa.name()
        );
        if let Some(l) = &self.limits {
            let _ = write!(out, "limits: read {:.1} GB/s, f32 {:.0} GFLOP/s", l.read / 1e9, l.fma / 1e9);
            for (name, rate) in [("int8", l.int8), ("bf16", l.bf16)] {
                if rate > 0.0 {
                    let _ = write!(out, ", {name} {:.0} GOP/s", rate / 1e9);
                }
            }
            out.push('\n');
        }
        if let Some(rates) = &self.rates {
            out.push_str(&format!("limits of the adapter: {}\n", rates_in_words(rates)));
        }
        for row in &self.rows {
            out.push_str(&self.row_text(row));
        }
        out
    }

    fn row_text(&self, row: &Row) -> String {
        let found = self.use_of(row);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let of = |share: Option<f64>, limit: &str| {
            share.map_or(String::new(), |share| format!(", {:.0} % of the {limit}", 100.0 * share))
        };
        let mut out = format!("\n{} on {}, mostly {}\n", row.model, row.backend, row.work.main);
        let mut line = |what: &str, said: String| {
            let _ = writeln!(out, "  {what:<12}{said}");
        };
        if let Some(adapter) = &row.adapter {
            line("adapter", adapter.to_string());
        }
        if let (Some(s), Some(rate)) = (row.prompt, found.operations_per_s) {
            let share = of(found.share_of_peak, &format!("{} peak", row.product.name()));
            line("prompt", format!("{} tokens/s; {:.0} GOP/s{share}", shown(&s), rate / 1e9));
        }
        if let (Some(s), Some(rate)) = (row.generate, found.bytes_per_s) {
            let (touched, share) = (mib(found.bytes_per_token), of(found.share_of_read, "read limit"));
            let said =
                format!("{} tokens/s; {touched:.1} MiB a token, {:.1} GB/s{share}", shown(&s), rate / 1e9);
            line("generation", said);
        }
        let memory =
            |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), |b| format!("{:.0} MiB", mib(b)));
        line(
            "memory",
            format!(
                "peak {}, private {}; loaded in {:.3} s",
                memory(row.memory.peak),
                memory(row.memory.private),
                row.load_s
            ),
        );
        for (what, of) in
            [("prompt", (|r| r.prompt) as fn(&Round) -> Option<f64>), ("generation", |r| r.generate)]
        {
            if let Some((each, all)) = ratios(&row.pairs, of) {
                let each: Vec<String> = each.iter().map(|r| format!("{r:.2}")).collect();
                let said = format!(
                    "{:.2} ({:.2} to {:.2}) times the peer in {what}: {}",
                    all.median,
                    all.min,
                    all.max,
                    each.join(" ")
                );
                line("ratio", said);
            }
        }
        out.extend(row.kernels.iter().map(Phase::to_text));
        out
    }
}

/// What an adapter can do at most, for a reader.
pub(in crate::cli) fn rates_in_words(rates: &DeviceRates) -> String {
    let DeviceRates { read, f32, f16, int8, cooperative } = rates;
    let or_none =
        |rate: &Option<f64>| rate.map_or("none".to_owned(), |rate| format!("{:.0} GFLOP/s", rate / 1e9));
    let (half, matrices) = (or_none(f16), or_none(cooperative));
    let (read, single, int8) = (read / 1e9, f32 / 1e9, int8 / 1e9);
    format!(
        "read {read:.1} GB/s, f32 {single:.0} GFLOP/s, f16 {half}, int8 {int8:.0} GOP/s, cooperative matrices {matrices}"
    )
}

fn shown(s: &Spread) -> String {
    format!("{:.1} ({:.1} to {:.1})", s.median, s.min, s.max)
}

/// Ours to theirs, pair by pair; `None` where it was not measured.
fn ratios(pairs: &[Pair], of: fn(&Round) -> Option<f64>) -> Option<(Vec<f64>, Spread)> {
    let each: Vec<f64> = pairs.iter().filter_map(|p| Some(of(&p.ours)? / of(&p.theirs)?)).collect();
    let all = Spread::of(each.iter().copied())?;
    Some((each, all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    fn report() -> Report {
        let spread = |median: f64| Some(Spread { median, min: median - 1.0, max: median + 1.0 });
        let round = |prompt, generate| Round { prompt: Some(prompt), generate: Some(generate) };
        let work = Work {
            weight_bytes: 3_000_000,
            cache_bytes: 1_000_000,
            prompt_operations: 2_000_000,
            main: DType::Q8_0,
        };
        let row = Row {
            model: "m.gguf".to_owned(),
            backend: "cpu-fast",
            adapter: None,
            load_s: 0.5,
            prompt: spread(1000.0),
            generate: spread(100.0),
            memory: Memory { peak: Some(64 << 20), private: None },
            work,
            product: Product::Int8,
            kernels: Vec::new(),
            pairs: vec![
                Pair { ours: round(900.0, 100.0), theirs: round(300.0, 50.0) },
                Pair { ours: round(800.0, 90.0), theirs: round(400.0, 90.0) },
            ],
        };
        let limits = Limits { read: 8e8, fma: 1e9, int8: 4e8, bf16: 0.0 };
        Report {
            isa: Isa::detect().expect("every processor has one"),
            limits: Some(limits),
            rates: None,
            rows: vec![row],
            threads: 2,
            prompt: 100,
            generate: 10,
            depth: 0,
            repeat: 2,
        }
    }

    #[test]
    fn every_figure_has_its_share_of_the_limit() {
        let json = report().to_json();
        let row = &json["results"][0];
        assert_eq!(row["gen_bytes_per_s"], 4e8);
        assert_eq!(row["gen_share_of_read"], 0.5);
        // 100 tokens in a tenth of a second.
        assert_eq!(row["prompt_operations_per_s"], 2e7);
        assert_eq!(row["prompt_share_of_peak"], 0.05);
        assert!(json["limits"]["bf16_operations_per_s"].is_null());
        assert!(row["private_memory_bytes"].is_null());
        assert_eq!(row["peer"]["prompt_ratio"]["pairs"], json!([3.0, 2.0]));
        assert_eq!(row["peer"]["gen_ratio"]["median"], 1.5);
    }

    #[test]
    fn a_reader_sees_the_same() {
        let text = report().to_text();
        for said in ["1000.0 (999.0 to 1001.0) tokens/s", "5 % of the int8 peak", "50 % of the read limit"] {
            assert!(text.contains(said), "{said} in {text}");
        }
        assert!(text.contains("2.50 (2.00 to 3.00) times the peer in prompt: 3.00 2.00"), "{text}");
        assert!(text.contains("peak 64 MiB, private unknown; loaded in 0.500 s"), "{text}");
    }

    /// What a GPU did is a share of what the GPU can do.
    #[test]
    fn a_row_of_a_gpu_is_held_against_the_adapters_limits() {
        let mut report = report();
        report.rows[0].adapter = Some(Adapter {
            name: "card".into(),
            kind: "discrete".into(),
            driver: "driver 1".into(),
            api: "Vulkan".into(),
            features: Vec::new(),
        });
        assert!(report.to_json()["results"][0]["gen_share_of_read"].is_null(), "not the processor's");
        report.rates = Some(DeviceRates { read: 1.6e9, f32: 1e12, f16: None, int8: 2e8, cooperative: None });
        let json = report.to_json();
        let row = &json["results"][0];
        assert_eq!((&row["gen_share_of_read"], &row["prompt_share_of_peak"]), (&0.25.into(), &0.1.into()));
        assert_eq!(
            (&row["adapter"]["name"], &json["adapter_limits"]["read_bytes_per_s"]),
            (&"card".into(), &1.6e9.into())
        );
        let text = report.to_text();
        assert!(text.contains("limits of the adapter: read 1.6 GB/s, f32 1000 GFLOP/s, f16 none"), "{text}");
        assert!(text.contains("  adapter     card (discrete, Vulkan, driver 1)\n"), "{text}");
    }

    #[test]
    fn without_limits_there_is_no_share() {
        let mut report = report();
        report.limits = None;
        let json = report.to_json();
        assert!(json["limits"].is_null() && json["results"][0]["gen_share_of_read"].is_null());
        assert!(!report.to_text().contains('%'));
    }
}
