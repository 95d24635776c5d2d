//! All integration tests, in one binary.

mod playbooks;
mod tidy;
