//! A walk as pictures: each layer's own worst error, what has come together after it, and the course over positions.

use crate::engine::Op;
use crate::infer::lockstep::{EXACT_DB, TapError, Walk};
use crate::record::{Chart, ChartKind};

/// Strips of local and cumulative error by layer and a line of cumulative error by position.
pub(super) fn charts(walk: &Walk) -> Vec<Chart> {
    let mut charts = vec![strip("Local SQNR, worst operation of each layer", &worst(walk), |tap| {
        (tap.local_db, Some(tap.expected_db))
    })];
    let residual: Vec<&TapError> = walk.taps.iter().filter(|t| t.place.op == Op::LayerOutput).collect();
    charts.push(strip("Cumulative SQNR after each layer", &residual, |tap| {
        (tap.cumulative_db, tap.expected_cumulative_db)
    }));
    if let Some(logits) = walk.taps.iter().find(|t| t.place.op == Op::Logits) {
        charts.push(Chart {
            title: "Cumulative SQNR of the logits by position".into(),
            kind: ChartKind::Line,
            unit: "dB".into(),
            labels: (0..logits.by_position.len()).map(|i| i.to_string()).collect(),
            values: logits.by_position.iter().map(|db| drawn(*db)).collect(),
            expected: Vec::new(),
        });
    }
    charts.retain(|chart| !chart.values.is_empty());
    charts
}

/// Of every layer, and of what stands before and after them, the operation with the least headroom.
pub fn worst(walk: &Walk) -> Vec<&TapError> {
    let headroom = |tap: &TapError| {
        if tap.local_db.is_nan() { f64::NEG_INFINITY } else { drawn(tap.local_db) - tap.bound_db }
    };
    let mut rows: Vec<&TapError> = Vec::new();
    for tap in &walk.taps {
        match rows.last_mut() {
            Some(last) if last.place.layer == tap.place.layer => {
                if headroom(tap) < headroom(last) {
                    *last = tap;
                }
            }
            Some(_) | None => rows.push(tap),
        }
    }
    rows
}

fn strip(title: &str, taps: &[&TapError], of: impl Fn(&TapError) -> (f64, Option<f64>)) -> Chart {
    let expected: Option<Vec<f64>> = taps.iter().map(|tap| of(tap).1.map(drawn)).collect();
    Chart {
        title: title.into(),
        kind: ChartKind::Strip,
        unit: "dB".into(),
        labels: taps.iter().map(|tap| tap.name()).collect(),
        values: taps.iter().map(|tap| drawn(of(tap).0)).collect(),
        expected: expected.unwrap_or_default(),
    }
}

/// Infinity has no place on an axis, and beyond [`EXACT_DB`] there is nothing to see.
fn drawn(db: f64) -> f64 {
    db.clamp(-EXACT_DB, EXACT_DB)
}
