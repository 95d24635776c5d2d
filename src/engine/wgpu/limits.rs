//! What an adapter can do at most, measured by small kernels: bytes read from its memory, and multiply-adds that never
//! wait for it.
//!
//! What disturbs only ever slows down, so the best of several runs counts. Times are the host's, over work that is long
//! enough for the way to the device not to count.

use super::cooperative::{Cooperative, GROUPS as SUBGROUPS};
use super::device::Device;
use super::memory::{Memory, STORAGE};
use super::pipelines::Kernel;
use super::recorder::{Bound, Recorder};
use crate::Result;
use crate::engine::device::DeviceRates;
use std::sync::Arc;
use std::time::Instant;

/// Measures the adapter that `request` means.
///
/// # Errors
/// Those of opening it; [`crate::Kind::Environment`] where it has no memory for the measurement or is lost.
pub(in crate::engine) fn measure(request: Option<&str>) -> Result<DeviceRates> {
    let device = Device::open(request)?;
    let half = device.raw.features().contains(wgpu::Features::SHADER_F16);
    let meter = Meter { recorder: Recorder::new(Arc::clone(&device)), device };
    Ok(DeviceRates {
        read: meter.read()?,
        f32: meter.peak(&lanes("bench_f32"))?,
        f16: if half { Some(meter.peak(&lanes("bench_f16"))?) } else { None },
        int8: meter.peak(&lanes("bench_int8"))?,
        cooperative: meter.device.cooperative.map(|matrices| meter.peak(&products(matrices))).transpose()?,
    })
}

/// A kernel that multiplies, and what a workgroup of it does.
struct Multiplier {
    kernel: Kernel,
    /// Operations of a turn, two for a multiply-add.
    operations: f64,
    /// Numbers that it writes.
    numbers: usize,
}

/// Every lane multiplies for itself.
fn lanes(kernel: &'static str) -> Multiplier {
    let operations = OPERATIONS * WORKGROUP as f64;
    Multiplier { kernel: Kernel::new(&[kernel]), operations, numbers: WORKGROUP }
}

/// Every subgroup multiplies matrices, eight in a turn.
fn products(matrices: Cooperative) -> Multiplier {
    let (side, subgroups) = (matrices.side as usize, SUBGROUPS as usize);
    Multiplier {
        kernel: matrices.with(Kernel::new(&["bench_cooperative"])),
        operations: (8 * subgroups * 2 * side.pow(3)) as f64,
        numbers: subgroups * side * side,
    }
}

/// Lanes of a workgroup, in every kernel of this file but that of cooperative matrices.
const WORKGROUP: usize = 256;

/// Workgroups of a dispatch: a multiple of what the largest devices run at once.
const GROUPS: usize = 8192;

/// Bytes to read, where the adapter has no lower limit: some times the last cache of any device.
const READ: u64 = 1 << 30;

/// Operations of a lane in one turn of a kernel that multiplies.
const OPERATIONS: f64 = 64.0;

/// A run that takes so long is not measured by its way to the device, in seconds.
const LONG_ENOUGH: f64 = 0.02;

/// Runs of which the best counts.
const RUNS: usize = 5;

struct Meter {
    recorder: Recorder,
    device: Arc<Device>,
}

impl Meter {
    /// Bytes per second.
    fn read(&self) -> Result<f64> {
        let limits = &self.device.limits;
        let size = READ.min(limits.max_storage_buffer_binding_size).min(limits.max_buffer_size) / 16 * 16;
        let x = Memory::new(&self.device, size, STORAGE)?;
        let n = (size / 16) as u32;
        let groups = GROUPS.min(n as usize / WORKGROUP / 4).max(1);
        let out = Memory::new(&self.device, (groups * WORKGROUP * 4) as u64, STORAGE)?;
        let immediates = [n, (groups * WORKGROUP) as u32];
        // Before the first run wgpu fills the buffer, so that it is memory.
        let (kernel, bound) = (Kernel::new(&["bench_read"]), [Bound::Memory(&x), Bound::Memory(&out)]);
        let once = || self.seconds(&kernel, &bound, &immediates, groups);
        Ok(size as f64 / best(once)?)
    }

    /// Operations per second of a kernel that multiplies, two for a multiply-add.
    fn peak(&self, Multiplier { kernel, operations, numbers }: &Multiplier) -> Result<f64> {
        let out = Memory::new(&self.device, (GROUPS * numbers * 4) as u64, STORAGE)?;
        let once = |turns: u32| self.seconds(kernel, &[Bound::Memory(&out)], &[turns], GROUPS);
        let mut turns = 1;
        // The first run compiles the kernel and does not count.
        once(turns)?;
        while turns < 1 << 24 && once(turns)? < LONG_ENOUGH {
            turns *= 2;
        }
        Ok(operations * f64::from(turns) * GROUPS as f64 / best(|| once(turns))?)
    }

    /// From handing a dispatch to the device until it is done.
    fn seconds(
        &self,
        kernel: &Kernel,
        bound: &[Bound<'_>],
        immediates: &[u32],
        groups: usize,
    ) -> Result<f64> {
        let start = Instant::now();
        let mut session = self.recorder.session(0)?;
        session.dispatch(kernel, bound, immediates, [groups, 1, 1])?;
        let submitted = session.submit()?;
        drop(session);
        self.device.wait(submitted)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

fn best(mut once: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..=RUNS {
        best = best.min(once()?);
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::super::cooperative::Side;
    use super::super::sources::{SOURCES, validate};
    use super::*;
    use crate::Kind;
    use naga::valid::Capabilities;

    #[test]
    fn every_kernel_that_measures_is_valid() {
        let measuring: Vec<_> = SOURCES.iter().filter(|(name, _)| name.starts_with("bench_")).collect();
        assert_eq!(measuring.len(), 5);
        for (name, _) in measuring {
            let kernel = Kernel::new(&[name]);
            let cooperative = Cooperative { side: Side::Sixteen, subgroup: 32 };
            let kernel = if *name == "bench_cooperative" { cooperative.with(kernel) } else { kernel };
            // Those that are asked for only where the adapter has them.
            let mut needed = Capabilities::IMMEDIATES;
            needed.set(Capabilities::SHADER_FLOAT16, *name != "bench_f32");
            needed.set(Capabilities::COOPERATIVE_MATRIX, *name == "bench_cooperative");
            validate(&kernel, needed);
        }
    }

    /// Rates are positive, and reading a gigabyte takes neither a year nor a nanosecond; without an adapter it is said.
    #[test]
    fn an_adapter_is_measured_or_missing() {
        match measure(None) {
            Ok(DeviceRates { read, f32, f16, int8, cooperative }) => {
                for rate in [Some(read), Some(f32), f16, Some(int8), cooperative].into_iter().flatten() {
                    assert!(rate > 1e6 && rate < 1e18, "{rate}");
                }
            }
            Err(error) => assert_eq!(error.kind, Kind::Environment),
        }
    }
}
