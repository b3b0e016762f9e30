//! What the thread tells: the core thread of synchronisation, people of everything.

use std::collections::BTreeMap;
use std::time::Instant;

use lockstep_replicator::{Cache, CopyState, Event, LinkState, Mode, Standby, Transport};
use tracing::{debug, info, warn};

use super::Actor;
use super::commit::{counts, refusals};
use super::links::OneLink;
use super::removal::Cause;
use crate::messages::CoreEvent;
use crate::status::replication::{Injection, Job, Link, Peer, Replication};

impl Actor {
    /// Passes on what the replicator has to say.
    pub(super) async fn report(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.replicator.poll_event() {
            match event {
                Event::PeerAppeared { address } => info!(%address, "replication peer heard"),
                Event::PeerRestarted { address } => {
                    info!(%address, "replication peer has restarted");
                }
                Event::PeerSilent { address } => {
                    warn!(%address, "replication peer has fallen silent");
                }
                Event::LinkChanged { address, from, to } => {
                    let (from, to) = (self.interface(from), self.interface(to));
                    info!(?address, from, to, "replication goes on over another link");
                }
                Event::ResyncCompleted { address, flows } => {
                    info!(%address, flows, "the peer's flows have arrived");
                }
                Event::CacheFull { cache } => {
                    let (cache, limit) = (cache.as_str(), self.config.cache_limit);
                    warn!(cache, limit, "a cache is full: new entries are not replicated");
                }
                Event::CacheHasRoom { cache } => {
                    if cache == Cache::Internal {
                        // What was refused is still in the kernel.
                        self.redump();
                    }
                    info!(cache = cache.as_str(), "a cache that was full takes entries again");
                }
                Event::PurgeDue => debug!("the flows of before are to be removed"),
                Event::Sync(sync) => {
                    self.warn_of_other_modes();
                    debug!(in_sync = sync.in_sync, reason = sync.reason, "synchronisation");
                    // Reasons come and go with every peer and copy; what follows from them does
                    // not, and is what others are told.
                    if self.told_in_sync != Some(sync.in_sync) {
                        self.told_in_sync = Some(sync.in_sync);
                        let (in_sync, reason) = (sync.in_sync, sync.reason);
                        self.tell(CoreEvent::InSync { in_sync, reason }).await;
                    }
                }
            }
        }
        Ok(())
    }

    /// Says once of each peer that it seems to run another mode.
    fn warn_of_other_modes(&mut self) {
        for peer in self.replicator.peers(Instant::now()) {
            let Some(suspicion) = peer.suspicion else { continue };
            if self.suspected.get(&peer.address) != Some(&suspicion) {
                warn!(address = %peer.address, "{suspicion}; no flows are safe with it");
                if self.suspected.len() >= 64 {
                    self.suspected.clear();
                }
                self.suspected.insert(peer.address, suspicion);
            }
        }
    }

    pub(super) fn status(&mut self) -> Replication {
        let mut sync = self.replicator.sync_state();
        if let Some(trouble) = self.link_trouble() {
            sync.in_sync = false;
            sync.reason = format!("{}; no flows pass: {trouble}", sync.reason);
        }
        Replication {
            role: self.replicator.role().as_str().to_owned(),
            mode: match self.config.mode {
                Mode::Ftfw => "ftfw",
                Mode::Notrack => "notrack",
                Mode::Alarm => "alarm",
            }
            .to_owned(),
            standby: match self.config.standby {
                Standby::Cache => "cache",
                Standby::Kernel => "kernel",
            }
            .to_owned(),
            peers: self.peers(),
            links: self.shown_links(),
            cache_limit: self.config.cache_limit as u64,
            internal_expectations: self.replicator.internal_expectations_len() as u64,
            external_expectations: self.replicator.external_expectations_len() as u64,
            kernel: self.shown_kernel(),
            in_sync: sync.in_sync,
            reason: sync.reason,
            internal: self.replicator.internal_len() as u64,
            external: self.replicator.external_len() as u64,
            committed: self.replicator.last_committed(),
            last_commit: self.last_commit.clone(),
            injection: self.shown_injection(),
            jobs: self.jobs(),
            uptime_s: self.started.elapsed().as_secs(),
            statistics: named(self.replicator.statistics()),
        }
    }

    /// Why no link can be used, when none can: of the first what is wrong with it.
    fn link_trouble(&self) -> Option<String> {
        if self.links.iter().any(OneLink::is_up) {
            return None;
        }
        let first = self.links.first()?;
        Some(match &first.state {
            Some(LinkState::Down { reason }) => reason.clone(),
            Some(LinkState::Up { .. }) | None => {
                format!("the link {} fails", first.settings.interface)
            }
        })
    }

    fn interface(&self, link: usize) -> &str {
        self.links.get(link).map_or("?", |link| link.settings.interface.as_str())
    }

    fn peers(&self) -> Vec<Peer> {
        let peers = self.replicator.peers(Instant::now());
        let shown = peers.into_iter().map(|peer| Peer {
            address: peer.address.to_string(),
            interface: Some(self.interface(peer.link).to_owned()),
            heard_ms: peer.heard.as_millis() as u64,
            silent: peer.silent || !peer.ever_heard,
            unacknowledged: peer.unacknowledged as u64,
            waiting: peer.waiting as u64,
            behind: peer.peer_behind.messages,
            behind_ms: peer.peer_behind.time.as_millis() as u64,
            missing: peer.behind.messages,
            missing_ms: peer.behind.time.as_millis() as u64,
            lost: peer.lost,
            initial_copy: peer.copy == CopyState::Arrived,
            copy: copy_word(peer.copy).to_owned(),
            differs: peer.suspicion,
        });
        shown.collect()
    }

    fn shown_links(&self) -> Vec<Link> {
        let views = self.replicator.links();
        let shown = self.links.iter().enumerate().map(|(number, link)| {
            let active = views.get(number).is_some_and(|view| view.active);
            let (state, reason, max_datagram) = match &link.state {
                Some(LinkState::Up { max_datagram }) if link.is_up() => {
                    (if active { "active" } else { "standby" }, None, *max_datagram as u64)
                }
                Some(LinkState::Down { reason }) => ("down", Some(reason.clone()), 0),
                Some(LinkState::Up { .. }) | None => ("down", Some("it fails".to_owned()), 0),
            };
            let (transport, to) = match &link.settings.transport {
                Transport::Multicast { group } => ("multicast", vec![*group]),
                Transport::Udp { peers, .. } => ("udp", peers.clone()),
                Transport::Tcp { peers, .. } => ("tcp", peers.clone()),
            };
            Link {
                interface: link.settings.interface.clone(),
                transport: transport.to_owned(),
                to: to.iter().map(ToString::to_string).collect(),
                port: link.settings.port,
                state: state.to_owned(),
                reason,
                max_datagram,
                statistics: named(link.statistics()),
            }
        });
        shown.collect()
    }

    fn shown_injection(&self) -> Option<Injection> {
        let kernel = self.config.standby == Standby::Kernel;
        let injection = kernel.then(|| self.replicator.injection())?;
        Some(Injection {
            in_kernel: injection.in_kernel as u64,
            waiting: injection.waiting as u64,
            refused: injection.refused as u64,
            counts: named(counts(&injection.report)),
            refusals: refusals(&injection.report),
            samples: injection.report.samples,
        })
    }

    fn jobs(&self) -> Vec<Job> {
        let reading = match &self.reading {
            Some(reading) => Some((reading.done, reading.total)),
            // Until then what is known of the kernel's table may be wrong.
            None => self.redump_at.map(|_| (0, None)),
        };
        let reading = reading.map(|(done, total)| Job { name: "read".to_owned(), done, total });
        let removal = self.removal.as_ref().map(|removal| Job {
            name: match removal.cause {
                Cause::Purge => "purge".to_owned(),
                Cause::Person(_) => "flush-kernel".to_owned(),
            },
            done: removal.removed,
            total: Some(removal.total),
        });
        let waiting = self.replicator.injection().waiting as u64;
        let injection =
            (waiting > 0).then(|| Job { name: "inject".to_owned(), done: 0, total: Some(waiting) });
        self.commit_progress().into_iter().chain(reading).chain(removal).chain(injection).collect()
    }
}

fn copy_word(copy: CopyState) -> &'static str {
    match copy {
        CopyState::Unneeded => "unneeded",
        CopyState::Wanted => "wanted",
        CopyState::WantedAgain => "wanted-again",
        CopyState::Arriving => "arriving",
        CopyState::Arrived => "arrived",
    }
}

fn named(counts: impl IntoIterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}
