//! Whether a quantiser traded the error of some columns for that of others, as one with an importance matrix does.

/// How much of its plain twin's error `found` has in the columns where it is best, judged on rows that did not choose
/// them: below 1, important columns were spared; a tensor that only has more noise is at 1 or above everywhere.
///
/// The columns are the best tenth, by the share of errors on the even rows; the result is that share on the odd rows.
/// All three are `[rows, width]`. `None` for fewer than [`FEWEST_ROWS`] rows or columns, or where the twin is exact.
pub fn spared_columns(original: &[f32], twin: &[f32], found: &[f32], width: usize) -> Option<f64> {
    let rows = original.len().checked_div(width)?;
    if rows < FEWEST_ROWS
        || width < FEWEST_ROWS
        || twin.len() != original.len()
        || found.len() != original.len()
    {
        return None;
    }
    // Squared errors of twin and found, [even, odd][width].
    let mut errors = [vec![(0.0f64, 0.0f64); width], vec![(0.0f64, 0.0f64); width]];
    for row in 0..rows {
        let at = row * width;
        let sums = &mut errors[row % 2];
        for column in 0..width {
            let x = f64::from(original[at + column]);
            let (a, b) = (f64::from(twin[at + column]) - x, f64::from(found[at + column]) - x);
            sums[column].0 += a * a;
            sums[column].1 += b * b;
        }
    }
    let [choose, judge] = errors;
    let share = |(twin, found): (f64, f64)| if twin > 0.0 { found / twin } else { f64::INFINITY };
    let mut columns: Vec<usize> = (0..width).collect();
    columns.sort_by(|a, b| share(choose[*a]).total_cmp(&share(choose[*b])));
    let best = columns[..width.div_ceil(10)].iter();
    let (twin, found) = best.fold((0.0, 0.0), |(a, b), i| (a + judge[*i].0, b + judge[*i].1));
    (twin > 0.0).then(|| found / twin)
}

/// From so many rows and columns on a tenth of the columns has enough elements to judge by.
pub const FEWEST_ROWS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant;
    use crate::stats::SplitMix;
    use crate::tensor::{Bytes, DType, Shape, Tensor};

    fn weights(n: usize, seed: u64) -> Vec<f32> {
        let mut random = SplitMix(seed);
        (0..n).map(|_| (0..6).map(|_| random.unit() as f32 - 0.5).sum::<f32>() * 0.05).collect()
    }

    fn through(dtype: DType, values: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
        let shape = Shape::from([values.len() / 256, 256]);
        let bytes = quant::from_f32_weighted(dtype, &shape, values, importance).expect("encodes");
        quant::to_f32(&Tensor { dtype, shape, bytes: Bytes::from_vec(bytes) }).expect("decodes")
    }

    #[test]
    fn an_importance_matrix_is_seen_and_noise_is_not() {
        let original = weights(64 * 256, 3);
        let mut random = SplitMix(8);
        // As activations are: a few columns matter a hundred times more.
        let importance: Vec<f32> = (0..256).map(|_| (5.0 * random.unit()).exp() as f32).collect();
        for dtype in [DType::Q4_K, DType::Q6_K, DType::Q4_0] {
            let twin = through(dtype, &original, None);
            let weighted = through(dtype, &original, Some(&importance));
            let spared = spared_columns(&original, &twin, &weighted, 256).expect("large enough");
            assert!(spared < 0.95, "{dtype}: {spared}");
            let noisy: Vec<f32> = twin.iter().map(|v| v + 0.002 * (random.unit() as f32 - 0.5)).collect();
            let worse = spared_columns(&original, &twin, &noisy, 256).expect("large enough");
            assert!(worse > 0.99, "{dtype}: {worse}");
            assert_eq!(spared_columns(&original, &twin, &twin, 256), Some(1.0));
        }
    }

    #[test]
    fn little_or_exact_tensors_tell_nothing() {
        let few = weights(8 * 256, 1);
        assert_eq!(spared_columns(&few, &few, &few, 256), None);
        let exact = weights(64 * 256, 1);
        assert_eq!(spared_columns(&exact, &exact, &few, 256), None);
        assert_eq!(spared_columns(&exact, &exact, &exact, 256), None);
        assert_eq!(spared_columns(&exact, &exact, &exact, 0), None);
    }
}
