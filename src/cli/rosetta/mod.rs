//! `rosetta …`: two models held against each other.

mod compare_inference;
mod diff_tensors;
mod validate_stats;

/// The comparisons.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Compare tensor names, shapes and encodings after the family map.
    DiffTensors(diff_tensors::Args),
    /// Compare greedy generations, and the logits along the first one.
    CompareInference(compare_inference::Args),
    /// Compare each tensor's mean, standard deviation, minimum, maximum and SQNR within the contract's tolerance.
    ValidateStats(validate_stats::Args),
}

/// Compares.
pub fn execute(command: &Command) -> crate::Result<u8> {
    match command {
        Command::DiffTensors(args) => diff_tensors::execute(args),
        Command::CompareInference(args) => compare_inference::execute(args),
        Command::ValidateStats(args) => validate_stats::execute(args),
    }
}
