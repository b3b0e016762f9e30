//! The replicator: caches, roles and timers around the conversations with the peers.

mod claims;
mod copies;
mod expectations;
mod inheritance;
mod injection;
mod links;
#[cfg(test)]
mod looks;
mod peer;
mod peers;
mod receive;
mod refresh;
mod requests;
mod settings;
mod strays;
mod stream;
mod succession;
mod sweep;
mod sync;
mod transfer;
mod uptake;
mod view;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lockstep_ctnetlink::Flow;

use crate::commit::MAX_LOOKS;
use crate::config::{Config, Mode, Standby};
use crate::ends::Ends;
use crate::event::{Event, Role, Start};
use crate::external::External;
use crate::filter::Selection;
use crate::internal::{Internal, Learned, Object, Partial};
use crate::key::Key;
use crate::refresh::Refresh;
use crate::resync::{Cause, Resync};
use crate::statistics::Counters;
use crate::table::Slot;
use crate::timeout::is_parked;
use crate::wire::Change;

use copies::REFRESH_SLACK;
pub use expectations::ExpectationEvent;
pub use injection::InjectionState;
use injection::Takeover;
use links::Links;
use peer::{Peer, Reach, due};
use succession::Succession;
use sync::Standing;
use uptake::Uptake;

/// A peer that says nothing for this long is taken to be away; conntrackd speaks once a second.
pub const PEER_SILENT: Duration = Duration::from_secs(5);

/// Time between two looks for flows that have expired.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

/// A new active router reads its kernel's table and tells it in this time, a large one in a few
/// seconds.
const JUST_LEFT: Duration = Duration::from_secs(5);

/// Longest that a router which has left its role tells what its kernel does, unless another one is
/// heard to serve before: that one commits a million flows meanwhile.
const AFTERMATH: Duration = Duration::from_secs(10);

/// Most events waiting to be taken.
const MAX_EVENTS: usize = 64;

/// Flow replication with the other routers of a failover group, which run conntrackd 1.4.7 or
/// Lockstep.
///
/// Sans-IO: feed datagrams, kernel events and time; after each of these take datagrams from
/// [`Replicator::poll_transmit`] and events from [`Replicator::poll_event`] until both are empty,
/// and call [`Replicator::handle_timeout`] at [`Replicator::next_deadline`].
pub struct Replicator {
    config: Config,
    started: Instant,
    first_sequence: u32,
    role: Role,
    selection: Selection,
    refresh: Refresh,
    internal: Internal,
    external: External,
    takeover: Takeover,
    uptake: Uptake,
    ends: Option<Ends>,
    links: Links,
    /// Never empty, and never more than [`peer::MAX_PEERS`].
    peers: Vec<Peer>,
    /// The peer that may send next.
    turn: usize,
    /// ALARM: when to look for flows that nobody has told again, and where.
    expire_at: Option<Instant>,
    expire_next: Slot,
    purge_at: Option<Instant>,
    /// The time for the purge has come and nobody has begun it.
    purge_wanted: bool,
    /// A person has asked for it: it waits for no peer.
    purge_asked: bool,
    /// Its time has come, and no peer is known to serve.
    purge_put_off: bool,
    /// A commit has begun, and the active role has not come since.
    committing: bool,
    /// When the sweep under way goes on.
    sweeps_on_at: Option<Instant>,
    /// A full copy follows the reading under way, so that it need not tell one by one.
    copy_after_dump: bool,
    /// What peers have told was refused for want of room, and there is room again.
    room_again: bool,
    /// When the last copy was, or is to be, asked for because of that.
    room_asked_at: Option<Instant>,
    /// What we remove from the kernel has ended for the peers as well: a person wants it gone.
    tells_removals: bool,
    /// The role was left before the reading that it began with had ended: what that finds is ours.
    rest_is_ours: bool,
    /// When the role was left: what a reading finds soon after that no event had told is ours, too.
    left_at: Option<Instant>,
    /// The role was left a moment ago: whoever serves may not know yet what it serves.
    just_left_until: Option<Instant>,
    /// The role was left: what of its flows could not be told until then is not told any more.
    quiet_at: Option<Instant>,
    /// Until when what the kernel tells is told on although the role was left: nobody is known to
    /// serve in its place yet, and neighbours still send their packets here.
    tells_until: Option<Instant>,
    counters: Counters,
    last_committed: u64,
    events: VecDeque<Event>,
    standing: Standing,
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
            first_sequence: match config.mode {
                // Without greetings only a leap in the numbers tells of a start: the clock does not
                // leap when few messages were sent before.
                Mode::Notrack => start.first_sequence ^ start.secret as u32,
                Mode::Ftfw | Mode::Alarm => start.first_sequence,
            },
            role: Role::Backup,
            selection: Selection::new(&config.filter),
            refresh: Refresh::default(),
            internal: Internal::new(config.cache_limit, start.secret),
            external: External::new(
                config.cache_limit,
                start.secret.rotate_left(32),
                config.standby == Standby::Kernel,
            ),
            takeover: Takeover::default(),
            uptake: Uptake::default(),
            ends: config.inherits().then(|| Ends::new(start.secret.rotate_left(47))),
            links: Links::new(&config.links, start.max_datagram),
            peers: Vec::new(),
            turn: 0,
            expire_at: None,
            expire_next: 0,
            purge_at: None,
            purge_wanted: false,
            purge_asked: false,
            purge_put_off: false,
            committing: false,
            sweeps_on_at: None,
            copy_after_dump: false,
            room_again: false,
            room_asked_at: None,
            tells_removals: false,
            rest_is_ours: false,
            left_at: None,
            just_left_until: None,
            quiet_at: None,
            tells_until: None,
            counters: Counters::default(),
            last_committed: 0,
            events: VecDeque::new(),
            standing: Standing::NeverHeard,
            config,
        };
        replicator.hand_back();
        replicator.first_peers(now);
        replicator.handle_timeout(now);
        replicator
    }

    /// The router's own addresses; flows that begin or end there are left out from now on.
    pub fn set_local_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.selection.set_local(addresses);
    }

    // ---- the kernel ----

    /// The kernel's table has changed.
    pub fn handle_kernel_event(&mut self, event: KernelEvent<'_>, now: Instant) {
        let parted = event.change == Change::Delete && self.is_passive(event.flow);
        if self.heed_passive(&event) {
            return;
        }
        let KernelEvent { change, flow, own } = event;
        if !self.wants(change, flow) {
            self.counters.internal_filtered += 1;
            return;
        }
        let late = self.selection.has_states() && change == Change::Update && !self.knows(flow);
        let learned = match change {
            Change::New | Change::Update => {
                let now_s = self.seconds(now);
                let flow = self.with_own_timeout(flow, now);
                self.internal.put(change, &flow, own, now_s, &mut self.counters)
            }
            Change::Delete => {
                let silently = own && !self.tells_removals;
                if !silently && !parted {
                    self.note_end(&Key::of(flow), now);
                }
                self.internal.destroy(flow, silently, &mut self.counters)
            }
        };
        self.tell(learned);
        if change != Change::Delete {
            self.consider_refresh(flow, late, now);
        }
    }

    /// The kernel's table is about to be read: at start, after an overrun, after a commit. Events
    /// may be fed in between.
    pub fn begin_dump(&mut self) {
        self.begin_reading_passive();
        self.internal.begin_reading();
    }

    /// One flow of the table.
    pub fn dumped(&mut self, flow: &Flow, now: Instant) {
        if self.read_passive(flow) {
            return;
        }
        if !self.wants(Change::Update, flow) {
            self.counters.internal_filtered += 1;
            return;
        }
        let now_s = self.seconds(now);
        let committed = self.committing && self.external.table.find(&Key::of(flow)).is_some();
        let ours =
            committed || self.rest_is_ours || self.has_just_left(now) || self.is_left_over(flow);
        let parked = flow.timeout_s.is_some_and(is_parked);
        let flow = self.with_own_timeout(flow, now);
        let learned = self.internal.read_part(&flow, ours, now_s, &mut self.counters);
        if parked {
            self.unpark(&flow);
        }
        if !self.copy_after_dump {
            self.tell(learned);
        }
        self.consider_refresh(&flow, false, now);
    }

    /// The table has been read to its end: what was not in it is gone. Returns `false` when so
    /// much has changed meanwhile that it has to be read once more. However long that takes: see
    /// [`Replicator::end_dump_step`].
    #[must_use = "an untrustworthy reading has to be repeated"]
    pub fn end_dump(&mut self, now: Instant) -> bool {
        loop {
            if let Some(trusted) = self.end_dump_step(now) {
                return trusted;
            }
        }
    }

    /// [`Replicator::end_dump`], looking at [`crate::MAX_LOOKS`] entries at most; `None` when it has
    /// to be called again. Events may be fed in between.
    #[must_use = "an untrustworthy reading has to be repeated"]
    pub fn end_dump_step(&mut self, now: Instant) -> Option<bool> {
        let silent = self.is_silent();
        let made_up = self.internal.is_in_doubt() || self.internal.lacks_flows();
        let now_s = self.seconds(now);
        let (peers, ends) = (&mut self.peers, &mut self.ends);
        let trusted =
            self.internal.end_reading(MAX_LOOKS, &mut self.counters, |internal, learned| {
                let ended = internal.gone(learned);
                if let (Some(ends), Some(key)) = (ends.as_mut(), ended) {
                    ends.note(&key, now_s);
                }
                tell(peers, internal, if silent { learned.untold() } else { learned });
            })?;
        self.rest_is_ours &= !trusted;
        if trusted {
            if self.has_just_left(now) && self.purge_at.is_none() {
                self.purge_at = Some(now + self.config.purge_timeout);
            }
            self.left_at = None;
        }
        if trusted {
            self.end_reading_passive();
            self.internal.set_partial(Partial::No);
        }
        if trusted && made_up && !silent {
            for peer in self.peers.iter_mut().filter(|peer| peer.present()) {
                peer.conversation.catch_up();
            }
        }
        if trusted && std::mem::take(&mut self.copy_after_dump) {
            self.offer_everything(now);
        }
        self.settle(now);
        Some(trusted)
    }

    fn tell(&mut self, learned: Learned) {
        let learned = if self.tells_nothing() { learned.untold() } else { learned };
        tell(&mut self.peers, &mut self.internal, learned);
    }

    // ---- roles ----

    /// This router serves now: the external flows, committed before, are its own. Read the kernel's
    /// table next ([`Replicator::begin_dump`]); when it has been read all of it goes to the peer.
    ///
    /// Of several groups it serves one more: what the peers told stays known, for those of them
    /// that serve on.
    pub fn activate(&mut self, now: Instant) {
        self.role = Role::Active;
        self.uptake.serve(now);
        self.hand_over();
        self.change_claim();
        for peer in &mut self.peers {
            peer.sweep_at = None;
            peer.succession = Succession::None;
        }
        if self.config.shares() {
            self.begin_to_share(now);
        } else {
            for peer in &mut self.peers {
                peer.resync = Resync::Unneeded;
                peer.conversation.ask_no_more();
            }
        }
        self.call_off_purge();
        self.committing = false;
        self.copy_after_dump = true;
        self.internal.set_partial(Partial::Expected);
        self.rest_is_ours = false;
        self.left_at = None;
        self.just_left_until = None;
        self.quiet_at = None;
        self.tells_until = None;
        self.settle(now);
    }

    /// This router serves no more. What was ours is purged after the configured time, once a peer
    /// is known to serve, and the peers are asked for everything. A router that is backup already
    /// purges only what a commit has put into its kernel for a role that did not come.
    pub fn deactivate(&mut self, now: Instant) {
        if self.role == Role::Active {
            self.role = Role::Backup;
            let served_since = self.uptake.leave(self.committing);
            self.note_heirs(served_since);
            self.hand_back();
            self.change_claim();
            self.internal.mark_ours(self.seconds(now));
            self.internal.set_partial(Partial::No);
            self.tells_removals = false;
            self.purge_at = Some(now + self.config.purge_timeout);
            self.rest_is_ours = std::mem::take(&mut self.copy_after_dump);
            self.left_at = Some(now);
            self.just_left_until = Some(now + JUST_LEFT);
            self.quiet_at = Some(now + self.config.purge_timeout / 2);
            self.tells_until = Some(now + AFTERMATH);
            for place in 0..self.peers.len() {
                self.want_resync(place, Cause::Role);
            }
            self.expect_successions(now);
        } else if self.committing {
            self.purge_at = Some(now + self.config.purge_timeout);
        }
        self.external.forget_late();
        self.settle(now);
    }

    /// One of several groups has left this router, which serves on with another. Nobody can say
    /// which flows were the group's: all are told on. Whoever serves it now has them, and what is
    /// left of them here expires.
    pub fn give_up_group(&mut self, now: Instant) {
        self.committing = false;
        self.uptake.close();
        self.external.forget_late();
        self.internal.mark_ours(self.seconds(now));
        self.settle(now);
    }

    /// Whether what the peers serve is to be known here.
    pub(super) fn hears(&self) -> bool {
        self.role == Role::Backup || self.config.shares()
    }

    /// Whether the kernel may have told of flows from before the role was left that nobody heard.
    fn has_just_left(&self, now: Instant) -> bool {
        self.left_at.is_some_and(|at| now < at + 2 * self.config.purge_timeout)
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Forgets what the peer has told (`conntrackd -f external`).
    pub fn flush_external(&mut self) {
        self.external.clear();
    }

    /// Forgets what the kernel has told (`conntrackd -f internal`); read the table afterwards.
    pub fn flush_internal(&mut self) {
        for peer in &mut self.peers {
            peer.conversation.peer_is_gone(&mut self.internal);
        }
        self.internal.clear();
        self.refresh.clear();
        for place in 0..self.peers.len() {
            self.want_resync(place, Cause::Command);
        }
    }

    // ---- time ----

    /// When to call [`Replicator::handle_timeout`]; valid until the next call of anything else.
    pub fn next_deadline(&self) -> Option<Instant> {
        let peers = self.peers.iter().filter_map(Peer::next_deadline);
        peers
            .chain(self.purge_at)
            .chain(self.expire_at)
            .chain(self.quiet_at)
            .chain(self.tells_until)
            .chain(self.sweeps_on_at)
            .chain(self.just_left_until)
            .chain(self.uptake.closes_at())
            .chain(self.uptake.tells_at())
            .chain(self.forgetting_at())
            .min()
    }

    /// Does what the clock asks for; spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.look_for_silence(now);
        for place in 0..self.peers.len() {
            if due(self.peers[place].early.next_deadline(), now) {
                self.give_up_waiting(place, now);
            }
            let peer = &mut self.peers[place];
            peer.handle_timeout(now, &mut self.counters);
            if due(peer.sweep_at, now) {
                peer.sweep_at = None;
                let index = peer.index;
                self.sweep(index, self.external.generation(index), now);
            }
        }
        self.make_due_offers(now);
        if due(self.sweeps_on_at, now) {
            self.sweep_on(now);
        }
        if due(self.just_left_until, now) {
            self.just_left_until = None;
        }
        if due(self.tells_until, now) {
            self.tells_until = None;
        }
        if due(self.quiet_at, now) {
            self.fall_quiet();
        }
        if due(self.uptake.closes_at(), now) {
            self.uptake.close();
        }
        if due(self.uptake.tells_at(), now) {
            self.tell_of_uptake();
        }
        self.step_successions(now);
        self.expire(now);
        if due(self.purge_at, now) {
            self.purge_is_due(now);
        }
        self.settle(now);
        for peer in self.peers.iter_mut().filter(|peer| peer.reach != Reach::Overheard) {
            let (internal, counters) = (&mut self.internal, &mut self.counters);
            peer.conversation.handle_timeout(now, internal, counters);
        }
    }

    /// ALARM: drops what nobody has told again for too long, looking at every flow once in ten
    /// seconds.
    fn expire(&mut self, now: Instant) {
        if self.config.mode != Mode::Alarm || self.expire_at.is_some_and(|at| now < at) {
            return;
        }
        self.expire_at = Some(now + EXPIRE_INTERVAL);
        let timeout_s = self.config.cache_timeout.as_secs() as u32;
        let now_s = self.seconds(now);
        let intervals_s = 2 * (self.config.refresh_interval + REFRESH_SLACK).as_secs() as u32;
        let ages = (now_s.saturating_sub(timeout_s), now_s.saturating_sub(intervals_s));
        let steps = self.external.table.slots() / 10 + 64;
        let dropped = self.external.drop_unheard(&mut self.expire_next, steps, ages);
        self.counters.external_expired += dropped as u64;
        for peer in &mut self.peers {
            peer.conversation.note_aged(self.external.aged(peer.index));
        }
    }

    /// Draws the consequences of what has changed.
    fn settle(&mut self, now: Instant) {
        self.uptake.close_after_commit(now);
        self.ask_who_begins_to_tell();
        for place in 0..self.peers.len() {
            self.peers[place].conversation.handle_answer(now, &mut self.counters);
            self.step_resync(place, now);
            self.peers[place].settle(now);
        }
        self.drop_what_is_over(now);
        self.ask_for_what_was_refused(now);
        let standing = self.standing(now);
        if standing != self.standing {
            self.standing = standing;
            self.push(Event::Sync(self.sync_state()));
        }
    }

    // ---- towards the caller ----

    /// The next thing the caller should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.look_at_limits();
        self.events.pop_front()
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

fn tell(peers: &mut [Peer], internal: &mut Internal, learned: Learned) {
    let (object, wanted) = match learned {
        Learned::Tell(slot) => (Object::Flow(slot), true),
        Learned::Forget(slot) => (Object::Flow(slot), false),
        Learned::Nothing => return,
    };
    let overheard = peers.iter().any(Peer::overhears);
    for peer in peers {
        if wanted {
            peer.tell(object, overheard, internal);
        } else {
            peer.conversation.forget(object, internal);
        }
    }
    internal.release(object);
}
