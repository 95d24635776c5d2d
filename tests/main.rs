//! All integration tests, in one binary.

mod attacks;
mod bench;
mod cli;
mod compare;
mod corrupt;
mod detect;
mod devices;
mod gates;
mod heap;
mod layout;
mod localise;
mod mutate;
mod oracles;
mod parsers;
mod playbooks;
mod properties;
mod roundtrip;
mod runs;
mod samples;
mod structure;
mod tidy;
