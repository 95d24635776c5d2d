//! What an adapter can do at most, measured by small kernels: bytes read from its memory, and multiply-adds that never
//! wait for it.
//!
//! What disturbs only ever slows down, so the best of several runs counts. Times are the host's, over work that is long
//! enough for the way to the device not to count.

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
        f32: meter.peak("bench_f32")?,
        f16: if half { Some(meter.peak("bench_f16")?) } else { None },
        int8: meter.peak("bench_int8")?,
    })
}

/// Lanes of a workgroup, in every kernel of this file.
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
        let once =
            || self.seconds("bench_read", &[Bound::Memory(&x), Bound::Memory(&out)], &immediates, groups);
        Ok(size as f64 / best(once)?)
    }

    /// Operations per second of a kernel that multiplies, two for a multiply-add.
    fn peak(&self, kernel: &'static str) -> Result<f64> {
        let out = Memory::new(&self.device, (GROUPS * WORKGROUP * 4) as u64, STORAGE)?;
        let once = |turns: u32| self.seconds(kernel, &[Bound::Memory(&out)], &[turns], GROUPS);
        let mut turns = 1;
        // The first run compiles the kernel and does not count.
        once(turns)?;
        while turns < 1 << 24 && once(turns)? < LONG_ENOUGH {
            turns *= 2;
        }
        let operations = OPERATIONS * f64::from(turns) * (GROUPS * WORKGROUP) as f64;
        Ok(operations / best(|| once(turns))?)
    }

    /// From handing a dispatch to the device until it is done.
    fn seconds(
        &self,
        kernel: &'static str,
        bound: &[Bound<'_>],
        immediates: &[u32],
        groups: usize,
    ) -> Result<f64> {
        let start = Instant::now();
        let mut session = self.recorder.session(0)?;
        session.dispatch(&Kernel::new(&[kernel]), bound, immediates, [groups, 1, 1])?;
        let submitted = session.submit()?;
        drop(session);
        self.recorder.wait(submitted)?;
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
    use super::super::sources::SOURCES;
    use super::*;
    use crate::Kind;

    #[test]
    fn every_kernel_that_measures_is_valid() {
        let measuring: Vec<_> = SOURCES.iter().filter(|(name, _)| name.starts_with("bench_")).collect();
        assert_eq!(measuring.len(), 4);
        for (name, text) in measuring {
            let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut needed = naga::valid::Capabilities::IMMEDIATES;
            // The one that is asked for only where the adapter has it.
            needed.set(naga::valid::Capabilities::SHADER_FLOAT16, *name == "bench_f16");
            let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), needed);
            validator.validate(&module).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        }
    }

    /// Rates are positive, and reading a gigabyte takes neither a year nor a nanosecond; without an adapter it is said.
    #[test]
    fn an_adapter_is_measured_or_missing() {
        match measure(None) {
            Ok(DeviceRates { read, f32, f16, int8 }) => {
                for rate in [Some(read), Some(f32), f16, Some(int8)].into_iter().flatten() {
                    assert!(rate > 1e6 && rate < 1e18, "{rate}");
                }
            }
            Err(error) => assert_eq!(error.kind, Kind::Environment),
        }
    }
}
