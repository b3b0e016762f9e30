//! The ways in which a router fails, and how it comes back.

use clap::ValueEnum;
use lockstep_lab::RouterId;
use serde::Serialize;

use super::stage::Stage;

/// How the router in charge fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Failure {
    /// Power cut: process, links and memory are gone at once
    Kill,
    /// The daemon is stopped in order, as for an upgrade
    Stop,
    /// The cable to the LAN is pulled
    Link,
    /// A health check of the router begins to fail
    Check,
}

impl Failure {
    /// Lets it happen.
    pub(super) fn apply(self, stage: &mut Stage, id: RouterId) -> anyhow::Result<()> {
        match self {
            Self::Kill => stage.cut_power(id),
            Self::Stop => stage.stop_daemon(id),
            Self::Link => stage.router(id)?.unplug("eth0"),
            Self::Check => stage.set_health(id, false),
        }
    }

    /// Ends it.
    pub(super) fn repair(self, stage: &mut Stage, id: RouterId) -> anyhow::Result<()> {
        match self {
            Self::Kill => {
                stage.restore_power(id)?;
                stage.start_router(id)
            }
            Self::Stop => stage.start_router(id),
            Self::Link => stage.router(id)?.plug("eth0"),
            Self::Check => stage.set_health(id, true),
        }
    }

    /// What has just happened, for people.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Kill => "POWER CUT: router A is gone, with all it knew",
            Self::Stop => "STOP: the daemon on router A is told to end, and hands over",
            Self::Link => "CABLE PULLED: router A has lost the LAN",
            Self::Check => "UNHEALTHY: the health check on router A fails",
        }
    }

    /// What has just been done about it, for people.
    pub(super) fn repair_sentence(self) -> &'static str {
        match self {
            Self::Kill => "router A is switched on again; it knows no connection yet",
            Self::Stop => "the daemon on router A is started again",
            Self::Link => "the cable of router A is back",
            Self::Check => "the health check on router A succeeds again",
        }
    }
}
