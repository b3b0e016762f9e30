//! Where the control socket lives in the file system.
//!
//! A lock beside the socket says who owns it, so that of two daemons that start at the same time one
//! gives up. The socket is made under another name and moved in place, so that under its own name it
//! never has wider permissions than it should and never vanishes while a stale one is replaced.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The listening socket; its file is removed on drop, the lock's is kept.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    _lock: Flock<File>,
}

impl ControlSocket {
    /// Listens at `path`, which only the daemon's user may use. A socket that nobody listens on is
    /// replaced; a missing last directory is made.
    ///
    /// # Errors
    /// When another process listens there, something that is no socket is there, or the file system
    /// refuses.
    pub(crate) fn bind(path: &Path) -> anyhow::Result<Self> {
        Self::try_bind(path).with_context(|| format!("cannot listen at {}", path.display()))
    }

    fn try_bind(path: &Path) -> anyhow::Result<Self> {
        if let Some(directory) = path.parent()
            && !directory.as_os_str().is_empty()
            && !directory.exists()
        {
            fs::create_dir(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let lock = lock(&beside(path, "lock"))?;
        refuse_if_used(path)?;
        let temporary = beside(path, "new");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&temporary)?;
        fs::set_permissions(&temporary, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        fs::rename(&temporary, path)?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    /// The listener, non-blocking.
    pub(crate) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Nothing depends on it: the next start replaces a stale socket.
        let _ = fs::remove_file(&self.path);
    }
}

fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => bail!("another lockstep uses it"),
        Err((_, errno)) => Err(errno).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn refuse_if_used(path: &Path) -> anyhow::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        bail!("there is something that is not a socket");
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => bail!("another process listens there"),
    }
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind_error(path: &Path) -> String {
        format!("{:#}", ControlSocket::bind(path).unwrap_err())
    }

    #[test]
    fn only_the_owner_may_use_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/lockstep.sock");
        let _socket = ControlSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_second_lockstep_is_told_in_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _first = ControlSocket::bind(&path).unwrap();
        let expected = format!("cannot listen at {}: another lockstep uses it", path.display());
        assert_eq!(bind_error(&path), expected);
        UnixStream::connect(&path).expect("the first one still listens");
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _socket = ControlSocket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_of_somebody_else_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _other = UnixListener::bind(&path).unwrap();
        assert!(bind_error(&path).ends_with(": another process listens there"));
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        fs::write(&path, "precious").unwrap();
        assert!(bind_error(&path).ends_with("not a socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn the_socket_is_gone_at_the_end_and_can_be_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(ControlSocket::bind(&path).unwrap());
        assert!(!path.exists());
        ControlSocket::bind(&path).unwrap();
    }
}
