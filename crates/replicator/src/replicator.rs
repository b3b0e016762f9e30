//! The replicator: caches, roles and timers around the conversation with the peer.

mod transfer;
mod view;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lockstep_ctnetlink::Flow;

use crate::config::Config;
use crate::early::Early;
use crate::event::{Event, Origin, Role, Start, SyncState, Transmit};
use crate::external::External;
use crate::filter::Selection;
use crate::ftfw::{Content, Conversation};
use crate::internal::{Internal, Learned};
use crate::key::Key;
use crate::resync::{Cause, Resync};
use crate::statistics::Counters;
use crate::wire::{Change, Malformed, Message, Messages, decode_flow};

/// A peer that says nothing for this long is taken to be away; conntrackd speaks once a second.
pub const PEER_SILENT: Duration = Duration::from_secs(5);

/// Most events waiting to be taken.
const MAX_EVENTS: usize = 64;

/// Time between demands for an acknowledgement that something waits for: the first and the next.
const PROVOKE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// A gap in the peer's messages that is open for longer is more than the loss of a datagram.
const GAP_PATIENCE: Duration = Duration::from_secs(1);

/// How long late messages may come, and no others, before the peer's numbers are taken anew.
const STUCK: Duration = Duration::from_secs(3);

/// Flow replication with one peer (`conntrackd` 1.4.7, mode FTFW, or another Lockstep).
///
/// Sans-IO: feed datagrams, kernel events and time; after each of these take datagrams from
/// [`Replicator::poll_transmit`] and events from [`Replicator::poll_event`] until both are empty,
/// and call [`Replicator::handle_timeout`] at [`Replicator::next_deadline`].
pub struct Replicator {
    config: Config,
    started: Instant,
    max_datagram: usize,
    role: Role,
    selection: Selection,
    internal: Internal,
    external: External,
    conversation: Conversation,
    early: Early,
    peer: Option<Peer>,
    resync: Resync,
    /// When entries that an empty peer did not confirm are dropped.
    sweep_at: Option<Instant>,
    purge_at: Option<Instant>,
    /// The time for the purge has come and nobody has begun it.
    purge_wanted: bool,
    /// A commit has begun, and the active role has not come since.
    committing: bool,
    provoke_at: Option<Instant>,
    stuck_since: Option<Instant>,
    /// Messages have been missing for longer than it takes to repeat them.
    gap_stays: bool,
    /// A full copy follows the reading under way, so that it need not tell one by one.
    copy_after_dump: bool,
    counters: Counters,
    last_committed: u64,
    events: VecDeque<Event>,
    sync: SyncState,
}

struct Peer {
    address: IpAddr,
    heard_at: Instant,
    silent: bool,
}

/// One change of the kernel's table.
#[derive(Clone, Copy, Debug)]
pub struct KernelEvent<'a> {
    /// What happened.
    pub change: Change,
    /// To which flow.
    pub flow: &'a Flow,
    /// Whether this daemon asked for it (told by the netlink port id): such changes are known to
    /// the peer already, or are not its business.
    pub own: bool,
}

impl Replicator {
    /// A backup without flows. The first datagram is ready to be taken.
    pub fn new(config: Config, start: Start, now: Instant) -> Self {
        let mut replicator = Self {
            started: now,
            max_datagram: start.max_datagram,
            role: Role::Backup,
            selection: Selection::new(&config.filter),
            internal: Internal::new(config.cache_limit, start.secret),
            external: External::new(config.cache_limit, start.secret.rotate_left(32)),
            conversation: Conversation::new(
                start.first_sequence,
                config.ack_window,
                config.resend_queue,
            ),
            early: Early::default(),
            peer: None,
            resync: Resync::wanted(Cause::Appeared),
            sweep_at: None,
            purge_at: None,
            purge_wanted: false,
            committing: false,
            provoke_at: None,
            stuck_since: None,
            gap_stays: false,
            copy_after_dump: false,
            counters: Counters::default(),
            last_committed: 0,
            events: VecDeque::new(),
            sync: SyncState::never_heard(),
            config,
        };
        replicator.handle_timeout(now);
        replicator
    }

    /// Largest datagram payload: MTU − 28 for IPv4.
    pub fn set_max_datagram(&mut self, bytes: usize) {
        self.max_datagram = bytes;
    }

    /// The router's own addresses; flows that begin or end there are left out from now on.
    pub fn set_local_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.selection.set_local(addresses);
    }

    // ---- the peer ----

    /// Takes a datagram.
    pub fn handle_datagram(&mut self, origin: Origin, datagram: &[u8], now: Instant) {
        if !self.recognise(origin.source, datagram, now) {
            self.counters.datagrams_foreign += 1;
            return;
        }
        self.counters.datagrams_received += 1;
        self.counters.bytes_received += datagram.len() as u64;
        for message in Messages::of(datagram) {
            match message {
                Ok(message) => self.sort(&message, now),
                Err(malformed) => self.count_malformed(malformed),
            }
        }
        self.settle(now);
    }

    /// Processes a message when its turn has come, and those that waited for it.
    fn sort(&mut self, message: &Message<'_>, now: Instant) {
        self.counters.messages_received += 1;
        let early = self.conversation.is_early(message);
        if early && self.early.hold(message, now) {
            return;
        }
        if early {
            self.give_up_waiting(now);
        }
        self.process(message, now);
        while let Some(held) = self.early.next_after(self.conversation.last()) {
            self.process(&held.message(), now);
        }
    }

    /// What is missing before the kept messages counts as lost.
    fn give_up_waiting(&mut self, now: Instant) {
        while let Some(held) = self.early.pop() {
            self.process(&held.message(), now);
        }
    }

    fn process(&mut self, message: &Message<'_>, now: Instant) {
        let received =
            self.conversation.receive(message, &mut self.internal, &mut self.counters, now);
        let outcome = received.and_then(|received| {
            if received.restarted {
                self.early.clear();
                self.peer_restarted();
            }
            self.heed(received.content, message.body, now)
        });
        if let Err(malformed) = outcome {
            self.count_malformed(malformed);
        }
    }

    /// Whether the datagram is the peer's. The first router heard is; another one only when that
    /// has fallen silent, since this protocol has one row of numbers for one peer.
    fn recognise(&mut self, source: IpAddr, datagram: &[u8], now: Instant) -> bool {
        match &mut self.peer {
            Some(peer) if peer.address == source => {
                peer.heard_at = now;
                if std::mem::take(&mut peer.silent) {
                    self.peer_appeared(source);
                }
                return true;
            }
            Some(peer) if !peer.silent => return false,
            Some(_) | None => {}
        }
        let sensible = Messages::of(datagram).next().is_some_and(|first| first.is_ok());
        if sensible {
            if self.peer.is_some() {
                self.conversation.new_peer(&mut self.internal);
                self.early.clear();
            }
            self.peer = Some(Peer { address: source, heard_at: now, silent: false });
            self.peer_appeared(source);
        }
        // Bytes that mean nothing make nobody a peer, but are counted for what they are.
        sensible || self.peer.is_none()
    }

    fn heed(
        &mut self,
        content: Option<Content>,
        body: &[u8],
        now: Instant,
    ) -> Result<(), Malformed> {
        let Some(content) = content else {
            let since = *self.stuck_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= STUCK {
                self.stuck_since = None;
                self.conversation.rearm();
                self.want_resync(Cause::Appeared);
            }
            return Ok(());
        };
        self.stuck_since = None;
        if let Resync::Asked { progress_at, .. } = &mut self.resync
            && matches!(content, Content::Flow(_) | Content::Expectation)
        {
            *progress_at = now;
        }
        match content {
            Content::Flow(change) => {
                let flow = decode_flow(body).map_err(|_| Malformed::BadPayload)?;
                let now_s = self.seconds(now);
                self.external.apply(0, change, &flow, now_s, &mut self.counters);
            }
            Content::Expectation => self.counters.expectations_ignored += 1,
            Content::Ack(..) | Content::Nack(..) | Content::Resync | Content::Alive => {}
        }
        Ok(())
    }

    fn peer_appeared(&mut self, address: IpAddr) {
        self.counters.peer_appeared += 1;
        self.push(Event::PeerAppeared { address });
        self.want_resync(Cause::Appeared);
        if self.role == Role::Active {
            self.conversation.want_copy();
        }
    }

    fn peer_restarted(&mut self) {
        self.counters.peer_restarted += 1;
        // The very first greeting comes with the peer's appearance.
        if self.counters.peer_restarted > 1 {
            self.push(Event::PeerRestarted);
        }
        self.want_resync(Cause::Restarted);
        if self.role == Role::Active {
            self.conversation.want_copy();
        }
    }

    fn peer_silent(&mut self) {
        self.counters.peer_silent += 1;
        self.conversation.peer_is_gone(&mut self.internal);
        self.push(Event::PeerSilent);
        self.want_resync(Cause::Appeared);
    }

    /// Whether a peer is there to be told something.
    fn peer_present(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| !peer.silent)
    }

    fn count_malformed(&mut self, malformed: Malformed) {
        self.counters.malformed += 1;
        *match malformed {
            Malformed::Truncated => &mut self.counters.malformed_truncated,
            Malformed::BadSize => &mut self.counters.malformed_size,
            Malformed::WrongVersion => &mut self.counters.malformed_version,
            Malformed::BadHeader => &mut self.counters.malformed_header,
            Malformed::BadPayload => &mut self.counters.malformed_payload,
        } += 1;
    }

    // ---- the kernel ----

    /// The kernel's table has changed.
    pub fn handle_kernel_event(&mut self, event: KernelEvent<'_>, now: Instant) {
        let KernelEvent { change, flow, own } = event;
        if !self.selection.takes(flow) {
            self.counters.internal_filtered += 1;
            return;
        }
        let learned = match change {
            Change::New | Change::Update => {
                let now_s = self.seconds(now);
                self.internal.put(change, flow, own, now_s, &mut self.counters)
            }
            Change::Delete => self.internal.destroy(flow, own, &mut self.counters),
        };
        self.tell(learned);
    }

    /// The kernel's table is about to be read: at start, after an overrun, after a commit. Events
    /// may be fed in between.
    pub fn begin_dump(&mut self) {
        self.internal.begin_reading();
    }

    /// One flow of the table.
    pub fn dumped(&mut self, flow: &Flow, now: Instant) {
        if !self.selection.takes(flow) {
            self.counters.internal_filtered += 1;
            return;
        }
        let now_s = self.seconds(now);
        let committed =
            self.committing && self.external.table.find(&Key::of(flow)).is_some();
        let learned = self.internal.read(flow, committed, now_s, &mut self.counters);
        if !self.copy_after_dump {
            self.tell(learned);
        }
    }

    /// The table has been read to its end: what was not in it is gone. Returns `false` when so
    /// much has changed meanwhile that it has to be read once more.
    #[must_use = "an untrustworthy reading has to be repeated"]
    pub fn end_dump(&mut self, now: Instant) -> bool {
        let present = self.peer_present();
        let conversation = &mut self.conversation;
        let trusted = self.internal.end_reading(&mut self.counters, |internal, learned| {
            tell(conversation, internal, present, learned);
        });
        if trusted && std::mem::take(&mut self.copy_after_dump) {
            self.conversation.want_copy();
        }
        self.settle(now);
        trusted
    }

    fn tell(&mut self, learned: Learned) {
        let present = self.peer_present();
        tell(&mut self.conversation, &mut self.internal, present, learned);
    }

    // ---- roles ----

    /// This router serves now: the external flows, committed before, are its own. Read the kernel's
    /// table next ([`Replicator::begin_dump`]); when it has been read all of it goes to the peer.
    pub fn activate(&mut self, now: Instant) {
        self.role = Role::Active;
        self.external.table.clear();
        self.resync = Resync::Unneeded;
        self.sweep_at = None;
        self.call_off_purge();
        self.committing = false;
        self.copy_after_dump = true;
        self.settle(now);
    }

    /// Another router serves now. What was ours is purged after the configured time, and the peer
    /// is asked for everything. A router that is backup already purges only what a commit has put
    /// into its kernel for a role that did not come.
    pub fn deactivate(&mut self, now: Instant) {
        if self.role == Role::Active {
            self.role = Role::Backup;
            self.internal.mark_ours();
            self.purge_at = Some(now + self.config.purge_timeout);
            self.copy_after_dump = false;
            self.want_resync(Cause::Role);
        } else if self.committing {
            self.purge_at = Some(now + self.config.purge_timeout);
        }
        self.settle(now);
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Asks the peer for everything it has (`conntrackd -n`).
    pub fn request_resync(&mut self, now: Instant) {
        self.resync = Resync::wanted(Cause::Command);
        self.settle(now);
    }

    /// Sends the peer everything we have (`conntrackd -B`).
    pub fn send_everything(&mut self) {
        self.conversation.want_copy();
    }

    /// Forgets what the peer has told (`conntrackd -f external`).
    pub fn flush_external(&mut self) {
        self.external.table.clear();
    }

    /// Forgets what the kernel has told (`conntrackd -f internal`); read the table afterwards.
    pub fn flush_internal(&mut self) {
        self.conversation.peer_is_gone(&mut self.internal);
        self.internal.clear();
        if self.role == Role::Backup {
            self.want_resync(Cause::Command);
        }
    }

    // ---- time ----

    /// When to call [`Replicator::handle_timeout`]; valid until the next call of anything else.
    pub fn next_deadline(&self) -> Option<Instant> {
        let silent = self.peer.as_ref().filter(|peer| !peer.silent);
        let resync = self.resync.next_deadline().filter(|_| self.peer_present());
        [
            self.conversation.next_deadline(),
            silent.map(|peer| peer.heard_at + PEER_SILENT),
            resync,
            self.early.next_deadline(),
            self.sweep_at,
            self.purge_at,
            self.provoke_at,
            self.gap_counts_at().filter(|_| !self.gap_stays),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what the clock asks for; spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(peer) = &mut self.peer
            && !peer.silent
            && now.saturating_duration_since(peer.heard_at) >= PEER_SILENT
        {
            peer.silent = true;
            self.peer_silent();
        }
        if due(self.early.next_deadline(), now) {
            self.give_up_waiting(now);
        }
        if due(self.provoke_at, now) {
            self.provoke_at = Some(now + PROVOKE.1);
            self.conversation.provoke(&mut self.counters);
        }
        if due(self.sweep_at, now) {
            self.sweep_at = None;
            self.counters.external_swept += self.external.sweep(0) as u64;
        }
        if due(self.purge_at, now) {
            self.purge_at = None;
            self.purge_wanted = true;
            self.push(Event::PurgeDue);
        }
        if let Resync::Asked { cause, attempts, .. } = self.resync
            && due(self.resync.next_deadline(), now)
        {
            self.resync = Resync::Wanted { at: None, cause, attempts };
        }
        self.settle(now);
        self.conversation.handle_timeout(now, &mut self.counters);
    }

    /// Draws the consequences of what has changed.
    fn settle(&mut self, now: Instant) {
        self.conversation.handle_answer(now, &mut self.counters);
        self.step_resync(now);
        self.plan_provocation(now);
        self.gap_stays = due(self.gap_counts_at(), now);
        let sync = self.sync_state();
        if sync != self.sync {
            self.push(Event::Sync(sync.clone()));
            self.sync = sync;
        }
    }

    /// When the oldest gap stops being a matter of course.
    fn gap_counts_at(&self) -> Option<Instant> {
        self.conversation.oldest_gap().map(|since| since + GAP_PATIENCE)
    }

    fn plan_provocation(&mut self, now: Instant) {
        let waits = self.peer_present() && self.conversation.waits_for_peer();
        self.provoke_at = match self.provoke_at {
            _ if !waits => None,
            None => Some(now + PROVOKE.0),
            at => at,
        };
    }

    fn step_resync(&mut self, now: Instant) {
        match self.resync {
            Resync::Wanted { at, cause, attempts } => {
                let may_ask = self.peer_present() && self.conversation.established();
                if may_ask && at.is_none_or(|at| now >= at) {
                    let generation = self.external.begin_generation(0);
                    self.conversation.ask_for_everything(generation, &mut self.counters);
                    self.sweep_at = None;
                    self.resync = Resync::Asked {
                        generation,
                        asked_at: now,
                        progress_at: now,
                        cause,
                        attempts,
                    };
                }
            }
            Resync::Asked { generation, cause, attempts, .. } => {
                let open = self.conversation.resync_open(generation);
                if !open && self.conversation.gaps() == 0 {
                    self.resync_ended(cause, attempts, now);
                }
            }
            Resync::Unneeded | Resync::Complete => {}
        }
    }

    fn resync_ended(&mut self, cause: Cause, attempts: u32, now: Instant) {
        if self.conversation.take_doubt() {
            self.resync = Resync::again(cause, attempts, now);
            return;
        }
        self.resync = Resync::Complete;
        self.counters.resyncs_completed += 1;
        // A router that has just booted has nothing to say, and what it told before is still the
        // best that is known of its connections: it is kept as long as a purge would take.
        let confirmed = self.external.confirmed(0);
        if cause == Cause::Restarted && confirmed == 0 && self.external.table.len() > 0 {
            self.sweep_at = Some(now + self.config.purge_timeout);
        } else {
            self.counters.external_swept += self.external.sweep(0) as u64;
        }
        self.push(Event::ResyncCompleted { flows: confirmed });
    }

    fn want_resync(&mut self, cause: Cause) {
        if self.role == Role::Backup {
            self.resync = Resync::wanted(cause);
        }
    }

    // ---- towards the caller ----

    /// Puts the next datagram into `buffer`, which is cleared first; `None` when there is nothing
    /// to send now. To be called again until then after every other call.
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<Transmit> {
        buffer.clear();
        let messages = self.conversation.fill(
            self.max_datagram,
            &mut self.internal,
            &mut self.counters,
            now,
            buffer,
        );
        if messages == 0 {
            self.plan_provocation(now);
            return None;
        }
        self.counters.datagrams_sent += 1;
        self.counters.bytes_sent += buffer.len() as u64;
        Some(Transmit { link: 0, to: None, messages })
    }

    /// The next thing the caller should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether this router holds every flow the peer has told, and why (not). What was lost on the
    /// way and is being repeated counts only after a second.
    pub fn sync_state(&self) -> SyncState {
        let (in_sync, reason) = match (&self.peer, &self.resync, self.role) {
            (_, _, Role::Active) => (true, "this router is the active one".to_owned()),
            (None, _, Role::Backup) => return SyncState::never_heard(),
            (Some(peer), _, Role::Backup) if peer.silent => {
                (false, format!("the peer {} has fallen silent", peer.address))
            }
            (Some(peer), Resync::Wanted { at: None, .. } | Resync::Unneeded, Role::Backup) => {
                (false, format!("the peer {} has not been asked for its flows yet", peer.address))
            }
            (Some(peer), Resync::Wanted { at: Some(_), .. }, Role::Backup) => (
                false,
                format!("flows of the peer {} were lost and are asked for again", peer.address),
            ),
            (Some(peer), Resync::Asked { .. }, Role::Backup) => {
                (false, format!("flows are arriving from the peer {}", peer.address))
            }
            (Some(peer), Resync::Complete, Role::Backup) if self.gap_stays => {
                (false, format!("messages of the peer {} are missing", peer.address))
            }
            (Some(peer), Resync::Complete, Role::Backup) => {
                (true, format!("all flows of the peer {} have arrived", peer.address))
            }
        };
        SyncState { in_sync, reason }
    }

    pub(crate) fn internal(&self) -> &Internal {
        &self.internal
    }

    pub(crate) fn external(&self) -> &External {
        &self.external
    }

    /// Whole seconds since the start.
    pub(crate) fn seconds(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.started).as_secs() as u32
    }

    fn push(&mut self, event: Event) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
            self.counters.events_dropped += 1;
        }
        self.events.push_back(event);
    }
}

fn tell(
    conversation: &mut Conversation,
    internal: &mut Internal,
    peer_present: bool,
    learned: Learned,
) {
    match learned {
        Learned::Tell(slot) if peer_present => conversation.queue_flow(slot, internal),
        // Nobody listens; whoever comes gets a full copy.
        Learned::Tell(slot) | Learned::Forget(slot) => conversation.forget_flow(slot, internal),
        Learned::Nothing => {}
    }
}

fn due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now >= at)
}
