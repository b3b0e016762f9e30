//! What processes cost: time of the processor and memory.

use std::fs;
use std::time::Duration;

/// The sum over some processes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Time on a processor since they began, also in the kernel on their behalf. What a virtual
    /// Ethernet pair does with a packet on its way to the other end is in the sender's.
    pub(crate) processor: Duration,
    /// Anonymous memory that is resident, in bytes.
    pub(crate) memory: u64,
}

impl Cost {
    pub(crate) fn of(processes: &[u32]) -> Self {
        processes.iter().fold(Self::default(), |sum, process| Self {
            processor: sum.processor + processor(*process),
            memory: sum.memory + memory(*process),
        })
    }
}

/// All threads; one that has ended meanwhile counts for nothing.
fn processor(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let spent = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
}

fn memory(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    kilobytes * 1024
}
