//! The elections of all virtual routers: their sockets, their timers, their counters.
//!
//! One advertisement socket serves all virtual routers of a family on an interface. It lives as
//! long as the interface has the same index, and is opened again when the interface is made anew.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, anyhow};
use lockstep_failover::VirtualRouterEvent;
use lockstep_kernel::sysctl;
use lockstep_kernel::vrrp::{AdvertisementSocket, Announcer};
use lockstep_vrrp::{Action, Datagram, Encoder, Event, Family, Priority, StateName, VirtualRouter};
use tracing::{debug, info, warn};

use crate::messages::{InterfaceState, LinkState};
use crate::status;

/// From a socket that could not be opened to the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Interface and family: what one advertisement socket serves.
type Lan = (String, Family);

/// A virtual router's name and the news of its election.
type Observed = Vec<(String, VirtualRouterEvent)>;

/// All virtual routers of this router.
pub(super) struct Elections {
    routers: BTreeMap<String, Router>,
    lans: BTreeMap<Lan, (u32, AdvertisementSocket)>,
    announcers: BTreeMap<u32, Announcer>,
    /// When a socket that could not be opened is tried again.
    retry_at: Option<Instant>,
}

/// A packet, and where it came in.
pub(super) struct Heard {
    lan: Lan,
    datagram: Datagram,
}

struct Router {
    group: String,
    interface: String,
    machine: VirtualRouter,
    encoder: Encoder,
    /// The last answer to "can its interface be used", to tell only what is new.
    usable: Option<Result<(), String>>,
    primary: Option<IpAddr>,
    send_errors: u64,
    /// Why the last advertisement could not be sent; `None` when it could.
    send_failure: Option<String>,
}

impl Elections {
    pub(super) fn new(virtual_routers: &[lockstep_config::VirtualRouter]) -> Self {
        let router = |router: &lockstep_config::VirtualRouter| Router {
            group: router.group.clone(),
            interface: router.interface.clone(),
            encoder: Encoder::new(&router.vrrp),
            machine: VirtualRouter::new(router.vrrp.clone()),
            usable: None,
            primary: None,
            send_errors: 0,
            send_failure: None,
        };
        Self {
            routers: virtual_routers.iter().map(|one| (one.name.clone(), router(one))).collect(),
            lans: BTreeMap::new(),
            announcers: BTreeMap::new(),
            retry_at: None,
        }
    }

    /// Waits for the next packet on any socket.
    pub(super) async fn receive(&mut self) -> Heard {
        poll_fn(|context| {
            for (lan, (_, socket)) in &mut self.lans {
                match socket.poll_receive(context) {
                    Poll::Ready(Ok(datagram)) => {
                        return Poll::Ready(Heard { lan: lan.clone(), datagram });
                    }
                    // The kernel reports an error once; the socket is looked at again.
                    Poll::Ready(Err(error)) => {
                        debug!(interface = lan.0, %error, "VRRP socket");
                        context.waker().wake_by_ref();
                    }
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    /// A packet that waits in a socket now.
    pub(super) fn try_receive(&mut self) -> Option<Heard> {
        self.lans.iter_mut().find_map(|(lan, (_, socket))| {
            let datagram = socket.try_receive().ok().flatten()?;
            Some(Heard { lan: lan.clone(), datagram })
        })
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let routers = self.routers.values().filter_map(|router| router.machine.next_deadline());
        routers.chain(self.retry_at).min()
    }

    /// Whether the interfaces are to be looked at again, because a socket could not be opened.
    pub(super) fn retry_is_due(&mut self, now: Instant) -> bool {
        self.retry_at.take_if(|at| *at <= now).is_some()
    }

    pub(super) fn hear(&mut self, heard: &Heard, now: Instant) -> Observed {
        let Some(vrid) = heard.datagram.vrid() else { return Vec::new() };
        let (interface, family) = &heard.lan;
        let meant = self.routers.iter().find(|(_, router)| {
            let config = router.machine.config();
            config.vrid == vrid && config.family == *family && router.interface == *interface
        });
        let Some(name) = meant.map(|(name, _)| name.clone()) else { return Vec::new() };
        self.drive(&name, |machine| machine.receive(&heard.datagram, now)).unwrap_or_default()
    }

    pub(super) fn timeout(&mut self, now: Instant) -> Observed {
        let due = |router: &Router| router.machine.next_deadline().is_some_and(|due| due <= now);
        let late: Vec<String> = self
            .routers
            .iter()
            .filter(|(_, router)| due(router))
            .map(|(name, _)| name.clone())
            .collect();
        late.iter().flat_map(|name| self.event(name, Event::Timeout, now)).collect()
    }

    /// Lets a virtual router listen, from the address its interface has now.
    pub(super) fn startup(&mut self, name: &str, now: Instant) -> Observed {
        match self.routers.get(name).and_then(|router| router.primary) {
            Some(primary) => self.event(name, Event::Startup { primary }, now),
            None => Vec::new(),
        }
    }

    pub(super) fn preempt_allowed(&mut self, name: &str, allowed: bool, now: Instant) {
        self.event(name, Event::PreemptAllowed(allowed), now);
    }

    /// Sets the priority in force.
    pub(super) fn prioritise(&mut self, name: &str, priority: u8, now: Instant) {
        if let Some(priority) = Priority::new(priority) {
            self.event(name, Event::Priority(priority), now);
        }
    }

    /// Makes a virtual router master and advertises it.
    ///
    /// # Errors
    /// When the advertisement could not be sent: then nobody knows of this master.
    pub(super) fn claim(&mut self, name: &str, now: Instant) -> anyhow::Result<()> {
        self.event(name, Event::Claim, now);
        let router = self.routers.get(name).context("no such virtual router")?;
        match &router.send_failure {
            None => Ok(()),
            Some(failure) => Err(anyhow!("{failure}")),
        }
    }

    /// Gives mastership up without a word on the wire.
    pub(super) fn relinquish(&mut self, name: &str, now: Instant) {
        self.event(name, Event::Relinquish, now);
    }

    /// Ends the election, with priority 0 from a master; whether it was one.
    pub(super) fn shut_down(&mut self, name: &str, now: Instant) -> bool {
        let was_master = self.is_master(name);
        self.event(name, Event::Shutdown, now);
        was_master
    }

    /// The lowest priority among the members of a group.
    pub(super) fn priority<'a>(&self, members: impl Iterator<Item = &'a str>) -> u8 {
        let priority = |name: &str| Some(self.routers.get(name)?.machine.config().priority.value());
        members.filter_map(priority).min().unwrap_or(0)
    }

    /// Takes what an interface is now; says of its virtual routers whether they can use it.
    pub(super) fn interface(
        &mut self,
        state: &InterfaceState,
        now: Instant,
    ) -> Vec<(String, Result<(), String>)> {
        let names: Vec<String> = self
            .routers
            .iter()
            .filter(|(_, router)| router.interface == state.name)
            .map(|(name, _)| name.clone())
            .collect();
        let mut news = Vec::new();
        for name in names {
            let family = self.routers[&name].machine.config().family;
            let usable = self.usable(state, family, now);
            let Some(router) = self.routers.get_mut(&name) else { continue };
            let primary = usable.as_ref().ok().copied();
            let moved = router.primary != primary;
            router.primary = primary.or(router.primary);
            let usable = usable.map(|_| ());
            if router.usable.as_ref() != Some(&usable) {
                router.usable = Some(usable.clone());
                news.push((name.clone(), usable));
            }
            if let (true, Some(primary)) = (moved, primary) {
                self.event(&name, Event::PrimaryAddress(primary), now);
            }
        }
        news
    }

    /// Tells the neighbours on a link where `address` is now.
    pub(super) fn announce(&mut self, link: &LinkState, address: IpAddr) -> anyhow::Result<()> {
        let forwards = address.is_ipv6()
            && sysctl::read("net/ipv6/conf/all/forwarding").is_ok_and(|on| on != "0");
        let frame = lockstep_vrrp::announcement(address, link.mac, forwards);
        let announcer = match self.announcers.remove(&link.index) {
            Some(announcer) => announcer,
            None => Announcer::open(link.index)?,
        };
        // One that fails is opened anew next time: its interface may have been made again.
        announcer.send(&frame)?;
        self.announcers.insert(link.index, announcer);
        Ok(())
    }

    pub(super) fn status(&self, now: Instant) -> Vec<status::VirtualRouter> {
        self.routers.iter().map(|(name, router)| router.status(name, now)).collect()
    }

    fn is_master(&self, name: &str) -> bool {
        self.routers
            .get(name)
            .is_some_and(|router| router.machine.state().name() == StateName::Master)
    }

    /// The primary address to use on an interface, or why it cannot be used. The socket is opened
    /// here, because a socket that cannot be opened is a reason too.
    fn usable(
        &mut self,
        state: &InterfaceState,
        family: Family,
        now: Instant,
    ) -> Result<IpAddr, String> {
        let name = &state.name;
        let lan = (name.clone(), family);
        let Some(link) = &state.link else {
            self.lans.remove(&lan);
            return Err(format!("{name} does not exist"));
        };
        if self.lans.get(&lan).is_none_or(|(index, _)| *index != link.index) {
            if let Some((before, _)) = self.lans.remove(&lan) {
                self.announcers.remove(&before);
            }
            let socket = AdvertisementSocket::open(name, link.index, family).map_err(|error| {
                self.retry_at.get_or_insert(now + RETRY_AFTER);
                format!("{error}: {}", error.source)
            })?;
            self.lans.insert(lan, (link.index, socket));
        }
        if !link.up {
            return Err(format!("{name} is down"));
        }
        if !link.carrier {
            return Err(format!("{name} has no carrier"));
        }
        primary_address(&link.addresses, family).ok_or_else(|| match family {
            Family::Ipv4 => format!("{name} has no IPv4 address"),
            Family::Ipv6 => format!("{name} has no IPv6 link-local address"),
        })
    }

    fn event(&mut self, name: &str, event: Event, now: Instant) -> Observed {
        self.drive(name, |machine| machine.handle(event, now)).unwrap_or_default()
    }

    fn drive(
        &mut self,
        name: &str,
        step: impl FnOnce(&mut VirtualRouter) -> Vec<Action>,
    ) -> Option<Observed> {
        let router = self.routers.get_mut(name)?;
        let mut observed = Vec::new();
        for action in step(&mut router.machine) {
            let event = match action {
                Action::Send(advertisement) => {
                    let lan = (router.interface.clone(), router.machine.config().family);
                    let socket = self.lans.get_mut(&lan).map(|(_, socket)| socket);
                    router.send(name, &advertisement, socket);
                    continue;
                }
                Action::StateChanged { from, to } => {
                    info!(name, from = from.as_str(), to = to.as_str(), "election");
                    continue;
                }
                Action::Rejected { source, rejection } => {
                    warn!(name, "{source} sends {rejection}");
                    continue;
                }
                Action::Differs { source, differing } => {
                    warn!(name, "{source} is heeded, but sends {differing}");
                    continue;
                }
                Action::Withheld { .. } | Action::Conflict { .. } | Action::Overslept { .. } => {
                    continue;
                }
                Action::Elected { reason } => VirtualRouterEvent::Elected { reason },
                Action::Deferred => VirtualRouterEvent::Deferred,
                Action::Superseded { reason, .. } => VirtualRouterEvent::Superseded { reason },
            };
            observed.push((name.to_owned(), event));
        }
        Some(observed)
    }
}

impl Router {
    fn send(
        &mut self,
        name: &str,
        advertisement: &lockstep_vrrp::Advertisement,
        socket: Option<&mut AdvertisementSocket>,
    ) {
        let result = match (self.primary, socket) {
            (Some(primary), Some(socket)) => {
                let packets = self.encoder.packets(advertisement, primary, utc());
                packets
                    .iter()
                    .try_for_each(|packet| socket.send(packet))
                    .map_err(|error| error.to_string())
            }
            (None, _) => Err("no address to send from".to_owned()),
            (_, None) => Err("no socket".to_owned()),
        };
        match result {
            Ok(()) => self.send_failure = None,
            Err(failure) => {
                self.send_errors += 1;
                if self.send_failure.is_none() {
                    warn!(name, failure, "advertisement not sent");
                }
                self.send_failure = Some(format!("advertisement not sent: {failure}"));
            }
        }
    }

    fn status(&self, name: &str, now: Instant) -> status::VirtualRouter {
        let config = self.machine.config();
        let mut statistics: BTreeMap<String, u64> = self
            .machine
            .statistics()
            .named()
            .into_iter()
            .map(|(counter, value)| (counter.to_owned(), value))
            .collect();
        statistics.insert("send-errors".to_owned(), self.send_errors);
        let rejected = self.machine.misunderstood().into_iter().map(|neighbour| {
            let since = now.saturating_duration_since(neighbour.since).as_secs();
            format!("{neighbour} ({} times in {since} s)", neighbour.count)
        });
        let differences = self.machine.differences().iter().map(ToString::to_string);
        status::VirtualRouter {
            name: name.to_owned(),
            group: self.group.clone(),
            interface: self.interface.clone(),
            vrid: config.vrid.value(),
            version: config.version.number(),
            family: match config.family {
                Family::Ipv4 => "ipv4".to_owned(),
                Family::Ipv6 => "ipv6".to_owned(),
            },
            state: self.machine.state().name().as_str().to_owned(),
            priority: config.priority.value(),
            effective_priority: self.machine.effective_priority().value(),
            master_address: self.machine.master_address().map(|address| address.to_string()),
            statistics,
            rejected: rejected.chain(differences).chain(self.send_failure.clone()).collect(),
        }
    }
}

/// The first address of the family; of IPv6 the first link-local one (RFC 9568 §5.1.2.1).
fn primary_address(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    addresses.iter().copied().find(|address| match (family, address) {
        (Family::Ipv4, IpAddr::V4(_)) => true,
        (Family::Ipv6, IpAddr::V6(address)) => address.is_unicast_link_local(),
        (Family::Ipv4 | Family::Ipv6, _) => false,
    })
}

/// The time of day, since 1970, for the stamp of signed advertisements.
fn utc() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
