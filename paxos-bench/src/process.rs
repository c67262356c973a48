//! What the operating system says of this process.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time that all threads of this process have used.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Memory of this process that is in use, in bytes; 0 where there is no `/proc`.
#[must_use]
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|statm| {
        let resident = statm.split_ascii_whitespace().nth(1)?;
        resident.parse::<u64>().ok()
    });
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_uses_time_and_memory() {
        let (time, memory) = (cpu_time(), resident_bytes());
        let block = vec![1_u8; 64 << 20];
        assert_eq!(
            std::hint::black_box(&block).iter().filter(|byte| **byte == 1).count(),
            64 << 20
        );
        assert!(cpu_time() > time);
        assert!(resident_bytes() > memory + (32 << 20));
    }
}
