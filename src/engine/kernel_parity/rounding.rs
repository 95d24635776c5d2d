//! What activations are before they are multiplied, by the law that a product obeys: as they are, or as the scalar
//! definition of a contract rounds them.

use crate::Result;
use crate::engine::reference;
use crate::models::Weight;
use half::f16;

/// The law of a backend's products with some weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProductRule {
    /// Decoded weights times activations as they are: `matmul`.
    Plain,
    /// Levels times activations of eight bits: `matmul_fast` on `quantize_activations`.
    Bytes,
    /// Levels times activations of sixteen bits: `matmul_wide` on `quantize_activations_wide`.
    #[cfg_attr(not(feature = "wgpu"), allow(dead_code))]
    Wide,
    /// Weights in f16 times activations in f16 at a scale of their token: `matmul_half` on `round_activations_half`.
    #[cfg_attr(not(feature = "wgpu"), allow(dead_code))]
    Half,
}

impl ProductRule {
    /// The contract, whose tolerance holds around the products of the activations that [`ProductRule::operand`] gives.
    pub fn contract(self) -> &'static str {
        match self {
            ProductRule::Plain => "matmul",
            ProductRule::Bytes => "matmul_fast",
            ProductRule::Wide => "matmul_wide",
            ProductRule::Half => "matmul_half",
        }
    }

    /// `x` `[n, width]` as the products see it.
    pub(in crate::engine) fn operand(self, width: usize, x: &[f32]) -> Operand {
        let mut operand =
            Operand { rule: self, width, values: Vec::with_capacity(x.len()), doubts: Vec::new() };
        for row in x.chunks_exact(width) {
            match self {
                ProductRule::Plain => operand.values.extend(row.iter().map(|x| f64::from(*x))),
                ProductRule::Bytes => row.chunks(BLOCK).for_each(|block| operand.round(block, 127.0, 0.0)),
                ProductRule::Wide => {
                    row.chunks(BLOCK).for_each(|block| operand.round(block, 32512.0, DIVISION));
                }
                ProductRule::Half => operand.halve(row),
            }
        }
        operand
    }

    /// A weight as the products see it.
    fn weight(self) -> fn(f32) -> f64 {
        match self {
            ProductRule::Plain | ProductRule::Bytes | ProductRule::Wide => f64::from,
            ProductRule::Half => |w| f16::from_f32(w).to_f64(),
        }
    }
}

/// Elements that share a scale.
const BLOCK: usize = 32;

/// Below it a block is zero: its inverse would not be finite.
const SMALLEST: f32 = 1e-30;

/// The share of itself by which a device's quotient times a number may be off: 2.5 units in the last place of the
/// division, half a unit of the product.
const DIVISION: f64 = 3.0 / (1u64 << 23) as f64;

/// Activations as they are multiplied.
pub(in crate::engine) struct Operand {
    rule: ProductRule,
    width: usize,
    /// `[n, width]`
    pub values: Vec<f64>,
    /// Elements that a device may round to the neighbor, as its division is not exact: which of `values`, ascending, and
    /// how far the neighbor is.
    pub doubts: Vec<(usize, f64)>,
}

impl Operand {
    /// Appends a block in steps of `max / levels`; a quotient that is off by the share `off` of itself is in doubt where
    /// it is so near to a tie.
    fn round(&mut self, block: &[f32], levels: f32, off: f64) {
        if !block.iter().all(|x| x.is_finite()) {
            self.values.extend(block.iter().map(|_| f64::NAN));
            return;
        }
        let largest = block.iter().fold(0f32, |m, x| m.max(x.abs()));
        let (step, inverse) =
            if largest < SMALLEST { (0.0, 0.0) } else { (largest / levels, levels / largest) };
        for x in block {
            let steps = x * inverse;
            let from_tie = (f64::from(steps).abs().fract() - 0.5).abs();
            if from_tie <= off * f64::from(steps.abs()) {
                self.doubts.push((self.values.len(), f64::from(step)));
            }
            self.values.push(f64::from(steps.round_ties_even()) * f64::from(step));
        }
    }

    /// Appends a token in f16, at the power of two that gives its largest element an exponent of 14.
    fn halve(&mut self, row: &[f32]) {
        let largest =
            row.iter().fold(0f32, |m, x| if x.is_finite() { m.max(x.abs()) } else { f32::INFINITY });
        let exponent = (largest.to_bits() >> 23).max(30) as i32 - 127;
        let is_number = largest.is_finite() && largest != 0.0;
        let scale = if is_number { 2f64.powi(exponent - 14) } else { 1.0 };
        let halved = |x: &f32| f16::from_f64(f64::from(*x) / scale).to_f64() * scale;
        self.values.extend(row.iter().map(halved));
    }

    /// The products with the rows `rows` of `weight`, plus `bias`, and how far each may be from that for its doubts: both
    /// `[n, rows]`.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] for an encoding without a codec.
    pub fn products(
        &self,
        weight: &Weight,
        bias: Option<&[f32]>,
        rows: &[usize],
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let values = reference::products((weight, self.rule.weight()), bias, &self.values, rows)?;
        let mut off = vec![0.0; values.len()];
        let mut w = vec![0.0; if self.doubts.is_empty() { 0 } else { self.width }];
        for (i, r) in rows.iter().enumerate().filter(|_| !self.doubts.is_empty()) {
            reference::read_row(weight, *r, &mut w)?;
            for (at, step) in &self.doubts {
                off[at / self.width * rows.len() + i] += step * f64::from(w[at % self.width].abs());
            }
        }
        Ok((values, off))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_whole_steps_of_their_block_and_what_is_not_finite_stays_so() {
        let mut x = vec![0.25f32; 3 * BLOCK + 5];
        x[0] = -127.0;
        x[1] = 2.5; // a tie, which goes to the even step
        x[BLOCK] = f32::NEG_INFINITY;
        x[2 * BLOCK..3 * BLOCK].fill(1e-31);
        let values = ProductRule::Bytes.operand(x.len(), &x).values;
        assert_eq!(values[..3], [-127.0, 2.0, 0.0]);
        assert!(values[BLOCK..2 * BLOCK].iter().all(|v| v.is_nan()));
        assert!(values[2 * BLOCK..3 * BLOCK].iter().all(|v| *v == 0.0));
        // Five of a kind are the largest of their block.
        assert!(values[3 * BLOCK..].iter().all(|v| (v - 0.25).abs() < 1e-8));
        let plain = ProductRule::Plain.operand(x.len(), &x);
        assert_eq!(plain.values[..2], [-127.0, 2.5]);
    }

    #[test]
    fn halves_have_the_scale_of_their_token_and_nothing_is_made_finite() {
        let x = [3.0e9, 1.0 / 3.0, 0.0, 0.0, f32::NAN, 1.0, 2f32.powi(-100), 0.0];
        let halves = ProductRule::Half.operand(2, &x);
        // 3e9 is 2^31.48; f16 keeps eleven bits of it.
        assert_eq!(halves.values[0], (3.0e9f64 / 2f64.powi(21)).round() * 2f64.powi(21));
        assert_eq!((halves.values[2], halves.values[5], halves.values[6]), (0.0, 1.0, 2f64.powi(-100)));
        assert!(halves.values[4].is_nan() && halves.doubts.is_empty());
        assert_eq!(ProductRule::Half.weight()(1.0 + 2f32.powi(-12)), 1.0);
    }

    #[test]
    fn only_a_device_is_in_doubt_and_only_near_a_tie() {
        let mut x = vec![0.0f32; BLOCK];
        (x[0], x[1], x[2], x[3]) = (32512.0, 1000.5, 1000.25, 0.75);
        let wide = ProductRule::Wide.operand(BLOCK, &x);
        assert_eq!(wide.doubts, [(1, 1.0)]);
        assert!(ProductRule::Bytes.operand(BLOCK, &x).doubts.is_empty());
    }
}
