//! Why two weights differ: each classic mistake of a converter is tried on the original, and those that explain the
//! conversion are named, best first.

mod blocks;
mod bytes;
mod neighbors;
mod rows;
pub mod settings;
pub mod symptoms;
mod values;

use crate::stats::Noise;
use crate::tensor::{DType, Shape};

/// A mistake that would turn the original into what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// Kebab-case, stable: `rows-interleaved`.
    pub id: &'static str,
    /// What happened, in a sentence without a period.
    pub sentence: String,
    /// Share of the difference that it explains, 0 to 1.
    pub score: f64,
}

/// Query and key-value heads of a model, as its config gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key and value heads.
    pub keys: usize,
    /// Width of one head.
    pub width: usize,
}

/// Gives the values of a tensor by canonical name, in canonical order; `None` where there is none.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<Vec<f32>>;

/// A weight that is not what it was.
pub struct Suspect<'a> {
    /// Canonical.
    pub name: &'a str,
    /// Canonical, of both.
    pub shape: &'a Shape,
    /// Of the original.
    pub heads: Option<Heads>,
    /// What it should be, row-major in canonical order.
    pub original: &'a [f32],
    /// What it is.
    pub found: &'a [f32],
    /// Encoding of what it is.
    pub dtype: DType,
    /// Whether it is known to be further off than its encoding puts it. Only then are mistakes tried that leave most
    /// of the signal: a tensor scaled by 1.05, a wrong block, white noise.
    pub over: bool,
    /// The original's tensors: another of them may have been put here.
    pub originals: Lookup<'a>,
    /// The candidate's tensors: whether the two changed places.
    pub candidates: Lookup<'a>,
}

/// Looks nothing up: for callers that have one tensor only.
pub fn no_others(_: &str) -> Option<Vec<f32>> {
    None
}

/// The mistakes that turn the original into what was found, best first; none where no known one does.
///
/// A mistake counts as found where it explains the conversion to [`EXPLAINED_DB`], and by as much better than no
/// mistake at all; one that touches few values, where it explains those.
pub fn causes(suspect: &Suspect) -> Vec<Cause> {
    let Some(direct) = Noise::between(suspect.original, suspect.found) else { return Vec::new() };
    if direct.noise == 0.0 {
        return Vec::new();
    }
    if let Some(zeroed) = values::zeroed(suspect) {
        return vec![zeroed];
    }
    let test = Test { suspect, direct };
    let mut found = Vec::new();
    // What puts values elsewhere leaves about 0 dB; from ROUNDING_DB on rounding explains the difference.
    if direct.sqnr_db().is_nan() || direct.sqnr_db() < ROUNDING_DB {
        found.extend(rows::transposed(&test));
        found.extend(rows::reordered_for_rope(&test));
        found.extend(values::shifted_by_one(&test));
        found.extend(values::multiplied(&test));
        found.extend(bytes::nibbles(&test));
        found.extend(bytes::moved_blocks(&test));
        found.extend(bytes::mislabelled(&test));
        found.extend(blocks::minimum_lost(&test));
        // Another tensor is looked for only where this one's own values do not explain it: it costs loading all.
        if found.is_empty() {
            found.extend(neighbors::other_tensor(&test));
        }
        if found.is_empty() {
            found.extend(rows::matched(&test));
        }
    }
    if suspect.over && found.is_empty() {
        found.extend(values::scaled(&test));
        found.extend(rows::matched(&test));
        if found.is_empty() {
            found.extend(blocks::damaged(&test));
        }
        if found.is_empty() {
            found.extend(values::noise(&test));
        }
        if found.is_empty() {
            found.extend(blocks::scrambled(&test));
        }
    }
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found
}

/// A mistake must explain the conversion to this signal-to-noise ratio: the coarsest encodings reach it.
pub const EXPLAINED_DB: f64 = 6.0;

/// From here on rounding explains the difference.
const ROUNDING_DB: f64 = 12.0;

/// A suspect, and how far it is off as it stands.
struct Test<'a> {
    suspect: &'a Suspect<'a>,
    direct: Noise,
}

impl Test<'_> {
    /// The cause, if `explanation` is what was found but for rounding.
    fn explained(&self, id: &'static str, sentence: &str, explanation: &[f32]) -> Option<Cause> {
        let score = self.explains(explanation, self.suspect.found)?;
        Some(Cause { id, sentence: sentence.to_owned(), score })
    }

    /// The share of the difference that `explanation` takes away, where it takes enough.
    fn explains(&self, explanation: &[f32], found: &[f32]) -> Option<f64> {
        let noise = Noise::between(explanation, found)?;
        let (db, direct) = (noise.sqnr_db(), self.direct.sqnr_db());
        // A value that is no number says nothing about the others.
        let enough = if direct.is_nan() { EXPLAINED_DB } else { EXPLAINED_DB.max(direct + EXPLAINED_DB) };
        (db >= enough).then(|| share(noise.noise, self.direct.noise))
    }

    /// Rows and their width; a vector is rows of one.
    fn rows(&self) -> Option<(usize, usize)> {
        let shape = &self.suspect.shape.0;
        let rows = *shape.first()?;
        let width = self.suspect.original.len().checked_div(rows)?;
        (rows.checked_mul(width) == Some(self.suspect.original.len()) && width > 0).then_some((rows, width))
    }
}

/// How much less `left` is than `before`, 0 to 1.
fn share(left: f64, before: f64) -> f64 {
    if before.is_finite() { (1.0 - left / before).clamp(0.0, 1.0) } else { 1.0 }
}

/// Sums of squares and of products around the means of two pieces of one length: `(xx, xy, yy)`.
fn central_moments(a: &[f32], b: &[f32]) -> (f64, f64, f64) {
    let mean = |v: &[f32]| v.iter().map(|x| f64::from(*x)).sum::<f64>() / v.len() as f64;
    let (of_a, of_b) = (mean(a), mean(b));
    let mut sums = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (f64::from(*x) - of_a, f64::from(*y) - of_b);
        sums = (sums.0 + x * x, sums.1 + x * y, sums.2 + y * y);
    }
    sums
}

#[cfg(test)]
mod tests;
