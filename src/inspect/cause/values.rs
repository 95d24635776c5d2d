//! Values changed where they stand: zeroed, shifted, scaled, negated, drowned in noise.

use super::{Cause, Suspect, Test};

/// Nothing is left.
pub(super) fn zeroed(suspect: &Suspect) -> Option<Cause> {
    let nothing = suspect.found.iter().all(|v| *v == 0.0) && suspect.original.iter().any(|v| *v != 0.0);
    let id = if suspect.name.ends_with(".bias") { "bias-zeroed" } else { "zeroed" };
    nothing.then(|| Cause { id, sentence: "every value became zero".to_owned(), score: 1.0 })
}

/// A norm that is stored as `w` and meant as `1 + w`, read the other way.
pub(super) fn shifted_by_one(test: &Test) -> Option<Cause> {
    let (original, found) = (test.suspect.original, test.suspect.found);
    let sum: f64 = original.iter().zip(found).map(|(a, b)| f64::from(*b) - f64::from(*a)).sum();
    let shift = sum / original.len().max(1) as f64;
    let sides = [
        (1.0f32, "norm-plus-one", "1 was added to every value"),
        (-1.0, "norm-minus-one", "1 was taken from every value"),
    ];
    let (amount, id, what) =
        sides.into_iter().find(|(amount, ..)| (shift - f64::from(*amount)).abs() < 0.02)?;
    let explanation: Vec<f32> = original.iter().map(|v| v + amount).collect();
    let why = "a norm stored as weight - 1 was read the other way";
    test.explained(id, &format!("{what}: {why}"), &explanation)
}

/// Every value multiplied by one factor that leaves little as it was, perhaps by -1.
pub(super) fn multiplied(test: &Test) -> Option<Cause> {
    let (low, high) = factors(test.suspect)?;
    let factor = low.signum() * (low * high).sqrt();
    let explanation: Vec<f32> =
        test.suspect.original.iter().map(|v| (f64::from(*v) * factor) as f32).collect();
    if factor < 0.0 && (0.8..1.25).contains(&-factor) {
        return test.explained("sign-flipped", "every value has the other sign", &explanation);
    }
    test.explained("scaled", &format!("every value is multiplied by {factor:.4}"), &explanation)
}

/// Every value multiplied by a factor near 1, as 1.05. A quantiser that picks the centers of its intervals shrinks the
/// first of the two [`factors`] and leaves the second at 1, others do the opposite: a factor counts where both agree.
pub(super) fn scaled(test: &Test) -> Option<Cause> {
    let (low, high) = factors(test.suspect).filter(|(low, _)| *low > 0.0)?;
    let beyond = low > 1.0 + LEAST || high < 1.0 - LEAST;
    let factor = (low * high).sqrt();
    let left: f64 = test
        .suspect
        .original
        .iter()
        .zip(test.suspect.found)
        .map(|(a, b)| (f64::from(*b) - factor * f64::from(*a)).powi(2))
        .sum();
    let score = super::share(left, test.direct.noise);
    // What a factor near 1 takes away may be little beside the rounding, yet it must be some of it.
    let sentence = format!("every value is multiplied by {factor:.4}");
    (beyond && score > 0.02).then(|| Cause { id: "scaled", sentence, score: score.max(0.5) })
}

/// A factor must be further from 1 than rounding moves it on its own.
const LEAST: f64 = 0.01;

/// What the original must be multiplied by to come closest to what was found, and the inverse of the other way
/// round. The true factor lies between the two.
fn factors(suspect: &Suspect) -> Option<(f64, f64)> {
    let (mut inner, mut of_original, mut of_found) = (0.0f64, 0.0f64, 0.0f64);
    for (a, b) in suspect.original.iter().zip(suspect.found) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        inner += a * b;
        of_original += a * a;
        of_found += b * b;
    }
    let (low, high) = (inner / of_original, of_found / inner);
    (low.is_finite() && high.is_finite() && low != 0.0).then_some((low, high))
}

/// The difference has nothing of the original, and is as strong where weights are small as where they are large: no
/// encoding rounds like that.
pub(super) fn noise(test: &Test) -> Option<Cause> {
    const GROUP: usize = 256;
    let (original, found) = (test.suspect.original, test.suspect.found);
    if original.len() < 4 * GROUP || !test.direct.noise.is_finite() {
        return None;
    }
    let levels: Vec<f64> = original
        .chunks_exact(GROUP)
        .zip(found.chunks_exact(GROUP))
        .map(|(a, b)| a.iter().zip(b).map(|(x, y)| f64::from(*y - *x).powi(2)).sum::<f64>() / GROUP as f64)
        .collect();
    let mean = levels.iter().sum::<f64>() / levels.len() as f64;
    let spread = (levels.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / levels.len() as f64).sqrt();
    // White noise of 256 values varies by sqrt(2/256), 9 %; rounding varies with the scale of its block.
    let even = spread < 0.35 * mean;
    let sentence = format!("white noise {:.1} dB below the weights", test.direct.sqnr_db());
    even.then_some(Cause { id: "noise", sentence, score: 0.5 })
}
