//! `completions SHELL`: a completion script on stdout.

use clap::CommandFactory;

/// Arguments of `completions`.
#[derive(clap::Args)]
pub struct Args {
    /// Shell to write for.
    shell: clap_complete::Shell,
}

/// Prints the script.
pub fn execute(args: &Args) -> crate::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "apr-qa-runner", &mut script);
    super::print_text(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
