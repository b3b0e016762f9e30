//! How one object stands, and why: what a person reads.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::{Condition, Side, protocol_name};

/// How one object stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// The kernel has it as it is wanted.
    Installed,
    /// The kernel has the route as it is wanted, but an interface that it leads to has no carrier
    /// (`linkdown` in `ip route`).
    WithoutCarrier(String),
    /// It is wanted only while its group is on another side than now, and not there.
    Unwanted {
        /// When it is wanted.
        condition: Condition,
        /// Where its group stands.
        side: Side,
    },
    /// It cannot be put in place yet.
    Pending(Reason),
    /// Somebody else's is in its place, and stays.
    Conflicting {
        /// The other one, as `ip` writes it.
        with: String,
        /// Its routing protocol number.
        protocol: u8,
    },
    /// The kernel has refused it; it is tried again.
    Failed {
        /// The kernel's words.
        words: String,
        /// How often in a row.
        attempts: u32,
        /// When it is tried again.
        next_try: Instant,
    },
}

/// What an object waits for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// The interface is not there.
    LinkMissing(String),
    /// An interface of that name is there, and not ours.
    NameTaken(String),
    /// The interface is administratively down.
    LinkDown(String),
    /// The interface is up, its cable or peer is not.
    NoCarrier(String),
    /// The next hop is on no connected network.
    NextHopUnreachable(IpAddr),
    /// The next hop is on a connected network, but not on the declared interface's.
    NextHopElsewhere {
        /// The next hop.
        via: IpAddr,
        /// The declared interface.
        dev: String,
    },
    /// The next hop is this router itself.
    NextHopOwn(IpAddr),
    /// One of several next hops waits for something.
    OfNextHop {
        /// The next hop.
        via: IpAddr,
        /// What it waits for.
        reason: Box<Reason>,
    },
    /// The kernel has the route, and leads packets to those of its next hops that can be; the first
    /// of the others waits for this.
    InPart(Box<Reason>),
    /// The address is there with another broadcast address, label or scope, and making it anew
    /// would take something from others.
    Drifted,
    /// The address is there, and of no use: duplicate detection has found it on another host of
    /// this link.
    Duplicate(String),
    /// The router does not have the source address.
    SourceMissing(IpAddr),
    /// A rule that is not wanted now stays, because the kernel would remove somebody else's in its
    /// place.
    Inseparable,
    /// Another declared route that is wanted now has its place in the table.
    Outranked,
    /// Nothing: it is about to be put in place.
    Due,
    /// It is not wanted any more and about to be removed.
    Leaving,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkMissing(name) => write!(f, "{name} does not exist"),
            Self::NameTaken(name) => {
                write!(f, "there is an interface {name} that lockstep has not made")
            }
            Self::LinkDown(name) => write!(f, "link {name} is down"),
            Self::NoCarrier(name) => write!(f, "no carrier on {name}"),
            Self::NextHopUnreachable(via) => {
                write!(f, "next hop {via} is on no connected network")
            }
            Self::NextHopElsewhere { via, dev } => {
                write!(f, "next hop {via} is on no network of {dev}")
            }
            Self::NextHopOwn(via) => write!(f, "next hop {via} is this router itself"),
            Self::OfNextHop { via, reason } => write!(f, "next hop {via}: {reason}"),
            Self::InPart(reason) => write!(f, "in use in part: {reason}"),
            Self::Drifted => f.write_str(
                "it is there with another broadcast address, label or scope, and \
                 cannot be made anew without harm to what others have made",
            ),
            Self::Duplicate(link) => write!(f, "another host on {link} has it too"),
            Self::SourceMissing(source) => write!(f, "source address {source} is missing"),
            Self::Inseparable => f.write_str(
                "it stays: the kernel would remove a rule of somebody else's in its place",
            ),
            Self::Outranked => f.write_str("another declared route has its place"),
            Self::Due => f.write_str("about to be installed"),
            Self::Leaving => f.write_str("about to be removed"),
        }
    }
}

impl State {
    /// `installed`, `pending`, `conflicting`, `failed`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Installed | Self::WithoutCarrier(_) => "installed",
            Self::Pending(_) | Self::Unwanted { .. } => "pending",
            Self::Conflicting { .. } => "conflicting",
            Self::Failed { .. } => "failed",
        }
    }

    /// Whether something is missing: it is wanted now, and not installed.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Installed | Self::WithoutCarrier(_) | Self::Unwanted { .. } => false,
            Self::Pending(_) | Self::Conflicting { .. } | Self::Failed { .. } => true,
        }
    }

    /// Why it is not installed, or what is the matter with it when it is.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Installed => None,
            Self::WithoutCarrier(name) => Some(Reason::NoCarrier(name.clone()).to_string()),
            Self::Unwanted { condition, side } => Some(unwanted(condition, *side)),
            Self::Pending(reason) => Some(reason.to_string()),
            Self::Conflicting { with, protocol } => {
                Some(format!("in its place is {with}, of protocol {}", protocol_name(*protocol)))
            }
            Self::Failed { words, attempts: 1, .. } => Some(words.clone()),
            Self::Failed { words, attempts, .. } => Some(format!("{words} ({attempts} times)")),
        }
    }

    /// How long it is until it is tried again, when the kernel has refused it.
    pub fn next_try_in(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Failed { next_try, .. } => Some(next_try.saturating_duration_since(now)),
            Self::Installed
            | Self::WithoutCarrier(_)
            | Self::Unwanted { .. }
            | Self::Pending(_)
            | Self::Conflicting { .. } => None,
        }
    }

    /// [`State::reason`] with the time until the next try: `Operation not permitted (3 times),
    /// tried again in 0.4 s`.
    pub fn reason_at(&self, now: Instant) -> Option<String> {
        let reason = self.reason()?;
        Some(match self.next_try_in(now) {
            Some(wait) if wait.is_zero() => format!("{reason}, tried again now"),
            Some(wait) => format!("{reason}, tried again in {:.1} s", wait.as_secs_f64()),
            None => reason,
        })
    }
}

/// Why what follows a group is not wanted now.
fn unwanted(condition: &Condition, side: Side) -> String {
    let group = condition.group.as_deref().unwrap_or_default();
    match side {
        Side::Unsettled => format!("group {group} has not been decided yet"),
        Side::Backup => format!("group {group} is not master"),
        Side::Master => format!("group {group} is master"),
    }
}
