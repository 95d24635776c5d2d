//! How many processors this process may really use; the default of every number of threads.

/// Processors that this process may use at the same time, at least 1: those its affinity mask names, and on Linux no
/// more than the quota of its control group (v1 or v2, rounded down) pays for. Asked anew at every call.
pub fn usable_cpus() -> usize {
    // The standard library looks at all three; where it cannot, one thread is always right.
    std::thread::available_parallelism().map_or(1, usize::from)
}
