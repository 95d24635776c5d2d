//! What the machine can do at most, measured: bytes read from memory, and multiply-adds that never wait for it.
//!
//! All threads run at once, as the engine's do. What disturbs only ever slows down, so the best of all measurements
//! counts.

use super::isa::{Isa, Kernel};
use super::lanes::{Lanes, WIDTH};
use super::peaks::Peak;
use crate::{Error, Kind, Result};
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// Readings of the memory for one measurement.
const READS: usize = 3;

/// Runs of an instruction's kernel, which are shorter.
const RUNS: usize = 8;

/// Limits of so many threads together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Bytes per second, read one after the other.
    pub read: f64,
    /// Operations per second of f32 fused multiply-adds; one is two operations.
    pub fma: f64,
    /// Of dot products of bytes, with VNNI where the processor has it; 0 where the instruction set has none.
    pub int8: f64,
    /// Of dot products of bfloat16; 0 where the instruction set has none.
    pub bf16: f64,
}

/// Measures [`Limits`] again and again.
pub struct LimitMeter {
    isa: Isa,
    buffers: Vec<Vec<[f32; WIDTH]>>, // one per thread
    best: Limits,
}

impl LimitMeter {
    /// A meter of the instruction set `isa` on so many threads, each reading `bytes` of memory; several times the
    /// last cache says what the memory gives.
    ///
    /// # Errors
    /// [`Kind::Environment`] where the memory is not to be had.
    pub fn new(isa: Isa, threads: NonZeroUsize, bytes: usize) -> Result<LimitMeter> {
        let buffer = || {
            let n = bytes / size_of::<[f32; WIDTH]>();
            let mut buffer = Vec::new();
            buffer.try_reserve_exact(n).map_err(|_| {
                let what =
                    format!("{threads} threads cannot read {bytes} bytes each: there is no memory for it");
                Error::new(Kind::Environment, "limits", what).hint("measure with less memory")
            })?;
            // Zeros would not be memory yet: the system hands out one page of them for all.
            buffer.resize(n, [1.0; WIDTH]);
            Ok(buffer)
        };
        let buffers = (0..threads.get()).map(|_| buffer()).collect::<Result<_>>()?;
        Ok(LimitMeter { isa, buffers, best: Limits::default() })
    }

    /// Measures once more, some tens of milliseconds for every gigabyte, and returns the best so far.
    pub fn measure(&mut self) -> Limits {
        let total: usize = self.buffers.iter().map(|b| size_of_val(b.as_slice())).sum();
        let read = self.best_time(READS, |i| {
            black_box(self.isa.run(Read(black_box(&self.buffers[i]))));
        });
        let found = Limits {
            read: total as f64 / read,
            fma: self.rate(Peak::Fma),
            int8: self.rate(Peak::Int8),
            bf16: self.rate(Peak::Bf16),
        };
        self.best = Limits {
            read: self.best.read.max(found.read),
            fma: self.best.fma.max(found.fma),
            int8: self.best.int8.max(found.int8),
            bf16: self.best.bf16.max(found.bf16),
        };
        self.best
    }

    /// Operations per second of all threads.
    fn rate(&self, peak: Peak) -> f64 {
        match peak.operations(self.isa) {
            None => 0.0,
            Some(each) => {
                let time = self.best_time(RUNS, |_| peak.run(self.isa));
                (each * self.buffers.len() as u64) as f64 / time
            }
        }
    }

    /// The least seconds that `work` takes on all threads at once.
    fn best_time(&self, runs: usize, work: impl Fn(usize) + Sync) -> f64 {
        (0..runs).map(|_| at_once(self.buffers.len(), &work)).fold(f64::INFINITY, f64::min)
    }
}

/// Seconds from the first start to the last end of `work(0) .. work(threads - 1)`, each on a thread of its own.
fn at_once(threads: usize, work: &(impl Fn(usize) + Sync)) -> f64 {
    let ready = Barrier::new(threads);
    let timed = |i: usize| {
        ready.wait();
        let start = Instant::now();
        work(i);
        (start, Instant::now())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|i| scope.spawn(move || timed(i))).collect();
        let (mut start, mut end) = timed(0);
        for other in others {
            let (s, e) = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (start, end) = (start.min(s), end.max(e));
        }
        (end - start).as_secs_f64()
    })
}

/// The sum of a buffer by eight accumulators: little to do but to read.
struct Read<'a>(&'a [[f32; WIDTH]]);

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self) -> f32 {
        let mut sums = [L::splat(0.0); 8];
        for vectors in self.0.chunks_exact(8) {
            for i in 0..8 {
                sums[i] = sums[i].add(L::load(&vectors[i]));
            }
        }
        let mut all = L::splat(0.0);
        for sum in sums {
            all = all.add(sum);
        }
        all.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_buffer_is_read() {
        let buffer = vec![[1.0; WIDTH]; 40];
        for isa in Isa::available() {
            assert_eq!(isa.run(Read(&buffer)), 640.0, "{}", isa.name());
        }
    }

    #[test]
    fn the_best_of_all_measurements_is_kept() {
        let isa = Isa::detect().expect("every processor has one");
        let two = NonZeroUsize::new(2).expect("positive");
        let mut meter = LimitMeter::new(isa, two, 1 << 16).expect("little memory");
        let first = meter.measure();
        let second = meter.measure();
        assert!(first.read > 0.0 && first.fma > 0.0);
        assert!(second.read >= first.read && second.fma >= first.fma && second.int8 >= first.int8);
    }

    #[test]
    fn too_much_memory_is_an_error() {
        let isa = Isa::detect().expect("every processor has one");
        let one = NonZeroUsize::new(1).expect("positive");
        let error = LimitMeter::new(isa, one, usize::MAX / 2).err().expect("more than the address space");
        assert_eq!(error.kind, Kind::Environment);
    }
}
