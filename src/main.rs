//! The `apr-qa-runner` binary: parses arguments, runs one subcommand, exits with its code.

fn main() -> std::process::ExitCode {
    quiet_mesa();
    apr_qa_runner::cli::main()
}

/// Where nobody is logged in at a screen, a layer of Mesa that chooses between screens complains on standard error whenever
/// adapters are listed. It is asked to stay out; this program has an order of adapters of its own.
fn quiet_mesa() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: this is the first thing that the program does, so no other thread reads the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
