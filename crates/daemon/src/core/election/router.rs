//! One virtual router: its election, how it speaks, and whether its interface can be used.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use lockstep_vrrp::{
    Advertisement, Config, Encoder, Family, Packet, State, StateName, Transport, VirtualRouter,
};
use tracing::warn;

use super::Warnings;
use super::sending::Sending;
use super::ways::Way;
use crate::messages::LinkState;
use crate::status;

/// A virtual router and what belongs to it.
pub(super) struct Router {
    pub(super) name: String,
    pub(super) group: String,
    /// Where it listens, and whose addresses are its own.
    pub(super) interface: String,
    /// The interface with its virtual MAC, when it has one.
    pub(super) virtual_link: Option<String>,
    /// The other interfaces that have addresses of it.
    pub(super) carriers: Vec<String>,
    /// The configured address to advertise from.
    pub(super) source: Option<IpAddr>,
    pub(super) machine: VirtualRouter,
    pub(super) encoder: Encoder,
    /// The place of its [`Way`].
    pub(super) way: usize,
    /// The last answer to "can its interfaces be used"; `None` before the first.
    pub(super) usable: Option<Result<(), String>>,
    /// Why nothing can leave by its interface.
    pub(super) mute: Option<String>,
    pub(super) primary: Option<IpAddr>,
    pub(super) sending: Sending,
    /// Why it is not master although it should be; old when it is not withheld now.
    pub(super) withheld: Option<String>,
    /// Since when the other master that was told of last was heard.
    pub(super) other_master: Option<Instant>,
}

impl Router {
    pub(super) fn new(config: &lockstep_config::VirtualRouter, way: usize) -> Self {
        Self {
            name: config.name.clone(),
            group: config.group.clone(),
            interface: config.interface.clone(),
            virtual_link: config.virtual_link.clone(),
            carriers: config.carriers.clone(),
            source: config.source,
            encoder: Encoder::new(&config.vrrp),
            machine: VirtualRouter::new(config.vrrp.clone()),
            way,
            usable: None,
            mute: None,
            primary: None,
            sending: Sending::default(),
            withheld: None,
            other_master: None,
        }
    }

    pub(super) fn family(&self) -> Family {
        self.machine.config().family
    }

    pub(super) fn is_master(&self) -> bool {
        self.machine.state().name() == StateName::Master
    }

    /// The address to advertise from, or why the interfaces cannot be used.
    pub(super) fn usable_address(
        &self,
        base: Option<&LinkState>,
        virtual_link: Option<&LinkState>,
    ) -> Result<IpAddr, String> {
        let name = &self.interface;
        let link = base.ok_or_else(|| format!("{name} does not exist"))?;
        if !link.up {
            return Err(format!("{name} is down"));
        }
        if !link.carrier {
            return Err(format!("{name} has no carrier"));
        }
        if let Some(name) = &self.virtual_link {
            let link = virtual_link.ok_or_else(|| format!("{name} does not exist"))?;
            if !link.up {
                return Err(format!("{name} is down"));
            }
        }
        if let Some(source) = self.source {
            return Ok(source);
        }
        own_address(&link.addresses, self.machine.config()).ok_or_else(|| {
            match (self.family(), wants_link_local(self.machine.config())) {
                (Family::Ipv4, _) => format!("{name} has no IPv4 address"),
                (Family::Ipv6, true) => format!("{name} has no IPv6 link-local address"),
                (Family::Ipv6, false) => format!("{name} has no global IPv6 address"),
            }
        })
    }

    /// Says that there is another master, once while it is heard.
    pub(super) fn tell_other_master(
        &mut self,
        with: IpAddr,
        warnings: &mut Warnings,
        now: Instant,
    ) {
        let Some(other) = self.machine.other_master(now).filter(|it| it.address == with) else {
            return;
        };
        if self.other_master != Some(other.since) && warnings.may_write(now) {
            self.other_master = Some(other.since);
            let (name, priority) = (&self.name, other.priority);
            warn!(name, %with, priority, "two masters: the other one has to give way");
        }
    }

    /// The packets of an advertisement, or why there can be none.
    pub(super) fn packets(&mut self, advertisement: &Advertisement) -> Result<Vec<Packet>, String> {
        // A queue that nobody empties takes a packet without a word.
        if let Some(problem) = &self.mute {
            return Err(problem.clone());
        }
        let primary = self.primary.ok_or("no address to send from")?;
        let utc = if self.encoder.stamps() { utc() } else { Duration::ZERO };
        Ok(self.encoder.packets(advertisement, primary, utc))
    }

    /// How long nothing may leave before this master is none.
    pub(super) fn silence_limit(&self) -> Duration {
        3 * self.machine.config().advertisement_interval
    }

    /// For `status`.
    pub(super) fn status(&self, now: Instant) -> status::VirtualRouter {
        let (config, machine) = (self.machine.config(), &self.machine);
        let statistics = machine.statistics().named();
        let statistics = statistics.into_iter().map(|(counter, value)| (counter.to_owned(), value));
        let rejected = machine.misunderstood().into_iter().map(|neighbour| {
            let since = now.saturating_duration_since(neighbour.since).as_secs();
            format!("{neighbour} ({} times in {since} s)", neighbour.count)
        });
        let differs = machine.differences().iter().map(ToString::to_string);
        status::VirtualRouter {
            name: self.name.clone(),
            group: self.group.clone(),
            interface: self.interface.clone(),
            vrid: config.vrid.value(),
            version: config.version.number(),
            family: match config.family {
                Family::Ipv4 => "ipv4".to_owned(),
                Family::Ipv6 => "ipv6".to_owned(),
            },
            state: machine.state().name().as_str().to_owned(),
            priority: config.priority.value(),
            effective_priority: machine.effective_priority().value(),
            master_address: machine.master_address().map(|address| address.to_string()),
            master_interval_ms: self.learned_interval(),
            new_master_reason: Some(machine.new_master_reason().as_str().to_owned()),
            last_event: Some(machine.last_event().as_str().to_owned()),
            waiting: self.waiting(now),
            other_master: machine.other_master(now).map(|other| other.sentence(now)),
            withheld: self.withheld.clone().filter(|_| machine.is_withheld()),
            statistics: statistics.chain(self.sending.counters()).collect(),
            rejected: rejected.collect(),
            differs: differs.collect(),
            sending: self.sending.trouble().map(str::to_owned),
        }
    }

    fn learned_interval(&self) -> Option<u64> {
        match self.machine.state() {
            State::Backup { master_adver_interval, .. } => {
                u64::try_from(master_adver_interval.as_millis()).ok()
            }
            State::Initialize | State::Master { .. } => None,
        }
    }

    /// What keeps it from electing itself: the start-up limit, and for how long; or that it has
    /// handed over.
    fn waiting(&self, now: Instant) -> Option<String> {
        if let Some(successor) = self.machine.yields_to() {
            return Some(format!(
                "until the mastership of {successor} ends, because it was handed over to it"
            ));
        }
        let State::Backup { master_down_at, .. } = self.machine.state() else { return None };
        let until = self.machine.next_deadline().filter(|until| *until > master_down_at)?;
        let rest = until.saturating_duration_since(now).as_secs_f64();
        Some(format!(
            "for {rest:.1} s more, because nothing was heard yet since it began to listen"
        ))
    }
}

/// How the packets of a virtual router with this configuration leave.
pub(super) fn way_of(config: &lockstep_config::VirtualRouter) -> Way {
    match &config.vrrp.transport {
        Transport::Multicast => Way::Group { interface: config.advertising_interface().to_owned() },
        Transport::Unicast { .. } => Way::Peers {
            family: config.vrrp.family,
            interface: wants_link_local(&config.vrrp)
                .then(|| config.interface.clone())
                .filter(|_| config.vrrp.family == Family::Ipv6),
        },
    }
}

/// Over IPv6 the group is talked to from a link-local address (RFC 9568 §5.1.2.1), and a peer from
/// one that can reach it.
fn wants_link_local(config: &Config) -> bool {
    let is_link_local = |peer: &IpAddr| match peer {
        IpAddr::V4(_) => false,
        IpAddr::V6(peer) => peer.is_unicast_link_local(),
    };
    match &config.transport {
        Transport::Multicast => true,
        Transport::Unicast { peers, .. } => peers.iter().any(is_link_local),
    }
}

/// The interface's first address that a virtual router with this configuration can speak from.
fn own_address(addresses: &[IpAddr], config: &Config) -> Option<IpAddr> {
    addresses.iter().copied().find(|address| match (config.family, address) {
        (Family::Ipv4, IpAddr::V4(_)) => true,
        (Family::Ipv6, IpAddr::V6(address)) => {
            address.is_unicast_link_local() == wants_link_local(config)
        }
        (Family::Ipv4 | Family::Ipv6, _) => false,
    })
}

/// The time of day, since 1970, for the stamp of signed advertisements.
fn utc() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use lockstep_vrrp::{Version, Vrid};

    use super::*;

    fn config(family: Family, peers: &[&str]) -> Config {
        let peers: Vec<IpAddr> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
        let transport = if peers.is_empty() {
            Transport::Multicast
        } else {
            Transport::Unicast { peers, ttl: 255, minimum_ttl: 0 }
        };
        Config { transport, ..Config::new(Vrid::new(51).unwrap(), Version::V3, family) }
    }

    fn chosen(config: &Config) -> Option<String> {
        let addresses = ["10.1.1.2", "2001:db8::2", "fe80::2", "10.1.1.3"];
        let addresses: Vec<IpAddr> = addresses.map(|address| address.parse().unwrap()).to_vec();
        own_address(&addresses, config).map(|address| address.to_string())
    }

    #[test]
    fn the_group_is_talked_to_from_the_first_address_or_the_link_local_one() {
        assert_eq!(chosen(&config(Family::Ipv4, &[])).as_deref(), Some("10.1.1.2"));
        assert_eq!(chosen(&config(Family::Ipv6, &[])).as_deref(), Some("fe80::2"));
    }

    #[test]
    fn a_peer_is_talked_to_from_an_address_that_can_reach_it() {
        assert_eq!(chosen(&config(Family::Ipv4, &["10.9.9.9"])).as_deref(), Some("10.1.1.2"));
        let global = config(Family::Ipv6, &["2001:db8:1::9"]);
        assert_eq!(chosen(&global).as_deref(), Some("2001:db8::2"));
        assert_eq!(chosen(&config(Family::Ipv6, &["fe80::9"])).as_deref(), Some("fe80::2"));
    }

    #[test]
    fn an_interface_without_an_address_can_be_used_with_a_configured_source() {
        let link = LinkState {
            index: 1,
            up: true,
            carrier: true,
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            ..LinkState::default()
        };
        let mut configured = lockstep_config::VirtualRouter {
            name: "inside".to_owned(),
            group: "inside".to_owned(),
            interface: "eth0".to_owned(),
            vrrp: config(Family::Ipv4, &[]),
            source: None,
            virtual_link: None,
            carriers: Vec::new(),
            advertise_from: lockstep_config::AdvertiseFrom::default(),
            accept: true,
            announce: lockstep_config::Announce::default(),
        };
        let router = Router::new(&configured, 0);
        let refused = router.usable_address(Some(&link), None);
        assert_eq!(refused, Err("eth0 has no IPv4 address".to_owned()));
        configured.source = "192.0.2.7".parse().ok();
        let router = Router::new(&configured, 0);
        assert_eq!(router.usable_address(Some(&link), None), Ok(configured.source.unwrap()));
        let unplugged = LinkState { carrier: false, ..link };
        let refused = router.usable_address(Some(&unplugged), None);
        assert_eq!(refused, Err("eth0 has no carrier".to_owned()));
    }
}
