//! What the thread tells: the core thread of synchronisation, people of everything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use lockstep_kernel::replication::{LinkSockets, Unreached};
use lockstep_replicator::{
    Cache, CopyState, Event, LinkState, Mode, PeerState, Role, Standby, Transport,
};
use nix::errno::Errno;
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
                    info!(%address, "replication peer begins anew");
                }
                Event::PeerSilent { address } => {
                    warn!(%address, "replication peer has fallen silent");
                }
                Event::LinkChanged { address, from, to } => {
                    let (from, to) = (self.interface(from), self.interface(to));
                    info!(?address, from, to, "replication goes on over another link");
                }
                Event::ResyncCompleted { address, flows } => {
                    info!(%address, flows, "the copy of the peer's flows is complete");
                    let since = Instant::now();
                    self.growing = Some(Growing { told: flows, seen: flows, since });
                }
                Event::CacheFull { cache } => {
                    let (cache, limit) = (cache.as_str(), self.config.cache_limit);
                    warn!(cache, limit, "a cache is full: new entries are not replicated");
                }
                Event::CacheHasRoom { cache } => {
                    if matches!(cache, Cache::Internal | Cache::InternalExpectations) {
                        // What was refused is still in the kernel.
                        self.redump();
                    }
                    info!(cache = cache.as_str(), "a cache that was full takes entries again");
                }
                Event::GaveWay { address } => {
                    let reason = format!("{address} had served as well, and stands by");
                    self.tell(CoreEvent::Merged { reason }).await;
                }
                Event::TakenUp { flows, refused, example } => {
                    let mut reason = format!(
                        "{flows} flows of a router that serves no more are taken into the kernel"
                    );
                    if let Some(example) = example {
                        let _ = write!(reason, ", {refused} could not be: {example}");
                    }
                    self.tell(CoreEvent::Merged { reason }).await;
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

    /// A peer that is about to serve answers with what it has told so far, and tells the rest when
    /// it serves. Says how many flows there are when no more come, unless the copy had them all.
    pub(super) fn say_what_came_after_a_copy(&mut self) {
        let Some(Growing { told, seen, since }) = self.growing else { return };
        let flows = self.replicator.external_len();
        if flows != seen {
            self.growing = Some(Growing { told, seen: flows, since: Instant::now() });
            return;
        }
        if since.elapsed() < QUIET {
            return;
        }
        self.growing = None;
        if flows != told && self.replicator.role() == Role::Backup {
            info!(flows, "flows of the peers are known now, with what came after the copy");
        }
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
            purge_put_off: self.replicator.purge_put_off(),
            uptime_s: self.started.elapsed().as_secs(),
            statistics: named(self.replicator.statistics()),
        }
    }

    /// Why no link can be used, when none can: what is wrong with each.
    fn link_trouble(&self) -> Option<String> {
        if self.links.iter().any(OneLink::is_up) {
            return None;
        }
        let troubles = self.links.iter().map(|link| match &link.state {
            Some(LinkState::Down { reason }) => reason.clone(),
            Some(LinkState::Up { .. }) | None => {
                format!("the link {} fails", link.settings.interface)
            }
        });
        let troubles: Vec<String> = troubles.collect();
        (!troubles.is_empty()).then(|| troubles.join("; "))
    }

    fn interface(&self, link: usize) -> &str {
        self.links.get(link).map_or("?", |link| link.settings.interface.as_str())
    }

    fn peers(&self) -> Vec<Peer> {
        let peers = self.replicator.peers(Instant::now());
        let shown = peers.into_iter().map(|peer| Peer {
            address: peer.address.to_string(),
            interface: Some(self.interface(peer.link).to_owned()),
            heard_ms: peer.ever_heard.then_some(peer.heard.as_millis() as u64),
            unheard_ms: peer.heard.as_millis() as u64,
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
        let peers = self.replicator.peers(Instant::now());
        let shown = self.links.iter().enumerate().map(|(number, link)| {
            let active = views.get(number).is_some_and(|view| view.active);
            let (state, reason, max_datagram) = match &link.state {
                Some(LinkState::Up { max_datagram }) if link.is_up() => {
                    let reason = self.silence(number, active, &peers);
                    (if active { "active" } else { "standby" }, reason, *max_datagram as u64)
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

    /// Who does not answer on a link that is up, and since when.
    fn silence(&self, number: usize, active: bool, peers: &[PeerState]) -> Option<String> {
        let link = &self.links[number];
        let mut said = Vec::new();
        if active && peers.is_empty() {
            said.push(format!("nobody has ever been heard ({})", seconds(self.started.elapsed())));
        }
        for peer in peers.iter().filter(|peer| active && peer.link == number) {
            let (address, time) = (peer.address, seconds(peer.heard));
            if !peer.ever_heard {
                said.push(format!("{address} has never been heard ({time})"));
            } else if peer.silent {
                said.push(format!("{address} has not been heard for {time}"));
            }
        }
        for Unreached { peer, since, errno } in link.sockets.iter().flat_map(LinkSockets::unreached)
        {
            let reason = errno.map_or_else(
                || "no answer".to_owned(),
                |errno| Errno::from_raw(errno).desc().to_owned(),
            );
            let time = seconds(since.elapsed());
            said.push(format!("{peer} takes no connection ({time}): {reason}"));
        }
        (!said.is_empty()).then(|| said.join("; "))
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

/// Flows of the peers after a copy of one's has been completed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growing {
    /// As the log says.
    told: usize,
    /// At the last look.
    seen: usize,
    /// Since when.
    since: Instant,
}

/// After a copy nothing more comes when nothing has come for this long.
const QUIET: Duration = Duration::from_secs(3);

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
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
