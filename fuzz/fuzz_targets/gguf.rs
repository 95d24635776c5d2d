//! `cargo +nightly fuzz run gguf`, or on stable `cargo run --release --bin stable -- gguf 600` in `fuzz/`.
#![cfg_attr(fuzzing, no_main)]

apr_qa_runner_fuzz::target!("gguf");
