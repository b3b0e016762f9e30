//! Real-time scheduling and locked memory, as far as the tests' user may have them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::thread;

use lockstep_kernel::scheduling::{SchedulingError, lock_memory, set_real_time};

#[test]
fn a_thread_is_scheduled_in_real_time_and_what_it_starts_is_not() {
    thread::spawn(|| {
        let before = policy_and_priority();
        if !allowed(set_real_time(7), "CAP_SYS_NICE") {
            assert_eq!(policy_and_priority(), before);
            return;
        }
        assert_eq!(policy_and_priority(), (libc::SCHED_RR, 7));
        let started = thread::spawn(policy_and_priority).join().unwrap();
        assert_eq!(started, (libc::SCHED_OTHER, 0));
    })
    .join()
    .unwrap();
    assert_eq!(policy_and_priority().0, libc::SCHED_OTHER, "no other thread is concerned");
}

#[test]
fn a_priority_that_is_none_is_refused() {
    thread::spawn(|| {
        for priority in [0, 100] {
            let error = set_real_time(priority).unwrap_err();
            assert_eq!(error.source.raw_os_error(), Some(libc::EINVAL));
            assert_eq!(error.to_string(), "failed to schedule the thread in real time");
        }
    })
    .join()
    .unwrap();
}

#[test]
fn memory_that_is_used_stays_and_what_is_only_reserved_is_not_brought_in() {
    const RESERVED: usize = 512 << 20;
    if !allowed(lock_memory(), "CAP_IPC_LOCK") {
        return;
    }
    let before = status("VmRSS:");
    let reserved: Vec<u8> = Vec::with_capacity(RESERVED);
    assert!(status("VmLck:") >= RESERVED as u64 / 1024, "it will stay once it is used");
    assert!(status("VmRSS:") < before + 100 * 1024, "and is not brought in before");
    drop(reserved);
}

#[test]
fn a_missing_capability_is_named() {
    let error = SchedulingError {
        step: "lock the process's memory",
        capability: "CAP_IPC_LOCK",
        source: std::io::Error::from_raw_os_error(libc::EPERM),
    };
    assert_eq!(error.to_string(), "failed to lock the process's memory without CAP_IPC_LOCK");
}

/// Whether it was allowed; where it was not, the refusal has to name the capability.
fn allowed(result: Result<(), SchedulingError>, capability: &str) -> bool {
    let Err(error) = result else { return true };
    eprintln!("skipped: {error}");
    assert_eq!(error.source.raw_os_error(), Some(libc::EPERM));
    assert!(error.to_string().ends_with(&format!("without {capability}")));
    false
}

/// The calling thread's, from `proc_pid_stat(5)`: fields 41 and 40.
fn policy_and_priority() -> (i32, u32) {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    (fields[41 - 3].parse().unwrap(), fields[40 - 3].parse().unwrap())
}

/// A line of the process's status, in KiB.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
