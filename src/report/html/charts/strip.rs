//! A bar for each layer or tensor, with a dashed mark where it was expected to end.

use super::super::super::chart::{exact, expected, shares, spoken, worst};
use super::super::element::el;
use super::super::room::Room;
use super::scale::{Fit, Scale};
use super::{BOTTOM, Drawing, LEFT, RIGHT, TOP, mark_worst, share_in_words, worst_in_words, x_axis, y_axis};
use crate::record::Chart;

pub(super) fn draw(chart: &Chart, room: Room) -> Option<Drawing> {
    let shown = shares(chart, room.points);
    let all = shown.iter().flat_map(|n| [chart.values[*n], expected(chart, *n).unwrap_or(f64::NAN)]);
    let scale = Scale::over(all, Fit::Bars, BOTTOM, TOP)?;
    let step = (RIGHT - LEFT) / shown.len() as f64;
    let left = |at: usize| LEFT + step * at as f64;
    // A few bars are no broader than many.
    let gap = (step * 0.2).min(6.0).max(step - 48.0);
    let worst = worst(chart);

    let mut bars = el("g").class("bars");
    let mut marks = String::new();
    let mut parts = y_axis(&scale, &chart.unit);
    for (at, n) in shown.iter().copied().enumerate() {
        let value = chart.values[n];
        let (y, base) = (scale.at(value), scale.base());
        // What is no number fills its place, hatched; without noise it is an ordinary bar to the top.
        let (y, base) = if value.is_finite() { (y, base) } else { (TOP, BOTTOM) };
        let class = match (Some(n) == worst, value.is_finite() || exact(chart, n)) {
            (_, false) => "none",
            (true, true) => "worst",
            (false, true) => "bar",
        };
        let bar = el("rect").class(class).len("x", left(at) + gap / 2.0).len("width", step - gap);
        let bar = bar.len("y", y.min(base)).len("height", (y - base).abs().max(0.5));
        bars = bars.put(if room.titles { bar.put(el("title").text(spoken(chart, n))) } else { bar });
        if let Some(expected) = expected(chart, n) {
            marks.push_str(&format!("M{:.1} {:.1}h{:.1}", left(at), scale.at(expected), step));
        }
    }
    parts.push(bars);
    if !marks.is_empty() {
        parts.push(el("path").class("expected").at("d", marks));
    }
    if let Some((at, n)) = worst.and_then(|n| Some((shown.iter().position(|m| *m == n)?, n))) {
        let y = if chart.values[n].is_finite() { scale.at(chart.values[n]) } else { TOP };
        parts.extend(mark_worst(chart, n, left(at) + step / 2.0, y));
    }
    let labels: Vec<&str> = shown.iter().map(|n| chart.labels.get(*n).map_or("", String::as_str)).collect();
    let centers: Vec<f64> = (0..shown.len()).map(|at| left(at) + step / 2.0).collect();
    parts.extend(x_axis(&labels, &centers, ""));
    let note = format!("{}{}", share_in_words(chart, shown.len(), "bar"), worst_in_words(chart));
    Some(Drawing { parts, note })
}
