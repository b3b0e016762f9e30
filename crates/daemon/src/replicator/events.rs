//! What the kernel tells of its table as it changes.

use std::time::{Duration, Instant};

use lockstep_ctnetlink::{Kind, Messages};
use lockstep_kernel::conntrack::{EventSocket, Events, TableSocket};
use lockstep_replicator::{Change, KernelEvent};
use tracing::{debug, warn};

use super::{Actor, REDUMP};

/// An event socket that fails sooner after it was opened for another is not opened again.
const SHORT_LIVED: Duration = Duration::from_secs(1);

impl Actor {
    /// Takes some of the events that wait; `false` when there was none.
    pub(super) fn listen(&mut self) -> bool {
        match self.events.try_receive(&mut self.netlink) {
            Ok(Some(events)) => self.take(events),
            Ok(None) => return false,
            Err(error) => self.reopen_events(error),
        }
        true
    }

    /// Listens with a new socket in place of one that fails; what happened meanwhile is read from
    /// the kernel's table.
    pub(super) fn reopen_events(&mut self, error: std::io::Error) {
        let now = Instant::now();
        let before = self.events_reopened_at.replace(now);
        if before.is_some_and(|at| now.saturating_duration_since(at) < SHORT_LIVED) {
            let error = anyhow::Error::new(error);
            self.hopeless = Some(error.context("the kernel's events cannot be heard"));
            return;
        }
        warn!(%error, "the kernel's events cannot be heard; a new socket is opened");
        match EventSocket::open(self.event_buffer) {
            Ok(events) => {
                self.events = events;
                self.redump();
            }
            Err(error) => self.hopeless = Some(error.into()),
        }
    }

    /// Changes the kernel's table with a new socket in place of one that fails.
    pub(super) fn reopen_table(&mut self) {
        match TableSocket::open() {
            Ok(table) => self.table = table,
            Err(error) => warn!("no new socket for the kernel's flows: {error:#}"),
        }
    }

    pub(super) fn take(&mut self, events: Events) {
        let messages = std::mem::take(&mut self.netlink);
        if events == Events::Overrun || !self.learn(&messages) {
            self.redump();
        }
        self.netlink = messages;
    }

    /// Feeds a buffer of events; `false` when some were lost.
    fn learn(&mut self, messages: &[u8]) -> bool {
        let own = self.table.port_id();
        let now = Instant::now();
        let mut complete = true;
        for message in Messages::new(messages) {
            let Ok(message) = message else { return false };
            let change = match message.kind() {
                Ok(Kind::New) => Change::New,
                Ok(Kind::Update | Kind::Entry) => Change::Update,
                Ok(Kind::Destroy) => Change::Delete,
                Ok(
                    Kind::ExpectationNew
                    | Kind::ExpectationUpdate
                    | Kind::ExpectationDestroy
                    | Kind::ExpectationEntry
                    | Kind::Answer(_)
                    | Kind::Done(_)
                    | Kind::Noop
                    | Kind::Unknown,
                ) => continue,
                Ok(Kind::Overrun) | Err(_) => {
                    complete = false;
                    continue;
                }
            };
            match message.flow() {
                Ok(flow) => {
                    let own = message.header().port_id == own;
                    let event = KernelEvent { change, flow: &flow, own };
                    self.replicator.handle_kernel_event(event, now);
                }
                Err(error) => debug!(%error, "an event that cannot be understood"),
            }
        }
        complete
    }

    /// Events were lost: the table has to be read again, soon and not too often.
    pub(super) fn redump(&mut self) {
        let now = Instant::now();
        let earliest = self.dumped_at.map_or(now, |at| at + REDUMP);
        self.redump_at.get_or_insert(earliest.max(now));
    }
}
