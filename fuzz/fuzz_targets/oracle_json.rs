//! `cargo +nightly fuzz run oracle_json`, or on stable `cargo run --release --bin stable -- oracle_json 600` in `fuzz/`.
#![cfg_attr(fuzzing, no_main)]

apr_qa_runner_fuzz::target!("oracle_json");
