//! The copies of everything the peers have: asked for, arriving, complete.

use std::time::{Duration, Instant};

use super::Replicator;
use super::peer::{Reach, due};
use crate::claim::Claim;
use crate::config::Mode;
use crate::conversation::Doubt;
use crate::event::Event;
use crate::resync::{Cause, Resync};

/// In NOTRACK a copy whose end is not seen counts as complete after this long, and this much longer
/// for every 50 000 flows known.
const COPY_TIME: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));

/// In NOTRACK a copy that brings nothing where nothing is known is asked for again this often, and
/// one that brings less than half of what is known.
const ASK_AGAIN: (u32, u32) = (2, 5);

/// In NOTRACK most copies that are looked at together. Of 1000 flows a fifth of which is lost each time, none is in none of
/// so many.
const LONGEST_ROW: u8 = 8;

/// In ALARM every flow has been told by then: conntrackd adds up to two seconds to its interval.
pub(super) const REFRESH_SLACK: Duration = Duration::from_secs(2);

impl Replicator {
    /// Asks the peers for everything they have (`conntrackd -n`).
    pub fn request_resync(&mut self, now: Instant) {
        for peer in &mut self.peers {
            peer.resync = Resync::wanted(Cause::Command);
        }
        self.settle(now);
    }

    /// Sends the peers everything we have (`conntrackd -B`).
    pub fn send_everything(&mut self) {
        // Who overhears the group is told by way of it.
        for peer in self.peers.iter_mut().filter(|peer| peer.reach != Reach::Overheard) {
            peer.conversation.want_copy();
        }
    }

    pub(super) fn want_resync(&mut self, place: usize, cause: Cause) {
        if self.hears() {
            self.peers[place].resync = Resync::wanted(cause);
        }
    }

    pub(super) fn step_resync(&mut self, place: usize, now: Instant) {
        let peer = &mut self.peers[place];
        if !matches!(peer.resync, Resync::Wanted { .. }) {
            peer.held_back = None;
        }
        match peer.resync {
            Resync::Wanted { at, cause, attempts } => {
                let may_ask = peer.present() && peer.conversation.established();
                if may_ask && at.is_none_or(|at| now >= at) {
                    match peer.holds_back_until(now) {
                        Some(at) => peer.resync = Resync::Wanted { at: Some(at), cause, attempts },
                        None => self.ask(place, (cause, attempts), now),
                    }
                }
            }
            Resync::Asked { generation, cause, attempts, .. } => {
                let over = match self.config.mode {
                    Mode::Ftfw => {
                        !peer.conversation.resync_open(generation) && peer.conversation.gaps() == 0
                    }
                    Mode::Notrack => {
                        !peer.conversation.resync_open(generation) || due(peer.copy_ends_at, now)
                    }
                    Mode::Alarm => due(peer.copy_ends_at, now),
                };
                if over {
                    self.resync_ended(place, cause, attempts, now);
                }
            }
            Resync::Complete if self.config.mode != Mode::Alarm => {
                if !peer.conversation.take_doubt(now).is_none() {
                    peer.repeat_copy(now);
                }
            }
            Resync::Unneeded if self.config.mode == Mode::Notrack => {
                // What was lost may have been a request.
                if peer.conversation.doubts_for_long(now) {
                    self.speaker(place).want_copy();
                }
            }
            Resync::Sweeping => self.end_copy(place, now),
            Resync::Unneeded | Resync::Complete => {}
        }
    }

    fn ask(&mut self, place: usize, (cause, attempts): (Cause, u32), now: Instant) {
        let external = self.external.table.len() as u32;
        let peer = &mut self.peers[place];
        let goes_on = cause == Cause::Lost && (1..LONGEST_ROW).contains(&peer.row);
        let generation = if goes_on {
            peer.row += 1;
            self.external.continue_row(peer.index)
        } else {
            peer.row = 1;
            self.external.begin_generation(peer.index)
        };
        peer.sweep_at = None;
        peer.stood_by = false;
        peer.resync =
            Resync::Asked { generation, asked_at: now, progress_at: now, cause, attempts };
        match (self.config.mode, peer.reach) {
            (Mode::Alarm, _) => {
                peer.copy_ends_at = Some(now + self.config.refresh_interval + REFRESH_SLACK);
            }
            (mode, reach) => {
                if mode == Mode::Notrack {
                    peer.copy_ends_at = Some(now + COPY_TIME.0 + COPY_TIME.1 * (external / 50_000));
                }
                if reach == Reach::Overheard {
                    peer.conversation.expect_everything(generation, now);
                    if let Some(group) = self.group_peer() {
                        let speaker = &mut self.peers[group].conversation;
                        speaker.request(generation, &mut self.counters);
                    }
                } else {
                    peer.conversation.ask_for_everything(generation, &mut self.counters, now);
                }
            }
        }
    }

    fn resync_ended(&mut self, place: usize, cause: Cause, attempts: u32, now: Instant) {
        let doubt = self.peers[place].conversation.take_doubt(now);
        if !doubt.is_none() {
            self.drop_what_no_copy_has(place, doubt, now);
            let peer = &mut self.peers[place];
            match self.config.mode {
                Mode::Notrack => peer.repeat_copy(now),
                Mode::Ftfw | Mode::Alarm => peer.resync = Resync::again(cause, attempts, now),
            }
            return;
        }
        let peer = &mut self.peers[place];
        let alarm = self.config.mode == Mode::Alarm;
        let claim = peer.claim;
        if claim == Some(Claim::Serves) && !alarm {
            // It began to serve when it had answered already, or is about to.
            peer.resync = Resync::again(Cause::Succession, attempts, now);
            return;
        }
        let index = peer.index;
        let confirmed = self.external.confirmed(index);
        let whole = match claim {
            Some(Claim::ToldAll) => true,
            Some(Claim::StandsBy | Claim::Serves) => false,
            None => confirmed > 0,
        };
        if self.config.mode == Mode::Notrack {
            let told = self.external.told(index);
            // So little of what is known may mean that the request was lost.
            let again = match (told, confirmed) {
                (0, _) => claim != Some(Claim::StandsBy) && attempts < ASK_AGAIN.0,
                _ => confirmed * 2 < told && attempts < ASK_AGAIN.1,
            };
            if again {
                self.peers[place].resync =
                    Resync::Wanted { at: None, cause, attempts: attempts + 1 };
                return;
            }
        }
        self.peers[place].told_nothing = !whole && !alarm;
        self.peers[place].unproven = claim == Some(Claim::StandsBy) && (confirmed == 0 || !alarm);
        let proves = whole && confirmed > 0;
        let keeps = cause != Cause::Command && !proves && self.external.has_told(index);
        self.peers[place].resync = Resync::Sweeping;
        if alarm {
            // What is not told again expires by itself.
        } else if keeps {
            // A router that stands by, or has just booted, has nothing to say, and what it told
            // before is still the best that is known: it is kept as long as a purge would take.
            let later = now + self.config.purge_timeout;
            if self.others_present(place) {
                self.peers[place].succession.begin(later);
            } else {
                self.peers[place].sweep_at = Some(later);
            }
        } else {
            self.sweep(index, self.external.generation(index), now);
        }
        self.peers[place].row = 0;
        if !alarm && whole {
            self.forget_who_is_gone(now);
        }
        self.end_copy(place, now);
    }

    /// Drops what no copy of the row has told, when these make a whole one although messages of the last one are
    /// missing: the peer has no more flows than this one has told and lacks, and the row has as many.
    ///
    /// A flow whose end was lost since the row began is counted among them, and may stand for another one that
    /// no copy has told. So there is another copy in any case.
    fn drop_what_no_copy_has(&mut self, place: usize, doubt: Doubt, now: Instant) {
        let peer = &mut self.peers[place];
        let Doubt::Missing(missing) = doubt else {
            peer.row = 0;
            return;
        };
        let told = self.external.confirmed(peer.index) as u64;
        let (row, gathered) = self.external.gathered(peer.index);
        let gathered = gathered as u64;
        // So little of it may mean that the request was lost.
        let answered = told * 2 >= gathered;
        let whole = gathered >= told.saturating_add(missing);
        let serves = matches!(peer.claim, None | Some(Claim::ToldAll));
        if self.config.mode == Mode::Notrack && serves && answered && whole {
            peer.row = 0;
            let index = peer.index;
            self.sweep(index, row, now);
        }
    }

    /// The copy is complete when what was not in it has been dropped.
    fn end_copy(&mut self, place: usize, now: Instant) {
        let peer = &mut self.peers[place];
        let index = peer.index;
        peer.taken = None;
        if self.external.is_sweeping_of(index) {
            return;
        }
        peer.resync = Resync::Complete;
        self.counters.resyncs_completed += 1;
        if let Some(address) = self.peers[place].address() {
            let flows = self.external.confirmed(index);
            self.push(Event::ResyncCompleted { address, flows });
        }
        self.purge_left_overs(now);
    }
}
