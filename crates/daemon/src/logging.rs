//! The log: lines on standard error.
//!
//! Under the service manager the journal adds time and unit itself, so time is left out there.

use std::io::{self, IsTerminal};

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// The variable that sets the level when `--log` does not.
const VARIABLE: &str = "LOCKSTEP_LOG";
/// What an operator narrates.
const DEFAULT: &str = "info";

/// Starts logging; `level` is a level or a list of filters (`debug`, `info,lockstep_vrrp=trace`).
///
/// # Errors
/// When `level` or the variable `LOCKSTEP_LOG` cannot be understood, or logging has been started.
pub(crate) fn start(level: Option<&str>) -> anyhow::Result<()> {
    let filter = match level {
        Some(level) => filter(level).with_context(|| format!("bad value {level:?} of --log"))?,
        None => match std::env::var(VARIABLE) {
            Ok(level) => {
                filter(&level).with_context(|| format!("bad value {level:?} of {VARIABLE}"))?
            }
            Err(_) => EnvFilter::new(DEFAULT),
        },
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false);
    let started = if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().try_init()
    } else {
        builder.try_init()
    };
    started.map_err(anyhow::Error::from_boxed).context("cannot start logging")
}

fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    // The error's text has its cause in it already, which the chain would say again.
    EnvFilter::builder().parse(text).map_err(|error| anyhow::anyhow!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_understood_and_nonsense_is_refused() {
        assert!(filter("debug").is_ok());
        assert!(filter("info,lockstep_vrrp=trace").is_ok());
        assert!(filter("lockstep=loud").is_err());
    }
}
