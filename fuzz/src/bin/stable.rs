//! `cargo run --release --bin stable -- TARGET SECONDS` in `fuzz/`: one target on stable, blindly.

fn main() -> std::process::ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(seconds)) = (args.next(), args.next().and_then(|s| s.parse().ok())) else {
        eprintln!("usage: stable TARGET SECONDS");
        return std::process::ExitCode::from(2);
    };
    apr_qa_runner_fuzz::stable(&name, seconds)
}
