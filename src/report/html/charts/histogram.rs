//! How often each value came: a bar for each bin, a dashed outline of what was expected.

use super::super::super::chart::expected;
use super::super::super::text::number;
use super::super::element::el;
use super::super::room::Room;
use super::scale::{Fit, Scale};
use super::{BOTTOM, Drawing, LEFT, RIGHT, TOP, x_axis, y_axis};
use crate::record::Chart;

pub(super) fn draw(chart: &Chart, room: Room) -> Option<Drawing> {
    let bins = bins(chart, room.points);
    let counts = bins.iter().flat_map(|b| [b.count, b.expected.unwrap_or(0.0)]);
    // A tail of single tokens must be seen beside thousands; empty bins have no place on a logarithmic axis.
    let scale = Scale::over(counts.filter(|c| *c > 0.0), Fit::Bars, BOTTOM, TOP)?;
    let step = (RIGHT - LEFT) / bins.len() as f64;
    let left = |at: usize| LEFT + step * at as f64;
    let height = |count: f64| if count > 0.0 { scale.at(count) } else { BOTTOM };

    let mut parts = y_axis(&scale, "count");
    let mut bars = el("g").class("bars");
    let mut outline = String::new();
    for (at, bin) in bins.iter().enumerate() {
        let y = height(bin.count);
        let bar = el("rect").class("bar").len("x", left(at) + 0.5).len("width", (step - 1.0).max(0.5));
        let bar = bar.len("y", y).len("height", BOTTOM - y);
        let title = || el("title").text(format!("{}: {}", bin.label, number(bin.count)));
        bars = bars.put(if room.titles { bar.put(title()) } else { bar });
        if let Some(expected) = bin.expected {
            let start = if outline.is_empty() { 'M' } else { 'L' };
            outline.push_str(&format!("{start}{:.1} {:.1}h{step:.1}", left(at), height(expected)));
        }
    }
    parts.push(bars);
    if !outline.is_empty() {
        parts.push(el("path").class("expected").at("d", outline));
    }
    let labels: Vec<&str> = bins.iter().map(|b| b.label).collect();
    // A bin is named by its lower edge.
    let edges: Vec<f64> = (0..bins.len()).map(left).collect();
    parts.extend(x_axis(&labels, &edges, &chart.unit));
    Some(Drawing { parts, note: in_words(&bins, chart) })
}

struct Bin<'a> {
    label: &'a str,
    count: f64,
    expected: Option<f64>,
}

/// At most `most` bins; neighbors are added up where there are more.
fn bins(chart: &Chart, most: usize) -> Vec<Bin<'_>> {
    let each = chart.values.len().div_ceil(most.max(1)).max(1);
    let starts = (0..chart.values.len()).step_by(each);
    let finite = |count: f64| if count.is_finite() { count } else { 0.0 };
    let of = |start: usize| {
        let share = start..(start + each).min(chart.values.len());
        let expected = share.clone().filter_map(|n| expected(chart, n)).reduce(|a, b| a + b);
        let count = share.map(|n| finite(chart.values[n])).sum();
        Bin { label: chart.labels.get(start).map_or("", String::as_str), count, expected }
    };
    starts.map(of).collect()
}

fn in_words(bins: &[Bin], chart: &Chart) -> String {
    let total: f64 = bins.iter().map(|b| b.count).sum();
    let fullest = bins.iter().reduce(|a, b| if b.count > a.count { b } else { a });
    let last = bins.iter().rfind(|b| b.count > 0.0);
    let unit = if chart.unit.is_empty() { String::new() } else { format!(" {}", chart.unit) };
    let mut words = format!("{} in {} bins", number(total), bins.len());
    if let (Some(fullest), Some(last)) = (fullest, last) {
        words.push_str(&format!(
            "; most ({}) from {}{unit}, the last ({}) from {}{unit}.",
            number(fullest.count),
            fullest.label,
            number(last.count),
            last.label
        ));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ChartKind;

    #[test]
    fn no_count_is_lost_where_bins_are_added_up() {
        let chart = Chart {
            title: "KL".into(),
            kind: ChartKind::Histogram,
            unit: "nats".into(),
            labels: (0..10).map(|n| format!("{n}")).collect(),
            values: (0..10).map(f64::from).collect(),
            expected: vec![1.0; 10],
        };
        let bins = bins(&chart, 4);
        assert_eq!(bins.iter().map(|b| b.count).collect::<Vec<_>>(), [3.0, 12.0, 21.0, 9.0]);
        assert_eq!(
            bins.iter().map(|b| b.expected).collect::<Vec<_>>(),
            [Some(3.0), Some(3.0), Some(3.0), Some(1.0)]
        );
        assert_eq!(in_words(&bins, &chart), "45 in 4 bins; most (21) from 6 nats, the last (9) from 9 nats.");
    }
}
