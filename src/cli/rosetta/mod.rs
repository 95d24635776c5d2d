//! `rosetta …`: models translated between formats and held against each other.

mod chain;
mod compare_inference;
mod convert;
mod diff_tensors;
mod fingerprint;
mod inspect;
mod validate_stats;
mod verify;

/// The comparisons.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Say in a few numbers what a model file is.
    Inspect(inspect::Args),
    /// Convert, and with --verify hold the result against the source.
    Convert(convert::Args),
    /// Convert through several formats and verify that the end equals the start.
    Chain(chain::Args),
    /// Judge whether two files are one model: tensors, values, settings, tokenizer.
    Verify(verify::Args),
    /// Hash every tensor in canonical form, so that all containers of one model agree.
    Fingerprint(fingerprint::Args),
    /// Compare tensor names, shapes and encodings after the family map.
    DiffTensors(diff_tensors::Args),
    /// Compare greedy generations, and the logits along the first one.
    CompareInference(compare_inference::Args),
    /// Compare each tensor's mean, standard deviation, minimum, maximum and SQNR within the contract's tolerance.
    ValidateStats(validate_stats::Args),
}

/// Runs the subcommand.
pub fn execute(command: &Command) -> crate::Result<u8> {
    match command {
        Command::Inspect(args) => inspect::execute(args),
        Command::Convert(args) => convert::execute(args),
        Command::Chain(args) => chain::execute(args),
        Command::Verify(args) => verify::execute(args),
        Command::Fingerprint(args) => fingerprint::execute(args),
        Command::DiffTensors(args) => diff_tensors::execute(args),
        Command::CompareInference(args) => compare_inference::execute(args),
        Command::ValidateStats(args) => validate_stats::execute(args),
    }
}
