//! `cargo +nightly fuzz run playbook`, or on stable `cargo run --release --bin stable -- playbook 600` in `fuzz/`.
#![cfg_attr(fuzzing, no_main)]

apr_qa_runner_fuzz::target!("playbook");
