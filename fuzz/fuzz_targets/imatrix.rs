//! `cargo +nightly fuzz run imatrix`, or on stable `cargo run --release --bin stable -- imatrix 600` in `fuzz/`.
#![cfg_attr(fuzzing, no_main)]

apr_qa_runner_fuzz::target!("imatrix");
