//! The replicator thread: kernel events and datagrams into `lockstep-replicator`, what it hands
//! out onto the wire, and the steps of a transition that concern flows.
//!
//! Owns the conntrack sockets and the sockets of the dedicated link. A step keeps the thread busy
//! in pieces of well under a millisecond; between them the peer is heard and answered.

mod commands;
mod commit;
mod table;

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::IpAddr;
use std::sync::mpsc as handshake;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use lockstep_ctnetlink::{Kind, Messages};
use lockstep_failover::{Outcome, Step, StepId};
use lockstep_kernel::conntrack::{EventSocket, Events, TableSocket};
use lockstep_kernel::network::Network;
use lockstep_kernel::replication::{LinkError, LinkSocket};
use lockstep_replicator::{
    Change, Config, Event, KernelEvent, Link, LinkState, Origin, Replicator, Role, Start,
};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::sleep_until;
use tracing::{debug, error, info, warn};

use crate::messages::{CoreEvent, ReplicatorRequest};
use crate::status;

/// How often the link, its MTU and the router's addresses are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Least time between two readings of the kernel's table after lost events.
const REDUMP: Duration = Duration::from_secs(1);
/// Payload of a datagram while there is no link to ask.
const USUAL_DATAGRAM: usize = 1500 - 28;
/// Largest datagram there is.
const LARGEST_DATAGRAM: usize = 65_536;
/// Most datagrams taken before the kernel's events and the requests have their turn again.
const DATAGRAMS_IN_A_ROW: usize = 64;
/// Most datagrams sent in a row.
const SENT_IN_A_ROW: usize = 64;
/// Most turns before the runtime may look which sockets have become ready.
const TURNS_IN_A_ROW: u32 = 8;
/// An event socket that fails sooner after it was opened for another is not opened again.
const SHORT_LIVED: Duration = Duration::from_secs(1);

/// Starts the thread in the caller's network namespace. When this returns, the sockets are open;
/// a link whose interface is missing or down is waited for.
///
/// # Errors
/// Without privilege or connection tracking, or when the port is in use: one sentence.
pub(crate) fn spawn(
    config: Config,
    requests: mpsc::Receiver<ReplicatorRequest>,
    core: mpsc::Sender<CoreEvent>,
) -> anyhow::Result<JoinHandle<()>> {
    let (ready, started) = handshake::channel();
    let thread = thread::Builder::new()
        .name("replicator".to_owned())
        .spawn(move || run(config, requests, core, &ready))
        .context("cannot start the replicator thread")?;
    started.recv().context("the replicator thread ended at once")??;
    Ok(thread)
}

fn run(
    config: Config,
    requests: mpsc::Receiver<ReplicatorRequest>,
    core: mpsc::Sender<CoreEvent>,
    ready: &handshake::Sender<anyhow::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error.into()))),
    };
    runtime.block_on(async {
        let actor = match Actor::start(config, requests, core) {
            Ok(actor) => actor,
            Err(error) => return drop(ready.send(Err(error))),
        };
        // Nobody waits any more only when the process is ending.
        drop(ready.send(Ok(())));
        if let Err(error) = actor.run().await {
            error!("flows are no longer replicated: {error:#}");
        }
    });
}

struct Actor {
    replicator: Replicator,
    link_config: Link,
    link: Option<LinkSocket>,
    /// Why there is no link, as it has been told.
    link_trouble: Option<String>,
    events: EventSocket,
    table: TableSocket,
    requests: mpsc::Receiver<ReplicatorRequest>,
    /// Steps that came while another one was being carried out.
    waiting: VecDeque<(StepId, Step)>,
    stop: bool,
    core: mpsc::Sender<CoreEvent>,
    /// A datagram that the send buffer had no room for.
    unsent: bool,
    /// The last turn has not sent all that is in line.
    more_to_send: bool,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    netlink: Vec<u8>,
    redump_at: Option<Instant>,
    dumped_at: Option<Instant>,
    housekeeping_at: Instant,
    event_buffer: usize,
    events_reopened_at: Option<Instant>,
    /// Why this thread cannot go on.
    hopeless: Option<anyhow::Error>,
}

impl Actor {
    fn start(
        config: Config,
        requests: mpsc::Receiver<ReplicatorRequest>,
        core: mpsc::Sender<CoreEvent>,
    ) -> anyhow::Result<Self> {
        let now = Instant::now();
        let event_buffer = config.event_buffer;
        let events = EventSocket::open(event_buffer)?;
        let table = TableSocket::open()?;
        let link_config = config.links.first().cloned().context("replication has no link")?;
        let mut actor = Self {
            replicator: Replicator::new(config, start(), now),
            link: None,
            link_trouble: None,
            link_config,
            events,
            table,
            requests,
            waiting: VecDeque::new(),
            stop: false,
            core,
            unsent: false,
            more_to_send: false,
            outgoing: Vec::new(),
            incoming: vec![0; LARGEST_DATAGRAM],
            netlink: Vec::new(),
            redump_at: Some(now),
            dumped_at: None,
            housekeeping_at: now,
            event_buffer,
            events_reopened_at: None,
            hopeless: None,
        };
        match actor.open_link() {
            Err(error) if !error.is_temporary() => Err(error.into()),
            Ok(()) | Err(_) => Ok(actor),
        }
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let result = self.take_turns().await;
        if let Err(error) = &result {
            self.refuse_rest(error).await;
        }
        result
    }

    async fn take_turns(&mut self) -> anyhow::Result<()> {
        let mut turns: u32 = 0;
        while !self.stop {
            self.work().await?;
            if self.waiting.is_empty() && !self.stop {
                // A socket that is never empty would keep the others from being looked at.
                turns = turns.wrapping_add(1);
                if turns.is_multiple_of(TURNS_IN_A_ROW) {
                    yield_now().await;
                }
                self.wait().await;
            }
            if let Some(error) = self.hopeless.take() {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Every step is answered, also by a thread that ends.
    async fn refuse_rest(&mut self, error: &anyhow::Error) {
        self.requests.close();
        while let Some(request) = self.requests.recv().await {
            self.accept(request);
        }
        let outcome = Outcome::Failed(format!("flows are no longer replicated: {error:#}"));
        let waiting = std::mem::take(&mut self.waiting);
        let answers: Vec<_> = waiting.into_iter().map(|(id, _)| (id, outcome.clone())).collect();
        if answers.is_empty() {
            return;
        }
        // The core is gone only when the process is ending.
        drop(self.tell(CoreEvent::Stepped(answers)).await);
    }

    /// Everything that can be done without waiting.
    async fn work(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        if now >= self.housekeeping_at {
            self.housekeeping_at = now + HOUSEKEEPING;
            self.look_after_link();
            self.look_after_addresses().await;
        }
        if let Some((id, step)) = self.waiting.pop_front() {
            let outcome = self.perform(step).await;
            self.tell(CoreEvent::Stepped(vec![(id, outcome)])).await?;
        } else if self.redump_at.is_some_and(|at| now >= at) {
            self.redump_at = None;
            if let Err(error) = self.read_table() {
                warn!("the kernel's flows cannot be read: {error:#}");
                self.redump_at = Some(now + REDUMP);
            }
        } else {
            self.purge();
        }
        if self.replicator.next_deadline().is_some_and(|at| Instant::now() >= at) {
            self.replicator.handle_timeout(Instant::now());
        }
        self.transmit();
        self.report().await
    }

    /// Waits for the next thing to happen, and takes it in. Work for which nothing has to happen is
    /// done in every turn, so it comes last here and keeps nobody from being heard.
    async fn wait(&mut self) {
        let deadline =
            [self.replicator.next_deadline(), self.redump_at, Some(self.housekeeping_at)];
        let deadline = deadline.into_iter().flatten().min().unwrap_or(self.housekeeping_at);
        let more = self.more_to_send || self.replicator.purge_wanted();
        let link = self.link.as_ref();
        tokio::select! {
            biased;
            request = self.requests.recv() => match request {
                Some(request) => self.accept(request),
                None => self.stop = true,
            },
            received = receive(link, &mut self.incoming) => match received {
                Ok((length, source)) => {
                    let now = Instant::now();
                    self.replicator.handle_datagram(Origin::group(0, source), &self.incoming[..length], now);
                    self.hear();
                    // However much comes from the peer, the kernel has its turn.
                    self.listen();
                }
                Err(error) => self.lose_link(&error),
            },
            events = self.events.receive(&mut self.netlink) => match events {
                Ok(events) => self.take(events),
                Err(error) => self.reopen_events(error),
            },
            ready = writable(link), if self.unsent => {
                if let Err(error) = ready {
                    self.lose_link(&error);
                }
            }
            () = sleep_until(deadline.into()) => {}
            () = yield_now(), if more => {}
        }
    }

    // ---- requests ----

    fn accept(&mut self, request: ReplicatorRequest) {
        match request {
            ReplicatorRequest::Steps(steps) => self.waiting.extend(steps),
            // Whoever asked may have given up.
            ReplicatorRequest::Status(answer) => drop(answer.send(self.status())),
            ReplicatorRequest::Command(command, answer) => drop(answer.send(self.command(command))),
            ReplicatorRequest::Dump(asked, answer) => drop(answer.send(self.entries(asked))),
            ReplicatorRequest::Stop => self.stop = true,
        }
    }

    /// Takes the requests that have come meanwhile; returns whether work in hand is to be cut
    /// short for them. Questions are answered at once.
    fn interrupted(&mut self) -> bool {
        while let Ok(request) = self.requests.try_recv() {
            self.accept(request);
        }
        self.stop || !self.waiting.is_empty()
    }

    async fn perform(&mut self, step: Step) -> Outcome {
        match step {
            Step::CommitFlows => self.commit(),
            Step::ReplicateActive => {
                self.look_after_addresses().await;
                self.replicator.activate(Instant::now());
                match self.read_table() {
                    Ok(()) => {
                        let flows = self.replicator.internal_len();
                        Outcome::Done(format!("{flows} flows are told to the peer"))
                    }
                    Err(error) => {
                        self.redump_at = Some(Instant::now() + REDUMP);
                        Outcome::Failed(format!("the kernel's flows cannot be read: {error:#}"))
                    }
                }
            }
            Step::ReplicateBackup => {
                self.replicator.deactivate(Instant::now());
                Outcome::Done("the peer is asked for its flows".to_owned())
            }
            Step::Claim
            | Step::LinksUp
            | Step::AddressesUp
            | Step::RoutesUp
            | Step::Announce
            | Step::StopClaiming
            | Step::AddressesDown
            | Step::RoutesDown
            | Step::LinksDown
            | Step::Hooks => {
                Outcome::Failed(format!("{} is not for the replicator", step.as_str()))
            }
        }
    }

    fn status(&self) -> status::Replication {
        let mut sync = self.replicator.sync_state();
        if self.link.is_none() {
            let usual = format!("the link {} fails", self.link_config.interface);
            let trouble = self.link_trouble.clone().unwrap_or(usual);
            sync.in_sync &= self.replicator.role() == Role::Active;
            sync.reason = format!("{}; no flows pass: {trouble}", sync.reason);
        }
        let peer = self.replicator.peer(Instant::now());
        let statistics = self.replicator.statistics();
        status::Replication {
            role: self.replicator.role().as_str().to_owned(),
            peers: peer
                .map(|peer| status::Peer {
                    address: peer.address.to_string(),
                    heard_ms: peer.heard.as_millis() as u64,
                    unacknowledged: peer.unacknowledged as u64,
                    waiting: peer.waiting as u64,
                    silent: peer.silent,
                    ..status::Peer::default()
                })
                .into_iter()
                .collect(),
            in_sync: sync.in_sync,
            reason: sync.reason,
            internal: self.replicator.internal_len() as u64,
            external: self.replicator.external_len() as u64,
            committed: self.replicator.last_committed(),
            statistics: statistics.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
            ..status::Replication::default()
        }
    }

    async fn tell(&self, event: CoreEvent) -> anyhow::Result<()> {
        self.core.send(event).await.context("the core thread has ended")
    }

    /// Passes on what the replicator has to say.
    async fn report(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.replicator.poll_event() {
            match event {
                Event::PeerAppeared { address } => info!(%address, "replication peer heard"),
                Event::PeerRestarted { address } => info!(%address, "replication peer has restarted"),
                Event::PeerSilent { address } => {
                    warn!(%address, "replication peer has fallen silent");
                }
                Event::LinkChanged { from, to, .. } => {
                    info!(from, to, "the replication peer is spoken to on another link");
                }
                Event::ResyncCompleted { address, flows } => {
                    info!(%address, flows, "the peer's flows have arrived");
                }
                Event::CacheFull { cache } => {
                    warn!(cache = cache.as_str(), "a cache is full: new flows are not replicated");
                }
                Event::CacheHasRoom { cache } => {
                    info!(cache = cache.as_str(), "a cache that was full takes flows again");
                }
                Event::PurgeDue => debug!("the flows of before are to be removed"),
                Event::Sync(sync) => {
                    debug!(in_sync = sync.in_sync, reason = sync.reason, "synchronisation");
                    let (in_sync, reason) = (sync.in_sync, sync.reason);
                    self.tell(CoreEvent::InSync { in_sync, reason }).await?;
                }
            }
        }
        Ok(())
    }

    // ---- the link ----

    fn open_link(&mut self) -> Result<(), LinkError> {
        let link = LinkSocket::open(&self.link_config)?;
        info!(interface = self.link_config.interface, "replication link open");
        self.link = Some(link);
        self.link_trouble = None;
        self.look_after_mtu();
        Ok(())
    }

    fn look_after_link(&mut self) {
        if self.link.as_ref().is_some_and(|link| !link.is_current()) {
            warn!(interface = self.link_config.interface, "the replication link is gone");
            self.link = None;
        }
        if self.link.is_none()
            && let Err(error) = self.open_link()
        {
            let trouble = format!("{:#}", anyhow::Error::new(error));
            if self.link_trouble.as_ref() != Some(&trouble) {
                warn!("no replication until the link is there: {trouble}");
                self.link_trouble = Some(trouble);
            }
        }
        self.look_after_mtu();
    }

    fn look_after_mtu(&mut self) {
        if let Some(bytes) = self.link.as_ref().and_then(|link| link.max_datagram().ok()) {
            let up = LinkState::Up { max_datagram: bytes };
            self.replicator.link_changed(0, up, Instant::now());
        }
    }

    async fn look_after_addresses(&mut self) {
        let addresses = match Network::connect() {
            Ok(network) => network.addresses().await,
            Err(error) => Err(error),
        };
        match addresses {
            Ok(addresses) => {
                let own = addresses.iter().map(|address| address.address.addr());
                self.replicator.set_local_addresses(own);
            }
            Err(error) => debug!(%error, "the router's own addresses cannot be read"),
        }
    }

    fn lose_link(&mut self, error: &std::io::Error) {
        debug!(%error, interface = self.link_config.interface, "the replication link fails");
        self.link = None;
        self.unsent = false;
    }

    /// Takes the datagrams that are waiting.
    fn hear(&mut self) {
        for _ in 0..DATAGRAMS_IN_A_ROW {
            let Some(link) = &self.link else { return };
            match link.try_receive(&mut self.incoming) {
                Ok(Some((length, source))) => {
                    let now = Instant::now();
                    self.replicator.handle_datagram(
                        Origin::group(0, source),
                        &self.incoming[..length],
                        now,
                    );
                }
                Ok(None) => return,
                Err(error) => return self.lose_link(&error),
            }
        }
    }

    /// Sends what is to be sent, as far as the send buffer takes it.
    fn transmit(&mut self) {
        self.more_to_send = false;
        for _ in 0..SENT_IN_A_ROW {
            let now = Instant::now();
            if !self.unsent && self.replicator.poll_transmit(now, &mut self.outgoing).is_none() {
                return;
            }
            // Without a link the datagram is lost like one on the wire, and made up for like it.
            let Some(link) = &self.link else {
                self.unsent = false;
                continue;
            };
            match link.try_send(&self.outgoing) {
                Ok(true) => self.unsent = false,
                Ok(false) => {
                    self.unsent = true;
                    return;
                }
                Err(error) => {
                    debug!(%error, "a datagram was not sent");
                    self.unsent = false;
                }
            }
        }
        self.more_to_send = true;
    }

    // ---- kernel events ----

    /// Takes some of the events that wait.
    fn listen(&mut self) {
        match self.events.try_receive(&mut self.netlink) {
            Ok(Some(events)) => self.take(events),
            Ok(None) => {}
            Err(error) => self.reopen_events(error),
        }
    }

    /// Listens with a new socket in place of one that fails; what happened meanwhile is read from
    /// the kernel's table.
    fn reopen_events(&mut self, error: std::io::Error) {
        let now = Instant::now();
        let before = self.events_reopened_at.replace(now);
        if before.is_some_and(|at| now.saturating_duration_since(at) < SHORT_LIVED) {
            let error = anyhow::Error::new(error);
            self.hopeless = Some(error.context("the kernel's events cannot be heard"));
            return;
        }
        warn!(%error, "the kernel's events cannot be heard; a new socket is opened");
        match EventSocket::open(self.event_buffer) {
            Ok(events) => {
                self.events = events;
                self.redump();
            }
            Err(error) => self.hopeless = Some(error.into()),
        }
    }

    /// Changes the kernel's table with a new socket in place of one that fails.
    fn reopen_table(&mut self) {
        match TableSocket::open() {
            Ok(table) => self.table = table,
            Err(error) => warn!("no new socket for the kernel's flows: {error:#}"),
        }
    }

    fn take(&mut self, events: Events) {
        let messages = std::mem::take(&mut self.netlink);
        if events == Events::Overrun || !self.learn(&messages) {
            self.redump();
        }
        self.netlink = messages;
    }

    /// Feeds a buffer of events; `false` when some were lost.
    fn learn(&mut self, messages: &[u8]) -> bool {
        let own = self.table.port_id();
        let now = Instant::now();
        let mut complete = true;
        for message in Messages::new(messages) {
            let Ok(message) = message else { return false };
            let change = match message.kind() {
                Ok(Kind::New) => Change::New,
                Ok(Kind::Update | Kind::Entry) => Change::Update,
                Ok(Kind::Destroy) => Change::Delete,
                Ok(Kind::Answer(_) | Kind::Done(_) | Kind::Noop | Kind::Unknown) => continue,
                Ok(Kind::Overrun) | Err(_) => {
                    complete = false;
                    continue;
                }
            };
            match message.flow() {
                Ok(flow) => {
                    let own = message.header().port_id == own;
                    let event = KernelEvent { change, flow: &flow, own };
                    self.replicator.handle_kernel_event(event, now);
                }
                Err(error) => debug!(%error, "an event that cannot be understood"),
            }
        }
        complete
    }

    /// Events were lost: the table has to be read again, soon and not too often.
    fn redump(&mut self) {
        let now = Instant::now();
        let earliest = self.dumped_at.map_or(now, |at| at + REDUMP);
        self.redump_at.get_or_insert(earliest.max(now));
    }
}

async fn receive(link: Option<&LinkSocket>, buffer: &mut [u8]) -> std::io::Result<(usize, IpAddr)> {
    match link {
        Some(link) => link.receive(buffer).await,
        None => std::future::pending().await,
    }
}

async fn writable(link: Option<&LinkSocket>) -> std::io::Result<()> {
    match link {
        Some(link) => link.writable().await,
        None => std::future::pending().await,
    }
}

fn start() -> Start {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Start {
        first_sequence: unix.as_secs() as u32,
        secret: RandomState::new().build_hasher().finish(),
        max_datagram: USUAL_DATAGRAM,
    }
}

#[cfg(test)]
mod tests;
