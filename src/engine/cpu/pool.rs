//! Threads: each claims the tasks of its own share in ascending order, then the last of those that others left of theirs;
//! the caller works too, and no result depends on who ran what.
//!
//! Shares are consecutive tasks, because consecutive tasks read consecutive memory, which is fast in one stream only.
//! A token takes some 180 parallel regions of tens of microseconds, so idle workers spin for a moment before they
//! park. A claim is what enters a region: a worker that sleeps, or lost its processor between two tasks, is not
//! waited for, and one that waits for long offers its processor to whoever has something to do.

use std::any::Any;
use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an idle worker waits for the next region before it parks.
const SPIN: Duration = Duration::from_micros(100);

/// How long it does so without offering its processor to others, among them the caller it waits for: about as long
/// as the serial code between two regions.
const KEEP: Duration = Duration::from_micros(10);

/// How long the caller spins for the last tasks of others before it sleeps: longer than a task of generation takes,
/// shorter than a turn on a processor, which is what the worker that holds the task has lost by then.
const PATIENCE: Duration = Duration::from_micros(50);

/// Polls between two looks at the clock: less than a microsecond.
const POLLS: u32 = 32;

/// Tasks of one region; a longer one is run as several.
const MOST_TASKS: usize = 1 << 30;

/// Worker threads, kept for the life of a model.
pub(super) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One region at a time; sessions of one model share the pool.
    region: Mutex<()>,
}

/// What the threads of a pool share, each part on cache lines of its own.
struct Shared {
    region: Line<Region>,
    /// Tasks of the open region that workers have ended.
    done: Line<AtomicUsize>,
    rest: Line<Rest>,
}

/// Two lines of 64 bytes, because processors fetch them in pairs.
#[repr(align(128))]
struct Line<T>(T);

type Work = dyn Fn(usize) + Sync;

struct Region {
    /// The share of every thread, `end << 32 | next task`: its owner counts the task up, who helps it the end down. The
    /// task passes the end by at most one.
    shares: Box<[Line<AtomicU64>]>,
    /// What a claimed task is given to.
    work: UnsafeCell<Option<&'static Work>>,
}

/// Those who sleep, and what they are woken for.
struct Rest {
    /// Workers that are parked or about to.
    parked: AtomicUsize,
    /// Which; whoever clears a flag wakes that worker.
    asleep: Box<[AtomicBool]>,
    quit: AtomicBool,
    /// Whether the caller sleeps until the last task has ended.
    caller: AtomicBool,
    last_ended: Condvar,
    failed: AtomicBool,
    /// The first panic of a worker's task.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `work` is written by the caller that holds the region lock while no claimed task is unfinished, and read
// by a worker only between its claim and its report. The claim acquires what opening the region released, and
// the caller acquires the report before it writes again.
unsafe impl Sync for Region {}

impl Pool {
    /// A pool of `threads` threads, the caller's included.
    pub(super) fn new(threads: NonZeroUsize) -> std::io::Result<Pool> {
        let workers = threads.get() - 1;
        let rest = Rest {
            parked: AtomicUsize::new(0),
            asleep: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            quit: AtomicBool::new(false),
            caller: AtomicBool::new(false),
            last_ended: Condvar::new(),
            failed: AtomicBool::new(false),
            panic: Mutex::new(None),
        };
        let shares = (0..threads.get()).map(|_| Line(AtomicU64::new(0))).collect();
        let region = Region { shares, work: UnsafeCell::new(None) };
        let shared = Shared { region: Line(region), done: Line(AtomicUsize::new(0)), rest: Line(rest) };
        let mut pool = Pool { shared: Arc::new(shared), workers: Vec::new(), region: Mutex::new(()) };
        for worker in 0..workers {
            let shared = Arc::clone(&pool.shared);
            let builder = thread::Builder::new().name(format!("engine-{}", worker + 1));
            pool.workers.push(builder.spawn(move || shared.serve(worker))?);
        }
        Ok(pool)
    }

    /// Threads, the caller's included.
    pub(super) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work(0) .. work(tasks - 1)`, each once, and returns when all have returned. While another caller, or
    /// this one further out, has the workers, the caller does it alone.
    ///
    /// # Panics
    /// Where a task panics, with its panic, after all tasks that were begun have ended.
    pub(super) fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        let threads = self.threads();
        for first in (0..tasks).step_by(MOST_TASKS) {
            let tasks = MOST_TASKS.min(tasks - first);
            self.run_shares(tasks, |share| (share * tasks).div_ceil(threads), &|task| work(first + task));
        }
    }

    /// As [`Pool::run`], where the share of thread `i` is `first(i) .. first(i + 1)`: from 0 to `tasks`, ascending.
    ///
    /// # Panics
    /// As [`Pool::run`]; for more than 2^30 tasks.
    pub(super) fn run_shares(
        &self,
        tasks: usize,
        first: impl Fn(usize) -> usize,
        work: &(dyn Fn(usize) + Sync),
    ) {
        assert!(tasks <= MOST_TASKS, "{tasks} tasks are counted in 32 bits");
        let alone = || (0..tasks).for_each(work);
        if tasks <= 1 || self.workers.is_empty() {
            return alone();
        }
        let _region = match self.region.try_lock() {
            Ok(region) => region,
            // The lock guards no data, and a panic leaves `run` only after the region has ended.
            Err(TryLockError::Poisoned(region)) => region.into_inner(),
            Err(TryLockError::WouldBlock) => return alone(),
        };
        self.region(tasks, first, work);
    }

    /// One region, by the holder of the lock.
    fn region(&self, tasks: usize, first: impl Fn(usize) -> usize, work: &(dyn Fn(usize) + Sync)) {
        let Shared { region: Line(region), done: Line(done), rest: Line(rest) } = &*self.shared;
        done.store(0, Relaxed);
        // SAFETY: `wait_for` below returns when every claimed task has ended, and nothing between here and there
        // unwinds, so no worker uses the reference after this call. Nobody reads the cell before the next line.
        unsafe {
            *region.work.get() = Some(std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Work>(work));
        }
        for (i, Line(share)) in region.shares.iter().enumerate() {
            // Task 0 is the caller's.
            share.store((first(i + 1) as u64) << 32 | first(i).max(1) as u64, SeqCst);
        }
        // A worker counts itself before it looks at the shares for the last time, so one of the two sees the other.
        if rest.parked.load(SeqCst) > 0 {
            self.wake(tasks - 1);
        }
        let mut own = 1;
        let result = catch_unwind(AssertUnwindSafe(|| {
            work(0);
            while let Some(task) = self.shared.claim(0) {
                own += 1;
                work(task);
            }
        }));
        // After a panic the tasks that nobody has begun are dropped.
        while result.is_err() && self.shared.claim(0).is_some() {
            own += 1;
        }
        self.shared.wait_for(tasks - own);
        let of_worker = rest.failed.load(Relaxed).then(|| {
            rest.failed.store(false, Relaxed);
            lock(&rest.panic).take()
        });
        if let Some(panic) = result.err().or(of_worker.flatten()) {
            resume_unwind(panic);
        }
    }

    /// Wakes at most so many workers.
    #[cold]
    fn wake(&self, wanted: usize) {
        let flags = &self.shared.rest.0.asleep;
        let asleep = self.workers.iter().zip(flags).filter(|(_, f)| f.load(Relaxed) && f.swap(false, AcqRel));
        asleep.take(wanted).for_each(|(worker, _)| worker.thread().unpark());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.rest.0.quit.store(true, SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its tasks, so joining cannot fail in a way that matters here.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// A task that nobody has: the next of the share of `thread`, or the last of the first one after it that has any,
    /// so that whoever works on that share goes on reading where it reads.
    fn claim(&self, thread: usize) -> Option<usize> {
        let shares = &self.region.0.shares;
        let Line(own) = &shares[thread];
        // Reading first keeps the counter within `MOST_TASKS` plus one.
        if has_tasks(own.load(Relaxed)) {
            let share = own.fetch_add(1, Acquire);
            if has_tasks(share) {
                return Some(share as u32 as usize);
            }
        }
        let (before, after) = shares.split_at(thread);
        after[1..].iter().chain(before).find_map(|Line(share)| {
            let last = |share| has_tasks(share).then(|| share - (1 << 32));
            let share = share.fetch_update(Acquire, Relaxed, last).ok()?;
            Some((share >> 32) as usize - 1)
        })
    }

    /// The life of a worker: wait for work, do it, report it.
    fn serve(&self, worker: usize) {
        let rest = &self.rest.0;
        while self.wait_for_work(worker) {
            let mut done = 0;
            while let Some(task) = self.claim(worker + 1) {
                // SAFETY: this thread has a claim that it has not reported yet; see `Region`.
                let work = unsafe { *self.region.0.work.get() }.expect("set before the region was opened");
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(task))) {
                    lock(&rest.panic).get_or_insert(panic);
                    rest.failed.store(true, Relaxed);
                }
                done += 1;
            }
            if done == 0 {
                continue;
            }
            // The caller says that it sleeps before it looks at `done` for the last time.
            self.done.0.fetch_add(done, SeqCst);
            if rest.caller.load(SeqCst) {
                drop(lock(&rest.panic));
                rest.last_ended.notify_one();
            }
        }
    }

    /// Returns when workers have ended so many tasks.
    fn wait_for(&self, tasks: usize) {
        let ended = || self.done.0.load(SeqCst) == tasks;
        if poll(ended) {
            return;
        }
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if poll(ended) {
                return;
            }
        }
        let rest = &self.rest.0;
        rest.caller.store(true, SeqCst);
        let mut guard = lock(&rest.panic);
        while !ended() {
            guard = rest.last_ended.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        rest.caller.store(false, Relaxed);
    }

    /// Waits for a task to claim; false when the pool ends.
    fn wait_for_work(&self, worker: usize) -> bool {
        let (rest, asleep) = (&self.rest.0, &self.rest.0.asleep[worker]);
        let work = || self.region.0.shares.iter().any(|Line(share)| has_tasks(share.load(SeqCst)));
        loop {
            let start = Instant::now();
            loop {
                if poll(work) {
                    return true;
                }
                match start.elapsed() {
                    waited if waited > SPIN => break,
                    waited if waited > KEEP => thread::yield_now(),
                    _ => {}
                }
            }
            asleep.store(true, Relaxed);
            rest.parked.fetch_add(1, SeqCst);
            // An unpark that comes early is kept, and one without reason only ends a turn of this loop.
            while asleep.load(Acquire) && !work() && !rest.quit.load(SeqCst) {
                thread::park();
            }
            asleep.store(false, Relaxed);
            rest.parked.fetch_sub(1, SeqCst);
            if rest.quit.load(SeqCst) {
                return false;
            }
        }
    }
}

fn has_tasks(share: u64) -> bool {
    share & u64::from(u32::MAX) < share >> 32
}

/// Looks a few times.
#[inline(always)]
fn poll(seen: impl Fn() -> bool) -> bool {
    for _ in 0..POLLS {
        if seen() {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}

/// No holder of these locks leaves anything half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::usable_cpus;

    fn pool(threads: usize) -> Pool {
        Pool::new(NonZeroUsize::new(threads).expect("positive")).expect("threads can be made")
    }

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 4, 8 * usable_cpus()] {
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
    fn a_sleeping_worker_comes_to_help() {
        let pool = pool(2);
        for _ in 0..3 {
            thread::sleep(SPIN * 20);
            // Neither task ends before both have begun, so two threads must have come.
            let begun = AtomicUsize::new(0);
            pool.run(2, &|_| {
                begun.fetch_add(1, SeqCst);
                while begun.load(SeqCst) < 2 {
                    thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn a_caller_that_sleeps_is_woken_by_the_last_task() {
        let pool = pool(3);
        for _ in 0..5 {
            let ended = AtomicUsize::new(0);
            pool.run(3, &|_| {
                thread::sleep(PATIENCE * 20);
                ended.fetch_add(1, SeqCst);
            });
            assert_eq!(ended.load(SeqCst), 3);
        }
    }

    #[test]
    fn a_region_within_a_task_is_done_by_its_caller() {
        let pool = pool(2);
        let sum = AtomicUsize::new(0);
        pool.run(4, &|_| {
            pool.run(5, &|i| {
                sum.fetch_add(i, Relaxed);
            });
        });
        assert_eq!(sum.load(Relaxed), 40);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_leaves_the_pool_usable() {
        let pool = pool(2);
        for bad in 0..8 {
            let run = || pool.run(8, &|i| assert!(i != bad, "task {i}"));
            let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("a task panicked");
            assert_eq!(panic.downcast_ref::<String>(), Some(&format!("task {bad}")));
        }
        let ran = AtomicUsize::new(0);
        pool.run(8, &|_| {
            ran.fetch_add(1, Relaxed);
        });
        assert_eq!(ran.load(Relaxed), 8);
    }
}
