//! The command line: one file per subcommand.

/// Parses the arguments, runs the subcommand, returns its exit code.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(2)
}
