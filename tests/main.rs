//! All integration tests, in one binary.

mod corrupt;
mod playbooks;
mod roundtrip;
mod samples;
mod tidy;
