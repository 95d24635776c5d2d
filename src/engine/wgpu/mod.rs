//! The GPU backends: every operation is a kernel of `kernels/`, recorded in order and submitted together.
//!
//! `wgpu` computes in exact numerics: weights decoded in registers, everything else f32. `wgpu-fast` multiplies quantised
//! weights with activations of 16 bits, in integers, and keeps keys and values in f16. What is added to what, in which
//! order, depends on nothing but the sizes of the model, so a prompt gives the bits of its tokens one by one, and a second
//! run those of the first.

mod adapter;
mod cache;
mod cooperative;
#[cfg(test)]
mod decoding;
mod device;
mod disk_cache;
#[cfg(test)]
mod halves;
mod head;
#[cfg(test)]
mod integers;
mod limits;
mod matrix;
mod memory;
mod pipelines;
mod planes;
mod product;
mod profile;
mod recorder;
mod sources;
mod table;
#[cfg(test)]
mod test_device;
#[cfg(test)]
mod tests;
mod upload;

pub(super) use adapter::{adapters, choose};
pub(super) use limits::measure;

use super::{
    Activation, Angles, Backend, DeviceInfo, Heads, KernelTime, Linear, Norm, Numerics, Part, ProductRule,
    WGPU, WGPU_FAST, visible,
};
use crate::Result;
use crate::models::{NormKind, Weight};
pub use cache::Cache;
use cache::padded;
use device::Device;
pub use head::Chosen;
pub use matrix::Matrix;
use memory::Memory;
pub use memory::Rows;
use pipelines::Kernel;
use product::Epilogue;
use recorder::{Bound, Recorder, Scratch, Session};
use std::sync::Arc;

/// A backend on one adapter.
pub struct Wgpu {
    numerics: Numerics,
    device: Arc<Device>,
    recorder: Recorder,
}

impl Wgpu {
    /// Opens the adapter that `request` names, or the best one.
    ///
    /// # Errors
    /// [`crate::Kind::Environment`] where there is none or it cannot be opened; [`crate::Kind::Usage`] for a request that
    /// names none or several.
    pub fn new(numerics: Numerics, request: Option<&str>) -> Result<Wgpu> {
        Ok(Wgpu::on(Device::open(request)?, numerics))
    }

    fn on(device: Arc<Device>, numerics: Numerics) -> Wgpu {
        Wgpu { numerics, recorder: Recorder::new(Arc::clone(&device)), device }
    }
}

/// By then a model has compiled what it needs.
impl Drop for Wgpu {
    fn drop(&mut self) {
        if let (Some(kept), Ok(())) = (&self.device.kept, self.device.check()) {
            kept.save();
        }
    }
}

/// Threads of most workgroups.
const LANES: usize = 64;

/// Columns of a unit, which kernels decode at once.
const UNIT: usize = 32;

/// Workgroups in one dimension of a dispatch, at most; a power of two, as groups run over a plane.
const ACROSS: usize = 32768;

/// "No index": as in the kernels.
const NONE: u32 = u32::MAX;

impl Wgpu {
    /// `out[r] = norm(x[rows[r]])`, of all rows where none are named.
    fn norm_rows(
        &self,
        session: &mut Session<'_>,
        norm: &Norm<Self>,
        x: &Rows,
        rows: Option<&[usize]>,
        out: (&Arc<Memory>, usize), // and from row to row
    ) -> Result<()> {
        let rows_at = rows.map_or(NONE, |rows| session.words(rows.iter().map(|r| *r as u32)));
        let from = x.memory(&self.device)?;
        let (weight, from, to) = (Bound::Memory(&norm.weight), Bound::Memory(&from), Bound::Memory(out.0));
        let (stride, eps) = (x.stride() as u32, norm.rule.eps.to_bits());
        let immediates = [x.width as u32, stride, out.1 as u32, rows_at, eps];
        let (kernel, bound) = match (norm.rule.kind, &norm.bias) {
            (NormKind::Layer, Some(bias)) => {
                ("layer_norm", vec![from, Bound::Words, weight, Bound::Memory(bias), to])
            }
            (NormKind::Rms, _) | (NormKind::Layer, None) => {
                ("rms_norm", vec![from, Bound::Words, weight, to])
            }
        };
        let n = rows.map_or(x.n, <[usize]>::len);
        session.dispatch(&Kernel::new(&[kernel]), &bound, &immediates, [n, 1, 1])
    }

    /// `kernel` and the way that this backend keeps keys and values.
    fn with_cache(&self, kernel: &[&'static str]) -> Kernel {
        let kept = match self.numerics {
            Numerics::Exact => "kv_single",
            Numerics::Fast => "kv_half",
        };
        Kernel::new(&[kernel, &[kept]].concat())
    }
}

impl Backend for Wgpu {
    type Buffer = Rows;
    type Matrix = Matrix;
    type Vector = Arc<Memory>;
    type Cache = Cache;
    type Chosen = Chosen;

    fn name(&self) -> &'static str {
        match self.numerics {
            Numerics::Exact => WGPU,
            Numerics::Fast => WGPU_FAST,
        }
    }

    fn device(&self) -> Option<DeviceInfo> {
        Some(self.device.info.clone())
    }

    fn is_lost(&self) -> bool {
        self.device.check().is_err()
    }

    fn numerics(&self) -> Numerics {
        self.numerics
    }

    fn product_rule(&self, matrix: &Matrix, _tokens: usize) -> ProductRule {
        self.form(matrix).rule()
    }

    fn begin_profile(&self) -> Result<()> {
        self.recorder.begin_profile()
    }

    fn end_profile(&self) -> Result<Vec<KernelTime>> {
        self.recorder.end_profile()
    }

    fn matrix(&self, weight: &Weight) -> Result<Matrix> {
        Matrix::new(&self.device, &mut self.recorder.upload(), weight)
    }

    fn vector(&self, values: Vec<f32>) -> Result<Arc<Memory>> {
        self.recorder.upload().words(bytemuck::cast_slice(&values))
    }

    fn buffer(&self, width: usize) -> Rows {
        Rows::new(width)
    }

    fn upload(&self, width: usize, values: &[f32]) -> Result<Rows> {
        let mut rows = Rows::new(width);
        let stride = rows.stride();
        let memory = Arc::clone(rows.set_n(&self.device, values.len() / width)?);
        let mut padded = vec![0u32; values.len() / width * stride];
        for (row, values) in padded.chunks_exact_mut(stride).zip(values.chunks_exact(width)) {
            row.iter_mut().zip(values).for_each(|(word, value)| *word = value.to_bits());
        }
        let bytes: &[u8] = bytemuck::cast_slice(&padded);
        self.recorder.upload().write(&memory, 0, bytes.len(), |out| out.copy_from_slice(bytes))?;
        Ok(rows)
    }

    fn download(&self, buffer: &Rows) -> Result<Vec<f32>> {
        let stride = buffer.stride();
        let mut padded = vec![0f32; buffer.n * stride];
        let memory = buffer.memory(&self.device)?;
        self.recorder.session(0)?.read(&memory, bytemuck::cast_slice_mut(&mut padded))?;
        Ok(padded.chunks_exact(stride).flat_map(|row| &row[..buffer.width]).copied().collect())
    }

    fn cache(&self, heads: &Heads) -> Cache {
        let element = match self.numerics {
            Numerics::Exact => size_of::<f32>(),
            Numerics::Fast => size_of::<u16>(),
        };
        Cache::new(heads, element)
    }

    fn chosen(&self, most: usize) -> Result<Chosen> {
        Chosen::new(&self.device, most)
    }

    fn read_chosen(&self, chosen: &Chosen) -> Result<Vec<Option<u32>>> {
        self.read_ids(chosen)
    }

    fn embed(&self, table: &Matrix, ids: &[u32], x: &mut Rows) -> Result<()> {
        let mut session = self.recorder.session(ids.len())?;
        let ids_at = session.words(ids.iter().copied());
        self.read_table(session, table, (Bound::Words, ids_at, ids.len()), x, false)
    }

    fn embed_chosen(&self, table: &Matrix, chosen: &Chosen, x: &mut Rows) -> Result<()> {
        let session = self.recorder.session(0)?;
        self.read_table(
            session,
            table,
            (Bound::Memory(&chosen.ids), chosen.n.saturating_sub(1) as u32, 1),
            x,
            false,
        )
    }

    fn add_positions(&self, table: &Matrix, positions: &[usize], x: &mut Rows) -> Result<()> {
        let mut session = self.recorder.session(positions.len())?;
        let ids_at = session.words(positions.iter().map(|p| *p as u32));
        self.read_table(session, table, (Bound::Words, ids_at, positions.len()), x, true)
    }

    fn scale(&self, factor: f32, x: &mut Rows) -> Result<()> {
        let mut session = self.recorder.session(0)?;
        let (len, memory) = (x.n * x.stride(), x.memory(&self.device)?);
        let [across, down] = plane(len.div_ceil(LANES));
        let immediates = [len as u32, factor.to_bits()];
        session.dispatch(
            &Kernel::new(&["scale"]),
            &[Bound::Memory(&memory)],
            &immediates,
            [across, down, 1],
        )?;
        session.end()
    }

    fn add(&self, x: &Rows, residual: &mut Rows) -> Result<()> {
        let mut session = self.recorder.session(0)?;
        let (len, from, to) = (x.n * x.stride(), x.memory(&self.device)?, residual.memory(&self.device)?);
        let [across, down] = plane(len.div_ceil(LANES));
        let bound = [Bound::Memory(&from), Bound::Memory(&to)];
        session.dispatch(&Kernel::new(&["add"]), &bound, &[len as u32], [across, down, 1])?;
        session.end()
    }

    fn norm(&self, norm: &Norm<Self>, x: &Rows, out: &mut Rows) -> Result<()> {
        let mut session = self.recorder.session(0)?;
        let stride = out.stride();
        let to = Arc::clone(out.set_n(&self.device, x.n)?);
        self.norm_rows(&mut session, norm, x, None, (&to, stride))?;
        session.end()
    }

    fn norm_heads(&self, norm: &Norm<Self>, head_dim: usize, x: &mut Rows) -> Result<()> {
        let mut session = self.recorder.session(0)?;
        let (memory, heads) = (x.memory(&self.device)?, x.width / head_dim);
        let immediates = [head_dim as u32, x.stride() as u32, norm.rule.eps.to_bits()];
        let bound = [Bound::Memory(&norm.weight), Bound::Memory(&memory)];
        session.dispatch(&Kernel::new(&["norm_heads"]), &bound, &immediates, [heads, x.n, 1])?;
        session.end()
    }

    fn linear<const N: usize>(
        &self,
        weights: [&Linear<Self>; N],
        x: &Rows,
        outs: [&mut Rows; N],
    ) -> Result<()> {
        let mut session = self.recorder.session(0)?;
        let x = self.operand(&mut session, self.whole(x)?, weights.iter().map(|linear| &linear.weight))?;
        for (weight, out) in weights.into_iter().zip(outs) {
            self.rows_product(&mut session, weight, &x, (out, Epilogue::Set))?;
        }
        session.end()
    }

    fn linear_add(&self, weight: &Linear<Self>, x: &Rows, residual: &mut Rows) -> Result<()> {
        let mut session = self.recorder.session(0)?;
        let x = self.operand(&mut session, self.whole(x)?, [&weight.weight])?;
        self.rows_product(&mut session, weight, &x, (residual, Epilogue::Add))?;
        session.end()
    }

    fn rope_store(
        &self,
        heads: &Heads,
        angles: Option<&Angles>,
        (q, k, v): (&mut Rows, &mut Rows, &Rows),
        parts: &mut [Part<'_, Cache>],
    ) -> Result<()> {
        let (cos, sin) = angles.map_or((&[][..], &[][..]), Angles::table);
        let mut session = self.recorder.session(cos.len() + sin.len())?;
        let cos_at = session.words(cos.iter().map(|c| c.to_bits()));
        let sin_at = session.words(sin.iter().map(|s| s.to_bits()));
        let half = angles.map_or(0, Angles::half);
        let [q_rows, k_rows, v_rows] =
            [q.memory(&self.device)?, k.memory(&self.device)?, v.memory(&self.device)?];
        let kernel = self.with_cache(&["rope_store"]);
        for Part { rows, start, cache } in parts {
            let kept = cache.writable(&self.device, &mut session, (*start, *start + rows.len()))?;
            let bound = [
                Bound::Words,
                Bound::Memory(&q_rows),
                Bound::Memory(&k_rows),
                Bound::Memory(&v_rows),
                Bound::Memory(&kept.keys),
                Bound::Memory(&kept.values),
            ];
            let immediates = [
                heads.n_heads as u32,
                heads.n_kv_heads as u32,
                heads.head_dim as u32,
                padded(heads) as u32,
                q.stride() as u32,
                k.stride() as u32,
                half as u32,
                cos_at,
                sin_at,
                rows.start as u32,
                *start as u32,
            ];
            let grid = [heads.n_heads + heads.n_kv_heads, rows.len(), 1];
            session.dispatch(&kernel, &bound, &immediates, grid)?;
        }
        session.end()
    }

    fn attend(
        &self,
        heads: &Heads,
        window: Option<usize>,
        q: &Rows,
        parts: &[Part<'_, Cache>],
        out: &mut Rows,
    ) -> Result<()> {
        let mut session = self.recorder.session(0)?;
        let stride = q.stride();
        let (from, to) = (q.memory(&self.device)?, Arc::clone(out.set_n(&self.device, q.n)?));
        let attention = self.with_cache(&["attention", "activation"]);
        let combine = Kernel::new(&["attention_combine", "activation"]);
        let window_words = window.map_or(NONE, |w| u32::try_from(w).unwrap_or(NONE));
        for Part { rows, start, cache } in parts {
            let Some(kept) = cache.kept() else { continue };
            let first = visible(window, *start).start / SPLIT;
            let splits = (start + rows.len()).div_ceil(SPLIT) - first;
            let left = rows.len() * heads.n_heads * splits * (heads.head_dim + 2) * size_of::<f32>();
            let left = session.scratch(Scratch::Splits, if splits > 1 { left } else { 0 })?;
            let bound = [
                Bound::Memory(&from),
                Bound::Memory(&kept.keys),
                Bound::Memory(&kept.values),
                Bound::Memory(&left),
                Bound::Memory(&to),
            ];
            let immediates = [
                heads.n_heads as u32,
                (heads.n_heads / heads.n_kv_heads) as u32,
                heads.n_kv_heads as u32,
                heads.head_dim as u32,
                padded(heads) as u32,
                stride as u32,
                heads.scale.to_bits(),
                window_words,
                rows.start as u32,
                *start as u32,
                first as u32,
                splits as u32,
            ];
            session.dispatch(&attention, &bound, &immediates, [heads.n_heads, rows.len(), splits])?;
            if splits > 1 {
                let immediates = [
                    heads.n_heads as u32,
                    heads.head_dim as u32,
                    stride as u32,
                    window_words,
                    rows.start as u32,
                    *start as u32,
                    first as u32,
                    splits as u32,
                ];
                let bound = [Bound::Memory(&left), Bound::Memory(&to)];
                session.dispatch(&combine, &bound, &immediates, [heads.n_heads, rows.len(), 1])?;
            }
        }
        session.end()
    }

    fn gated(
        &self,
        activation: Activation,
        gate: &Linear<Self>,
        up: &Linear<Self>,
        x: &Rows,
        out: &mut Rows,
    ) -> Result<()> {
        let epilogue = match activation {
            Activation::Silu => Epilogue::SiluGate,
            Activation::GeluTanh => Epilogue::GeluGate,
        };
        let mut session = self.recorder.session(0)?;
        let x = self.operand(&mut session, self.whole(x)?, [&gate.weight, &up.weight])?;
        self.rows_product(&mut session, gate, &x, (out, Epilogue::Set))?;
        self.rows_product(&mut session, up, &x, (out, epilogue))?;
        session.end()
    }

    fn gelu(&self, up: &Linear<Self>, x: &Rows, out: &mut Rows) -> Result<()> {
        let mut session = self.recorder.session(0)?;
        let x = self.operand(&mut session, self.whole(x)?, [&up.weight])?;
        self.rows_product(&mut session, up, &x, (out, Epilogue::Gelu))?;
        session.end()
    }

    fn head(
        &self,
        norm: &Norm<Self>,
        head: &Matrix,
        x: &Rows,
        rows: &[usize],
        logits: &mut [f32],
    ) -> Result<()> {
        self.read_logits(norm, head, x, rows, logits)
    }

    fn choose(
        &self,
        norm: &Norm<Self>,
        head: &Matrix,
        x: &Rows,
        row: usize,
        chosen: &mut Chosen,
    ) -> Result<()> {
        self.choose_id(norm, head, x, row, chosen)
    }

    fn best(
        &self,
        norm: &Norm<Self>,
        head: &Matrix,
        x: &Rows,
        row: usize,
        k: usize,
    ) -> Result<Vec<(u32, f32)>> {
        self.read_best(norm, head, x, row, k)
    }
}

/// Positions of a split, as in `kernels/attention.wgsl`.
const SPLIT: usize = 256;

/// `groups` workgroups on a plane, as one dimension does not hold them all.
fn plane(groups: usize) -> [usize; 2] {
    [groups.min(ACROSS), groups.div_ceil(ACROSS)]
}

/// The best adapter, or none with a word on standard error where there is none.
#[cfg(test)]
pub(super) fn for_tests(numerics: Numerics) -> Option<Wgpu> {
    match Wgpu::new(numerics, None) {
        Ok(backend) => Some(backend),
        Err(error) => {
            eprintln!("SKIPPED, NOT TESTED: {error}");
            None
        }
    }
}
