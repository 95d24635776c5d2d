//! Rotary positions: the angle of pair `i` at position `p` is `p / theta^(2i/dim)`, in f32 as HF transformers has it.

use crate::models::{Position, RopeScaling};

/// The inverse frequencies of a model.
#[derive(Debug, Clone)]
pub struct Rope {
    inv_freq: Vec<f32>, // [dim / 2]
}

/// Cosines and sines of some positions.
#[derive(Debug, Clone)]
pub struct Angles {
    half: usize,
    cos: Vec<f32>, // [n, half]
    sin: Vec<f32>, // [n, half]
}

impl Rope {
    /// The frequencies of `position`, divided as `scaling` says, or `None` where it is not rotary.
    pub fn new(position: &Position, scaling: &RopeScaling) -> Option<Rope> {
        match *position {
            Position::Learned => None,
            Position::Rope { theta, dim } => {
                let factors = scaling.factors(theta, dim);
                // HF computes both steps in f32. Going through f64 gives the rounded power on every platform,
                // where `powf` of f32 differs between C libraries.
                let inv = |i: usize| {
                    let exponent = (2 * i) as f32 / dim as f32;
                    let inv = 1.0 / (f64::from(theta).powf(f64::from(exponent)) as f32);
                    inv / factors.as_ref().map_or(1.0, |f| f[i])
                };
                Some(Rope { inv_freq: (0..dim / 2).map(inv).collect() })
            }
        }
    }

    /// Cosines and sines of some positions: the angle is rounded to f32, its cosine and sine are those of the
    /// rounded angle.
    pub fn angles(&self, positions: impl IntoIterator<Item = usize>) -> Angles {
        let half = self.inv_freq.len();
        let mut angles = Angles { half, cos: Vec::new(), sin: Vec::new() };
        for position in positions {
            for &inv in &self.inv_freq {
                let (sin, cos) = f64::from(position as f32 * inv).sin_cos();
                angles.cos.push(cos as f32);
                angles.sin.push(sin as f32);
            }
        }
        angles
    }
}

impl Angles {
    /// Pairs of a head.
    pub fn half(&self) -> usize {
        self.half
    }

    /// Cosines and sines, each `[n, half]`.
    pub fn table(&self) -> (&[f32], &[f32]) {
        (&self.cos, &self.sin)
    }

    /// Rotates one head's leading `2 * half` elements at the `t`-th of the positions:
    /// `(a, b) -> (a cos - b sin, b cos + a sin)` for the pairs `(i, i + half)`, each product rounded.
    #[inline(always)]
    pub fn rotate(&self, t: usize, head: &mut [f32]) {
        let at = t * self.half..(t + 1) * self.half;
        let (first, rest) = head.split_at_mut(self.half);
        let pairs = first.iter_mut().zip(&mut rest[..self.half]);
        for ((a, b), (&cos, &sin)) in pairs.zip(self.cos[at.clone()].iter().zip(&self.sin[at])) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(position: usize, head: &[f32]) -> Vec<f32> {
        let plain = Position::Rope { theta: 10000.0, dim: head.len() };
        let rope = Rope::new(&plain, &RopeScaling::None).expect("rotary");
        let mut out = head.to_vec();
        rope.angles([position]).rotate(0, &mut out);
        out
    }

    #[test]
    fn scores_depend_on_the_distance_only() {
        let q: Vec<f32> = (0..64).map(|i| (i as f32 * 0.37).sin()).collect();
        let k: Vec<f32> = (0..64).map(|i| (i as f32 * 0.71).cos()).collect();
        let score = |p: usize, r: usize| -> f64 {
            let (q, k) = (rotated(p, &q), rotated(r, &k));
            q.iter().zip(&k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        // |q||k| is about 32; an angle near 2000 carries half an f32 ulp, 6e-5.
        for shift in [1, 100, 1900] {
            assert!((score(20, 7) - score(20 + shift, 7 + shift)).abs() < 2e-3, "shift {shift}");
        }
        assert!((score(20, 7) - score(20, 8)).abs() > 0.1, "the distance must matter");
    }

    #[test]
    fn a_linear_factor_is_a_shorter_distance() {
        let plain = Position::Rope { theta: 10000.0, dim: 8 };
        let turned = |position: usize, scaling: RopeScaling| {
            let mut head: Vec<f32> = (0..8).map(|i| i as f32).collect();
            Rope::new(&plain, &scaling).expect("rotary").angles([position]).rotate(0, &mut head);
            head
        };
        assert_eq!(turned(32, RopeScaling::Linear { factor: 8.0 }), turned(4, RopeScaling::None));
    }

    #[test]
    fn position_zero_rotates_nothing() {
        let head: Vec<f32> = (0..8).map(|i| i as f32).collect();
        assert_eq!(rotated(0, &head), head);
    }

    #[test]
    fn pairs_are_half_a_head_apart() {
        let turned = rotated(1, &[1.0, 0.0, 0.0, 0.0]);
        assert_eq!(turned, [1f64.cos() as f32, 0.0, 1f64.sin() as f32, 0.0]);
    }
}
