//! Asks the daemon, for the command line.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;

use super::protocol::{Answer, Request};
use crate::cli::BadConfiguration;

/// How long the daemon may take to take a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// The daemon has hung up.
#[derive(Debug)]
pub(crate) struct Ended;

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the daemon has ended")
    }
}

impl std::error::Error for Ended {}

/// A connection to the daemon.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon that listens at `path`.
    ///
    /// # Errors
    /// One sentence that says whether no daemon runs or the caller may not ask it.
    pub(crate) fn connect(path: &Path) -> anyhow::Result<Self> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) => bail!("{}: {}", why_not(&error, path), error),
        };
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// When the daemon refuses, does not answer, or answers something else; [`Ended`] when it is gone,
    /// [`BadConfiguration`] when that is what it refuses.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> anyhow::Result<T> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let mut answer = Vec::new();
        self.stream.get_ref().set_read_timeout(Some(request.patience()))?;
        let asked = self.stream.get_mut().write_all(&line);
        match asked.and_then(|()| self.stream.read_until(b'\n', &mut answer)) {
            Ok(0) => return Err(Ended.into()),
            Ok(_) => {}
            Err(error) if has_hung_up(&error) => return Err(Ended.into()),
            Err(error) => return Err(error).context("the daemon does not answer"),
        }
        let answer =
            serde_json::from_slice(&answer).context("the daemon's answer is not understood")?;
        match answer {
            Answer::Ok(value) => {
                serde_json::from_value(value).context("the daemon's answer is not understood")
            }
            Answer::Error(error) => bail!(error),
            Answer::BadConfiguration(problems) => Err(BadConfiguration::of(problems).into()),
        }
    }
}

fn has_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn why_not(error: &io::Error, path: &Path) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("no lockstep daemon listens at {path}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("only the daemon's user may ask it at {path}")
        }
        _ => format!("cannot reach the daemon at {path}"),
    }
}
