//! `cargo +nightly fuzz run apr`, or on stable `cargo run --release --bin stable -- apr 600` in `fuzz/`.
#![cfg_attr(fuzzing, no_main)]

apr_qa_runner_fuzz::target!("apr");
