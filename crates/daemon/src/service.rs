//! What is said to the service manager: by the guard itself, and by a worker through its guard, which
//! alone is known there.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

use anyhow::Context as _;
use sd_notify::NotifyState;
use tracing::debug;

/// The way to the guard of this process, when it has one.
static GUARD: OnceLock<UnixDatagram> = OnceLock::new();

/// Speaks through the guard from now on, whose socket is this process's standard input; what this
/// process starts has none of it.
///
/// # Errors
/// When the guard is not there.
pub(crate) fn speak_through_guard() -> anyhow::Result<()> {
    let socket = io::stdin().as_fd().try_clone_to_owned().context("there is no guard")?;
    let nothing = std::fs::File::open("/dev/null").context("cannot open /dev/null")?;
    nix::unistd::dup2_stdin(&nothing).context("cannot close standard input")?;
    let socket = UnixDatagram::from(socket);
    socket.set_nonblocking(true).context("there is no guard")?;
    socket.send(b"").context("the guard has ended")?;
    // This process has one guard and begins once.
    let _ = GUARD.set(socket);
    Ok(())
}

/// Tells it; what cannot be told is no reason not to work.
pub(crate) fn tell(state: &[NotifyState<'_>]) {
    let told = match GUARD.get() {
        Some(guard) => {
            let words: Vec<String> = state.iter().map(ToString::to_string).collect();
            guard.send(words.join("\n").as_bytes()).map(drop)
        }
        None => sd_notify::notify(state),
    };
    if let Err(error) = told {
        debug!(%error, "systemd was not told");
    }
}
