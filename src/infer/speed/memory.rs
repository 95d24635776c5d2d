//! What this process takes of the memory, as the kernel counts it; nothing where it does not say.

use std::fs;

/// Bytes of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// The most that was resident at a time, mapped files included, since [`Memory::forget_peak`] or the start.
    pub peak: Option<u64>,
    /// Private to the process: what no file backs.
    pub private: Option<u64>,
}

impl Memory {
    /// Now.
    pub fn now() -> Memory {
        let of = |file: &str, key: &str| kilobytes(&fs::read_to_string(file).ok()?, key);
        Memory {
            peak: of("/proc/self/status", "VmHWM:"),
            private: of("/proc/self/smaps_rollup", "Anonymous:"),
        }
    }

    /// Starts [`Memory::peak`] anew where the system lets a process do that.
    pub fn forget_peak() {
        // The 5 is defined by proc(5); a refusal leaves the peak since the start, which is no less true.
        let _ = fs::write("/proc/self/clear_refs", "5");
    }
}

/// Bytes of the line `key 123 kB`.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let text = "Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t 99 kB\n";
        assert_eq!(kilobytes(text, "VmHWM:"), Some(1234 * 1024));
        assert_eq!(kilobytes(text, "VmSwap:"), None);
        assert_eq!(kilobytes("VmHWM: many kB", "VmHWM:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_large_allocation_shows() {
        let before = Memory::now().private.expect("Linux says it");
        let block = vec![1u8; 64 << 20];
        let after = Memory::now();
        assert!(after.private.expect("Linux says it") >= before + (48 << 20));
        assert!(after.peak.expect("Linux says it") >= 64 << 20);
        drop(std::hint::black_box(block));
    }
}
