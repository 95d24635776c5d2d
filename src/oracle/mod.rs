//! Recorded references: what HF transformers said, with provenance.
