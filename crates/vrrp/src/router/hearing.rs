//! What every advertisement tells, in any state: whether it is new, who sends it, in what its
//! sender differs.
//!
//! The path of an advertisement that is like the one before and ours, in Backup, is the busiest of
//! the whole machine: it is not decoded again, it allocates nothing, and looks nothing up while no
//! neighbour is remembered as odd.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::VirtualRouter;
use super::stated::Stated;
use crate::address_list::AddressListDifference;
use crate::advertisement::{Advertisement, Format};
use crate::config::{ChecksumDialect, Priority, Version};
use crate::differences::Differing;
use crate::event::{Action, Heard, State};
use crate::neighbours::{Present, takes_part};
use crate::packet::{Datagram, Endpoints, PROTOCOL};
use crate::verdict::{Judged, Rejection, judge};

/// The newest list of addresses that is not ours to the letter, so that one that keeps coming is
/// compared once.
#[derive(Clone, Debug)]
pub(super) struct ComparedList {
    source: IpAddr,
    theirs: Vec<IpAddr>,
    /// The same addresses in another order are no difference.
    differs: bool,
}

/// The newest packet that was heeded, so that one that is the same to the byte is judged once.
/// Nothing is kept of those whose verdict needs more than their bytes and the settings, which are
/// the authenticated ones.
#[derive(Clone, Debug)]
pub(super) struct Heeded {
    endpoints: Endpoints,
    ttl: u8,
    payload: Vec<u8>,
    judged: Judged,
}

impl Heeded {
    fn is(&self, datagram: &Datagram) -> bool {
        datagram.protocol == PROTOCOL
            && datagram.payload == self.payload
            && datagram.endpoints == self.endpoints
            && datagram.ttl == self.ttl
    }
}

impl VirtualRouter {
    /// Judges a received packet, counts it, and feeds it when it is heeded.
    #[must_use = "actions must be carried out"]
    pub fn receive(&mut self, datagram: &Datagram, now: Instant) -> Vec<Action> {
        let source = datagram.endpoints.source();
        if self.primary == Some(source) {
            return self.refuse(source, Rejection::OwnAddress, None, now);
        }
        if let Some(heeded) = self.heeded.take_if(|heeded| heeded.is(datagram)) {
            let actions = self.heed(&heeded.judged, source, now);
            self.heeded = Some(heeded);
            return actions;
        }
        let judged = match judge(&self.config, datagram) {
            Ok(judged) => judged,
            Err(rejection) => {
                let stated = Stated::read(&self.config.transport, datagram);
                return self.refuse(source, rejection, stated, now);
            }
        };
        if judged.stamp.is_some_and(|stamp| !self.stamps.admit(source, stamp, now)) {
            let stated = Stated::of(&judged.advertisement);
            return self.refuse(source, Rejection::TrailerReplay, Some(stated), now);
        }
        let actions = self.heed(&judged, source, now);
        if datagram.protocol == PROTOCOL && self.config.trailer.is_none() {
            let Datagram { endpoints, ttl, .. } = *datagram;
            let payload = datagram.payload.clone();
            self.heeded = Some(Box::new(Heeded { endpoints, ttl, payload, judged }));
        }
        actions
    }

    /// As [`crate::Event::Received`], and what only the packet tells.
    fn heed(&mut self, judged: &Judged, source: IpAddr, now: Instant) -> Vec<Action> {
        let mut actions = self.wake(now);
        let reaction = self.hear(&judged.advertisement, source, now);
        if actions.is_empty() {
            actions = reaction;
        } else {
            actions.extend(reaction);
        }
        if let Some(theirs) = judged.dialect {
            actions.extend(self.compare_checksum(theirs, source, now));
        }
        actions
    }

    /// An advertisement that was judged, in any state.
    pub(super) fn hear(
        &mut self,
        advertisement: &Advertisement,
        source: IpAddr,
        now: Instant,
    ) -> Vec<Action> {
        if self.primary == Some(source) {
            return Vec::new();
        }
        if let Err(rejection) = self.admit(advertisement, source, now) {
            return self.refuse(source, rejection, Some(Stated::of(advertisement)), now);
        }
        self.open_the_gate(now);
        let stopping = self.heard.is_some_and(|heard| heard.resigned && heard.address == source);
        let news = self.note(advertisement, source, now);
        let mut actions = match self.state {
            State::Initialize => Vec::new(),
            State::Backup { .. } => self.heed_as_backup(advertisement, source, stopping, now),
            State::Master { .. } => self.heed_as_master(advertisement, source, now),
        };
        actions.extend(news);
        actions
    }

    /// Whether its number in the authentication header, if we use one, is new.
    fn admit(
        &mut self,
        advertisement: &Advertisement,
        source: IpAddr,
        now: Instant,
    ) -> Result<(), Rejection> {
        let Format::V2(authentication) = advertisement.format else { return Ok(()) };
        if !self.uses_header() {
            return Ok(());
        }
        let theirs = authentication.sequence;
        let patience = self.master_down_interval();
        self.sequence
            .admit(theirs, source, patience, now)
            .map_err(|ours| Rejection::Sequence { theirs, ours })
    }

    /// A master goes on from the number of one that has to give way.
    pub(super) fn follow(&mut self, advertisement: &Advertisement) {
        if let Format::V2(authentication) = advertisement.format
            && self.uses_header()
        {
            self.sequence.follow(authentication.sequence);
        }
    }

    /// `stated` is what the refused packet states, where it states it.
    fn refuse(
        &mut self,
        source: IpAddr,
        rejection: Rejection,
        stated: Option<Stated>,
        now: Instant,
    ) -> Vec<Action> {
        self.statistics.count(&rejection);
        self.forget_the_gone(now);
        if let Some(Stated { priority, interval }) = stated.filter(|_| takes_part(&rejection)) {
            self.open_the_gate(now);
            if priority > 0 {
                let until = now + self.presence(interval);
                self.neighbours.note_presence(Present { source, rejection, until });
            } else if self.neighbours.end_presence(source) {
                self.withhold_no_longer(now);
            }
        }
        if self.neighbours.remember(source, rejection, self.patience(), now) {
            vec![Action::Rejected { source, rejection }]
        } else {
            Vec::new()
        }
    }

    /// Remembers who was heard, and tells in what it differs.
    fn note(&mut self, advertisement: &Advertisement, source: IpAddr, now: Instant) -> Vec<Action> {
        self.statistics.advertisements_received += 1;
        self.neighbours.forget(source);
        let mut news = Vec::new();
        if advertisement.addresses != self.config.addresses || !self.differences.is_empty() {
            news.extend(self.compare_addresses(advertisement, source, now));
        }
        if advertisement.version() == Version::V3 {
            let (theirs, ours) = (advertisement.interval, self.config.advertisement_interval);
            let differs = theirs != ours && !self.hurries(advertisement, source);
            let differing = differs.then_some(Differing::Interval { theirs, ours });
            self.statistics.interval_differences += u64::from(differing.is_some());
            let kind = |one: &Differing| matches!(one, Differing::Interval { .. });
            news.extend(self.differ(source, differing, kind, now));
        }
        let two_owners =
            self.priority == Priority::OWNER && advertisement.priority == Priority::OWNER.value();
        let kind = |one: &Differing| matches!(one, Differing::Owner);
        news.extend(self.differ(source, two_owners.then_some(Differing::Owner), kind, now));
        self.remember_master(advertisement, source, now);
        news
    }

    fn remember_master(&mut self, advertisement: &Advertisement, source: IpAddr, now: Instant) {
        let Advertisement { priority, interval, .. } = *advertisement;
        if priority != 0 {
            self.heard =
                Some(Heard { address: source, priority, interval, at: now, resigned: false });
            return;
        }
        self.statistics.priority_zero_received += 1;
        let heard = self.heard.get_or_insert(Heard {
            address: source,
            priority,
            interval,
            at: now,
            resigned: true,
        });
        if heard.address == source {
            heard.at = now;
            heard.resigned = true;
        }
    }

    fn compare_checksum(
        &mut self,
        theirs: ChecksumDialect,
        source: IpAddr,
        now: Instant,
    ) -> Option<Action> {
        let ours = self.config.checksum;
        let differing = (theirs != ours).then_some(Differing::Checksum { theirs, ours });
        self.statistics.checksum_differences += u64::from(differing.is_some());
        self.differ(source, differing, |one| matches!(one, Differing::Checksum { .. }), now)
    }

    fn compare_addresses(
        &mut self,
        advertisement: &Advertisement,
        source: IpAddr,
        now: Instant,
    ) -> Option<Action> {
        let theirs = &advertisement.addresses;
        let known =
            self.compared.as_ref().filter(|one| one.source == source && one.theirs == *theirs);
        if let Some(ComparedList { differs, .. }) = known {
            if *differs {
                self.statistics.address_list_errors += 1;
                self.differences.touch_addresses(source, now);
            }
            return None;
        }
        let difference =
            AddressListDifference::between(&self.config.addresses, advertisement, source);
        self.statistics.address_list_errors += u64::from(difference.is_some());
        if *theirs != self.config.addresses {
            let differs = difference.is_some();
            self.compared = Some(ComparedList { source, theirs: theirs.clone(), differs });
        }
        let differing = difference.map(Differing::Addresses);
        self.differ(source, differing, |one| matches!(one, Differing::Addresses(_)), now)
    }

    /// Remembers or forgets one difference of a neighbour; news when an operator should hear it.
    fn differ(
        &mut self,
        source: IpAddr,
        differing: Option<Differing>,
        kind: impl Fn(&Differing) -> bool,
        now: Instant,
    ) -> Option<Action> {
        let Some(differing) = differing else {
            if !self.differences.is_empty() {
                self.differences.forget(source, kind);
            }
            return None;
        };
        let tell = self.differences.remember(source, &differing, self.patience(), now);
        tell.then_some(Action::Differs { source, differing })
    }

    /// Forgets neighbours that have been unheard for long. Cheap to call often.
    pub(super) fn forget_the_gone(&mut self, now: Instant) {
        let nobody = self.neighbours.is_empty() && self.differences.is_empty();
        if nobody || self.age_at.is_some_and(|at| now < at) {
            return;
        }
        self.age_at = Some(now + self.master_down_interval());
        let age = (FORGOTTEN_AFTER * self.master_down_interval()).max(LEAST_AGE);
        self.neighbours.age(age, now);
        self.differences.age(age, now);
    }

    /// The silence after which a neighbour is not steady.
    fn patience(&self) -> Duration {
        self.master_down_interval().max(LEAST_PATIENCE)
    }
}

/// Master down intervals after which a neighbour that is not heard is forgotten.
const FORGOTTEN_AFTER: u32 = 10;
/// Nobody is forgotten earlier: a neighbour may advertise far more seldom than this router.
const LEAST_AGE: Duration = Duration::from_mins(1);
/// Nobody is taken for gone earlier, for the same reason.
const LEAST_PATIENCE: Duration = Duration::from_secs(10);
