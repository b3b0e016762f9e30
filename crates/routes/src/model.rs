//! The declared objects, in iproute2's words.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::Tables;

/// A routing table by number; 254 is `main`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TableId(pub u32);

impl TableId {
    /// The table without a name in most commands.
    pub const MAIN: Self = Self(254);
    /// The kernel's own table.
    pub const LOCAL: Self = Self(255);
}

/// A packet mark and the bits of it that are compared.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fwmark {
    /// The mark.
    pub value: u32,
    /// The bits compared; all by default.
    pub mask: u32,
}

/// When an object is wanted.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum When {
    /// In every state.
    Always,
    /// Only while the group is master.
    Master,
    /// Only while the group is not master.
    Backup,
}

/// What an object follows: a moment and, unless it is [`When::Always`], a failover group.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Condition {
    /// When it is wanted.
    pub when: When,
    /// The group it follows.
    pub group: Option<String>,
}

impl Condition {
    /// Wanted in every state.
    pub const ALWAYS: Self = Self { when: When::Always, group: None };

    /// Whether it changes with the group's state. What is wanted in every state follows no group.
    pub fn follows(&self, group: &str) -> bool {
        self.followed() == Some(group)
    }

    /// The group with whose state it changes.
    pub fn followed(&self) -> Option<&str> {
        self.group.as_deref().filter(|_| self.when != When::Always)
    }
}

/// An interface whose administrative state is ours to set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// Its name.
    pub interface: String,
    /// When it is up; otherwise it is down.
    pub up: Condition,
}

/// An address that is wanted on an interface.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Address {
    /// The interface.
    pub interface: String,
    /// The address and its prefix length (`10.1.1.1/24`: the host bits are kept).
    pub address: IpNet,
    /// The broadcast address of an IPv4 address.
    pub broadcast: Option<std::net::Ipv4Addr>,
    /// The label of an IPv4 address (`eth0:1`).
    pub label: Option<String>,
    /// The scope.
    pub scope: Scope,
    /// When it is wanted. The addresses of a virtual router follow its group as master.
    pub condition: Condition,
}

/// How far an address or route is valid (`/etc/iproute2/rt_scopes`).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scope {
    /// Everywhere.
    #[default]
    Global,
    /// On this link.
    Link,
    /// On this host.
    Host,
}

/// A route's type.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RouteKind {
    /// To a next hop or a link.
    #[default]
    Unicast,
    /// To this router itself.
    Local,
    /// End the lookup in this table and go on with the next rule.
    Throw,
    /// Drop silently.
    Blackhole,
    /// Answer ICMP unreachable.
    Unreachable,
    /// Answer ICMP prohibited.
    Prohibit,
}

/// Where packets of a route go next.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NextHop {
    /// The next router; of the other family than the destination, when that is IPv4 (RFC 5549).
    pub via: Option<IpAddr>,
    /// The outgoing interface.
    pub dev: Option<String>,
    /// Its share among several, 1 to 256 (`ip route`'s `weight`).
    pub weight: u16,
    /// The next router is on the link even if no address says so.
    pub onlink: bool,
}

/// A wanted route.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Route {
    /// Its type.
    pub kind: RouteKind,
    /// The destination; `default` is the zero prefix of its family.
    pub to: IpNet,
    /// One for a unicast route, more for multipath; a local one may have one with an interface and
    /// no router; empty for the others.
    pub next_hops: Vec<NextHop>,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// The table.
    pub table: TableId,
    /// The metric (`RTA_PRIORITY`).
    pub metric: Option<u32>,
    /// Largest packet in bytes (`RTAX_MTU`), when not the interface's.
    pub mtu: Option<u32>,
    /// The scope, when not the one that follows from type and next hop.
    pub scope: Option<Scope>,
    /// The routing protocol number; marks who made it. [`PROTOCOL_LOCKSTEP`] unless set; what bears
    /// another number is told from somebody else's by [`crate::Owned`].
    pub protocol: u8,
    /// When it is wanted.
    pub condition: Condition,
}

/// What makes two routes the same to the kernel: only one of them can be in a table.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RouteKey {
    /// The table.
    pub table: TableId,
    /// The destination, without host bits.
    pub to: IpNet,
    /// The metric as the kernel stores it.
    pub metric: u32,
}

/// What a rule does with a packet that it selects.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RuleAction {
    /// Looks it up in a table.
    Lookup(TableId),
    /// Drops it silently.
    Blackhole,
    /// Answers ICMP unreachable.
    Unreachable,
    /// Answers ICMP prohibited.
    Prohibit,
}

/// Ports that a rule selects, both ends included.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// What makes two rules the same to the kernel: everything but who made them.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RuleKey {
    /// Whether it is an IPv6 rule.
    pub ipv6: bool,
    /// Its place among the rules.
    pub priority: u32,
    /// Source prefix.
    pub from: Option<IpNet>,
    /// Destination prefix.
    pub to: Option<IpNet>,
    /// Packet mark.
    pub fwmark: Option<Fwmark>,
    /// Incoming interface.
    pub iif: Option<String>,
    /// Outgoing interface.
    pub oif: Option<String>,
    /// Type of service or DSCP bits (`tos`); 0 selects every packet.
    pub tos: u8,
    /// Number of the protocol above IP (`ipproto`).
    pub ip_protocol: Option<u8>,
    /// Source ports (`sport`).
    pub source_port: Option<PortRange>,
    /// Destination ports (`dport`).
    pub destination_port: Option<PortRange>,
    /// Routes with a prefix this long or shorter do not count (`suppress_prefixlength`).
    pub suppress_prefix_length: Option<u8>,
    /// What happens to the packet.
    pub action: RuleAction,
}

/// The routing protocol number that marks routes, rules and addresses as ours.
///
/// Not in `/etc/iproute2/rt_protos` as shipped; between `keepalived` (18) and `bgp` (186).
pub const PROTOCOL_LOCKSTEP: u8 = 112;

/// A wanted rule.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Rule {
    /// What it selects and does.
    pub key: RuleKey,
    /// The routing protocol number; marks who made it, as in [`Route::protocol`].
    pub protocol: u8,
    /// When it is wanted.
    pub condition: Condition,
}

/// All that is wanted of links, addresses, routes and rules.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Declared {
    /// Links whose state is ours.
    pub links: Vec<Link>,
    /// Addresses, the virtual routers' among them.
    pub addresses: Vec<Address>,
    /// Routes.
    pub routes: Vec<Arc<Route>>,
    /// Rules.
    pub rules: Vec<Rule>,
    /// Names of tables, for people.
    pub tables: Tables,
    /// Interfaces of our own with a virtual MAC address.
    pub virtual_links: Vec<VirtualLink>,
}

/// An interface that carries a virtual router's MAC address (RFC 9568 §7.3): a macvlan in bridge
/// mode on top of another, there for as long as the daemon runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VirtualLink {
    /// Its name.
    pub name: String,
    /// The interface below.
    pub parent: String,
    /// `00:00:5e:00:01:VRID` for IPv4, `00:00:5e:00:02:VRID` for IPv6.
    pub mac: [u8; 6],
}
