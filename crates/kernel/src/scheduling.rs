//! How the kernel treats the thread that must not be late.

use std::io;

pub use lockstep_sys::memory::give_back_what_is_free;
use lockstep_sys::scheduling::{lock_memory_when_used, set_round_robin};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// The thread could not be given what it was to have.
#[derive(Debug, thiserror::Error)]
#[error("failed to {step}{}", missing(source, capability))]
pub struct SchedulingError {
    /// What was tried.
    pub step: &'static str,
    /// The capability that allows it.
    pub capability: &'static str,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Schedules the calling thread ahead of all ordinary ones, in turn with those of its priority
/// (`SCHED_RR`), 1 to 99. Threads and processes it starts later are ordinary again.
///
/// `RLIMIT_RTTIME` stays as it is, without limit unless the operator has set one: its end is a
/// signal that kills, and the kernel itself leaves ordinary threads a share of each second.
///
/// # Errors
/// `EPERM` without `CAP_SYS_NICE` (and with an `RLIMIT_RTPRIO` below the priority), `EINVAL` for a
/// priority that is none.
pub fn set_real_time(priority: u8) -> Result<(), SchedulingError> {
    set_round_robin(priority).map_err(|source| SchedulingError {
        step: "schedule the thread in real time",
        capability: "CAP_SYS_NICE",
        source,
    })
}

/// Keeps in memory whatever the process has used and will use: no page of it has to be read back
/// from a disk or swap when an advertisement is due.
///
/// Memory that is reserved and never used is not brought in. What the process starts is not
/// concerned.
///
/// # Errors
/// `EPERM` without `CAP_IPC_LOCK` where `RLIMIT_MEMLOCK` has an end, however far: a process that
/// met it later would be refused memory.
pub fn lock_memory() -> Result<(), SchedulingError> {
    let failed = |source| SchedulingError {
        step: "lock the process's memory",
        capability: "CAP_IPC_LOCK",
        source,
    };
    if !may_lock_without_end().map_err(failed)? {
        return Err(failed(io::Error::from_raw_os_error(libc::EPERM)));
    }
    lock_memory_when_used().map_err(failed)
}

fn may_lock_without_end() -> io::Result<bool> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    Ok(limit == RLIM_INFINITY || (in_first_user_namespace()? && has_capability(CAP_IPC_LOCK)?))
}

/// In any other user namespace the capability is not the one that the kernel asks for.
fn in_first_user_namespace() -> io::Result<bool> {
    let map = std::fs::read_to_string("/proc/thread-self/uid_map")?;
    let everybody = ["0", "0", "4294967295"];
    Ok(map.split_whitespace().eq(everybody))
}

fn missing(source: &io::Error, capability: &str) -> String {
    match source.raw_os_error() {
        Some(libc::EPERM) => format!(" without {capability}"),
        _ => String::new(),
    }
}

/// Whether the calling thread has this capability in effect.
fn has_capability(number: u32) -> io::Result<bool> {
    let status = std::fs::read_to_string("/proc/thread-self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    effective.map(|mask| mask & (1 << number) != 0).ok_or(io::ErrorKind::InvalidData.into())
}

const CAP_IPC_LOCK: u32 = 14;
