//! Where the control socket lives in the file system.
//!
//! A lock beside the socket says who owns it, so that of two daemons that start at the same time one
//! gives up. The socket is made under another name and moved in place, so that under its own name it
//! never has wider permissions than it should and never vanishes while a stale one is replaced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

/// Of a directory that has to be made: others may look, and never put their own socket in place.
const DIRECTORY_MODE: u32 = 0o755;

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
            DirBuilder::new()
                .mode(DIRECTORY_MODE)
                .create(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let lock = lock(&beside(path, "lock"))?;
        refuse_if_used(path)?;
        let temporary = beside(path, "new");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let listener = listen_privately(&temporary)?;
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

/// A non-blocking listener at `path` that only the owner of this process can connect to.
///
/// Binding gives the file the mode that the socket has at that moment, less the umask: set on the
/// descriptor beforehand, there is no time at which anybody else gets in.
fn listen_privately(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(UnixListener::from(socket))
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn bind_error(path: &Path) -> String {
        format!("{:#}", ControlSocket::bind(path).unwrap_err())
    }

    #[test]
    fn only_the_owner_may_use_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/lockstep.sock");
        let _socket = ControlSocket::bind(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()) & 0o022, 0, "only the owner may replace it");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn the_socket_is_never_open_to_others_not_even_while_it_is_made() {
        const CHILD: &str = "LOCKSTEP_TEST_LOOSE_UMASK";
        let Some(directory) = std::env::var_os(CHILD) else {
            // The umask belongs to the whole process, and other tests make files in this one.
            let directory = tempfile::tempdir().unwrap();
            let name = "the_socket_is_never_open_to_others_not_even_while_it_is_made";
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args([name, "--test-threads=1"])
                .env(CHILD, directory.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            assert!(directory.path().join("ran").exists(), "the test was not found by its name");
            return;
        };
        let directory = PathBuf::from(directory);
        fs::write(directory.join("ran"), "").unwrap();
        nix::sys::stat::umask(Mode::empty());
        let path = directory.join("s");
        let _listener = listen_privately(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        let _socket = ControlSocket::bind(&directory.join("run/s")).unwrap();
        assert_eq!(mode(&directory.join("run")), DIRECTORY_MODE);
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
