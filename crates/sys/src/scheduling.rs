//! Real-time scheduling and memory that stays in place.

#![expect(unsafe_code, reason = "no crate wraps these calls with all of their flags")]

use std::io;

/// Schedules the calling thread ahead of all ordinary ones, in turn with others of its priority
/// (`SCHED_RR`), 1 to 99; what it forks is ordinary again (`SCHED_RESET_ON_FORK`).
///
/// # Errors
/// `EPERM` without `CAP_SYS_NICE`, `EINVAL` for another priority.
pub fn set_round_robin(priority: u8) -> io::Result<()> {
    // SAFETY: `sched_param` consists of integers, for which all zeros is a value.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority.into();
    // SAFETY: 0 stands for the calling thread, and the parameters outlive the call.
    let result = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps in memory what the process has used and will use, from its first use on; what is not
/// used is not brought in (`MCL_CURRENT`, `MCL_FUTURE`, `MCL_ONFAULT`).
///
/// # Errors
/// `EPERM` or `ENOMEM` without `CAP_IPC_LOCK`.
pub fn lock_memory_when_used() -> io::Result<()> {
    // SAFETY: the call takes no memory of ours; it changes only when pages are written out.
    let result =
        unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
