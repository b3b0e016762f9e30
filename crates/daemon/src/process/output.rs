//! What a command writes: its end is kept, and the rest takes no memory.
//!
//! Output goes into a file in memory and not into a pipe: a command that outlives the daemon would
//! be ended by its next write to a pipe, and a background process that inherits the pipe would keep
//! the reader waiting.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::time::sleep;

/// Most lines of output that are kept, the last ones.
pub(crate) const OUTPUT_LINES: usize = 10;
/// Most characters of a line that are kept, the first ones.
const LINE_LENGTH: usize = 200;
/// Most bytes of output that are looked at, the last ones.
const OUTPUT_BYTES: u64 = 4096;
/// How often memory that holds older output is given back while the command runs.
const TRIM_INTERVAL: Duration = Duration::from_millis(100);
/// The file in memory that takes a command's standard output and error.
pub(super) struct Output {
    pub(super) file: File,
}

impl Output {
    pub(super) fn new() -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        Ok(Self { file: File::from(memfd_create(c"lockstep-output", flags)?) })
    }

    /// Gives back the memory of all but the end of the output, again and again: a command that
    /// writes without end must not fill the router's memory.
    pub(super) async fn keep_bounded(&self) -> Infallible {
        loop {
            sleep(TRIM_INTERVAL).await;
            let old = self.length().saturating_sub(OUTPUT_BYTES);
            if old > 0 {
                let punch =
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                // Without the hole there is more memory in use and nothing else.
                let _ = fallocate(&self.file, punch, 0, old.cast_signed());
            }
        }
    }

    /// The last lines; what is written later by processes left in the background is refused.
    pub(super) fn close(self) -> Vec<String> {
        let length = self.length();
        let start = length.saturating_sub(OUTPUT_BYTES);
        let mut bytes = vec![0; (length - start) as usize];
        let read = self.file.read_at(&mut bytes, start).unwrap_or(0);
        let _ = self.file.set_len(0);
        let _ = fcntl(
            &self.file,
            FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW),
        );
        last_lines(&bytes[..read], start > 0)
    }

    fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }
}

fn last_lines(bytes: &[u8], beginning_is_cut: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    if beginning_is_cut && lines.len() > 1 {
        lines.remove(0);
    }
    lines.retain(|line| !line.is_empty());
    let skipped = lines.len().saturating_sub(OUTPUT_LINES);
    lines[skipped..].iter().map(|line| printable(line)).collect()
}

fn printable(line: &str) -> String {
    line.chars()
        .take(LINE_LENGTH)
        .map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(last_lines(b"\x1b[31mred\x07\n", false), ["\u{fffd}[31mred\u{fffd}"]);
    }

    #[test]
    fn a_line_cut_at_its_beginning_is_left_out() {
        assert_eq!(last_lines(b"tail of one\ntwo\n", true), ["two"]);
        assert_eq!(last_lines(b"tail of one", true), ["tail of one"]);
    }
}
