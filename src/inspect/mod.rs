//! Files looked at and held against each other, without a playbook: what is in them, what differs, what smells.
//!
//! Everything here speaks of tensors by [`View`], which names them canonically where the family is known and as
//! stored where it is not, so that a file of any architecture can be looked at.

pub mod canary;
pub mod cause;
mod chain;
mod diff;
mod fingerprint;
mod hex;
mod identity;
mod lint;
mod metadata;
mod tree;
mod verify;
mod view;

pub use chain::{Chain, Link, chain};
pub use diff::{Category, Difference, Differences, Side, diff};
pub use fingerprint::{Fingerprint, Fingerprints, Percentiles, fingerprint};
pub use hex::{Bytes, Decoded, Row, bytes_at, decoded};
pub use identity::identity;
pub use lint::{Issue, RULES, Rule, Severity, lint};
pub use metadata::{metadata, shorten};
pub use tree::{Node, tree};
pub use verify::{Verification, verify};
pub use view::{View, Viewed, view, view_of_model};
