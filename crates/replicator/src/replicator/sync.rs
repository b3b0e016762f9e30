//! In sync, or not, and why.

use std::net::IpAddr;
use std::time::Instant;

use super::Replicator;
use super::peer::Peer;
use crate::event::{Cache, CopyState, Lag, PeerState, Role, SyncState};
use crate::resync::Resync;

use super::peer::Reach;

/// The reason in short: what is said of it is made up only when it changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// What of the flows is to be known does not fit: which cache, and its limit.
    Full(&'static str, usize),
    /// The peer seems to run another mode, and why.
    AnotherMode(IpAddr, &'static str),
    NeverHeard,
    Silent(IpAddr),
    NotAsked(IpAddr),
    AskedAgain(IpAddr),
    Arriving(IpAddr),
    Missing(IpAddr),
    /// Something it has told was refused or forgotten here.
    Lacking(IpAddr),
    Arrived(IpAddr),
    /// Another one has taken its place, as it seems.
    Succeeded(IpAddr),
    /// It stands by as well, and nobody is known to serve.
    StandsBy(IpAddr),
    ActiveLost,
    ActiveLacking,
    ActiveLackingExpectations,
    ActiveReading,
    /// Nobody is there; whoever has been heard, or is in the configuration, is named.
    ActiveAlone(Option<(IpAddr, bool)>),
    ActiveToldAll,
    ActiveGreeting(IpAddr),
    ActiveTelling(IpAddr),
    ActiveUnanswered(IpAddr),
    /// It is spoken to on a link that is down.
    ActiveCutOff(IpAddr),
}

impl Standing {
    fn say(self) -> SyncState {
        let (in_sync, reason) = match self {
            Self::Full(cache, limit) => {
                (false, format!("the {cache} is full (limit {limit}): flows are refused"))
            }
            Self::AnotherMode(address, seems) => {
                (false, format!("the peer {address} seems to run the mode {seems}"))
            }
            Self::NeverHeard => (false, "no peer has been heard".to_owned()),
            Self::Silent(address) => (false, format!("the peer {address} has fallen silent")),
            Self::NotAsked(address) => {
                (false, format!("the peer {address} has not been asked for its flows yet"))
            }
            Self::AskedAgain(address) => {
                (false, format!("flows of the peer {address} were lost and are asked for again"))
            }
            Self::Arriving(address) => {
                (false, format!("flows are arriving from the peer {address}"))
            }
            Self::Missing(address) => {
                (false, format!("messages of the peer {address} are missing"))
            }
            Self::Lacking(address) => {
                let reason = format!("flows of the peer {address} were refused or forgotten here");
                (false, reason)
            }
            Self::Arrived(address) => {
                (true, format!("all flows of the peer {address} have arrived"))
            }
            Self::Succeeded(address) => {
                let reason = format!(
                    "the peer {address} has not been heard since another one began to serve: what \
                     only the former has told may be over"
                );
                (false, reason)
            }
            Self::StandsBy(address) => {
                let reason = format!(
                    "the peer {address} stands by as well: nobody is there who could tell what is \
                     served"
                );
                (false, reason)
            }
            Self::ActiveLost => {
                (false, "events of the kernel were lost; its flows are read again".to_owned())
            }
            Self::ActiveLacking => {
                let reason = "flows of the kernel were refused or forgotten; they are read again";
                (false, reason.to_owned())
            }
            Self::ActiveLackingExpectations => {
                let reason = "expectations of the kernel were refused or forgotten; they are read \
                              again once there is room";
                (false, reason.to_owned())
            }
            Self::ActiveReading => {
                let reason = "the kernel's flows are read for the copy that the peers are told";
                (false, reason.to_owned())
            }
            Self::ActiveAlone(named) => {
                let who = match named {
                    None => String::new(),
                    Some((address, true)) => format!(" (the peer {address} has fallen silent)"),
                    Some((address, false)) => {
                        format!(" (the peer {address} has never been heard)")
                    }
                };
                (false, format!("no peer is there{who}: nobody could take over with these flows"))
            }
            Self::ActiveToldAll => {
                (true, "this router is the active one; its peers have been told all".to_owned())
            }
            Self::ActiveGreeting(address) => {
                (false, format!("the peer {address} has not answered the greeting yet"))
            }
            Self::ActiveTelling(address) => {
                (false, format!("the peer {address} is being told all flows"))
            }
            Self::ActiveUnanswered(address) => {
                (false, format!("the peer {address} does not acknowledge what it is told"))
            }
            Self::ActiveCutOff(address) => {
                (false, format!("no link is up on which the peer {address} can be told anything"))
            }
        };
        SyncState { in_sync, reason }
    }
}

impl Replicator {
    /// As a backup: whether this router holds every flow the peers have told, and why (not). What
    /// was lost on the way and is being repeated counts only after a second. As the active one:
    /// whether a peer is there, and every one that is holds what it was told. As of the last call
    /// that brought the time.
    pub fn sync_state(&self) -> SyncState {
        self.standing.say()
    }

    /// As the active one: whether what its kernel has is known, and can be told from what has changed
    /// since.
    pub fn knows_its_kernel(&self) -> bool {
        self.role == Role::Active
            && !self.internal.is_in_doubt()
            && !self.internal.lacks_flows()
            && !self.internal.table.is_refusing()
            && !self.copy_after_dump
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        let mut present = self.peers.iter().filter(|peer| peer.present());
        let differs = present.find_map(|peer| {
            let seems = peer.conversation.suspicion(now)?;
            Some(Standing::AnotherMode(peer.address()?, seems))
        });
        let full = || {
            let tells = self.role == Role::Active && self.internal.table.is_refusing();
            let hears = self.hears() && self.external.table.is_refusing();
            let cache = match (tells, hears) {
                (true, _) => Cache::Internal,
                (false, true) => Cache::External,
                (false, false) => return None,
            };
            Some(Standing::Full(cache.as_str(), self.config.cache_limit))
        };
        differs.or_else(full).unwrap_or_else(|| self.standing_in_mode())
    }

    fn standing_in_mode(&self) -> Standing {
        if self.role == Role::Active {
            if self.internal.is_in_doubt() {
                return Standing::ActiveLost;
            }
            if self.internal.lacks_flows() {
                return Standing::ActiveLacking;
            }
            if self.lacks_expectations() {
                return Standing::ActiveLackingExpectations;
            }
            let mut present = self.peers.iter().filter(|peer| peer.present()).peekable();
            if present.peek().is_none() {
                return Standing::ActiveAlone(self.absent());
            }
            if self.copy_after_dump {
                return Standing::ActiveReading;
            }
            let cut_off = |peer: &Peer| peer.address().filter(|_| !self.links.is_up(peer.link));
            return present
                .find_map(|peer| cut_off(peer).map(Standing::ActiveCutOff).or_else(|| lags(peer)))
                .or_else(|| self.peers.iter().find_map(|peer| self.lacks_of_another_group(peer)))
                .unwrap_or(Standing::ActiveToldAll);
        }
        let present = || self.peers.iter().filter(|peer| peer.present());
        let lacking = |peer: &Peer| self.lacks_of(peer);
        let succeeded = || {
            let mut places = 0..self.peers.len();
            let place = places.find(|place| self.is_being_succeeded(*place))?;
            self.peers[place].address().map(Standing::Succeeded)
        };
        let worst = present().find_map(lacking).or_else(succeeded);
        let serves = |peer: &&Peer| self.is_served_by(peer);
        let arrived = |peer: &Peer| peer.address().map(Standing::Arrived);
        let served = || present().find(serves).and_then(arrived);
        let complete = || present().filter(|peer| !peer.unproven).find_map(arrived);
        let stands_by = || present().find_map(Peer::address).map(Standing::StandsBy);
        let silent = |counts: fn(&Self, &Peer) -> bool| {
            let mut silent = self.peers.iter().filter(|peer| !peer.present());
            silent.find(|peer| counts(self, peer)).and_then(Peer::address).map(Standing::Silent)
        };
        // Who has told nothing may stand by, and know nothing of what was served until the silence.
        worst
            .or_else(served)
            .or_else(|| silent(|all, peer| all.external.has_told(peer.index)))
            .or_else(complete)
            .or_else(stands_by)
            .or_else(|| silent(|_, peer| peer.heard_at.is_some()))
            .unwrap_or(Standing::NeverHeard)
    }

    fn lacks_of(&self, peer: &Peer) -> Option<Standing> {
        let lacking = self.external.lacks(peer.index);
        let begins = peer.address().filter(|_| self.begins_to_tell(peer));
        lacks(peer)
            .or_else(|| begins.map(Standing::Arriving))
            .or_else(|| peer.address().filter(|_| lacking).map(Standing::Lacking))
    }

    /// A router that serves one of several groups is to have what others serve.
    fn lacks_of_another_group(&self, peer: &Peer) -> Option<Standing> {
        if !self.config.shares() || !peer.present() {
            return None;
        }
        self.lacks_of(peer)
    }

    /// A peer that is not there, and whether it has ever been heard; rather one that has.
    fn absent(&self) -> Option<(IpAddr, bool)> {
        let named = |peer: &Peer| Some((peer.address()?, peer.heard_at.is_some()));
        self.peers.iter().filter_map(named).max_by_key(|(_, heard)| *heard)
    }

    /// Events of the kernel were lost, so what is known of its table may be wrong until it has been
    /// read: see [`Replicator::begin_dump`].
    pub fn events_lost(&mut self, now: Instant) {
        self.internal.doubt(self.seconds(now));
        self.lose_ends(now);
        self.settle(now);
    }

    /// The peers that have been heard or are in the configuration.
    pub fn peers(&self, now: Instant) -> Vec<PeerState> {
        self.peers.iter().filter_map(|peer| state(peer, now)).collect()
    }

    /// The first of [`Replicator::peers`] that has been heard.
    pub fn peer(&self, now: Instant) -> Option<PeerState> {
        let mut heard = self.peers.iter().filter(|peer| peer.heard_at.is_some());
        heard.find_map(|peer| state(peer, now))
    }
}

fn lags(peer: &Peer) -> Option<Standing> {
    let address = peer.address()?;
    let conversation = &peer.conversation;
    if !conversation.established() {
        Some(Standing::ActiveGreeting(address))
    } else if conversation.copying() || (peer.offer_at.is_some() && !conversation.has_told_all()) {
        Some(Standing::ActiveTelling(address))
    } else if peer.owes {
        Some(Standing::ActiveUnanswered(address))
    } else {
        None
    }
}

fn lacks(peer: &Peer) -> Option<Standing> {
    let address = peer.address()?;
    match peer.resync {
        Resync::Wanted { at: None, .. } | Resync::Unneeded => Some(Standing::NotAsked(address)),
        Resync::Wanted { at: Some(_), .. } => Some(Standing::AskedAgain(address)),
        Resync::Asked { .. } | Resync::Sweeping => Some(Standing::Arriving(address)),
        Resync::Complete if peer.gap_stays => Some(Standing::Missing(address)),
        Resync::Complete => None,
    }
}

fn state(peer: &Peer, now: Instant) -> Option<PeerState> {
    let conversation = &peer.conversation;
    let gap_since = conversation.oldest_gap();
    Some(PeerState {
        address: peer.address()?,
        link: peer.link,
        unicast: !matches!(peer.reach, Reach::Group | Reach::Overheard),
        ever_heard: peer.heard_at.is_some(),
        heard: now.saturating_duration_since(peer.heard_at.unwrap_or(peer.since)),
        silent: peer.silent,
        established: conversation.established(),
        unacknowledged: conversation.unacknowledged(),
        waiting: conversation.waiting_to_send(),
        copy: match peer.resync {
            Resync::Unneeded => CopyState::Unneeded,
            Resync::Wanted { at: None, .. } => CopyState::Wanted,
            Resync::Wanted { at: Some(_), .. } => CopyState::WantedAgain,
            Resync::Asked { .. } | Resync::Sweeping => CopyState::Arriving,
            Resync::Complete => CopyState::Arrived,
        },
        behind: Lag {
            messages: conversation.missing(),
            time: gap_since
                .map_or_else(Default::default, |since| now.saturating_duration_since(since)),
        },
        peer_behind: conversation.lag(now),
        lost: peer.lost,
        suspicion: conversation
            .suspicion(now)
            .map(|seems| format!("the peer seems to run the mode {seems}")),
    })
}
