//! A value for each position, as a line; what was expected as a dashed one.

use super::super::super::chart::{expected, shares, worst};
use super::super::element::el;
use super::super::room::Room;
use super::scale::{Fit, Scale};
use super::{BOTTOM, Drawing, LEFT, RIGHT, TOP, mark_worst, share_in_words, worst_in_words, x_axis, y_axis};
use crate::record::Chart;

pub(super) fn draw(chart: &Chart, room: Room) -> Option<Drawing> {
    let shown = shares(chart, room.points);
    let all = || shown.iter().flat_map(|n| [chart.values[*n], expected(chart, *n).unwrap_or(f64::NAN)]);
    let positive: Vec<f64> = all().filter(|v| *v > 0.0).collect();
    // A position without any error lies at the foot of a logarithmic axis.
    let loose = Scale::over(positive.into_iter(), Fit::Loose, BOTTOM, TOP).filter(Scale::is_log);
    let log = loose.filter(|_| !all().any(|v| v < 0.0));
    let scale = log.or_else(|| Scale::over(all(), Fit::Bars, BOTTOM, TOP))?;
    let step = (RIGHT - LEFT) / (shown.len().max(2) - 1) as f64;
    let x = |at: usize| LEFT + step * at as f64;

    let path = |value: &dyn Fn(usize) -> Option<f64>| {
        let mut path = String::new();
        let mut pen_down = false;
        for (at, n) in shown.iter().copied().enumerate() {
            let Some(value) = value(n).filter(|v| v.is_finite()) else {
                pen_down = false;
                continue;
            };
            path.push_str(&format!(
                "{}{:.1} {:.1}",
                if pen_down { 'L' } else { 'M' },
                x(at),
                scale.at(value)
            ));
            pen_down = true;
        }
        path
    };
    let mut parts = y_axis(&scale, &chart.unit);
    parts.push(el("path").class("line").at("d", path(&|n| Some(chart.values[n]))));
    let of_expected = path(&|n| expected(chart, n));
    if !of_expected.is_empty() {
        parts.push(el("path").class("expected").at("d", of_expected));
    }
    let worst = worst(chart).and_then(|n| Some((shown.iter().position(|m| *m == n)?, n)));
    if let Some((at, n)) = worst {
        let y = if chart.values[n].is_finite() { scale.at(chart.values[n]) } else { TOP };
        parts.push(el("circle").class("ring").len("cx", x(at)).len("cy", y).len("r", 4.5));
        parts.extend(mark_worst(chart, n, x(at), y - 4.5));
    }
    let labels: Vec<&str> = shown.iter().map(|n| chart.labels.get(*n).map_or("", String::as_str)).collect();
    let places: Vec<f64> = (0..shown.len()).map(x).collect();
    parts.extend(x_axis(&labels, &places, "position"));
    let note = format!("{}{}", share_in_words(chart, shown.len(), "point"), worst_in_words(chart));
    Some(Drawing { parts, note })
}
