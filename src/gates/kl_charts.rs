//! What a report shows of divergences: how they are spread, where in a chunk they sit, and the worst tokens in context.

use super::Evidence;
use crate::oracle::StoredReference;
use crate::record::{Chart, ChartKind, Departure};
use crate::subject::{Answer, Divergences, Subject};

/// Half decades from 10^-8 on; what is below counts to the first, what is above to the last.
const BINS: usize = 20;
const FIRST_DECADE: f64 = -8.0;

/// So many tokens of context stand before a departure.
const CONTEXT: usize = 10;

/// So many departures are shown.
const MOST: usize = 10;

/// The histogram of all positions and the mean along a chunk, the twin's as what was expected.
pub fn draw(
    found: &Divergences,
    twin: Option<&Divergences>,
    kept: &StoredReference,
    evidence: &mut Evidence,
) {
    if found.positions.is_empty() {
        return;
    }
    evidence.draw(Chart {
        title: "KL divergence of the positions".into(),
        kind: ChartKind::Histogram,
        unit: "nats".into(),
        labels: (0..BINS).map(|i| format!("{:.1e}", 10f64.powf(FIRST_DECADE + 0.5 * i as f64))).collect(),
        values: histogram(found),
        expected: twin.map(histogram).unwrap_or_default(),
    });
    let first = kept.key.ctx as usize / 2;
    evidence.draw(Chart {
        title: "mean KL divergence by position in the chunk".into(),
        kind: ChartKind::Line,
        unit: "nats".into(),
        labels: (0..found.per_chunk).map(|i| (first + i).to_string()).collect(),
        values: along(found),
        expected: twin.map(along).unwrap_or_default(),
    });
}

/// The positions that diverge most, with the text before them.
pub fn depart(
    reference: &dyn Subject,
    found: &Divergences,
    kept: &StoredReference,
    evidence: &mut Evidence,
) -> Answer<()> {
    let mut worst: Vec<usize> = (0..found.positions.len()).filter(|i| found.positions[*i].kl > 0.0).collect();
    worst.sort_by(|a, b| found.positions[*b].kl.total_cmp(&found.positions[*a].kl));
    for i in worst.into_iter().take(MOST) {
        let position = &found.positions[i];
        let ctx = kept.key.ctx as usize;
        let start = i / found.per_chunk * ctx;
        // The token that is predicted, counted over the text.
        let at = start + ctx / 2 + 1 + i % found.per_chunk;
        let before = kept.ids.get(at.saturating_sub(CONTEXT).max(start)..at).unwrap_or_default();
        evidence.depart(Departure {
            position: at as u64,
            context: reference.decode(before, true)?,
            expected: reference.decode(&[position.top_base], false)?,
            found: reference.decode(&[position.top], false)?,
            kl: position.kl,
        });
    }
    Ok(())
}

fn histogram(of: &Divergences) -> Vec<f64> {
    let mut counts = vec![0.0; BINS];
    for position in &of.positions {
        // What is not above 0, a rounding below it among that, is in the first bin; an infinite one in the last.
        let bin = ((position.kl.log10() - FIRST_DECADE) * 2.0).max(0.0) as usize;
        counts[bin.min(BINS - 1)] += 1.0;
    }
    counts
}

fn along(of: &Divergences) -> Vec<f64> {
    let chunks = (of.positions.len() / of.per_chunk.max(1)).max(1) as f64;
    let mut sums = vec![0.0; of.per_chunk];
    for (i, position) in of.positions.iter().enumerate() {
        sums[i % of.per_chunk] += position.kl / chunks;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::ReferenceKey;
    use crate::stats::Position;
    use crate::subject::fake::FakeSubject;

    fn position(kl: f64) -> Position {
        Position {
            kl,
            kl_low: kl,
            kl_high: kl,
            nll_base: 1.0,
            nll: 1.0,
            top_base: 1,
            top: 2,
            label: 3,
            top_shared: 1.0,
        }
    }

    #[test]
    fn every_position_is_in_one_bin_and_one_place() {
        let kls = [0.0, -1e-12, 2e-8, 0.5, 200.0, f64::INFINITY];
        let found = Divergences { positions: kls.map(position).to_vec(), per_chunk: 3 };
        let counts = histogram(&found);
        assert_eq!(
            (counts.iter().sum::<f64>(), counts[0], counts[15], counts[BINS - 1]),
            (6.0, 3.0, 1.0, 2.0)
        );
        assert_eq!(
            along(&Divergences { positions: [1.0, 2.0, 3.0, 4.0].map(position).to_vec(), per_chunk: 2 }),
            [2.0, 3.0]
        );
    }

    #[test]
    fn departures_come_worst_first_with_the_text_before_them() {
        let subject = FakeSubject::new("source");
        let key = ReferenceKey {
            model: [0; 32],
            text: [0; 32],
            ctx: 6,
            chunks: 2,
            vocab: 9,
            top: 9,
            samples: 0,
            seed: 1,
        };
        let ids = subject.encode("abcdabdcbadc", true).expect("letters");
        let kept = StoredReference { key, ids, rows: Vec::new() };
        let found = Divergences { positions: [0.1, 0.0, 0.2, 0.9].map(position).to_vec(), per_chunk: 2 };
        let mut evidence = Evidence::new();
        depart(&subject, &found, &kept, &mut evidence).expect("decodes");
        evidence.hold("kl", 0.0, "", 1, super::super::evidence::Bound::zero("x"));
        let departures = evidence.judge().expect("held").departures;
        assert_eq!(departures.len(), 3);
        // The last scored token of the second chunk, whose context does not reach into the first.
        assert_eq!((departures[0].position, departures[0].context.as_str()), (11, "dcbad"));
        assert_eq!((departures[0].expected.as_str(), departures[0].found.as_str()), ("b", "c"));
        assert_eq!((departures[1].position, departures[1].context.as_str()), (10, "dcba"));
    }
}
