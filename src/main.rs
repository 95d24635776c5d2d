//! The `apr-qa-runner` binary: parses arguments, runs one subcommand, exits with its code.

fn main() -> std::process::ExitCode {
    apr_qa_runner::cli::main()
}
