//! Reports: pure projections of a `RunRecord`, one file each.
