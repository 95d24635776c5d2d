//! Where a pass ends: the logits of some rows, or the best few of one, read by the host; or the largest of one, whose id
//! stays on the device.

use super::device::Device;
use super::matrix::Matrix;
use super::memory::{Memory, Rows, STORAGE};
use super::pipelines::Kernel;
use super::product::{Epilogue, Out};
use super::recorder::{Bound, Scratch, Session};
use super::{NONE, Wgpu};
use crate::engine::Norm;
use crate::{Error, Kind, Result};
use std::sync::Arc;

/// Ids that the device chose one after the other: contract `contracts/kernels/sampling.yaml`.
pub struct Chosen {
    pub(super) ids: Arc<Memory>,
    pub(super) n: usize,
    most: usize,
}

impl Chosen {
    /// Room for `most` ids.
    ///
    /// # Errors
    /// [`Kind::Environment`] where there is no memory for it.
    pub(super) fn new(device: &Arc<Device>, most: usize) -> Result<Chosen> {
        let ids = Memory::new(device, (most * size_of::<u32>()) as u64, STORAGE)?;
        Ok(Chosen { ids, n: 0, most })
    }
}

impl Wgpu {
    /// [`crate::engine::Backend::head`].
    pub(super) fn read_logits(
        &self,
        norm: &Norm<Self>,
        head: &Matrix,
        x: &Rows,
        rows: &[usize],
        logits: &mut [f32],
    ) -> Result<()> {
        let most = self.rows_at_once(head)?;
        for (rows, logits) in rows.chunks(most).zip(logits.chunks_mut(most * head.rows)) {
            let mut session = self.recorder.session(rows.len())?;
            let memory = self.logits(&mut session, norm, head, x, rows)?;
            session.read(&memory, bytemuck::cast_slice_mut(logits))?;
        }
        Ok(())
    }

    /// [`crate::engine::Backend::choose`].
    pub(super) fn choose_id(
        &self,
        norm: &Norm<Self>,
        head: &Matrix,
        x: &Rows,
        row: usize,
        chosen: &mut Chosen,
    ) -> Result<()> {
        if chosen.n == chosen.most {
            return Err(Error::new(Kind::Internal, "choice", "there is no room for another id"));
        }
        self.rows_at_once(head)?;
        let mut session = self.recorder.session(1)?;
        let logits = self.logits(&mut session, norm, head, x, &[row])?;
        let bound = [Bound::Memory(&logits), Bound::Memory(&chosen.ids)];
        let immediates = [head.rows as u32, chosen.n as u32];
        session.dispatch(&Kernel::new(&["argmax"]), &bound, &immediates, [1, 1, 1])?;
        chosen.n += 1;
        session.end()
    }

    /// [`crate::engine::Backend::best`].
    pub(super) fn read_best(
        &self,
        norm: &Norm<Self>,
        head: &Matrix,
        x: &Rows,
        row: usize,
        k: usize,
    ) -> Result<Vec<(u32, f32)>> {
        self.rows_at_once(head)?;
        let mut session = self.recorder.session(1)?;
        let logits = self.logits(&mut session, norm, head, x, &[row])?;
        let mut best = vec![[NONE, 0]; k];
        let memory = session.scratch(Scratch::Best, size_of_val(&best[..]))?;
        let bound = [Bound::Memory(&logits), Bound::Memory(&memory)];
        session.dispatch(&Kernel::new(&["top_k"]), &bound, &[head.rows as u32, k as u32], [1, 1, 1])?;
        session.read(&memory, bytemuck::cast_slice_mut(&mut best))?;
        match best.first() {
            Some([NONE, _]) | None => Ok(Vec::new()),
            Some(_) => Ok(best.into_iter().map(|[id, bits]| (id, f32::from_bits(bits))).collect()),
        }
    }

    /// [`crate::engine::Backend::read_chosen`].
    pub(super) fn read_ids(&self, chosen: &Chosen) -> Result<Vec<Option<u32>>> {
        let mut ids = vec![NONE; chosen.n];
        self.recorder.session(0)?.read(&chosen.ids, bytemuck::cast_slice_mut(&mut ids))?;
        Ok(ids.into_iter().map(|id| (id != NONE).then_some(id)).collect())
    }

    /// Rows whose logits kernels see in one binding.
    fn rows_at_once(&self, head: &Matrix) -> Result<usize> {
        let row_bytes = head.rows * size_of::<f32>();
        match self.device.limits.max_storage_buffer_binding_size as usize / row_bytes {
            0 => Err(self.device.error(format!(
                "the logits of one token take {row_bytes} bytes, more than a kernel sees at once"
            ))),
            most => Ok(most),
        }
    }

    /// The logits of the tokens `rows`, `[rows, vocab]`, which the session has room to name.
    fn logits(
        &self,
        session: &mut Session<'_>,
        norm: &Norm<Self>,
        head: &Matrix,
        x: &Rows,
        rows: &[usize],
    ) -> Result<Arc<Memory>> {
        let (vocab, stride) = (head.rows, x.stride());
        let normed = session.scratch(Scratch::Normed, rows.len() * stride * size_of::<f32>())?;
        self.norm_rows(session, norm, x, Some(rows), (&normed, stride))?;
        let memory = session.scratch(Scratch::Logits, rows.len() * vocab * size_of::<f32>())?;
        let out = Out { memory: &memory, stride: vocab, epilogue: Epilogue::Set };
        let x = self.operand(session, (normed, rows.len(), stride), [head])?;
        self.product(session, (head, None), &x, &out)?;
        Ok(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_device::{Bound, test_device};
    use super::*;
    use crate::engine::best_of;
    use crate::engine::random_model::Random;
    use crate::stats::argmax;

    /// The ids that the kernel chooses of rows of `vocab`, put behind two others.
    fn chosen(logits: &[f32], vocab: usize) -> Option<Vec<u32>> {
        let rows = logits.len() / vocab;
        let bound = [
            Bound::Read(bytemuck::cast_slice(logits)),
            Bound::Write(&vec![0x55; (rows + 2) * size_of::<u32>()]),
        ];
        let wgsl = Kernel::new(&["argmax"]).wgsl();
        let ids = test_device()?.run(&wgsl, &bound, &[vocab as u32, 2], [rows as u32, 1, 1]);
        let ids: Vec<u32> = bytemuck::pod_collect_to_vec(&ids);
        assert_eq!(ids[..2], [0x5555_5555; 2]);
        Some(ids[2..].to_vec())
    }

    /// What the kernel picks of a row.
    fn picked(logits: &[f32], k: usize) -> Option<Vec<(u32, f32)>> {
        let bound = [Bound::Read(bytemuck::cast_slice(logits)), Bound::Write(&vec![0x55; 8 * k])];
        let wgsl = Kernel::new(&["top_k"]).wgsl();
        let best = test_device()?.run(&wgsl, &bound, &[logits.len() as u32, k as u32], [1, 1, 1]);
        let best: Vec<[u32; 2]> = bytemuck::pod_collect_to_vec(&best);
        Some(best.into_iter().map(|[id, bits]| (id, f32::from_bits(bits))).collect())
    }

    #[test]
    fn the_best_few_are_those_of_the_processor() {
        for (vocab, row) in [1, 2, 255, 256, 257, 1000, 151_936].into_iter().flat_map(rows) {
            for k in [1, 2, 40, 255, 256].into_iter().filter(|k| *k <= vocab) {
                let Some(found) = picked(&row, k) else { return };
                if row.iter().any(|l| l.is_nan()) {
                    assert_eq!(found[0].0, NONE, "{vocab} {k}");
                    continue;
                }
                let expected = best_of(&row, k);
                let bits =
                    |best: &[(u32, f32)]| best.iter().map(|(id, l)| (*id, l.to_bits())).collect::<Vec<_>>();
                assert_eq!(bits(&found), bits(&expected), "{vocab} {k}");
            }
        }
    }

    #[test]
    fn the_kernel_chooses_as_the_processor() {
        for vocab in [1, 2, 255, 256, 257, 1000, 151_936] {
            let rows: Vec<Vec<f32>> = rows(vocab).into_iter().map(|(_, row)| row).collect();
            let Some(found) = chosen(&rows.concat(), vocab) else { return };
            let expected: Vec<u32> = rows.iter().map(|row| argmax(row).unwrap_or(NONE)).collect();
            assert_eq!(found, expected, "{vocab}");
        }
    }

    /// Rows of so many logits, each as hard as another, with their length.
    fn rows(vocab: usize) -> Vec<(usize, Vec<f32>)> {
        let mut random = Random(vocab as u64);
        let any: Vec<f32> = (0..vocab).map(|_| random.signed()).collect();
        let with = |changes: &[(usize, f32)]| {
            let mut row = any.clone();
            changes.iter().for_each(|(at, value)| row[at % vocab] = *value);
            row
        };
        let (last, inf) = (vocab - 1, f32::INFINITY);
        let all = [
            any.clone(),
            vec![-3.5; vocab],
            vec![-inf; vocab],
            vec![inf; vocab],
            vec![f32::NAN; vocab],
            (0..vocab).map(|i| if i % 3 == 1 { 0.0 } else { -0.0 }).collect(),
            (0..vocab).map(|i| (i % 7) as f32).collect(),
            (0..vocab).map(|i| -(i as f32)).collect(),
            with(&[(last, 99.0)]),
            with(&[(last / 2, 99.0), (last, 99.0)]),
            with(&[(255, 99.0), (256, 99.0)]),
            with(&[(last, inf), (last / 3, inf)]),
            with(&[(0, -inf), (last, f32::MAX)]),
            with(&[(0, f32::NAN)]),
            with(&[(last, -f32::NAN)]),
            with(&[(last / 2, f32::NAN), (last / 3, inf)]),
        ];
        all.into_iter().map(|row| (vocab, row)).collect()
    }
}
