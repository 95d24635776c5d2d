//! `cargo +nightly fuzz run safetensors`, or on stable `cargo run --release --bin stable -- safetensors 600` in `fuzz/`.
#![cfg_attr(fuzzing, no_main)]

apr_qa_runner_fuzz::target!("safetensors");
