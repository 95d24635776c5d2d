//! Threads that share a queue of work, and the one error that is told of it, whatever the number of threads.

use crate::{Error, Result};
use std::thread;

/// What `work` gives on each of so many threads, this one first. A panic of one goes on here.
pub(super) fn on_threads<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(&work)).collect();
        let mut results = vec![work()];
        for worker in workers {
            results.push(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    })
}

/// The fault of the earliest item. Items are claimed in order, so the earliest fault of all is always among them.
pub(super) fn earliest(faults: impl IntoIterator<Item = (usize, Error)>) -> Result<()> {
    faults.into_iter().min_by_key(|(item, _)| *item).map_or(Ok(()), |(_, error)| Err(error))
}
