//! What charts have in common, whether drawn or written: which value is the worst, and the row of blocks.

use super::text::{number, one_line};
use crate::record::{Chart, ChartKind};

/// Index of the value that a reader must look at: one that is no number, else the one furthest on the bad side of
/// what was expected, else the extreme on the bad side. None for a chart without values.
pub(super) fn worst(chart: &Chart) -> Option<usize> {
    let badness = |n: usize| badness(chart, n);
    (0..chart.values.len()).reduce(|a, b| if badness(b) > badness(a) { b } else { a })
}

/// Whether small values are the bad ones: signal-to-noise in decibels, agreement in percent.
pub(super) fn less_is_worse(unit: &str) -> bool {
    matches!(unit, "dB" | "%")
}

/// Whether value `n` is infinite on the good side: no noise at all.
pub(super) fn exact(chart: &Chart, n: usize) -> bool {
    less_is_worse(&chart.unit) && chart.values.get(n) == Some(&f64::INFINITY)
}

/// What was expected of value `n`, where the chart says.
pub(super) fn expected(chart: &Chart, n: usize) -> Option<f64> {
    chart.expected.get(n).copied().filter(|e| e.is_finite())
}

/// `7.down_proj.weight: 11.2 dB, expected 19.8`.
pub(super) fn spoken(chart: &Chart, n: usize) -> String {
    let label = chart.labels.get(n).map_or("", String::as_str);
    let of = match chart.kind {
        ChartKind::Line => "position ",
        ChartKind::Strip if label.bytes().all(|b| b.is_ascii_digit()) => "layer ",
        ChartKind::Strip | ChartKind::Histogram => "",
    };
    let unit = if chart.unit.is_empty() { String::new() } else { format!(" {}", chart.unit) };
    let value = chart.values.get(n).copied().unwrap_or(f64::NAN);
    let against = expected(chart, n).map(|e| format!(", expected {}", number(e))).unwrap_or_default();
    format!("{of}{label}: {}{unit}{against}", number(value))
}

/// The values as a row of at most `width` blocks, `×` for one that is no number, and which block holds the worst.
/// Where there are more values than blocks, a block shows the worst of its share.
fn blocks(chart: &Chart, width: usize) -> Option<(String, usize)> {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let worst = worst(chart)?;
    let shown = shares(chart, width);
    let finite: Vec<f64> = shown.iter().map(|n| chart.values[*n]).filter(|v| v.is_finite()).collect();
    let low = finite.iter().copied().fold(f64::INFINITY, f64::min).min(0.0);
    let high = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let span = high - low;
    let block = |value: f64| match value {
        f64::INFINITY if less_is_worse(&chart.unit) => '█',
        v if !v.is_finite() => '×',
        _ if span <= 0.0 => BLOCKS[0],
        // In 0..=7: a finite value lies between low and high.
        v => BLOCKS[(((v - low) / span * 7.0).round() as usize).min(7)],
    };
    let row = shown.iter().map(|n| block(chart.values[*n])).collect();
    Some((row, shown.iter().position(|n| *n == worst)?))
}

/// A strip or a line as three lines of text: what it shows, the row of blocks, a mark under the worst. None for a
/// histogram, whose tail a row of eight heights cannot show.
pub(super) fn lines(chart: &Chart, width: usize) -> Option<[String; 3]> {
    match chart.kind {
        ChartKind::Strip | ChartKind::Line => {}
        ChartKind::Histogram => return None,
    }
    let (row, at) = blocks(chart, width)?;
    let worst = spoken(chart, worst(chart)?);
    let title = format!("{}; worst: {worst}", chart.title);
    Some([one_line(&title), row, format!("{}^", " ".repeat(at))])
}

/// Indices to show, at most `most`: all, or of each of `most` equal shares the worst.
pub(super) fn shares(chart: &Chart, most: usize) -> Vec<usize> {
    let count = chart.values.len();
    if count <= most {
        return (0..count).collect();
    }
    let share = |n: usize| n * count / most..(n + 1) * count / most;
    let worse = |a: usize, b: usize| if badness(chart, b) > badness(chart, a) { b } else { a };
    (0..most).filter_map(|n| share(n).reduce(worse)).collect()
}

fn badness(chart: &Chart, n: usize) -> f64 {
    let value = chart.values[n];
    if !value.is_finite() {
        return if exact(chart, n) { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    // What was to be exact and is not is worse than any shortfall that has a number.
    if chart.expected.get(n).is_some_and(|e| e.is_infinite()) {
        return f64::MAX;
    }
    let above = match expected(chart, n) {
        // Errors grow by factors: twice a small one is worse than a little more of a large one.
        Some(e) if e > 0.0 && value > 0.0 && !less_is_worse(&chart.unit) => (value / e).ln(),
        Some(e) => value - e,
        None => value,
    };
    if less_is_worse(&chart.unit) { -above } else { above }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(unit: &str, values: &[f64], expected: &[f64]) -> Chart {
        Chart {
            title: "t".into(),
            kind: ChartKind::Strip,
            unit: unit.into(),
            labels: (0..values.len()).map(|n| format!("{n}.w")).collect(),
            values: values.to_vec(),
            expected: expected.to_vec(),
        }
    }

    #[test]
    fn the_worst_is_on_the_bad_side_of_what_was_expected() {
        const EXACT: f64 = f64::INFINITY;
        let rows: [(&str, &[f64], &[f64], usize); 8] = [
            ("dB", &[EXACT, 40.0, EXACT], &[], 1),
            ("dB", &[EXACT, 5.0, 60.0], &[EXACT, 30.0, EXACT], 2),
            ("dB", &[20.0, 11.0, 10.0], &[20.0, 20.0, 10.0], 1),
            ("dB", &[20.0, 11.0, 10.0], &[], 2),
            ("nats", &[0.1, 0.4, 1.0], &[0.1, 0.1, 0.9], 1),
            ("nats", &[0.1, 0.4, 1.0], &[], 2),
            ("nats", &[0.1, f64::NAN, 1.0], &[], 1),
            ("", &[3.0, 3.0], &[], 0),
        ];
        for (unit, values, expected, at) in rows {
            assert_eq!(worst(&chart(unit, values, expected)), Some(at), "{unit} {values:?}");
        }
        assert_eq!(worst(&chart("dB", &[], &[])), None);
        assert_eq!(spoken(&chart("dB", &[20.0, 11.25], &[20.0, 19.5]), 1), "1.w: 11.25 dB, expected 19.5");
    }

    #[test]
    fn the_row_of_blocks_keeps_the_worst_whatever_its_width() {
        let row = blocks(&chart("dB", &[0.0, 10.0, 20.0, f64::NAN], &[]), 40);
        assert_eq!(row, Some(("▁▅█×".to_owned(), 3)));
        let mut values = vec![30.0; 1000];
        values[617] = 3.0;
        let (row, at) = blocks(&chart("dB", &values, &[]), 50).expect("values");
        assert_eq!((row.chars().count(), at), (50, 30));
        assert_eq!(row.chars().filter(|c| *c == '▂').count(), 1, "{row}");
        assert_eq!(blocks(&chart("dB", &[0.0, 0.0], &[]), 9), Some(("▁▁".to_owned(), 0)));
        assert_eq!(blocks(&chart("dB", &[], &[]), 9), None);
    }
}
