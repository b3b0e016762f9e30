//! When which address is announced: at once, again after delays, at a refresh, after a conflict.
//!
//! A pure schedule for all virtual routers of a daemon. It owns what is still to be announced and
//! in which order; the frames are made by [`crate::announcement`] and sent by the caller, who
//! calls [`Announcements::start`] only after the advertisement of the new master has left: the old
//! one has to drop the addresses before they are announced here.
//!
//! ```text
//!   start, restart, conflict ──▶ rounds by deadline ──▶ a line per interface ──▶ due
//!                                                       (least time between two frames)
//! ```
//!
//! A round is every address of one key. What waits in the line of an interface is bounded by the
//! addresses themselves: a round that falls due while the one before is still going out is made
//! once after it, however many they were.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most targets that one call of [`Announcements::due`] returns; what is left stays due, so that
/// an advertisement can leave in between.
pub const MAX_ANNOUNCEMENTS_AT_ONCE: usize = 256;

/// An address, and the interface it is announced on.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct AnnouncementTarget {
    /// The name of the interface that carries the address.
    pub interface: Arc<str>,
    /// The virtual address.
    pub address: IpAddr,
}

/// When the rounds of one key are made.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AnnouncementTimes {
    /// Counted from the start; 0 for at once.
    pub after: Vec<Duration>,
    /// From the last of those to the next, and so on; `None` for no more.
    pub refresh: Option<Duration>,
}

/// What is to be announced by whom, and when. A key is a virtual router or a failover group.
#[derive(Clone, Debug, Default)]
pub struct Announcements {
    keys: BTreeMap<Arc<str>, Entry>,
    /// The next round of each key that has one.
    rounds: BTreeSet<(Instant, Arc<str>)>,
    lines: BTreeMap<Arc<str>, Line>,
    /// The lines in which something waits.
    sending: BTreeSet<(Instant, Arc<str>)>,
    tickets: u64,
}

/// What one key has to announce.
#[derive(Clone, Debug)]
struct Entry {
    parts: Vec<Part>,
    times: AnnouncementTimes,
    /// When the rounds are counted from.
    began: Instant,
    /// How many of [`AnnouncementTimes::after`] are made.
    made: usize,
    /// The next round that follows from the times.
    regular_at: Option<Instant>,
    conflict: Option<Conflict>,
}

/// The addresses of one key on one interface.
#[derive(Clone, Debug)]
struct Part {
    interface: Arc<str>,
    addresses: Vec<IpAddr>,
    /// The place in the interface's line, while a round waits there.
    ticket: Option<u64>,
    /// How many of the round have left.
    left: usize,
    /// Another round follows the one that waits.
    again: bool,
}

/// Another master was heard, and gave or will give way.
#[derive(Clone, Copy, Debug)]
struct Conflict {
    heard_at: Instant,
    spacing: Duration,
    /// When the next round on account of it is allowed.
    allowed_at: Instant,
    /// Whether that round is wanted.
    wanted: bool,
}

/// The frames that wait for one interface.
#[derive(Clone, Debug, Default)]
struct Line {
    interval: Duration,
    /// When the next frame may leave; `None` before the first.
    free_at: Option<Instant>,
    waiting: BTreeMap<u64, Arc<str>>,
    /// The entry of this line in [`Announcements::sending`].
    listed_at: Option<Instant>,
}

impl Announcements {
    /// Nothing to announce, no pacing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the least time between two frames on an interface; 0, the default, for none.
    pub fn pace(&mut self, interface: &str, interval: Duration) {
        self.lines.entry(interface.into()).or_default().interval = interval;
    }

    /// Begins the rounds of a key anew, whatever it had to announce before. Call it when the key
    /// is master, has advertised, and has its addresses.
    pub fn start(
        &mut self,
        key: &str,
        targets: impl IntoIterator<Item = AnnouncementTarget>,
        times: AnnouncementTimes,
        now: Instant,
    ) {
        self.stop(key);
        let mut times = times;
        times.after.sort_unstable();
        let entry = Entry {
            parts: parts(targets),
            regular_at: times.after.first().map_or_else(
                || times.refresh.map(|refresh| now + refresh),
                |first| Some(now + *first),
            ),
            times,
            began: now,
            made: 0,
            conflict: None,
        };
        let key: Arc<str> = key.into();
        if let Some(at) = entry.next_round() {
            self.rounds.insert((at, Arc::clone(&key)));
        }
        self.keys.insert(key, entry);
    }

    /// Goes on with a key whose rounds an earlier run has made: nothing is announced before the next
    /// refresh, a conflict, or [`Announcements::restart`].
    pub fn resume(
        &mut self,
        key: &str,
        targets: impl IntoIterator<Item = AnnouncementTarget>,
        times: AnnouncementTimes,
        now: Instant,
    ) {
        let refresh = times.refresh;
        self.start(key, targets, times, now);
        let Some((key, entry)) = self.keys.get_key_value(key) else { return };
        let (key, before) = (Arc::clone(key), entry.next_round());
        if let Some(entry) = self.keys.get_mut(&key) {
            entry.made = entry.times.after.len();
            entry.regular_at = refresh.map(|refresh| now + refresh);
            let after = entry.next_round();
            self.move_round(&key, before, after);
        }
    }

    /// Begins the rounds of a key anew with what it announces already, for example because its
    /// addresses were put back after its interface had been down. Nothing for a stopped key.
    pub fn restart(&mut self, key: &str, now: Instant) {
        let Some(entry) = self.keys.get(key) else { return };
        let (targets, times) = (entry.targets(), entry.times.clone());
        self.start(key, targets, times, now);
    }

    /// Replaces what a key announces. Its rounds begin anew when an address is new, and go on
    /// otherwise; an address that is no longer there is not announced again. Nothing for a
    /// stopped key.
    pub fn retarget(
        &mut self,
        key: &str,
        targets: impl IntoIterator<Item = AnnouncementTarget>,
        now: Instant,
    ) {
        let Some(entry) = self.keys.get(key) else { return };
        let before: BTreeSet<_> = entry.targets().into_iter().collect();
        let after: BTreeSet<_> = targets.into_iter().collect();
        if after.is_subset(&before) {
            let (entry, waiting) = (entry.clone(), entry.waits());
            self.stop(key);
            let key: Arc<str> = key.into();
            if let Some(at) = entry.next_round() {
                self.rounds.insert((at, Arc::clone(&key)));
            }
            self.keys.insert(Arc::clone(&key), Entry { parts: parts(after), ..entry });
            if waiting {
                self.queue(&key, now);
            }
        } else {
            let times = entry.times.clone();
            self.start(key, after, times, now);
        }
    }

    /// Another master was heard that has to give way: the link may have learned the wrong place.
    /// A round is made at once; while conflicts go on, the next ones follow 1, 2, 4 … 60 s apart,
    /// until there was none for 60 s. Nothing for a stopped key.
    pub fn conflict(&mut self, key: &str, now: Instant) {
        let Some((key, entry)) = self.keys.get_key_value(key) else { return };
        let (key, before) = (Arc::clone(key), entry.next_round());
        let Some(entry) = self.keys.get_mut(&key) else { return };
        let fresh =
            Conflict { heard_at: now, spacing: Duration::ZERO, allowed_at: now, wanted: true };
        let conflict = entry
            .conflict
            .filter(|old| now.saturating_duration_since(old.heard_at) < QUIET)
            .unwrap_or(fresh);
        entry.conflict = Some(Conflict { heard_at: now, wanted: true, ..conflict });
        let after = entry.next_round();
        self.move_round(&key, before, after);
    }

    /// Announces nothing more for a key, also not what waits in a line.
    pub fn stop(&mut self, key: &str) {
        let Some((key, entry)) = self.keys.remove_entry(key) else { return };
        if let Some(at) = entry.next_round() {
            self.rounds.remove(&(at, Arc::clone(&key)));
        }
        for part in &entry.parts {
            let Some(ticket) = part.ticket else { continue };
            if let Some(line) = self.lines.get_mut(&part.interface) {
                line.waiting.remove(&ticket);
            }
            self.list(&part.interface);
        }
    }

    /// Whether a key was started and not stopped.
    pub fn is_started(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// When [`Announcements::due`] has something to do; it may be past.
    pub fn next_deadline(&self) -> Option<Instant> {
        let round = self.rounds.first().map(|(at, _)| *at);
        let frame = self.sending.first().map(|(at, _)| *at);
        round.into_iter().chain(frame).min()
    }

    /// What is to be announced now, in that order; at most [`MAX_ANNOUNCEMENTS_AT_ONCE`].
    #[must_use = "what is returned is not returned again"]
    pub fn due(&mut self, now: Instant) -> Vec<AnnouncementTarget> {
        while let Some((at, key)) = self.rounds.first().filter(|(at, _)| *at <= now).cloned() {
            self.rounds.remove(&(at, Arc::clone(&key)));
            let Some(entry) = self.keys.get_mut(&key) else { continue };
            entry.make_round(now);
            if let Some(next) = entry.next_round() {
                self.rounds.insert((next, Arc::clone(&key)));
            }
            self.queue(&key, now);
        }
        let mut due = Vec::new();
        while let Some((_, interface)) = self.sending.first().filter(|(at, _)| *at <= now).cloned()
        {
            if due.len() >= MAX_ANNOUNCEMENTS_AT_ONCE {
                break;
            }
            due.extend(self.leave(&interface, now));
        }
        due
    }

    /// Puts a round of a key into the lines of its interfaces.
    fn queue(&mut self, key: &Arc<str>, now: Instant) {
        let Some(entry) = self.keys.get_mut(key) else { return };
        let mut fresh = Vec::new();
        for part in &mut entry.parts {
            if part.ticket.is_some() {
                part.again = true;
                continue;
            }
            part.left = 0;
            part.ticket = Some(self.tickets);
            let line = self.lines.entry(Arc::clone(&part.interface)).or_default();
            line.waiting.insert(self.tickets, Arc::clone(key));
            line.free_at.get_or_insert(now);
            self.tickets += 1;
            fresh.push(Arc::clone(&part.interface));
        }
        for interface in fresh {
            self.list(&interface);
        }
    }

    /// The next frame of an interface's line.
    fn leave(&mut self, interface: &Arc<str>, now: Instant) -> Option<AnnouncementTarget> {
        let line = self.lines.get_mut(interface)?;
        let (ticket, key) = line.waiting.first_key_value().map(|(t, key)| (*t, Arc::clone(key)))?;
        line.free_at = Some(now + line.interval);
        let part = self
            .keys
            .get_mut(&key)
            .and_then(|entry| entry.parts.iter_mut().find(|part| part.ticket == Some(ticket)));
        let mut address = None;
        let mut ended = true;
        if let Some(part) = part {
            address = part.addresses.get(part.left).copied();
            part.left += 1;
            ended = part.left >= part.addresses.len();
            if ended {
                part.left = 0;
                part.ticket = None;
                if std::mem::take(&mut part.again) {
                    // Behind the others that wait.
                    part.ticket = Some(self.tickets);
                    line.waiting.insert(self.tickets, key);
                    self.tickets += 1;
                }
            }
        }
        if ended {
            line.waiting.remove(&ticket);
        }
        self.list(interface);
        address.map(|address| AnnouncementTarget { interface: Arc::clone(interface), address })
    }

    /// Keeps the index of the lines in which something waits.
    fn list(&mut self, interface: &Arc<str>) {
        let Some(line) = self.lines.get_mut(interface) else { return };
        let wanted = line.free_at.filter(|_| !line.waiting.is_empty());
        if wanted == line.listed_at {
            return;
        }
        if let Some(at) = std::mem::replace(&mut line.listed_at, wanted) {
            self.sending.remove(&(at, Arc::clone(interface)));
        }
        if let Some(at) = wanted {
            self.sending.insert((at, Arc::clone(interface)));
        }
    }

    fn move_round(&mut self, key: &Arc<str>, before: Option<Instant>, after: Option<Instant>) {
        if before == after {
            return;
        }
        if let Some(at) = before {
            self.rounds.remove(&(at, Arc::clone(key)));
        }
        if let Some(at) = after {
            self.rounds.insert((at, Arc::clone(key)));
        }
    }
}

impl Entry {
    fn next_round(&self) -> Option<Instant> {
        let conflict = self.conflict.filter(|conflict| conflict.wanted);
        self.regular_at.into_iter().chain(conflict.map(|conflict| conflict.allowed_at)).min()
    }

    /// Takes every round that is due as one: a schedule that is served late does not catch up.
    fn make_round(&mut self, now: Instant) {
        if let Some(at) = self.regular_at.filter(|at| *at <= now) {
            let due = |after: &Duration| self.began + *after <= now;
            self.made = self.times.after.iter().take_while(|after| due(after)).count();
            self.regular_at = match self.times.after.get(self.made) {
                Some(after) => Some(self.began + *after),
                None => self.times.refresh.map(|refresh| {
                    let next = at + refresh;
                    if next > now { next } else { now + refresh }
                }),
            };
        }
        if let Some(conflict) = self.conflict.as_mut()
            && conflict.wanted
            && conflict.allowed_at <= now
        {
            conflict.wanted = false;
            conflict.spacing = (2 * conflict.spacing).clamp(FIRST_SPACING, LONGEST_SPACING);
            conflict.allowed_at = now + conflict.spacing;
        }
    }

    fn targets(&self) -> Vec<AnnouncementTarget> {
        let of = |part: &Part| {
            let interface = Arc::clone(&part.interface);
            let target =
                move |address| AnnouncementTarget { interface: Arc::clone(&interface), address };
            part.addresses.clone().into_iter().map(target)
        };
        self.parts.iter().flat_map(of).collect()
    }

    fn waits(&self) -> bool {
        self.parts.iter().any(|part| part.ticket.is_some())
    }
}

/// The targets by interface, each once, in the order given.
fn parts(targets: impl IntoIterator<Item = AnnouncementTarget>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut known = BTreeSet::new();
    for AnnouncementTarget { interface, address } in targets {
        if !known.insert((Arc::clone(&interface), address)) {
            continue;
        }
        match parts.iter_mut().find(|part| part.interface == interface) {
            Some(part) => part.addresses.push(address),
            None => parts.push(Part {
                interface,
                addresses: vec![address],
                ticket: None,
                left: 0,
                again: false,
            }),
        }
    }
    parts
}

/// From the first round after a conflict to the second.
const FIRST_SPACING: Duration = Duration::from_secs(1);
/// The most it grows to while conflicts go on.
const LONGEST_SPACING: Duration = Duration::from_mins(1);
/// Without a conflict for so long, the next one is answered at once again. Longer than most
/// advertisement intervals, or each advertisement of a lasting conflict would be the first.
const QUIET: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests;
