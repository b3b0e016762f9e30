//! `lockstep release`: takes away what a daemon has left that was killed. The guard does the same
//! when it gives up.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use tracing::{info, warn};

use crate::cli::output::print;
use crate::network::Left;
use crate::{cli, network, run};

/// What says what follows a master.
pub(crate) struct Kept<'a> {
    /// The configuration that was in force; empty where that is not known.
    pub(crate) configuration: &'a str,
    /// The configuration as it is on disk, for that case.
    pub(crate) file: &'a Path,
}

/// What has been done.
#[derive(Debug, Default)]
pub(crate) struct Released {
    done: Vec<String>,
    refused: Vec<String>,
    /// What may be there still, in a sentence.
    unknown: Option<String>,
}

/// Takes it away and says what.
///
/// # Errors
/// While a daemon is at work, and when something could not be taken away.
pub(crate) fn command(config: &Path, socket: &Path, all: bool) -> anyhow::Result<()> {
    let _nobody_else = run::take_namespace().context("nothing is released")?;
    let _at_work = run::take_work().context("nothing is released")?;
    let kept = Kept { configuration: "", file: config };
    let Released { done, refused, unknown } = release(&kept, socket, all)?;
    let mut lines: Vec<String> = unknown.into_iter().chain(done).collect();
    if lines.is_empty() && refused.is_empty() {
        lines.push("nothing was left".to_owned());
    }
    lines.push(String::new());
    print(&lines.join("\n"))?;
    if refused.is_empty() {
        return Ok(());
    }
    Err(anyhow!("not possible: {}", refused.join("; ")))
}

/// Takes away what follows a group. Whoever calls it holds the namespace's lock.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn release(kept: &Kept<'_>, socket: &Path, all: bool) -> anyhow::Result<Released> {
    let config = match kept.configuration {
        "" => fs::read_to_string(kept.file).ok().and_then(|text| cli::meaning(&text)),
        text => cli::meaning(text),
    };
    let state_directory = match &config {
        Some(config) => config.state_directory.clone(),
        None => cli::default_state_directory(),
    };
    let mut unknown = None;
    let left = match config {
        _ if all => Left::All,
        Some(config) => Left::Followers(config.declared),
        // The last daemon has ended in order: no group's address is left.
        None if !is_left(socket) => return Ok(Released::default()),
        None => {
            let file = kept.file.display();
            unknown = Some(format!(
                "{file} cannot be read, so every address of lockstep's goes; routes, rules and \
                 links stay as they are"
            ));
            Left::Addresses
        }
    };
    let (done, refused) = network::release(left, state_directory)
        .context("cannot read links, addresses, routes and rules")?;
    if refused.is_empty() && is_left(socket) {
        // Nothing depends on it: the next start replaces a stale socket.
        let _ = fs::remove_file(socket);
    }
    Ok(Released { done, refused, unknown })
}

/// A daemon removes its socket when it ends in order.
fn is_left(socket: &Path) -> bool {
    fs::symlink_metadata(socket).is_ok_and(|metadata| metadata.file_type().is_socket())
}

impl Released {
    /// For the guard's log.
    pub(crate) fn log(&self) {
        self.unknown.iter().for_each(|line| warn!("{line}"));
        self.done.iter().for_each(|change| info!(%change, "left by a daemon that is no more"));
        self.refused.iter().for_each(|change| warn!(%change, "not possible"));
    }
}
