//! Metrics over tensors, tokens and distributions.
