//! What the kernel tells of its table as it changes.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use lockstep_ctnetlink::{Kind, Message};
use lockstep_kernel::conntrack::{EventSocket, Filtering, TableSocket, Unwanted};
use lockstep_replicator::{
    Change, Config, ExpectationEvent, Expectations, KernelEvent, Replicator,
};
use tracing::{debug, warn};

use super::{Actor, REDUMP};

/// Receptions in a row, of up to 64 events each, before others have their turn.
const RECEPTIONS: usize = 4;
/// Receptions in a row that empty a full buffer.
const ALL_RECEPTIONS: usize = 2048;
/// An event socket that fails sooner after it was opened for another is not opened again.
const SHORT_LIVED: Duration = Duration::from_secs(1);

impl Actor {
    /// Takes some of the events that wait; `false` when there was none.
    pub(super) fn listen(&mut self) -> bool {
        let own = [self.table.port_id(), self.injection.port_id()];
        let (replicator, now) = (&mut self.replicator, Instant::now());
        let mut unclear = false;
        let taken = self.events.take(|message| unclear |= !learn(replicator, message, own, now));
        match taken {
            Ok(taken) => {
                if taken.overrun || unclear {
                    self.lost_events();
                }
                self.gathering.took(taken.messages);
                taken.messages > 0 || taken.overrun
            }
            Err(error) => {
                self.reopen_events(error);
                true
            }
        }
    }

    /// Takes events that wait, some hundreds at most.
    pub(super) fn listen_a_while(&mut self) {
        self.listen_for(RECEPTIONS);
    }

    /// Takes the events that wait, as many as a full buffer holds at most.
    pub(super) fn listen_to_all(&mut self) {
        self.listen_for(ALL_RECEPTIONS);
    }

    fn listen_for(&mut self, receptions: usize) {
        for _ in 0..receptions {
            if !self.listen() {
                return;
            }
        }
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
        match open(&self.config) {
            Ok(events) => {
                self.overruns_before += self.events.overruns();
                self.events = events;
                self.replicator.events_lost(now);
                self.filter_events();
                self.redump();
            }
            Err(error) => self.hopeless = Some(error),
        }
    }

    /// Changes the kernel's table with a new socket in place of one that fails.
    pub(super) fn reopen_table(&mut self) {
        match TableSocket::open() {
            Ok(table) => self.table = table,
            Err(error) => warn!("no new socket for the kernel's flows: {error:#}"),
        }
    }

    /// Has the kernel leave out what would be left out here. It goes on as before where it cannot:
    /// everything is asked again here.
    pub(super) fn filter_events(&mut self) {
        let ports = [self.injection.port_id()];
        let (filter, local) = (&self.config.filter, self.local.as_slice());
        let filtering = self.events.leave_out(&Unwanted { filter, local, ports: &ports });
        match filtering {
            Ok(Filtering::Nothing | Filtering::Kernel { .. }) => {}
            Ok(Filtering::Unfiltered { reason }) => {
                debug!(reason, "events are not filtered in the kernel");
            }
            Err(error) => self.reopen_events(error),
        }
    }

    fn lost_events(&mut self) {
        if self.redump_at.is_none() {
            let buffer = self.events.buffer();
            warn!(buffer, "events of the kernel were lost; its table is read again");
        }
        self.replicator.events_lost(Instant::now());
        self.redump();
    }

    /// The table has to be read again, soon and not too often.
    pub(super) fn redump(&mut self) {
        let now = Instant::now();
        let earliest = self.dumped_at.map_or(now, |at| at + REDUMP);
        self.redump_at.get_or_insert(earliest.max(now));
        self.wished = None;
    }
}

/// A socket that hears of everything there is to tell, with the buffer of the settings.
pub(super) fn open(config: &Config) -> anyhow::Result<EventSocket> {
    let mut socket = EventSocket::open_growing(config.event_buffer, config.event_buffer_limit)?;
    socket
        .hear_expectations(config.expectations != Expectations::Off)
        .context("the kernel's expectations cannot be heard")?;
    Ok(socket)
}

/// Feeds an event; `false` when it tells that others were lost, or cannot be told from that.
fn learn(replicator: &mut Replicator, message: &Message<'_>, own: [u32; 2], now: Instant) -> bool {
    let (change, is_flow) = match message.kind() {
        Ok(Kind::New) => (Change::New, true),
        Ok(Kind::Update | Kind::Entry) => (Change::Update, true),
        Ok(Kind::Destroy) => (Change::Delete, true),
        Ok(Kind::ExpectationNew) => (Change::New, false),
        Ok(Kind::ExpectationUpdate | Kind::ExpectationEntry) => (Change::Update, false),
        Ok(Kind::ExpectationDestroy) => (Change::Delete, false),
        Ok(Kind::Answer(_) | Kind::Done(_) | Kind::Noop | Kind::Unknown) => return true,
        Ok(Kind::Overrun) | Err(_) => return false,
    };
    let own = own.contains(&message.header().port_id);
    let understood = if is_flow {
        message.flow().map(|flow| {
            replicator.handle_kernel_event(KernelEvent { change, flow: &flow, own }, now);
        })
    } else {
        message.expectation().map(|expectation| {
            let event = ExpectationEvent { change, expectation: &expectation, own };
            replicator.handle_expectation_event(event, now);
        })
    };
    if let Err(error) = understood {
        debug!(%error, "an event that cannot be understood");
    }
    true
}
