//! `cargo +nightly fuzz run tokenizer_json`, or on stable `cargo run --release --bin stable -- tokenizer_json 600` in `fuzz/`.
#![cfg_attr(fuzzing, no_main)]

apr_qa_runner_fuzz::target!("tokenizer_json");
