//! The dedicated links: their sockets, what comes over them and what is sent, and what the router
//! itself is: its interfaces and addresses.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use lockstep_kernel::network::{Monitor, Network};
use lockstep_kernel::replication::{self, Condition, Counters, Heard, LinkSockets};
use lockstep_replicator::{Direction, Link, LinkState, Origin, Replicator};
use lockstep_routes::Interest;
use tracing::{debug, info, warn};

use super::Actor;

/// Most datagrams taken of each link before the kernel's events and the requests have their turn
/// again.
pub(super) const DATAGRAMS_IN_A_ROW: usize = 64;
/// What a datagram counts for when news gathers: it brings more messages, which cost less together.
const MESSAGES_IN_A_DATAGRAM: usize = 8;
/// Most datagrams sent in a row.
const SENT_IN_A_ROW: usize = 64;

/// One of the configured links.
pub(super) struct OneLink {
    pub(super) settings: Link,
    pub(super) sockets: Option<LinkSockets>,
    /// As it was told to the replicator last.
    pub(super) state: Option<LinkState>,
    /// What the sockets before these have done.
    before: Counters,
    overflowed_before: u64,
}

impl OneLink {
    pub(super) fn new(settings: Link) -> Self {
        let before = Counters::default();
        Self { settings, sockets: None, state: None, before, overflowed_before: 0 }
    }

    pub(super) fn is_up(&self) -> bool {
        self.sockets.is_some() && matches!(self.state, Some(LinkState::Up { .. }))
    }

    /// What it has done since the start, by name.
    pub(super) fn statistics(&self) -> [(&'static str, u64); 9] {
        let none = Counters::default();
        let now = self.sockets.as_ref().map_or(&none, LinkSockets::counters);
        let overflowed = self.sockets.as_ref().map_or(0, |sockets| sockets.overflowed().into());
        let before = &self.before;
        [
            ("datagrams-sent", before.sent_datagrams + now.sent_datagrams),
            ("bytes-sent", before.sent_bytes + now.sent_bytes),
            ("datagrams-received", before.received_datagrams + now.received_datagrams),
            ("bytes-received", before.received_bytes + now.received_bytes),
            ("send-errors", before.refused + now.refused),
            ("datagrams-from-strangers", before.strangers + now.strangers),
            ("datagrams-truncated", before.truncated + now.truncated),
            ("receive-buffer-overflows", self.overflowed_before + overflowed),
            ("connections-ended", before.connections_ended + now.connections_ended),
        ]
    }

    /// The sockets are of no use any more.
    fn close(&mut self) {
        let Some(sockets) = self.sockets.take() else { return };
        let now = sockets.counters();
        self.before.sent_datagrams += now.sent_datagrams;
        self.before.sent_bytes += now.sent_bytes;
        self.before.received_datagrams += now.received_datagrams;
        self.before.received_bytes += now.received_bytes;
        self.before.refused += now.refused;
        self.before.strangers += now.strangers;
        self.before.truncated += now.truncated;
        self.before.connections_ended += now.connections_ended;
        self.overflowed_before += u64::from(sockets.overflowed());
    }
}

impl Actor {
    /// Opens what can be opened.
    ///
    /// # Errors
    /// When a link cannot be used and waiting does not help.
    pub(super) fn open_links(&mut self) -> anyhow::Result<()> {
        for number in 0..self.links.len() {
            match LinkSockets::open(number, &self.links[number].settings) {
                Ok(sockets) => self.links[number].sockets = Some(sockets),
                Err(error) if error.is_temporary() => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.look_after_links();
        Ok(())
    }

    /// Looks how the links are, opens again those whose interface has come back, and tells the
    /// replicator what has changed.
    pub(super) fn look_after_links(&mut self) {
        for number in 0..self.links.len() {
            let state = self.look_after_link(number);
            let link = &mut self.links[number];
            if link.state.as_ref() == Some(&state) {
                continue;
            }
            let interface = &link.settings.interface;
            match &state {
                LinkState::Up { max_datagram } => {
                    info!(interface, max_datagram, "replication link up");
                }
                LinkState::Down { reason } => warn!(interface, reason, "replication link down"),
            }
            link.state = Some(state.clone());
            self.replicator.link_changed(number, state, Instant::now());
        }
    }

    fn look_after_link(&mut self, number: usize) -> LinkState {
        let link = &mut self.links[number];
        if let Some(sockets) = &link.sockets
            && matches!(sockets.condition(), Condition::Gone { .. })
        {
            link.close();
        }
        if link.sockets.is_none() {
            match LinkSockets::open(number, &link.settings) {
                Ok(sockets) => link.sockets = Some(sockets),
                Err(error) => {
                    let reason = format!("{:#}", anyhow::Error::new(error));
                    return LinkState::Down { reason };
                }
            }
        }
        match link.sockets.as_ref().map(LinkSockets::condition) {
            Some(Condition::Up { max_datagram }) => LinkState::Up { max_datagram },
            Some(Condition::Down { reason } | Condition::Gone { reason }) => {
                LinkState::Down { reason }
            }
            None => LinkState::Down { reason: "it is not open".to_owned() },
        }
    }

    fn lose_link(&mut self, number: usize, error: &std::io::Error) {
        let link = &mut self.links[number];
        debug!(%error, interface = link.settings.interface, "the replication link fails");
        link.close();
        // Opened again by the next look, which tells what is wrong if that does not help.
        self.housekeeping_at = self.housekeeping_at.min(Instant::now() + super::REOPEN);
    }

    /// Takes the datagrams that are waiting.
    pub(super) fn hear(&mut self) {
        for number in 0..self.links.len() {
            let Some(sockets) = &mut self.links[number].sockets else { continue };
            let (replicator, now) = (&mut self.replicator, Instant::now());
            let mut senseless = Vec::new();
            let received = sockets.receive_many(DATAGRAMS_IN_A_ROW, |heard| {
                feed(replicator, heard, now, &mut senseless);
            });
            for origin in senseless {
                debug!(peer = %origin.source, "a stream that cannot be understood is ended");
                if sockets.end_incoming(origin.source) {
                    replicator.connection_ended(origin, Direction::Incoming, now);
                }
            }
            match received {
                Ok(count) => {
                    self.gathering.took(count * MESSAGES_IN_A_DATAGRAM);
                    self.more_to_hear |= count == DATAGRAMS_IN_A_ROW;
                }
                Err(error) => self.lose_link(number, &error),
            }
        }
    }

    /// Sends what is to be sent, as far as the links take it.
    pub(super) fn transmit(&mut self) {
        self.more_to_send = false;
        let now = Instant::now();
        for _ in 0..SENT_IN_A_ROW {
            let links = &mut self.links;
            // A peer whose connection takes nothing waits alone.
            let has_room = |link: usize, to| {
                let sockets = links.get_mut(link).and_then(|link| link.sockets.as_mut());
                sockets.is_none_or(|sockets| sockets.has_room_for(to))
            };
            let outgoing = &mut self.outgoing;
            let next = self.replicator.poll_transmit_where(now, outgoing, has_room);
            let Some(transmit) = next else { return self.flush_links() };
            let link = self.links.get_mut(transmit.link);
            // Without a link the datagram is lost like one on the wire, and made up for like it.
            if let Some(sockets) = link.and_then(|link| link.sockets.as_mut()) {
                sockets.send(transmit.to, &self.outgoing);
            }
        }
        self.more_to_send = true;
        self.flush_links();
    }

    fn flush_links(&mut self) {
        for link in &mut self.links {
            if let Some(sockets) = &mut link.sockets {
                // What has to wait goes out when there is room: the link is ready then.
                sockets.flush();
            }
        }
    }

    // ---- the router ----

    /// Looks at everything that may change outside, unless the kernel says that nothing has.
    pub(super) async fn look_around(&mut self) {
        if self.monitor.is_none() {
            match Monitor::connect(&Interest::default()) {
                Ok(monitor) => self.monitor = Some(monitor),
                Err(error) => debug!(%error, "the kernel's announcements cannot be heard"),
            }
        }
        self.look_after_links();
        self.look_after_addresses().await;
        self.look_after_kernel();
        self.say_what_came_after_a_copy();
    }

    /// The kernel has announced a change, or does so no more.
    pub(super) fn surroundings_changed(&mut self, changed: std::io::Result<bool>) {
        match changed {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => {
                debug!(%error, "the kernel's announcements are heard no more");
                self.monitor = None;
            }
        }
        self.housekeeping_at = Instant::now();
    }

    pub(super) async fn look_after_addresses(&mut self) {
        let addresses = match Network::connect() {
            Ok(network) => network.addresses().await,
            Err(error) => Err(error),
        };
        match addresses {
            Ok(addresses) => {
                let mut own: Vec<_> =
                    addresses.iter().map(|address| address.address.addr()).collect();
                own.sort_unstable();
                own.dedup();
                if own != self.local {
                    self.replicator.set_local_addresses(own.iter().copied());
                    self.local = own;
                    self.filter_events();
                    // The flows of an address that has gone were left out, those of one that has
                    // come are in the cache.
                    if !self.config.filter.include_local {
                        self.redump();
                    }
                }
            }
            Err(error) => debug!(%error, "the router's own addresses cannot be read"),
        }
    }
}

/// Notes among the `senseless` whose connection is to be closed.
fn feed(replicator: &mut Replicator, heard: Heard<'_>, now: Instant, senseless: &mut Vec<Origin>) {
    match heard {
        Heard::Datagram { origin, bytes } => replicator.handle_datagram(origin, bytes, now),
        Heard::Stream { origin, bytes } => {
            if !replicator.handle_stream(origin, bytes, now) && !senseless.contains(&origin) {
                senseless.push(origin);
            }
        }
        Heard::Began { origin, direction } => {
            replicator.connection_began(origin, told(direction), now);
        }
        Heard::Ended { origin, direction } => {
            if direction == replication::Direction::Incoming {
                // Another may have taken its place already.
                senseless.retain(|other| *other != origin);
            }
            replicator.connection_ended(origin, told(direction), now);
        }
    }
}

fn told(direction: replication::Direction) -> Direction {
    match direction {
        replication::Direction::Incoming => Direction::Incoming,
        replication::Direction::Outgoing => Direction::Outgoing,
    }
}

/// Waits until a link has something, or takes something.
pub(super) async fn ready(links: &mut [OneLink]) {
    poll_fn(|context| {
        // All of them are asked, so that each wakes this thread.
        let mut any = Poll::Pending;
        for sockets in links.iter_mut().filter_map(|link| link.sockets.as_mut()) {
            if sockets.poll_ready(context).is_ready() {
                any = Poll::Ready(());
            }
        }
        any
    })
    .await;
}

/// Waits until something has changed; whether it may matter here.
pub(super) async fn changed(monitor: Option<&mut Monitor>) -> std::io::Result<bool> {
    match monitor {
        Some(monitor) => {
            let hints = monitor.changed().await?;
            Ok(hints.links || hints.addresses || hints.overrun)
        }
        None => std::future::pending().await,
    }
}
