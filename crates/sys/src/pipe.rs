//! What a pipe holds.

#![expect(unsafe_code, reason = "no crate here wraps this request")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Bytes that were written to a pipe and not read yet.
///
/// # Errors
/// When it is no pipe.
pub fn unread(pipe: &impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one integer, which outlives the call.
    let result = unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(bytes.unsigned_abs() as usize) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_was_written_and_not_read_is_counted() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        assert_eq!(unread(&writer).unwrap(), 0);
        writer.write_all(b"12345").unwrap();
        reader.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(unread(&writer).unwrap(), 3);
    }
}
