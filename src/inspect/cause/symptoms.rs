//! What the errors look like from outside, and which mistakes look like that: where no test of a mistake succeeds,
//! the symptom still says where to look first.

use super::Cause;
use crate::engine::Op;
use crate::infer::lockstep::Walk;

/// How the logits part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symptom {
    /// As expected at every position.
    None,
    /// The first token is as wrong as all others.
    FromTheFirstToken,
    /// The first tokens are right, later ones are not.
    GrowsWithPosition,
    /// A little, and everywhere the same.
    SmallAndUniform,
    /// A few positions are wrong, most are right.
    OnlyOnSomeText,
}

impl Symptom {
    /// A phrase for a person.
    pub fn phrase(self) -> &'static str {
        match self {
            Symptom::None => "as expected at every position",
            Symptom::FromTheFirstToken => "wrong from token 0",
            Symptom::GrowsWithPosition => "growing with position",
            Symptom::SmallAndUniform => "small and uniform",
            Symptom::OnlyOnSomeText => "only on some text",
        }
    }

    /// The ids of the mistakes that look like that, most common first.
    pub fn typical(self) -> &'static [&'static str] {
        match self {
            Symptom::None => &[],
            Symptom::FromTheFirstToken => &[
                "transposed",
                "bias-dropped",
                "norm-plus-one",
                "embed-scale",
                "nibble-order",
                "wrong-dtype",
                "offset",
                "missing-shard",
            ],
            Symptom::GrowsWithPosition => {
                &["rows-interleaved", "rows-permuted-by-wrong-heads", "rope-theta", "rope-scaling", "window"]
            }
            Symptom::SmallAndUniform => &["norm-eps", "attention-scale", "scaled", "noise", "wrong-dtype"],
            Symptom::OnlyOnSomeText => {
                &["pre-tokenizer", "token-swapped", "embedding-permuted", "token-type", "bos"]
            }
        }
    }
}

/// How the logits of a walk part, its first operation over the bound included: an operation that rotates by position
/// shows its nature before later ones spread it.
pub fn symptom(walk: &Walk) -> Symptom {
    let Some(first) = walk.first() else { return Symptom::None };
    let logits = walk.taps.iter().find(|t| t.place.op == Op::Logits).unwrap_or(first);
    let worse = |db: f64, expected: f64| db.is_nan() || db < expected - 3.0;
    let own = &first.by_position;
    let n = own.len();
    if n < 4 {
        return Symptom::FromTheFirstToken;
    }
    let usual = first.expected_cumulative_db.unwrap_or(first.bound_db).min(100.0);
    let wrong = own.iter().filter(|db| worse(**db, usual)).count();
    if !worse(own[0], usual) && median(&own[n / 2..]) + 3.0 < own[0].min(100.0) && wrong * 2 > n {
        return Symptom::GrowsWithPosition;
    }
    if wrong > 0 && wrong * 4 <= n {
        return Symptom::OnlyOnSomeText;
    }
    let small = logits.cumulative_db > 20.0;
    let even = logits.by_position.iter().all(|db| (db - logits.cumulative_db).abs() < 12.0);
    if small && even { Symptom::SmallAndUniform } else { Symptom::FromTheFirstToken }
}

/// What looks like the symptom, as causes that nothing has tested.
pub fn typical(symptom: Symptom) -> Vec<Cause> {
    let known = symptom.typical();
    known
        .iter()
        .enumerate()
        .map(|(i, id)| Cause {
            id,
            sentence: format!(
                "{}, as {} looks; nothing tested confirms it",
                symptom.phrase(),
                id.replace('-', " ")
            ),
            score: 0.2 / (1.0 + i as f64),
        })
        .collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Place;
    use crate::infer::lockstep::TapError;

    fn walk(by_position: Vec<f64>, cumulative_db: f64) -> Walk {
        let tap = |op: Op, layer: Option<usize>| TapError {
            place: Place { layer, op },
            tensor: None,
            local_db: 5.0,
            cumulative_db,
            cosine: 0.9,
            expected_db: 40.0,
            expected_cumulative_db: Some(40.0),
            bound_db: 39.0,
            by_position: by_position.clone(),
        };
        let taps = vec![tap(Op::QProj, Some(0)), tap(Op::Logits, None)];
        Walk { taps, first_over: Some(0), tokens: by_position.len(), notes: Vec::new() }
    }

    #[test]
    fn each_course_of_the_error_has_its_name() {
        let cases = [
            (vec![3.0, 2.0, 4.0, 3.0, 2.0, 3.0, 2.0, 4.0], 3.0, Symptom::FromTheFirstToken),
            (vec![f64::INFINITY, 30.0, 20.0, 12.0, 9.0, 8.0, 7.0, 6.0], 10.0, Symptom::GrowsWithPosition),
            (vec![30.0, 31.0, 30.0, 29.0, 30.0, 31.0, 30.0, 30.0], 30.0, Symptom::SmallAndUniform),
            (vec![41.0, 40.0, 2.0, 41.0, 40.0, 42.0, 41.0, 40.0], 11.0, Symptom::OnlyOnSomeText),
        ];
        for (by_position, db, expected) in cases {
            let found = symptom(&walk(by_position.clone(), db));
            assert_eq!(found, expected, "{by_position:?}");
            let typical = typical(found);
            assert!(typical.len() >= 4 && typical.windows(2).all(|w| w[0].score > w[1].score));
        }
        let sound = Walk { first_over: None, ..walk(vec![40.0; 8], 40.0) };
        assert_eq!(symptom(&sound), Symptom::None);
    }
}
