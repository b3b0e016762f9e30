//! What can be asked of the demo.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lockstep_lab::Firewall;
use serde::Serialize;

use super::failure::Failure;

/// Options of `lockstep demo`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// TCP connections that transfer during the failover
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = connections)]
    pub connections: usize,
    /// More established connections in the router's memory, without traffic
    #[arg(long, value_name = "M", default_value_t = 10_000)]
    pub flows: u32,
    /// What the routers do with packets of connections they do not know
    #[arg(long, value_enum, default_value_t = FirewallKind::Strict)]
    pub firewall: FirewallKind,
    /// How router A fails
    #[arg(long, value_enum, default_value_t = Failure::Kill)]
    pub failure: Failure,
    /// Then repair router A, which takes its place again
    #[arg(long)]
    pub failback: bool,
    /// Time between the signs of life of the router in charge; three missing ones are a failure
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = interval)]
    pub advertisement_interval: Duration,
    /// Print nothing but the result, as JSON
    #[arg(long)]
    pub json: bool,
    /// Leave everything up afterwards and tell how to look around, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Be the daemon of a router: configuration, control socket
    #[arg(long, hide = true, num_args = 2, value_names = ["CONFIG", "SOCKET"])]
    pub router: Option<Vec<PathBuf>>,
}

/// The routers' firewall.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FirewallKind {
    /// Drop them, as a careful administrator would: a forgotten connection stalls
    Strict,
    /// What the kernel does by itself: a forgotten connection is reset
    Default,
}

impl From<FirewallKind> for Firewall {
    fn from(kind: FirewallKind) -> Self {
        match kind {
            FirewallKind::Strict => Self::Strict,
            FirewallKind::Default => Self::Default,
        }
    }
}

fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=MOST_CONNECTIONS) => Ok(number),
        Ok(_) => Err(format!("1 to {MOST_CONNECTIONS}")),
        Err(_) => Err("not a number".to_owned()),
    }
}

/// A whole number of centiseconds, as VRRP version 3 counts them in 12 bits.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let range = Duration::from_millis(10)..=Duration::from_millis(40_950);
    if range.contains(&interval) && interval.subsec_micros().is_multiple_of(10_000) {
        Ok(interval)
    } else {
        Err("10ms to 40s950ms in steps of 10ms".to_owned())
    }
}

/// So many transfer on a small machine without being its main load.
const MOST_CONNECTIONS: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_what_version_3_can_say() {
        assert_eq!(interval("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(interval("1s"), Ok(Duration::from_secs(1)));
        for bad in ["0", "5ms", "15ms", "41s", "soon"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn at_least_one_connection_is_needed() {
        assert_eq!(connections("1"), Ok(1));
        assert!(connections("0").is_err());
        assert!(connections("2001").is_err());
    }
}
