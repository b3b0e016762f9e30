//! The pipe that every new state is written to, in keepalived's form.
//!
//! It is open for reading here too, so that lines are kept until somebody comes to read them, and
//! it is written to without ever waiting. What finds no room is lost, counted, and said.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

use lockstep_config::NotifyFifo;
use lockstep_kernel::identity::{self, unread};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};
use tracing::{info, warn};

use crate::status;

/// The pipe.
#[derive(Debug)]
pub(super) struct Fifo {
    path: PathBuf,
    pipe: Result<File, String>,
    written: u64,
    lost: u64,
    /// Whether the last line was lost.
    full: bool,
}

impl Fifo {
    /// Makes the pipe. What keeps it from being made is kept for the status.
    pub(super) fn make(config: &NotifyFifo) -> Self {
        let pipe = make(config);
        if let Err(why) = &pipe {
            warn!(path = %config.path.display(), why, "the pipe for new states cannot be made");
        }
        Self { path: config.path.clone(), pipe, written: 0, lost: 0, full: false }
    }

    /// Writes a line, or loses it: a line is so short that a pipe takes it in one piece or not at all.
    pub(super) fn write(&mut self, line: &str) {
        let Ok(pipe) = &mut self.pipe else {
            self.lost += 1;
            return;
        };
        match pipe.write_all(line.as_bytes()) {
            Ok(()) => {
                self.written += 1;
                if std::mem::take(&mut self.full) {
                    info!(lost = self.lost, "the pipe for new states takes lines again");
                }
            }
            Err(error) => {
                self.lost += 1;
                if !std::mem::replace(&mut self.full, true) {
                    let why = match error.kind() {
                        ErrorKind::WouldBlock => "it is full: nobody reads it".to_owned(),
                        _ => error.to_string(),
                    };
                    warn!(line = line.trim_end(), why, "a new state is lost for the pipe's reader");
                }
            }
        }
    }

    /// Whether somebody has read everything.
    pub(super) fn is_read(&self) -> bool {
        self.unread() == 0
    }

    fn unread(&self) -> usize {
        self.pipe.as_ref().ok().and_then(|pipe| unread(pipe).ok()).unwrap_or(0)
    }

    /// For `status`; `reader` is how the program fares that reads it, when one is configured.
    pub(super) fn shown(&self, reader: Option<String>) -> status::Fifo {
        status::Fifo {
            path: self.path.display().to_string(),
            written: self.written,
            lost: self.lost,
            unread_bytes: self.unread() as u64,
            error: self.pipe.as_ref().err().cloned(),
            reader,
        }
    }

    /// Takes it away, if it is still the one that was made. Whoever has it open can still read what is
    /// in it.
    pub(super) fn remove(&self) {
        let Ok(pipe) = &self.pipe else { return };
        let own = pipe.metadata().map(|own| (own.dev(), own.ino())).ok();
        let there = fs::symlink_metadata(&self.path).map(|there| (there.dev(), there.ino())).ok();
        if own.is_some() && own == there {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn make(config: &NotifyFifo) -> Result<File, String> {
    let account = config
        .user
        .as_ref()
        .map(|run_as| identity::account(&run_as.user, run_as.group.as_deref()))
        .transpose()
        .map_err(|error| error.to_string())?;
    let owner = account.as_ref().map(|account| (account.identity.uid, account.identity.gid));
    // A group that is named is meant to read it.
    let shared = config.user.as_ref().is_some_and(|run_as| run_as.group.is_some());
    let mode = if shared { 0o640 } else { 0o600 };
    open(&config.path, owner, mode).map_err(|error| error.to_string())
}

/// A pipe of an earlier life is used again: whoever has it open goes on reading. One of somebody
/// else could be read, and written to, by them.
///
/// Of root's rights over the files of others it takes one, to give them away and to take them back.
fn open(path: &Path, owner: Option<(u32, u32)>, mode: u32) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_fifo() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "there is something else"));
        }
        Ok(there) => {
            let own = Uid::effective().as_raw();
            let is_owner_s = Some(there.uid()) == owner.map(|(uid, _)| uid);
            if there.uid() != own && is_owner_s {
                lchown(path, Some(own), None)?;
            } else if there.uid() != own {
                fs::remove_file(path)?;
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    match mkfifo(path, Mode::from_bits_truncate(0o600)) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let pipe = OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(path)?;
    if !pipe.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "there is something else"));
    }
    pipe.set_permissions(Permissions::from_mode(mode))?;
    if let Some((uid, gid)) = owner {
        fchown(&pipe, Some(uid), Some(gid))?;
    }
    Ok(pipe)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn config(directory: &tempfile::TempDir) -> NotifyFifo {
        NotifyFifo { path: directory.path().join("notify"), user: None, command: None }
    }

    fn reader(fifo: &Fifo) -> File {
        let flags = OFlag::O_NONBLOCK.bits();
        OpenOptions::new().read(true).custom_flags(flags).open(&fifo.path).unwrap()
    }

    fn read(reader: &mut File) -> String {
        let mut bytes = vec![0; 1 << 17];
        let count = reader.read(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn lines_wait_for_a_reader() {
        let directory = tempfile::tempdir().unwrap();
        let mut fifo = Fifo::make(&config(&directory));
        let mode = fs::metadata(&fifo.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        fifo.write("GROUP \"G\" MASTER 0\n");
        fifo.write("GROUP \"G\" FAULT 0\n");
        assert!(!fifo.is_read());
        let shown = fifo.shown(None);
        assert_eq!((shown.written, shown.lost, shown.unread_bytes), (2, 0, 37));
        assert_eq!(read(&mut reader(&fifo)), "GROUP \"G\" MASTER 0\nGROUP \"G\" FAULT 0\n");
        assert!(fifo.is_read());
        let path = fifo.path.clone();
        fifo.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_full_pipe_loses_whole_lines_and_counts_them() {
        let directory = tempfile::tempdir().unwrap();
        let mut fifo = Fifo::make(&config(&directory));
        let line = "INSTANCE \"VI_1\" MASTER 150\n";
        for _ in 0..10_000 {
            fifo.write(line);
        }
        let shown = fifo.shown(None);
        assert!(shown.lost > 0);
        assert_eq!(shown.written + shown.lost, 10_000);
        let text = read(&mut reader(&fifo));
        assert_eq!(text.len() as u64, shown.written * line.len() as u64);
        fifo.write(line);
        assert_eq!(fifo.shown(None).written, shown.written + 1, "it takes lines again");
    }

    #[test]
    fn a_reader_of_an_earlier_life_goes_on_reading() {
        let directory = tempfile::tempdir().unwrap();
        let earlier = Fifo::make(&config(&directory));
        let mut reader = reader(&earlier);
        drop(earlier);
        let mut fifo = Fifo::make(&config(&directory));
        fifo.write("GROUP \"G\" BACKUP 0\n");
        assert_eq!(read(&mut reader), "GROUP \"G\" BACKUP 0\n");
    }

    #[test]
    fn nothing_else_is_overwritten_followed_or_removed() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory);
        fs::write(&config.path, "precious").unwrap();
        let mut fifo = Fifo::make(&config);
        fifo.write("GROUP \"G\" BACKUP 0\n");
        let shown = fifo.shown(None);
        assert_eq!(shown.error.as_deref(), Some("there is something else"));
        assert_eq!(shown.lost, 1);
        fifo.remove();
        assert_eq!(fs::read_to_string(&config.path).unwrap(), "precious");
    }

    #[test]
    fn it_belongs_to_the_user_and_the_group_that_are_named() {
        if !Uid::effective().is_root() {
            eprintln!("skipped: this needs to be root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let user = lockstep_failover::RunAs {
            user: "nobody".to_owned(),
            group: Some("daemon".to_owned()),
        };
        let fifo = Fifo::make(&NotifyFifo { user: Some(user), ..config(&directory) });
        let metadata = fs::metadata(&fifo.path).unwrap();
        let nobody = identity::account("nobody", Some("daemon")).unwrap().identity;
        assert_eq!((metadata.uid(), metadata.gid()), (nobody.uid, nobody.gid));
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    }
}
