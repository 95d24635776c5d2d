//! A few blocks that are wrong among many that are right: a flipped bit or sign of a scale, blocks of zeros.

use super::{Cause, Test, central_moments};

/// The smallest run of values that shares a scale in any encoding.
const GROUP: usize = 16;

/// Groups whose error stands out, and what was done to them.
pub(super) fn damaged(test: &Test) -> Option<Cause> {
    let (original, found) = (test.suspect.original, test.suspect.found);
    let errors: Vec<f64> =
        original.chunks(GROUP).zip(found.chunks(GROUP)).map(|(a, b)| error(a, b)).collect();
    let mut sorted: Vec<f64> = errors.iter().copied().filter(|e| e.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let usual = *sorted.get(sorted.len() / 2)?;
    let signal = test.direct.signal / errors.len() as f64;
    // Ten times the usual error, and more than f32 itself rounds; a NaN stands out by itself.
    let limit = (10.0 * usual).max(1e-12 * signal);
    let bad: Vec<usize> = (0..errors.len()).filter(|i| errors[*i].is_nan() || errors[*i] > limit).collect();
    if bad.is_empty() || bad.len() * 2 > errors.len() {
        return None;
    }
    let mut kinds = [0usize; 5];
    let mut factor = 1.0;
    for i in &bad {
        let at = i * GROUP..original.len().min((i + 1) * GROUP);
        match damage(&original[at.clone()], &found[at]) {
            Damage::Zeroed => kinds[0] += 1,
            Damage::Negated => kinds[1] += 1,
            Damage::Multiplied(by) => {
                kinds[2] += 1;
                factor = by;
            }
            Damage::NotFinite => kinds[3] += 1,
            Damage::Other => kinds[4] += 1,
        }
    }
    let width = test.suspect.shape.row_len().max(1);
    let first = bad[0] * GROUP;
    let (n, all) = (bad.len(), errors.len());
    let place =
        format!("{n} of {all} groups of {GROUP} values, from [{}, {}] on", first / width, first % width);
    let most = kinds.iter().enumerate().max_by_key(|(_, count)| **count).map_or(4, |(kind, _)| kind);
    let known = kinds[most] as f64 / n as f64;
    let (id, what, score) = match most {
        0 => ("zeroed", "became zero".to_owned(), 0.9),
        1 => ("sign-flipped", "have the other sign: the sign of a scale is flipped".to_owned(), 0.9),
        2 => ("bit-flipped", format!("are multiplied by {factor:.4}: a bit of a scale is flipped"), 0.9),
        3 if test.suspect.dtype.is_quantized() => {
            ("bit-flipped", "are not finite: a high bit of a scale is flipped".to_owned(), 0.9)
        }
        3 => ("non-finite", "hold values that are no finite numbers".to_owned(), 0.9),
        _ => ("bit-flipped", "are wrong, and all others are right".to_owned(), 0.4),
    };
    Some(Cause { id, sentence: format!("{place}, {what}"), score: score * known })
}

/// Blocks of a scale and a minimum that lost the minimum: everything that is left lies on one side of zero, each block
/// moved by a constant of its own.
pub(super) fn minimum_lost(test: &Test) -> Option<Cause> {
    let (original, found) = (test.suspect.original, test.suspect.found);
    let one_sided = found.iter().all(|v| *v >= 0.0) || found.iter().all(|v| *v <= 0.0);
    if !one_sided || !original.iter().any(|v| *v > 0.0) || !original.iter().any(|v| *v < 0.0) {
        return None;
    }
    let (mut left, mut spread) = (0.0f64, 0.0f64);
    for (a, b) in original.chunks(GROUP).zip(found.chunks(GROUP)) {
        let n = a.len() as f64;
        let offs = || a.iter().zip(b).map(|(x, y)| f64::from(*y) - f64::from(*x));
        let constant = offs().sum::<f64>() / n;
        let mean = a.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        left += offs().map(|off| (off - constant).powi(2)).sum::<f64>();
        spread += a.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>();
    }
    let sentence = "every block lost its minimum: no value is on the other side of zero".to_owned();
    (left < 0.25 * spread).then(|| Cause {
        id: "minimum-lost",
        sentence,
        score: super::share(left, test.direct.noise),
    })
}

/// Blocks in which nothing of the original is left, and no other place of it either.
pub(super) fn scrambled(test: &Test) -> Option<Cause> {
    let dtype = test.suspect.dtype;
    let nothing = test.direct.cosine.is_nan() || test.direct.cosine < 0.5;
    (dtype.is_quantized() && nothing).then(|| Cause {
        id: "block-fields",
        sentence: format!(
            "nothing of the original is in the values: the fields of its {dtype} blocks are scrambled"
        ),
        score: 0.3,
    })
}

/// What was done to a group.
enum Damage {
    Zeroed,
    Negated,
    Multiplied(f64),
    NotFinite,
    Other,
}

/// The straight line `b = f a + c` that fits best says it, where one fits: encodings with a minimum move by a constant
/// where that one is damaged.
fn damage(a: &[f32], b: &[f32]) -> Damage {
    if b.iter().any(|v| !v.is_finite()) {
        return Damage::NotFinite;
    }
    if b.iter().all(|v| *v == 0.0) {
        return Damage::Zeroed;
    }
    let (xx, xy, yy) = central_moments(a, b);
    // Seven tenths of what was found must lie on the line: 2-bit rounding leaves more.
    if xx == 0.0 || yy == 0.0 || xy * xy < 0.7 * xx * yy {
        return Damage::Other;
    }
    let factor = xy / xx;
    // A bit of a scale is worth a sixteenth at least; what moves a group less is something else.
    if (factor - 1.0).abs() < 0.05 {
        return Damage::Other;
    }
    if factor < 0.0 { Damage::Negated } else { Damage::Multiplied(factor) }
}

fn error(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum()
}
