//! `bench MODEL…`: how fast models are, beside what the machine can do at most, measured in the same run.

mod kernels;
mod peer;
mod report;

use super::model::{self, EngineArgs};
use crate::convert::{self, RANDOM_MODELS, RandomModel};
use crate::engine::cpu::{Isa, LimitMeter, Limits};
use crate::engine::{measure_device, usable_cpus};
use crate::formats::{self, Checkpoint};
use crate::infer::speed::{
    Memory, Product, Round, SpeedOptions, SpeedTest, Spread, Work, cache_element_bytes,
};
use crate::infer::{EngineOptions, LoadedModel};
use crate::quant::Quantize;
use crate::{Error, Kind, Result, models};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use peer::Peer;
pub(super) use report::rates_in_words;
use report::{Pair, Report, Row};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// HF model folders, GGUF or APR files.
    #[arg(required_unless_present = "random_model", value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// A model of random weights in the shapes of this size, made in memory.
    #[arg(long, value_name = "SIZE", value_parser = sizes(), requires = "quantize")]
    random_model: Option<&'static RandomModel>,
    /// Encoding of the random weights, or a mixture as llama-quantize makes it.
    #[arg(long, value_name = "ENCODING", value_parser = super::convert::encodings(), requires = "random_model")]
    quantize: Option<Quantize>,
    /// Seed of the random weights.
    #[arg(long, default_value_t = 1, value_name = "N", requires = "random_model")]
    seed: u64,
    /// Write the random model to this GGUF file and measure the file, which a peer can read too.
    #[arg(long, value_name = "FILE", requires = "random_model")]
    write: Option<PathBuf>,
    /// Tokens of the prompt; 0 leaves it out.
    #[arg(long, default_value_t = 512, value_name = "N")]
    prompt: usize,
    /// Tokens to generate; 0 leaves it out.
    #[arg(long = "gen", default_value_t = 128, value_name = "N")]
    generate: usize,
    /// Tokens that the sequence holds before either; their time does not count.
    #[arg(long, default_value_t = 0, value_name = "N")]
    depth: usize,
    /// Measure so many times; the median is shown, with the least and the most.
    #[arg(long, default_value = "3", value_name = "N")]
    repeat: NonZeroUsize,
    /// Memory that each thread reads for the limit of bandwidth, in MiB: several times the last cache. Of a GPU backend
    /// the adapter's own limits are measured. 0 measures no limits.
    #[arg(long, default_value_t = 512, value_name = "MIB")]
    limit_mib: usize,
    /// Run this command after every measurement, and print the ratio pair by pair. It is split at blanks; {model},
    /// {threads}, {prompt}, {gen} and {depth} are filled in, and it prints what `llama-bench -o json` prints.
    #[arg(long, value_name = "CMD")]
    peer: Option<Peer>,
    /// Seconds that one run of the peer may take.
    #[arg(long, default_value_t = 600, value_name = "S", requires = "peer")]
    peer_timeout: u64,
    /// Also time every kernel of a GPU backend, in a run of its own: its dispatches wait for each other.
    #[arg(long)]
    profile_kernels: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

fn sizes() -> impl TypedValueParser<Value = &'static RandomModel> {
    PossibleValuesParser::new(RANDOM_MODELS.iter().map(|m| m.name)).map(|name| {
        let found = RANDOM_MODELS.iter().find(|m| m.name == name);
        found.expect("the possible values are the names of the table")
    })
}

/// Measures.
pub fn execute(args: &Args) -> Result<u8> {
    if args.peer.is_some() && args.random_model.is_some() && args.write.is_none() {
        let what = "a peer cannot read a random model that is in no file";
        return Err(Error::new(Kind::Usage, "bench", what).hint("add --write FILE.gguf"));
    }
    let engine = model::options(&args.engine);
    let mut report = Report::new(args, &engine, Isa::detect()?);
    for source in sources(args)? {
        let row = measure(args, &engine, &source, &mut report)?;
        report.rows.push(row);
    }
    match args.json {
        true => super::print_json(&report.to_json())?,
        false => super::print_text(&report.to_text())?,
    }
    Ok(0)
}

/// A model to measure.
enum Source {
    File(PathBuf),
    Random(&'static RandomModel, Quantize, u64),
}

fn sources(args: &Args) -> Result<Vec<Source>> {
    let mut all: Vec<Source> = args.models.iter().cloned().map(Source::File).collect();
    if let (Some(shape), Some(quantize)) = (args.random_model, args.quantize) {
        all.push(match &args.write {
            None => Source::Random(shape, quantize, args.seed),
            Some(path) => {
                convert::write_random(path, &convert::random(shape, quantize, args.seed)?)?;
                Source::File(path.clone())
            }
        });
    }
    Ok(all)
}

impl Source {
    fn name(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Random(shape, quantize, _) => format!("random {} {}", shape.name, quantize.name()),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Source::File(path) => path,
            Source::Random(..) => Path::new(""),
        }
    }

    fn open(&self) -> Result<Checkpoint> {
        match self {
            Source::File(path) => formats::open(path),
            Source::Random(shape, quantize, seed) => convert::random(shape, *quantize, *seed),
        }
    }
}

/// Measures one model, and the limits and the peer between its rounds.
fn measure(args: &Args, engine: &EngineOptions, source: &Source, report: &mut Report) -> Result<Row> {
    let options = SpeedOptions { prompt: args.prompt, generate: args.generate, depth: args.depth };
    Memory::forget_peak();
    let made = match source {
        // Making weights is no part of loading them.
        Source::Random(..) => Some(source.open()?),
        Source::File(_) => None,
    };
    let start = Instant::now();
    let model = models::open(&made.map_or_else(|| source.open(), Ok)?)?;
    let loaded = LoadedModel::load(&model, engine)?;
    let load_s = start.elapsed().as_secs_f64();
    if args.profile_kernels {
        // Refused now rather than after everything else.
        loaded.begin_profile()?;
        loaded.end_profile()?;
    }
    let mut test = SpeedTest::new(&loaded, options)?;
    test.warm_up()?;

    let mut rounds: Vec<Round> = Vec::new();
    let mut pairs = Vec::new();
    let mut memory = Memory::default();
    let mut meter = None;
    for i in 0..args.repeat.get() {
        let ours = test.round()?;
        if i == 0 {
            // Before the limits take memory of their own.
            memory = Memory::now();
        }
        rounds.push(ours);
        if let Some(peer) = &args.peer {
            let limit = Duration::from_secs(args.peer_timeout);
            let theirs = peer.run(source.path(), engine.threads, &options, limit)?;
            pairs.push(Pair { ours, theirs });
        }
        if args.limit_mib > 0 && loaded.device().is_none() {
            let meter = match &mut meter {
                Some(meter) => meter,
                empty => empty.insert(limit_meter(report.isa, engine.threads, args.limit_mib)?),
            };
            report.saw(meter.measure());
        }
    }
    let prompt = Spread::of(rounds.iter().filter_map(|r| r.prompt));
    let generate = Spread::of(rounds.iter().filter_map(|r| r.generate));
    let device = loaded.device();
    if args.limit_mib > 0 && device.is_some() && report.rates.is_none() {
        report.rates = Some(measure_device(engine.adapter.as_deref())?);
    }
    let kernels = if args.profile_kernels { kernels::profile(&loaded, options)? } else { Vec::new() };
    let backend = loaded.backend_name();
    let work = Work::of(&model, &options, cache_element_bytes(backend));
    let cooperative = report.rates.is_some_and(|rates| rates.cooperative.is_some());
    let product = Product::of(backend, work.main, cooperative);
    let adapter = device.map(|device| device.adapter());
    let model = source.name();
    Ok(Row { model, backend, adapter, load_s, prompt, generate, memory, work, product, kernels, pairs })
}

/// Limits are those of the threads that compute.
fn limit_meter(isa: Isa, threads: usize, mib: usize) -> Result<LimitMeter> {
    let threads = NonZeroUsize::new(threads.min(usable_cpus())).unwrap_or(NonZeroUsize::MIN);
    let bytes = mib.checked_mul(1 << 20).ok_or_else(|| {
        Error::new(Kind::Usage, "--limit-mib", format!("{mib} MiB are more than a computer addresses"))
    })?;
    LimitMeter::new(isa, threads, bytes)
}

impl Report {
    /// Keeps the best of all measured limits.
    fn saw(&mut self, found: Limits) {
        let best = self.limits.get_or_insert(found);
        *best = Limits {
            read: best.read.max(found.read),
            fma: best.fma.max(found.fma),
            int8: best.int8.max(found.int8),
            bf16: best.bf16.max(found.bf16),
        };
    }
}
