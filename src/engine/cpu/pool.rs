//! Threads: tasks are claimed from a counter, the caller works too, and no result depends on who ran what.
//!
//! A token takes some 150 parallel regions of tens of microseconds, so idle workers spin for a moment before they
//! park, and a worker that sleeps through a region is not waited for.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an idle worker spins before it parks: a little more than the serial code between two regions.
const SPIN: Duration = Duration::from_micros(100);

/// Worker threads, kept for the life of a model.
pub(super) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One region at a time; sessions of one model share the pool.
    region: Mutex<()>,
}

struct Shared {
    /// `region number << 16 | open << 15 | workers inside`.
    state: AtomicU64,
    /// The task of the open region.
    job: AtomicPtr<Job<'static>>,
    next: AtomicUsize,
    parked: AtomicUsize,
    failed: AtomicBool,
    quit: AtomicBool,
}

struct Job<'a> {
    tasks: usize,
    work: &'a (dyn Fn(usize) + Sync),
}

const OPEN: u64 = 1 << 15;
const INSIDE: u64 = OPEN - 1;
const REGION: u64 = 1 << 16;

impl Pool {
    /// A pool of `threads` threads, the caller's included.
    pub(super) fn new(threads: NonZeroUsize) -> std::io::Result<Pool> {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            next: AtomicUsize::new(0),
            parked: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            quit: AtomicBool::new(false),
        });
        let mut pool = Pool { shared, workers: Vec::new(), region: Mutex::new(()) };
        for i in 1..threads.get() {
            let shared = Arc::clone(&pool.shared);
            let worker = thread::Builder::new().name(format!("engine-{i}")).spawn(move || shared.serve())?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Threads, the caller's included.
    pub(super) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work(0) .. work(tasks - 1)`, each once, and returns when all have returned.
    ///
    /// # Panics
    /// Where a task panics, after all others have ended.
    pub(super) fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(work);
            return;
        }
        // The lock guards no data, so a panic that poisoned it left nothing half-done.
        let _region = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        let mut job = Job { tasks, work };
        shared.next.store(0, Relaxed);
        shared.failed.store(false, Relaxed);
        shared.job.store((&raw mut job).cast(), Relaxed);
        let number = shared.state.load(Relaxed) & !(REGION - 1);
        shared.state.store(number.wrapping_add(REGION) | OPEN, SeqCst);
        if shared.parked.load(SeqCst) > 0 {
            self.workers.iter().for_each(|w| w.thread().unpark());
        }
        let own = catch_unwind(AssertUnwindSafe(|| shared.claim_all(&job)));
        if own.is_err() {
            shared.next.store(tasks, Relaxed);
        }
        // After closing no worker can enter; those inside are waited for, so `job` outlives every use of it.
        shared.state.fetch_and(!OPEN, SeqCst);
        let mut spins = 0u32;
        while shared.state.load(Acquire) & INSIDE != 0 {
            spins += 1;
            if spins < 10_000 { std::hint::spin_loop() } else { thread::yield_now() }
        }
        shared.job.store(std::ptr::null_mut(), Relaxed);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!shared.failed.load(Relaxed), "a task of a worker thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its tasks, so joining cannot fail in a way that matters here.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// The life of a worker: wait for a region, enter it, claim tasks, leave.
    fn serve(&self) {
        let mut last = 0;
        while let Some(seen) = self.wait_for_region_after(last) {
            last = seen / REGION;
            if !self.enter(seen / REGION) {
                continue;
            }
            // SAFETY: a worker is inside the region only between `enter` and the decrement below; `run` keeps
            // the job alive and in place until nobody is inside.
            let job = unsafe { &*self.job.load(Relaxed) };
            if catch_unwind(AssertUnwindSafe(|| self.claim_all(job))).is_err() {
                self.failed.store(true, Relaxed);
            }
            self.state.fetch_sub(1, AcqRel);
        }
    }

    fn claim_all(&self, job: &Job<'_>) {
        loop {
            let task = self.next.fetch_add(1, Relaxed);
            if task >= job.tasks {
                return;
            }
            (job.work)(task);
        }
    }

    /// Enters the region of that number, unless it is closed already.
    fn enter(&self, number: u64) -> bool {
        let still_open = |s: u64| (s / REGION == number && s & OPEN != 0).then_some(s + 1);
        self.state.fetch_update(AcqRel, Relaxed, still_open).is_ok()
    }

    /// The state once a region later than `last` is open; `None` when the pool ends.
    fn wait_for_region_after(&self, last: u64) -> Option<u64> {
        let is_new = |s: u64| s & OPEN != 0 && s / REGION != last;
        loop {
            let start = Instant::now();
            loop {
                for _ in 0..64 {
                    let state = self.state.load(Acquire);
                    if is_new(state) {
                        return Some(state);
                    }
                    std::hint::spin_loop();
                }
                if self.quit.load(SeqCst) {
                    return None;
                }
                if start.elapsed() > SPIN {
                    break;
                }
            }
            // `run` opens the region before it looks at `parked`, and this side counts itself before it looks
            // at the state, so one of the two sees the other; an unpark that comes early is kept.
            self.parked.fetch_add(1, SeqCst);
            if !is_new(self.state.load(SeqCst)) && !self.quit.load(SeqCst) {
                thread::park();
            }
            self.parked.fetch_sub(1, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> Pool {
        Pool::new(NonZeroUsize::new(threads).expect("positive")).expect("threads can be made")
    }

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 4] {
            let pool = pool(threads);
            assert_eq!(pool.threads(), threads);
            for tasks in [0, 1, 2, 3, 17, 200] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..20 {
                    pool.run(tasks, &|i| {
                        counts[i].fetch_add(1, Relaxed);
                    });
                }
                assert!(counts.iter().all(|c| c.load(Relaxed) == 20), "{threads} threads, {tasks} tasks");
            }
        }
    }

    #[test]
    fn parked_workers_wake_and_regions_of_many_callers_do_not_mix() {
        let pool = pool(2);
        thread::sleep(SPIN * 20);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let sum = AtomicUsize::new(0);
                        pool.run(10, &|i| {
                            sum.fetch_add(i, Relaxed);
                        });
                        assert_eq!(sum.load(Relaxed), 45);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_leaves_the_pool_usable() {
        let pool = pool(2);
        for bad in 0..8 {
            let run = || pool.run(8, &|i| assert!(i != bad, "task {i}"));
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        }
        let ran = AtomicUsize::new(0);
        pool.run(8, &|_| {
            ran.fetch_add(1, Relaxed);
        });
        assert_eq!(ran.load(Relaxed), 8);
    }
}
