//! The judge of every other backend: plain loops in one thread, every sum in f64, rounded to f32 once.
//!
//! Each operation follows the equation of its contract in `contracts/kernels/` and nothing else: no blocks, no
//! layout, no tricks. Weights are decoded row by row.

use super::{Activation, Angles, Backend, Heads, Linear, Norm, Part, best_of, visible};
use crate::Result;
use crate::models::{NormKind, Weight};
use crate::quant;
use crate::stats::argmax;

/// The name in the backend table.
pub const NAME: &str = "reference";

/// The scalar backend.
#[derive(Debug, Clone, Copy)]
pub struct Reference;

/// Rows of f32.
pub struct Rows {
    width: usize,
    data: Vec<f32>, // [n, width]
}

/// Keys and values of one layer.
#[derive(Clone)]
pub struct Cache {
    keys: Vec<f32>,   // [positions, n_kv_heads, head_dim]
    values: Vec<f32>, // [positions, n_kv_heads, head_dim]
}

impl Rows {
    /// Takes other values of the same width.
    #[cfg(test)]
    pub(super) fn replace(&mut self, values: Vec<f32>) {
        self.data = values;
    }

    fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.width)
    }
}

impl Backend for Reference {
    type Buffer = Rows;
    type Matrix = Weight;
    type Vector = Vec<f32>;
    type Cache = Cache;
    type Chosen = Vec<Option<u32>>;

    fn name(&self) -> &'static str {
        NAME
    }

    fn matrix(&self, weight: &Weight) -> Result<Weight> {
        quant::codec(weight.tensor.dtype)?;
        Ok(weight.clone())
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }

    fn buffer(&self, width: usize) -> Rows {
        Rows { width, data: Vec::new() }
    }

    fn upload(&self, width: usize, values: &[f32]) -> Result<Rows> {
        Ok(Rows { width, data: values.to_vec() })
    }

    fn download(&self, buffer: &Rows) -> Result<Vec<f32>> {
        Ok(buffer.data.clone())
    }

    fn cache(&self, _heads: &Heads) -> Cache {
        Cache { keys: Vec::new(), values: Vec::new() }
    }

    fn chosen(&self, most: usize) -> Result<Vec<Option<u32>>> {
        Ok(Vec::with_capacity(most))
    }

    fn read_chosen(&self, chosen: &Vec<Option<u32>>) -> Result<Vec<Option<u32>>> {
        Ok(chosen.clone())
    }

    fn embed(&self, table: &Weight, ids: &[u32], x: &mut Rows) -> Result<()> {
        x.data.resize(ids.len() * x.width, 0.0);
        for (row, &id) in x.data.chunks_exact_mut(x.width).zip(ids) {
            read_row(table, id as usize, row)?;
        }
        Ok(())
    }

    fn embed_chosen(&self, table: &Weight, chosen: &Vec<Option<u32>>, x: &mut Rows) -> Result<()> {
        self.embed(table, &[chosen.last().copied().flatten().unwrap_or(0)], x)
    }

    fn scale(&self, factor: f32, x: &mut Rows) -> Result<()> {
        x.data.iter_mut().for_each(|x| *x *= factor);
        Ok(())
    }

    fn add(&self, x: &Rows, residual: &mut Rows) -> Result<()> {
        residual.data.iter_mut().zip(&x.data).for_each(|(r, x)| *r += x);
        Ok(())
    }

    fn norm_heads(&self, norm: &Norm<Self>, head_dim: usize, x: &mut Rows) -> Result<()> {
        let heads = Rows { width: head_dim, data: std::mem::take(&mut x.data) };
        let mut out = self.buffer(head_dim);
        self.norm(norm, &heads, &mut out)?;
        x.data = out.data;
        Ok(())
    }

    fn add_positions(&self, table: &Weight, positions: &[usize], x: &mut Rows) -> Result<()> {
        let mut position = vec![0.0; x.width];
        for (row, at) in x.data.chunks_exact_mut(x.width).zip(positions) {
            read_row(table, *at, &mut position)?;
            row.iter_mut().zip(&position).for_each(|(x, p)| *x += p);
        }
        Ok(())
    }

    fn norm(&self, norm: &Norm<Self>, x: &Rows, out: &mut Rows) -> Result<()> {
        out.data.clear();
        for row in x.iter() {
            match norm.rule.kind {
                NormKind::Rms => rms_norm(row, &norm.weight, norm.rule.eps, &mut out.data),
                NormKind::Layer => {
                    let zero = vec![0.0; row.len()];
                    let bias = norm.bias.as_ref().unwrap_or(&zero);
                    layer_norm(row, &norm.weight, bias, norm.rule.eps, &mut out.data);
                }
            }
        }
        Ok(())
    }

    fn linear<const N: usize>(
        &self,
        weights: [&Linear<Self>; N],
        x: &Rows,
        outs: [&mut Rows; N],
    ) -> Result<()> {
        for (linear, out) in weights.into_iter().zip(outs) {
            out.data = matmul(&linear.weight, linear.bias.as_deref(), x)?;
        }
        Ok(())
    }

    fn linear_add(&self, linear: &Linear<Self>, x: &Rows, residual: &mut Rows) -> Result<()> {
        let y = matmul(&linear.weight, linear.bias.as_deref(), x)?;
        residual.data.iter_mut().zip(&y).for_each(|(r, y)| *r += y);
        Ok(())
    }

    fn rope_store(
        &self,
        heads: &Heads,
        angles: Option<&Angles>,
        (q, k, v): (&mut Rows, &mut Rows, &Rows),
        parts: &mut [Part<'_, Cache>],
    ) -> Result<()> {
        if let Some(angles) = angles {
            for rows in [q, &mut *k] {
                for (t, token) in rows.data.chunks_exact_mut(rows.width).enumerate() {
                    token.chunks_exact_mut(heads.head_dim).for_each(|head| angles.rotate(t, head));
                }
            }
        }
        for Part { rows, start, cache } in parts {
            for (kept, new) in [(&mut cache.keys, &*k), (&mut cache.values, v)] {
                // A sequence that failed half-way stores its positions again.
                kept.truncate(*start * new.width);
                kept.extend_from_slice(&new.data[rows.start * new.width..rows.end * new.width]);
            }
        }
        Ok(())
    }

    fn attend(
        &self,
        heads: &Heads,
        window: Option<usize>,
        q: &Rows,
        parts: &[Part<'_, Cache>],
        out: &mut Rows,
    ) -> Result<()> {
        let (dim, kv_width) = (heads.head_dim, heads.n_kv_heads * heads.head_dim);
        out.data.clear();
        for Part { rows, start, cache } in parts {
            for (t, token) in q.iter().skip(rows.start).take(rows.len()).enumerate() {
                for (h, query) in token.chunks_exact(dim).enumerate() {
                    let at = heads.kv_head(h) * dim;
                    let keys = cache.keys.chunks_exact(kv_width);
                    let values = cache.values.chunks_exact(kv_width);
                    let seen = visible(window, start + t);
                    let score = |key: &[f32]| dot(query, &key[at..at + dim]) * f64::from(heads.scale);
                    let p = softmax(&keys.take(seen.end).skip(seen.start).map(score).collect::<Vec<f64>>());
                    let mut sum = vec![0f64; dim];
                    for (p, value) in p.iter().zip(values.skip(seen.start)) {
                        sum.iter_mut().zip(&value[at..at + dim]).for_each(|(s, v)| *s += p * f64::from(*v));
                    }
                    out.data.extend(sum.iter().map(|s| *s as f32));
                }
            }
        }
        Ok(())
    }

    fn gated(
        &self,
        activation: Activation,
        gate: &Linear<Self>,
        up: &Linear<Self>,
        x: &Rows,
        out: &mut Rows,
    ) -> Result<()> {
        let activate = match activation {
            Activation::Silu => silu,
            Activation::GeluTanh => gelu_tanh,
        };
        let gate = matmul(&gate.weight, gate.bias.as_deref(), x)?;
        let up = matmul(&up.weight, up.bias.as_deref(), x)?;
        out.data =
            gate.iter().zip(&up).map(|(&g, &u)| (activate(f64::from(g)) * f64::from(u)) as f32).collect();
        Ok(())
    }

    fn gelu(&self, up: &Linear<Self>, x: &Rows, out: &mut Rows) -> Result<()> {
        let up = matmul(&up.weight, up.bias.as_deref(), x)?;
        out.data = up.iter().map(|&u| gelu_tanh(f64::from(u)) as f32).collect();
        Ok(())
    }

    fn head(
        &self,
        norm: &Norm<Self>,
        head: &Weight,
        x: &Rows,
        rows: &[usize],
        logits: &mut [f32],
    ) -> Result<()> {
        let chosen = rows.iter().flat_map(|t| &x.data[t * x.width..(t + 1) * x.width]).copied().collect();
        let mut normed = self.buffer(x.width);
        self.norm(norm, &Rows { width: x.width, data: chosen }, &mut normed)?;
        logits.copy_from_slice(&matmul(head, None, &normed)?);
        Ok(())
    }

    fn choose(
        &self,
        norm: &Norm<Self>,
        head: &Weight,
        x: &Rows,
        row: usize,
        chosen: &mut Vec<Option<u32>>,
    ) -> Result<()> {
        let mut logits = vec![0.0; head.tensor.shape.rows()];
        self.head(norm, head, x, &[row], &mut logits)?;
        chosen.push(argmax(&logits));
        Ok(())
    }

    fn best(
        &self,
        norm: &Norm<Self>,
        head: &Weight,
        x: &Rows,
        row: usize,
        k: usize,
    ) -> Result<Vec<(u32, f32)>> {
        let mut logits = vec![0.0; head.tensor.shape.rows()];
        self.head(norm, head, x, &[row], &mut logits)?;
        Ok(best_of(&logits, k))
    }
}

/// Canonical row `r`, decoded.
pub(super) fn read_row(weight: &Weight, r: usize, out: &mut [f32]) -> Result<()> {
    quant::row_to_f32(&weight.tensor, weight.rows.stored_row(r), out)
}

/// All rows of `weight` times `x`, plus `bias`: `[n, rows of weight]`.
fn matmul(weight: &Weight, bias: Option<&[f32]>, x: &Rows) -> Result<Vec<f32>> {
    let rows: Vec<usize> = (0..weight.tensor.shape.rows()).collect();
    let x: Vec<f64> = x.data.iter().map(|x| f64::from(*x)).collect();
    Ok(products((weight, f64::from), bias, &x, &rows)?.into_iter().map(|y| y as f32).collect())
}

/// `y[t, i] = sum_k seen(w[rows[i], k]) x[t, k] + bias[rows[i]]`: `[n, rows]`, of `x` `[n, columns of w]`.
pub(super) fn products(
    (weight, seen): (&Weight, fn(f32) -> f64),
    bias: Option<&[f32]>,
    x: &[f64],
    rows: &[usize],
) -> Result<Vec<f64>> {
    let width = weight.tensor.shape.row_len();
    let mut y = vec![0.0; x.len() / width * rows.len()];
    let (mut decoded, mut w) = (vec![0f32; width], vec![0f64; width]);
    for (i, &r) in rows.iter().enumerate() {
        read_row(weight, r, &mut decoded)?;
        w.iter_mut().zip(&decoded).for_each(|(w, d)| *w = seen(*d));
        let bias = bias.map_or(0.0, |b| f64::from(b[r]));
        for (t, x) in x.chunks_exact(width).enumerate() {
            y[t * rows.len() + i] = w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias;
        }
    }
    Ok(y)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// `w x / sqrt(mean(x²) + eps)`.
fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut Vec<f32>) {
    let scale = 1.0 / (dot(x, x) / x.len() as f64 + f64::from(eps)).sqrt();
    out.extend(x.iter().zip(weight).map(|(x, w)| (f64::from(*x) * scale * f64::from(*w)) as f32));
}

/// `w (x - mean) / sqrt(var + eps) + b`, with the variance of the population.
fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut Vec<f32>) {
    let n = x.len() as f64;
    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let var = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (var + f64::from(eps)).sqrt();
    let affine = weight.iter().zip(bias);
    out.extend(
        x.iter()
            .zip(affine)
            .map(|(x, (w, b))| ((f64::from(*x) - mean) * scale * f64::from(*w) + f64::from(*b)) as f32),
    );
}

/// `exp(s - max) / sum`.
pub(crate) fn softmax(scores: &[f64]) -> Vec<f64> {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exps: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| e / sum).collect()
}

/// `x / (1 + exp(-x))`.
pub(crate) fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³)))`.
pub(crate) fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
}
