//! All integration tests, in one binary.

mod cli;
mod corrupt;
mod detect;
mod gates;
mod layout;
mod oracles;
mod playbooks;
mod roundtrip;
mod samples;
mod structure;
mod tidy;
