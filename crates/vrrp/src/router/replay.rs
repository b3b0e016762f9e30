//! Whether an authenticated advertisement was heard before.
//!
//! Two mechanisms, for the two ways to authenticate: a number in the authentication header that
//! all routers of a VRID count together (RFC 2402 §3.4.3, as keepalived does it), and a stamp of
//! time in the trailer, which each sender has for itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Most senders whose last stamp is remembered; beyond that, the one unheard for longest is
/// forgotten. All of them know the key.
pub(crate) const MAX_STAMPS: usize = 16;

/// The number after which counting begins anew, as keepalived has it.
const LAST: u32 = 0xffff_fffd;

/// The one counter of a VRID: the greatest number that was heard or sent.
///
/// A number has to be greater than it to be heeded, or the same when this router was the one that
/// sent it: two that become master at the same moment go on from the same number, and would count
/// in step and refuse each other. It can be no replay: each number is sent once by each router, and
/// the authentication value covers the source. A neighbour that was restarted counts from 1
/// again, and nothing it says would be heard until it has heard us; where only we hear it, that
/// is never. So a neighbour that is refused for a master down interval, while no acceptable number
/// is heard from anybody, is believed again.
///
/// The price: whoever has recorded advertisements of a neighbour and repeats them for a master down
/// interval, while no router but us is alive, is believed too. The authentication value is still
/// right, so what is believed was said by a holder of the password once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sequence {
    greatest: u32,
    /// Whether this router has sent it, and nobody else was heard with it.
    own: bool,
    refused: Option<Refused>,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    source: IpAddr,
    since: Instant,
    last: Instant,
}

impl Sequence {
    /// Goes on from a number that this router has sent.
    pub(super) fn sent(greatest: u32) -> Self {
        Self { greatest, own: true, refused: None }
    }

    /// The greatest number that was heard or sent.
    pub(super) fn greatest(self) -> u32 {
        self.greatest
    }

    /// The number of the next advertisement, the same for every copy of it. After [`LAST`] it
    /// begins anew: stopping there would make every advertisement after it a replay.
    pub(super) fn next(&mut self) -> u32 {
        self.greatest = if self.greatest >= LAST { 1 } else { self.greatest + 1 };
        self.own = true;
        self.greatest
    }

    /// Takes a number that was received; `patience` is the master down interval.
    ///
    /// # Errors
    /// The greatest number heard, when this one is not greater.
    pub(super) fn admit(
        &mut self,
        theirs: u32,
        source: IpAddr,
        patience: Duration,
        now: Instant,
    ) -> Result<(), u32> {
        let counts_anew = self.greatest >= LAST;
        let new = theirs > self.greatest || self.own && theirs == self.greatest;
        if new || counts_anew || self.has_waited(source, patience, now) {
            *self = Self { greatest: theirs, own: false, refused: None };
            return Ok(());
        }
        Err(self.greatest)
    }

    /// A master goes on from the number of a router that has to give way, so that its answer is
    /// heeded.
    pub(super) fn follow(&mut self, theirs: u32) {
        let next = theirs.saturating_add(1);
        if next > self.greatest {
            (self.greatest, self.own) = (next, false);
        }
    }

    /// Notes a refusal; whether `source` has been refused for `patience` without a break.
    fn has_waited(&mut self, source: IpAddr, patience: Duration, now: Instant) -> bool {
        let running = self.refused.filter(|one| now.saturating_duration_since(one.last) < patience);
        let mut refused = running.unwrap_or(Refused { source, since: now, last: now });
        if refused.source == source {
            refused.last = now;
        }
        self.refused = Some(refused);
        refused.source == source && now.saturating_duration_since(refused.since) >= patience
    }
}

/// The last stamp of each sender. It only ever grows, also over a restart of the sender, because
/// it is a time of day; one whose clock is set back is refused until it has caught up, which takes
/// no longer than the stamps are allowed to differ from our clock.
#[derive(Clone, Debug, Default)]
pub(super) struct Stamps {
    by_sender: BTreeMap<IpAddr, (u64, Instant)>,
}

impl Stamps {
    /// Takes a stamp; whether it is greater than the last one of that sender.
    pub(super) fn admit(&mut self, sender: IpAddr, stamp: u64, now: Instant) -> bool {
        if let Some((last, at)) = self.by_sender.get_mut(&sender) {
            let grows = stamp > *last;
            if grows {
                (*last, *at) = (stamp, now);
            }
            return grows;
        }
        if self.by_sender.len() >= MAX_STAMPS {
            let oldest = self.by_sender.iter().min_by_key(|(_, (_, at))| *at);
            if let Some(oldest) = oldest.map(|(sender, _)| *sender) {
                self.by_sender.remove(&oldest);
            }
        }
        self.by_sender.insert(sender, (stamp, now));
        true
    }
}
