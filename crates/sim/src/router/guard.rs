//! What outlives a daemon that is killed: the guard, which starts it again, and the record, by which
//! it goes on.

use std::time::{Duration, Instant};

use lockstep_failover::{self as failover, State};
use lockstep_vrrp as vrrp;

use super::{Daemon, Effect, GROUP, INTERVAL, address, interface};

/// A daemon that lived for so long did not die of its start.
const LONG_LIFE: Duration = Duration::from_secs(5);
/// The wait after the first death that is too many in a row; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Why a daemon is master that goes on.
pub(crate) const RESUMED: &str = "resumed after the daemon was killed";

/// What a daemon leaves to whoever comes after it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record {
    /// Whether its group is master, with everything that belongs to it.
    pub(super) serves: bool,
    /// When its last advertisement as a master has left.
    pub(super) left: Option<Instant>,
}

impl Record {
    /// Until when no neighbour can have missed it, if it served.
    pub(super) fn until(&self) -> Option<Instant> {
        self.left.filter(|_| self.serves).map(|left| left + 3 * INTERVAL)
    }
}

/// The process that starts daemons.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// What the last daemon has left.
    pub(super) record: Record,
    deaths: u32,
    pub(super) started: Option<Instant>,
}

/// What becomes of a router whose daemon was killed.
pub(crate) enum Next {
    /// Another begins at once.
    AtOnce,
    /// What follows a master goes, and another begins after this time.
    After(Duration),
    /// What follows a master goes, and so does the guard.
    Never,
}

impl Guard {
    /// A daemon has died.
    pub(super) fn died(&mut self, now: Instant) -> Next {
        let lived = self.started.map(|at| now.saturating_duration_since(at)).unwrap_or_default();
        self.deaths = if lived >= LONG_LIFE { 1 } else { self.deaths + 1 };
        match self.deaths {
            0..=2 => Next::AtOnce,
            6.. => Next::Never,
            many => Next::After(FIRST_WAIT * 2_u32.pow(many - 3)),
        }
    }
}

/// A daemon that may go on as master does not know yet whether it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resuming {
    /// When its interface is known, and its sockets are open.
    pub(super) looks_at: Instant,
    /// When it is too late.
    pub(super) until: Instant,
}

impl Daemon {
    /// Decides whether it goes on, once that is known. Until then the group hears nothing of its
    /// interface.
    pub(super) fn resume(&mut self, number: usize, now: Instant, effects: &mut Vec<Effect>) {
        let Some(resuming) = self.resuming.filter(|it| it.looks_at.min(it.until) <= now) else {
            return;
        };
        self.resuming = None;
        let resumed = self.is_master_still(number, resuming, now);
        if resumed.is_err() {
            self.record.serves = false;
        }
        self.resumed = resumed.is_ok();
        let event = failover::Event::Resume { group: GROUP.to_owned(), resumed };
        self.feed(number, event, now, effects);
        self.feed(number, interface(self.usable.clone()), now, effects);
    }

    fn is_master_still(
        &mut self,
        number: usize,
        resuming: Resuming,
        now: Instant,
    ) -> Result<String, String> {
        if now >= resuming.until {
            return Err("killed too long ago".to_owned());
        }
        if self.failover.groups()[0].state() != State::Init {
            return Err("killed, and another transition has begun".to_owned());
        }
        self.usable.clone()?;
        // Nothing can have come since the sockets are open.
        drop(self.election.handle(vrrp::Event::Startup { primary: address(number) }, now));
        Ok(RESUMED.to_owned())
    }
}
