//! Whether a program that was started lives on when whoever started it does not.

#![expect(unsafe_code, reason = "some things can be set between fork and exec only")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::process::{CommandExt, parent_id};
use std::process::Command;

/// Ends the program with `signal` (its number) when the thread that starts it ends, however that
/// happens.
///
/// A change of user undoes this: call it behind [`crate::identity::run_as`].
pub fn end_with_this_thread(command: &mut Command, signal: i32) {
    let parent = std::process::id();
    let arm = move || {
        // SAFETY: the call takes integers only.
        checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong) })?;
        // The parent may have ended before the call, and nobody tells of that any more.
        if parent_id() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    };
    // SAFETY: between fork and exec only system calls are made; nothing is allocated.
    unsafe { command.pre_exec(arm) };
}

/// A file that processes hold a lock on for as long as they live.
///
/// The lock is a record lock of POSIX: it is kept across `exec`, it is not inherited by processes
/// that the holder starts, and it ends with the holder. It also ends when the holder closes *any*
/// descriptor of the file, so that the file must be open once, here.
#[derive(Debug)]
pub struct LifeLock {
    file: File,
}

impl LifeLock {
    /// Descriptors that scripts choose are small numbers; one that they use by chance would be
    /// closed.
    const LOWEST_DESCRIPTOR: RawFd = 500;

    /// Takes an open file, which must be open nowhere else in this process.
    ///
    /// # Errors
    /// When no descriptor is to be had.
    pub fn new(file: File) -> io::Result<Self> {
        let above = |least: RawFd| {
            // SAFETY: the descriptor is open, and the call takes integers only.
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) }
        };
        let mut moved = above(Self::LOWEST_DESCRIPTOR);
        if moved < 0 {
            // So many may not be allowed; then any other.
            moved = above(3);
        }
        checked(moved)?;
        // Closed before anybody holds a lock.
        drop(file);
        // SAFETY: the call has made this descriptor, and nobody else has it.
        Ok(Self { file: unsafe { File::from_raw_fd(moved) } })
    }

    /// Lets the program hold the lock. Starting it fails when it cannot. This must outlive the start.
    pub fn hold(&self, command: &mut Command) {
        let descriptor = self.file.as_raw_fd();
        let take = move || {
            // SAFETY: integers only. Without this the descriptor, and so the lock, ends at `exec`.
            checked(unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) })?;
            let lock = whole_file(libc::F_RDLCK);
            // SAFETY: the structure outlives the call. The lock is one of readers, so that the file
            // need not be open for writing in a program that may be another user's.
            checked(unsafe { libc::fcntl(descriptor, libc::F_SETLK, &raw const lock) })
        };
        // SAFETY: between fork and exec only system calls are made; nothing is allocated.
        unsafe { command.pre_exec(take) };
    }

    /// The process that holds the lock, when one does. 0 is one that cannot be seen from here.
    ///
    /// # Errors
    /// When the file system knows no locks.
    pub fn holder(&self) -> io::Result<Option<i32>> {
        let mut lock = whole_file(libc::F_WRLCK);
        // SAFETY: the structure outlives the call, which writes to it and nothing else.
        checked(unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_GETLK, &raw mut lock) })?;
        Ok((i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid))
    }
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: the structure holds integers only, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Child, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn lock() -> LifeLock {
        let path = std::env::temp_dir().join(format!("lockstep-life-{}", std::process::id()));
        let name = format!("{}-{:?}", path.display(), thread::current().id());
        drop(File::create(&name).unwrap());
        let lock = LifeLock::new(File::open(&name).unwrap()).unwrap();
        std::fs::remove_file(name).unwrap();
        lock
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    /// Waits for the first byte that it writes.
    fn wait_for(child: &mut Child) {
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn a_program_holds_the_lock_from_its_start_to_its_end() {
        let lock = lock();
        assert_eq!(lock.holder().unwrap(), None);
        let mut command = shell("read line");
        lock.hold(&mut command);
        let mut child = command.spawn().unwrap();
        assert_eq!(lock.holder().unwrap(), Some(child.id().cast_signed()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(lock.holder().unwrap(), None);
    }

    #[test]
    fn what_a_program_leaves_behind_does_not_hold_the_lock() {
        let lock = lock();
        let mut command = shell("(read line) <&0 & echo started");
        lock.hold(&mut command);
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        child.wait().unwrap();
        assert_eq!(lock.holder().unwrap(), None, "its child still waits for input");
        drop(input);
    }

    #[test]
    fn a_program_ends_with_the_thread_that_started_it() {
        let child = thread::spawn(|| {
            let mut command = shell("echo started; read line");
            end_with_this_thread(&mut command, libc::SIGTERM);
            let mut child = command.spawn().unwrap();
            wait_for(&mut child);
            child
        });
        let mut child = child.join().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("it lives on"),
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        assert!(!status.success());
    }
}
