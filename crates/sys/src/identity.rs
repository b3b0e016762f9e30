//! A program started as somebody else.

#![expect(unsafe_code, reason = "the identity can be changed between fork and exec only")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Who a program runs as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
    /// Every group of the user.
    pub groups: Vec<u32>,
}

/// Lets `command` run as `identity`, with its groups and with no privilege of ours.
///
/// The standard library can set user and group, and takes the other groups away. Starting fails
/// with `EPERM` without `CAP_SETUID` and `CAP_SETGID`.
pub fn run_as(command: &mut Command, identity: Identity) {
    let become_it = move || {
        // Capabilities that are handed down are so to everybody. Old kernels have none (EINVAL).
        // SAFETY: the call takes integers only.
        unsafe {
            let none: libc::c_ulong = 0;
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, none, none, none);
        }
        // SAFETY: the list and its length belong together and outlive the call.
        checked(unsafe { libc::setgroups(identity.groups.len(), identity.groups.as_ptr()) })?;
        // SAFETY: the calls take integers only. The user comes last, who could not set the group.
        checked(unsafe { libc::setresgid(identity.gid, identity.gid, identity.gid) })?;
        // SAFETY: as above.
        checked(unsafe { libc::setresuid(identity.uid, identity.uid, identity.uid) })
    };
    // SAFETY: between fork and exec only system calls are made: nothing is allocated, no lock is
    // taken, and the list of groups was made before.
    unsafe { command.pre_exec(become_it) };
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_runs_with_exactly_the_identity_it_is_given() {
        let mut command = Command::new("cat");
        run_as(&mut command, Identity { uid: 4001, gid: 4002, groups: vec![4002, 4003] });
        let output = match command.arg("/proc/self/status").output() {
            Ok(output) => output,
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                eprintln!("skipped: this needs to be root");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let status = String::from_utf8(output.stdout).unwrap();
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(value("Uid:"), "4001 4001 4001 4001");
        assert_eq!(value("Gid:"), "4002 4002 4002 4002");
        assert_eq!(value("Groups:"), "4002 4003");
        assert_eq!(value("CapEff:"), "0000000000000000");
    }
}
