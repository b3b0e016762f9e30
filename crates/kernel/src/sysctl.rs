//! Kernel settings under `/proc/sys`, of the calling thread's network namespace.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Reads a setting; `name` is written with slashes, for example `net/ipv4/ip_forward`.
pub fn read(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path(name))?.trim_end().to_owned())
}

/// Writes a setting.
pub fn write(name: &str, value: &str) -> io::Result<()> {
    fs::write(path(name), value)
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name)
}
