//! The model under test as a gate sees it.
