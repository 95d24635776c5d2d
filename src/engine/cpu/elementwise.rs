//! Norms, the weights of attention and activations over 16 lanes, with one exponential of our own: contracts `rms_norm`, `layer_norm`,
//! `softmax`, `silu`, `gelu`, `swiglu`.

use super::isa::Kernel;
use super::lanes::{Lanes, WIDTH};
use crate::engine::NormRule;
use crate::models::NormKind;
use std::ops::Range;

type Vector = [f32; WIDTH];

/// `exp(x)` for `x` in -87..=88, clamped to it: `2^n` times the Taylor sum of `exp(r)` to the 7th power, with
/// `n = round(x / ln 2)` and `|r| <= ln 2 / 2`. The error is below 2 units in the last place.
#[inline(always)]
pub(super) fn exp<L: Lanes>(x: L) -> L {
    /// Adding it rounds to an integer and leaves that in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const TAYLOR: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let x = L::splat(88.0).min(L::splat(-87.0).max(x));
    let shifted = x.fma(L::splat(std::f32::consts::LOG2_E), L::splat(ROUND));
    let n = shifted.sub(L::splat(ROUND));
    let r = n.fma(L::splat(-LN2_HIGH), x);
    let r = n.fma(L::splat(-LN2_LOW), r);
    let mut sum = L::splat(1.0 / 5040.0);
    for c in TAYLOR {
        sum = sum.fma(r, L::splat(c));
    }
    sum.mul(shifted.power_of_two())
}

/// `x / (1 + exp(-x))`.
#[inline(always)]
fn silu<L: Lanes>(x: L) -> L {
    x.div(L::splat(1.0).add(exp(L::splat(0.0).sub(x))))
}

/// `x / (1 + exp(-2 u))` with `u = sqrt(2/pi) (x + 0.044715 x³)`: the same function as `x/2 (1 + tanh u)`.
#[inline(always)]
fn gelu<L: Lanes>(x: L) -> L {
    const TWICE_ROOT: f32 = 1.595_769;
    let cubic = x.mul(x).mul(x).fma(L::splat(0.044715), x);
    x.div(L::splat(1.0).add(exp(cubic.mul(L::splat(-TWICE_ROOT)))))
}

/// `gate = silu(gate) * up`, element by element.
pub(crate) struct SiluMul<'a> {
    pub gate: &'a mut [f32],
    pub up: &'a [f32],
}

impl Kernel for SiluMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        activate_and_multiply::<L, SiluOf>(self.gate, self.up);
    }
}

/// `gate = gelu_tanh(gate) * up`, element by element.
pub(crate) struct GeluMul<'a> {
    pub gate: &'a mut [f32],
    pub up: &'a [f32],
}

impl Kernel for GeluMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        activate_and_multiply::<L, GeluOf>(self.gate, self.up);
    }
}

/// A function of 16 lanes. A trait and no function pointer: the call through `Fn` is compiled without the instruction
/// set of the kernel around it, and each of its instructions becomes a call.
trait OfLanes {
    fn of<L: Lanes>(x: L) -> L;
}

struct SiluOf;
struct GeluOf;

impl OfLanes for SiluOf {
    #[inline(always)]
    fn of<L: Lanes>(x: L) -> L {
        silu(x)
    }
}

impl OfLanes for GeluOf {
    #[inline(always)]
    fn of<L: Lanes>(x: L) -> L {
        gelu(x)
    }
}

/// `gate = activation(gate) * up`, 16 elements at a time, the last ones padded.
#[inline(always)]
fn activate_and_multiply<L: Lanes, A: OfLanes>(gate: &mut [f32], up: &[f32]) {
    let (gates, gate_rest) = gate.as_chunks_mut();
    let (ups, up_rest) = up.as_chunks();
    for (gate, up) in gates.iter_mut().zip(ups) {
        A::of(L::load(gate)).mul(L::load(up)).store(gate);
    }
    // A task's rows are whole vectors, one or two of them, but for the last task's.
    if gate_rest.is_empty() {
        return;
    }
    let (mut last, up) = (padded(gate_rest), padded(up_rest));
    A::of(L::load(&last)).mul(L::load(&up)).store(&mut last);
    gate_rest.copy_from_slice(&last[..gate_rest.len()]);
}

/// `x = gelu_tanh(x)`, element by element.
pub(crate) struct Gelu<'a>(pub &'a mut [f32]);

impl Kernel for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (vectors, rest) = self.0.as_chunks_mut();
        for x in vectors {
            gelu(L::load(x)).store(x);
        }
        if rest.is_empty() {
            return;
        }
        let mut last = padded(rest);
        gelu(L::load(&last)).store(&mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// `scores[seen] = exp(scores - max)`; gives the maximum and the sum of that. The lanes outside `seen` become 0.
/// `scores` holds whole vectors.
#[inline(always)]
pub(super) fn weigh<L: Lanes>(scores: &mut [Vector], seen: Range<usize>) -> (f32, f32) {
    fill_unseen(scores, &seen, f32::NEG_INFINITY);
    let mut max = L::splat(f32::NEG_INFINITY);
    for s in scores.iter() {
        max = max.max(L::load(s));
    }
    let largest = max.largest();
    let max = L::splat(largest);
    let mut sum = L::splat(0.0);
    for (i, s) in scores.iter_mut().enumerate() {
        let mut e = exp(L::load(s).sub(max));
        e.store(s);
        let whole = seen.start <= i * WIDTH && (i + 1) * WIDTH <= seen.end;
        if !whole {
            let within = |lane: usize| seen.contains(&(i * WIDTH + lane));
            (0..WIDTH).filter(|lane| !within(*lane)).for_each(|lane| s[lane] = 0.0);
            e = L::load(s);
        }
        sum = sum.add(e);
    }
    (largest, sum.sum())
}

#[inline(always)]
fn fill_unseen(scores: &mut [Vector], seen: &Range<usize>, value: f32) {
    let scores = scores.as_flattened_mut();
    scores[..seen.start].fill(value);
    scores[seen.end..].fill(value);
}

/// One row's norm. `x`, `weight`, `bias` and `out` are padded with zeros to whole vectors; `width` values count.
pub(super) struct NormRow<'a> {
    pub rule: NormRule,
    pub width: usize,
    pub weight: &'a [Vector],
    pub bias: Option<&'a [Vector]>,
    pub x: &'a [Vector],
    pub out: &'a mut [Vector],
}

impl Kernel for NormRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let NormRow { rule, width, weight, bias, x, out } = self;
        match rule.kind {
            NormKind::Rms => out.copy_from_slice(x),
            NormKind::Layer => {
                let mut sum = L::splat(0.0);
                for x in x {
                    sum = sum.add(L::load(x));
                }
                let mean = L::splat(sum.sum() / width as f32);
                for (x, d) in x.iter().zip(out.iter_mut()) {
                    L::load(x).sub(mean).store(d);
                }
                out.as_flattened_mut()[width..].fill(0.0);
            }
        }
        let mut squares = L::splat(0.0);
        for d in out.iter() {
            squares = L::load(d).fma(L::load(d), squares);
        }
        let scale = L::splat(1.0 / (squares.sum() / width as f32 + rule.eps).sqrt());
        for (i, (y, w)) in out.iter_mut().zip(weight).enumerate() {
            let scaled = L::load(y).mul(scale).mul(L::load(w));
            match bias {
                Some(bias) => scaled.add(L::load(&bias[i])).store(y),
                None => scaled.store(y),
            }
        }
    }
}

/// `values`, fewer than 16, followed by zeros.
#[inline(always)]
fn padded(values: &[f32]) -> Vector {
    let mut vector = [0.0; WIDTH];
    vector[..values.len()].copy_from_slice(values);
    vector
}
