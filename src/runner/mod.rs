//! Resolves a plan, runs its cases, emits events, writes evidence.
