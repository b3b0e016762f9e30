//! One peer, as far as it concerns nobody else.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::claim::Claim;
use crate::config::{Config, Mode};
use crate::conversation::Conversation;
use crate::early::Early;
use crate::internal::{Internal, Object};
use crate::resync::{self, Cause, Resync};
use crate::statistics::Counters;

use super::PEER_SILENT;
use super::stream::Stream;
use super::succession::{Rise, Succession};

/// Most peers at a time.
pub(super) const MAX_PEERS: usize = 8;

/// Most links that are used; further ones of the configuration are not.
pub(super) const MAX_LINKS: usize = 4;

/// Time between demands for an acknowledgement that something waits for: the first and the next.
const PROVOKE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// A gap in the peer's messages that is open for longer is more than the loss of a datagram.
const GAP_PATIENCE: Duration = Duration::from_secs(1);

/// A request for a copy waits no longer for a peer that tells without a pause.
const HELD_BACK: Duration = Duration::from_secs(2);

/// Losses longer ago do not count when a copy is asked for again.
const REPEATS_FORGOTTEN: Duration = Duration::from_mins(2);

/// A router we speak with, or greet.
pub(super) struct Peer {
    /// By which the external cache knows it; less than [`MAX_PEERS`].
    pub(super) index: u8,
    pub(super) reach: Reach,
    /// Where it is, by link; nowhere as long as nobody in the group has been heard.
    pub(super) addresses: [Option<IpAddr>; MAX_LINKS],
    /// The link on which it is spoken to.
    pub(super) link: usize,
    /// When it was made a peer.
    pub(super) since: Instant,
    pub(super) heard_at: Option<Instant>,
    /// When a silent one is looked for on the next link.
    pub(super) search_at: Option<Instant>,
    /// Something was not told because it was silent, which it may not know to have been.
    pub(super) forgot: bool,
    /// Not heard, or not for long.
    pub(super) silent: bool,
    /// Its copy was complete when it fell silent.
    pub(super) left_complete: bool,
    pub(super) conversation: Conversation,
    pub(super) early: Early,
    pub(super) stream: Stream,
    pub(super) resync: Resync,
    /// What it last said of its role; `None` when it is a conntrackd, or has said nothing yet.
    pub(super) claim: Option<Claim>,
    /// It has stood by since it was last asked for everything.
    pub(super) stood_by: bool,
    /// When it began to serve, by what it said.
    pub(super) rise: Rise,
    /// It stood by when its last copy ended, which therefore shows nothing of what is served.
    pub(super) unproven: bool,
    /// This router has served and not told it everything: once it says that it serves, it is told.
    pub(super) heir: bool,
    /// Until when, at least, it knew all that this router served while it stood by itself.
    pub(super) knew_all_at: Option<Instant>,
    /// Of an heir of ours alone: what it is told are the flows that began since, in seconds since the
    /// start, each as a bequest.
    pub(super) inherits_since_s: Option<u32>,
    /// What it had told before this generation of its entries is in this router's kernel.
    pub(super) taken: Option<u16>,
    /// When it is told everything although it has not asked.
    pub(super) offer_at: Option<Instant>,
    /// Its last copy was empty: it stood by, or had just begun. Flows that it has told since came
    /// unasked, and nobody knows how many are still to come.
    pub(super) told_nothing: bool,
    /// When entries that an empty peer did not confirm are dropped.
    pub(super) sweep_at: Option<Instant>,
    /// What is to become of its entries, now that another router serves.
    pub(super) succession: Succession,
    /// When it asked for everything, as a router does that stands by.
    pub(super) stood_by_at: Option<Instant>,
    provoke_at: Option<Instant>,
    /// It has not acknowledged for longer than a healthy one takes.
    pub(super) owes: bool,
    /// Since when nothing but late messages has come.
    pub(super) stuck_since: Option<Instant>,
    /// Messages have been missing for longer than it takes to repeat them.
    pub(super) gap_stays: bool,
    /// Its greeting has been heard before.
    pub(super) greeted_before: bool,
    pub(super) lost: u64,
    mode: Mode,
    /// How long it may say nothing at most.
    patience: Duration,
    /// Without acknowledgements: when a copy counts as complete at the latest.
    pub(super) copy_ends_at: Option<Instant>,
    /// Copies asked for because something was lost, and when the last one was.
    repeats: (u32, Option<Instant>),
    /// NOTRACK: copies one after the other of which each lacked something.
    pub(super) row: u8,
    /// NOTRACK: since when a request is held back until nothing more is told.
    pub(super) held_back: Option<Instant>,
}

/// How a peer is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    /// By way of the group, of which it is the only other member.
    Group,
    /// Alone. Until it has answered so, it may not know how.
    Alone { answered: bool },
    /// By way of the group, and by another peer's conversation: without acknowledgements all of
    /// them can listen to one.
    Overheard,
    /// Alone, because the configuration says so. Nobody else is heard.
    Configured,
}

/// How long it may say nothing, at most, before it counts as silent.
fn patience(config: &Config) -> Duration {
    match config.mode {
        Mode::Ftfw | Mode::Notrack => PEER_SILENT,
        // It speaks only when it has something to tell, and again after the interval.
        Mode::Alarm => config.cache_timeout.max(PEER_SILENT),
    }
}

impl Peer {
    pub(super) fn new(index: u8, reach: Reach, config: &Config, first: u32, now: Instant) -> Self {
        Self {
            index,
            reach,
            addresses: [None; MAX_LINKS],
            link: 0,
            since: now,
            heard_at: None,
            search_at: Some(now + PEER_SILENT),
            forgot: false,
            silent: true,
            left_complete: false,
            conversation: Conversation::new(first, config),
            early: Early::default(),
            stream: Stream::default(),
            resync: Resync::wanted(Cause::Appeared),
            claim: None,
            stood_by: false,
            rise: Rise::default(),
            unproven: false,
            heir: false,
            knew_all_at: None,
            inherits_since_s: None,
            taken: None,
            offer_at: None,
            told_nothing: false,
            sweep_at: None,
            succession: Succession::None,
            stood_by_at: None,
            provoke_at: None,
            owes: false,
            stuck_since: None,
            gap_stays: false,
            greeted_before: config.mode != Mode::Ftfw,
            lost: 0,
            mode: config.mode,
            patience: patience(config),
            copy_ends_at: None,
            repeats: (0, None),
            row: 0,
            held_back: None,
        }
    }

    /// Its address on the link in use, or on another when it is not known there.
    pub(super) fn address(&self) -> Option<IpAddr> {
        let known = || self.addresses.iter().copied().flatten().next();
        self.addresses.get(self.link).copied().flatten().or_else(known)
    }

    /// Whether it is there to be told something.
    pub(super) fn present(&self) -> bool {
        !self.silent
    }

    /// Whether it is there and listens to what the group is told.
    pub(super) fn overhears(&self) -> bool {
        self.reach == Reach::Overheard && self.present()
    }

    /// Puts what may change of the settings in force.
    pub(super) fn configure(&mut self, config: &Config) {
        self.patience = patience(config);
        self.conversation.configure(config);
    }

    /// Begins anew, as with another router, with numbers that go on.
    pub(super) fn start_over(&mut self, internal: &mut Internal) {
        self.conversation.new_peer(internal);
        self.early.clear();
        self.stuck_since = None;
        self.gap_stays = false;
    }

    /// The object has something to be told. The group also has to be told when only others than
    /// this peer are there to hear it (`overheard`).
    pub(super) fn tell(&mut self, object: Object, overheard: bool, internal: &mut Internal) {
        let heard = self.present() || (overheard && self.reach == Reach::Group);
        if self.reach == Reach::Overheard {
            // The group is told.
        } else if heard || self.mode == Mode::Alarm {
            self.conversation.queue(object, internal);
        } else {
            // Nobody listens; whoever comes gets a full copy. It may have been there all the time.
            self.forgot = true;
            self.conversation.forget(object, internal);
        }
    }

    // ---- time ----

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let silent = self.heard_at.filter(|_| !self.silent).map(|at| at + self.patience());
        [
            self.conversation.next_deadline().filter(|_| self.reach != Reach::Overheard),
            silent,
            self.search_at,
            self.resync_deadline().filter(|_| self.present()),
            self.early.next_deadline(),
            self.sweep_at,
            self.offer_at,
            self.succession.next_deadline(),
            self.provoke_at,
            self.gap_counts_at().filter(|_| !self.gap_stays),
            self.conversation.overdue_at().filter(|_| !self.owes),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn resync_deadline(&self) -> Option<Instant> {
        match (self.mode, self.resync) {
            (Mode::Notrack | Mode::Alarm, Resync::Asked { .. }) => self.copy_ends_at,
            (_, resync) => resync.next_deadline(),
        }
    }

    /// Something was lost that only a copy of everything brings. The oftener, the longer the wait.
    pub(super) fn repeat_copy(&mut self, now: Instant) {
        let (times, last) = self.repeats;
        let forgotten =
            last.is_none_or(|at| now.saturating_duration_since(at) >= REPEATS_FORGOTTEN);
        let times = if forgotten { 0 } else { times };
        self.repeats = (times + 1, Some(now));
        // Each pause twice: what one copy lacks another one may have.
        self.resync = Resync::later(Cause::Lost, now + resync::pause(times / 2));
    }

    /// Until when a request for a copy waits for the end of another one that may be under way. Of that one a part
    /// would count as told before, and its end as the end of the answer.
    pub(super) fn holds_back_until(&mut self, now: Instant) -> Option<Instant> {
        let until = self.conversation.tells_until().filter(|until| now < *until)?;
        let since = *self.held_back.get_or_insert(now);
        (now.saturating_duration_since(since) < HELD_BACK).then_some(until)
    }

    /// How long it may say nothing, by what is known of it.
    fn patience(&self) -> Duration {
        match self.mode {
            Mode::Ftfw | Mode::Notrack => self.patience,
            Mode::Alarm => self.conversation.longest_silence().min(self.patience),
        }
    }

    /// Whether it has just become silent.
    pub(super) fn falls_silent(&mut self, now: Instant) -> bool {
        let patience = self.patience();
        let falls = !self.silent
            && self.heard_at.is_none_or(|at| now.saturating_duration_since(at) >= patience);
        if falls {
            self.conversation.falls_silent();
            self.left_complete = self.has_told_everything();
            self.silent = true;
        }
        falls
    }

    /// Whether its copy is complete, or was when it fell silent.
    pub(super) fn has_told_everything(&self) -> bool {
        if self.silent {
            return self.left_complete;
        }
        self.resync.has_arrived() && !self.gap_stays
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, counters: &mut Counters) {
        if due(self.provoke_at, now) {
            self.provoke_at = Some(now + PROVOKE.1);
            self.conversation.provoke(counters);
        }
        if let Resync::Asked { cause, attempts, .. } = self.resync
            && self.mode == Mode::Ftfw
            && due(self.resync.next_deadline(), now)
        {
            self.resync = Resync::Wanted { at: None, cause, attempts };
        }
    }

    pub(super) fn settle(&mut self, now: Instant) {
        self.heir |= self.conversation.take_interrupted_bequest();
        // What one that serves acknowledges it does not put into its kernel.
        if self.claim == Some(Claim::StandsBy) && self.present() {
            self.knew_all_at = self.conversation.knew_all_at(now).or(self.knew_all_at);
        }
        self.plan_provocation(now);
        self.gap_stays = due(self.gap_counts_at(), now);
        self.owes = due(self.conversation.overdue_at(), now);
    }

    pub(super) fn plan_provocation(&mut self, now: Instant) {
        let waits = self.present()
            && (self.conversation.waits_for_peer() || self.conversation.is_slow(now));
        self.provoke_at = match self.provoke_at {
            _ if !waits => None,
            None => Some(now + PROVOKE.0),
            at => at,
        };
    }

    /// When the oldest gap stops being a matter of course.
    fn gap_counts_at(&self) -> Option<Instant> {
        self.conversation.oldest_gap().map(|since| since + GAP_PATIENCE)
    }
}

pub(super) fn due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now >= at)
}
