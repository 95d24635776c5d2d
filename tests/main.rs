//! All integration tests, in one binary.

mod cli;
mod corrupt;
mod playbooks;
mod roundtrip;
mod samples;
mod tidy;
