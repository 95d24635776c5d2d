//! Opening a MODEL argument, once for all subcommands that run one.

use crate::engine::usable_cpus;
use crate::formats;
use crate::infer::{EngineOptions, LoadedModel};
use crate::models;
use crate::tokenizer::Tokenizer;
use crate::{Error, Kind, Result};
use std::path::{Path, PathBuf};

/// A model and how to run it.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// HF model folder, GGUF or APR file.
    pub model: PathBuf,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// How to run a model.
#[derive(clap::Args, Clone)]
pub struct EngineArgs {
    /// Backend to compute on.
    #[arg(long, default_value = "cpu", value_name = "NAME")]
    pub backend: String,
    /// Worker threads; 0 takes what the machine offers. No result depends on it.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    #[command(flatten)]
    pub adapter: AdapterArg,
}

/// Which adapter GPU backends compute on.
#[derive(clap::Args, Clone)]
pub struct AdapterArg {
    /// Adapter of GPU backends: an index of `devices`, a kind (discrete, integrated, virtual, cpu), or a part of a
    /// name; default: the best.
    #[arg(long = "adapter", value_name = "ADAPTER", env = "APR_QA_ADAPTER")]
    request: Option<String>,
}

impl AdapterArg {
    /// What was asked for. A variable that is set to nothing asks for nothing.
    pub fn request(&self) -> Option<&str> {
        self.request.as_deref().map(str::trim).filter(|wanted| !wanted.is_empty())
    }
}

/// An opened model, ready to run.
pub struct Opened {
    pub tokenizer: Tokenizer,
    pub loaded: LoadedModel,
}

/// Opens the files, the tokenizer and the engine.
pub fn open(path: &Path, engine: &EngineArgs) -> Result<Opened> {
    let checkpoint = formats::open(path)?;
    let tokenizer = Tokenizer::from_checkpoint(&checkpoint)?;
    let model = models::open(&checkpoint)?;
    let loaded = LoadedModel::load(&model, &options(engine))?;
    Ok(Opened { tokenizer, loaded })
}

/// Engine options of these arguments.
pub fn options(engine: &EngineArgs) -> EngineOptions {
    let threads = if engine.threads == 0 { usable_cpus() } else { engine.threads };
    let adapter = engine.adapter.request().map(str::to_owned);
    EngineOptions { backend: engine.backend.clone(), threads, adapter }
}

/// Reads a text file that a flag names.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, &e))?;
    String::from_utf8(bytes).map_err(|e| {
        Error::new(Kind::Malformed, path.display().to_string(), "not UTF-8 text")
            .at(format!("byte {}", e.utf8_error().valid_up_to()))
    })
}

/// The path of a MODEL from the root, for a composed playbook, which lies elsewhere than where this was typed.
pub fn existing(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).map_err(|error| {
        let mut wrong =
            Error::io(path, &error).hint("give a model folder, a GGUF or an APR file that is there");
        wrong.kind = Kind::Usage;
        wrong
    })
}
