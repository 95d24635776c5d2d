//! Time that every kernel takes on the device: while a profile is taken, each dispatch is a pass of its own between two
//! timestamps, and the host waits for every submission.

use super::device::{Device, words};
use super::recorder::Step;
use crate::Result;
use crate::engine::device::KernelTime;
use std::collections::HashMap;

/// The times so far, and where the device writes those to come.
pub(super) struct Profile {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer, // [QUERIES] u64, ticks
    landing: wgpu::Buffer,  // the same, to be read here
    /// Seconds of a tick.
    tick: f64,
    times: HashMap<String, KernelTime>,
}

/// Timestamps of one submission: two of each dispatch.
const QUERIES: u32 = wgpu::QUERY_SET_MAX_QUERIES;

impl Profile {
    /// # Errors
    /// [`crate::Kind::Environment`] on an adapter without timestamps, or without memory for them.
    pub fn new(device: &Device) -> Result<Profile> {
        if !device.raw.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            let what = "the adapter has no timestamps, so its kernels cannot be timed one by one";
            return Err(device.error(what));
        }
        let buffer = |usage| {
            let size = u64::from(QUERIES) * u64::from(wgpu::QUERY_SIZE);
            device.raw.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let make = || Profile {
            queries: device.raw.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: QUERIES,
            }),
            resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            landing: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            tick: f64::from(device.queue.get_timestamp_period()) * 1e-9,
            times: HashMap::new(),
        };
        device.catch(make).map_err(|error| device.error(words(&error)))
    }

    /// Runs `steps` in order, which the device has done when this returns.
    ///
    /// # Errors
    /// [`crate::Kind::Environment`] where the device refuses them or is lost.
    pub fn run(&mut self, device: &Device, steps: &[Step]) -> Result<()> {
        let mut rest = steps;
        while !rest.is_empty() {
            let fits = within(rest, QUERIES as usize / 2);
            let (now, later) = rest.split_at(fits);
            let timed: Vec<(&str, u64)> = now.iter().filter_map(Step::timed).collect();
            device.catch(|| self.submit(device, now)).map_err(|error| device.give_up(words(&error)))?;
            for ((name, weight_bytes), ticks) in timed.iter().zip(self.ticks(device, timed.len())?) {
                let time = self.times.entry((*name).to_owned()).or_insert_with(|| KernelTime {
                    name: (*name).to_owned(),
                    dispatches: 0,
                    seconds: 0.0,
                    weight_bytes: 0,
                });
                time.dispatches += 1;
                time.seconds += ticks as f64 * self.tick;
                time.weight_bytes += weight_bytes;
            }
            rest = later;
        }
        Ok(())
    }

    /// What was timed, the longest first.
    pub fn end(self) -> Vec<KernelTime> {
        let mut times: Vec<KernelTime> = self.times.into_values().collect();
        times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.name.cmp(&b.name)));
        times
    }

    fn submit(&self, device: &Device, steps: &[Step]) {
        let mut encoder = device.raw.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut next = 0;
        for step in steps {
            let Some(_) = step.timed() else {
                step.copy(&mut encoder);
                continue;
            };
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &self.queries,
                    beginning_of_pass_write_index: Some(next),
                    end_of_pass_write_index: Some(next + 1),
                }),
            });
            step.dispatch(&mut pass);
            next += 2;
        }
        if next > 0 {
            let size = u64::from(next) * u64::from(wgpu::QUERY_SIZE);
            encoder.resolve_query_set(&self.queries, 0..next, &self.resolved, 0);
            encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.landing, 0, size);
        }
        device.queue.submit([encoder.finish()]);
    }

    /// Ticks of each of the `n` dispatches that were submitted last.
    fn ticks(&self, device: &Device, n: usize) -> Result<Vec<u64>> {
        if n == 0 {
            return device.wait(None).map(|()| Vec::new());
        }
        let size = (2 * n) as u64 * u64::from(wgpu::QUERY_SIZE);
        let mut stamps: Vec<u64> = Vec::new();
        device.read_back(&self.landing, size, None, |found| stamps = bytemuck::pod_collect_to_vec(found))?;
        // A clock that was set back in between says nothing about that dispatch.
        Ok(stamps.chunks_exact(2).map(|pair| pair[1].saturating_sub(pair[0])).collect())
    }
}

/// How many of the first steps have at most `most` dispatches.
fn within(steps: &[Step], most: usize) -> usize {
    let mut dispatches = (0..).zip(steps).filter(|(_, step)| step.timed().is_some()).map(|(i, _)| i);
    dispatches.nth(most).unwrap_or(steps.len())
}

#[cfg(test)]
mod tests {
    use super::super::Wgpu;
    use crate::Kind;
    use crate::engine::random_model::{config, model};
    use crate::engine::{Backend, Numerics, Want, decoder::Decoder};
    use crate::tensor::DType;
    use std::sync::Arc;

    /// A profile counts every dispatch and changes no bit.
    #[test]
    fn every_kernel_is_timed_and_nothing_else_changes() {
        let backend = match Wgpu::new(Numerics::Exact, None) {
            Ok(backend) => backend,
            Err(error) => return assert_eq!(error.kind, Kind::Environment),
        };
        let timed = backend.begin_profile();
        if let Err(error) = timed {
            return assert_eq!(error.kind, Kind::Environment);
        }
        assert!(backend.end_profile().expect("nothing ran").is_empty());
        let engine: Arc<dyn crate::engine::Engine> = Arc::new(
            Decoder::load(backend, &model(&config("llama"), DType::Q8_0, 5)).expect("a whole model"),
        );
        let run = || Arc::clone(&engine).context().forward(&[1, 2, 3], Want::All).expect("fits");
        let plain = run();
        engine.begin_profile().expect("it could before");
        let profiled = run();
        let kernels = engine.end_profile().expect("it ran");
        assert_eq!(plain, profiled);
        assert_eq!(run(), plain, "and after it");
        let layers = engine.config().n_layers as u64;
        let of =
            |name: &str| kernels.iter().find(|k| k.name == name).unwrap_or_else(|| panic!("{kernels:?}"));
        // Per layer q, k, v, o, gate, up and down; and the head.
        let matvec = of("matvec q8_0");
        assert_eq!((matvec.dispatches, of("rope_store").dispatches), (7 * layers + 1, layers));
        assert!(matvec.weight_bytes > 0 && of("rope_store").weight_bytes == 0);
        assert!(kernels.iter().all(|k| k.seconds.is_finite()));
        assert!(kernels.is_sorted_by(|a, b| a.seconds >= b.seconds));
        assert!(engine.end_profile().expect("none is taken").is_empty());
    }
}
