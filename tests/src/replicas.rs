//! Lockstep and conntrackd as each other's peer in every mode and over every transport, next to each other or with a
//! relay between them that loses and disorders what they say.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};

use lockstep_lab::{Interface, Lan, Node};

use crate::conntrackd::{Conntrackd, Content, content};
use crate::daemon::{Lockstep, number};
use crate::relay::{Relay, Side};
use crate::tables;
use crate::wait;

/// conntrackd's mode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Reliable.
    Ftfw,
    /// Without acknowledgements.
    Notrack,
    /// Told again and again.
    Alarm,
}

/// How the two reach each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// A group, over UDP.
    Multicast,
    /// Datagrams to each other.
    Udp,
    /// A connection in each direction.
    Tcp,
}

/// Whose router has the traffic; the other one stands by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Serves {
    /// The one that runs Lockstep.
    Ours,
    /// The one that runs conntrackd.
    Theirs,
}

/// What both are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Setting {
    /// The mode.
    pub mode: Mode,
    /// The transport.
    pub transport: Transport,
    /// Whether over IPv6.
    pub v6: bool,
}

/// Two routers whose `eth2` is the dedicated link, and what lies between.
#[derive(Debug)]
pub struct Replicas {
    /// The one that runs Lockstep.
    pub ours: Node,
    /// The one that runs conntrackd.
    pub theirs: Node,
    /// What spoils their conversation, unless they are next to each other.
    pub relay: Option<Relay>,
    setting: Setting,
    _relay_host: Option<Node>,
}

impl Setting {
    /// Every mode over every transport and family.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for mode in [Mode::Ftfw, Mode::Notrack, Mode::Alarm] {
            for transport in [Transport::Multicast, Transport::Udp, Transport::Tcp] {
                all.extend([false, true].map(|v6| Self { mode, transport, v6 }));
            }
        }
        all
    }

    /// The router's address on its dedicated link, and what it takes for its peer's.
    fn addresses(self, whose: Whose, relayed: bool) -> [IpAddr; 2] {
        let (own, peer): (&str, &str) = match (whose, relayed, self.v6) {
            (Whose::Ours, false, false) => ("192.168.77.2", "192.168.77.3"),
            (Whose::Theirs, false, false) => ("192.168.77.3", "192.168.77.2"),
            (Whose::Ours, true, false) => ("192.168.77.2", "192.168.77.1"),
            (Whose::Theirs, true, false) => ("192.168.78.2", "192.168.78.1"),
            (Whose::Ours, false, true) => ("fd77::2", "fd77::3"),
            (Whose::Theirs, false, true) => ("fd77::3", "fd77::2"),
            (Whose::Ours, true, true) => ("fd77::2", "fd77::1"),
            (Whose::Theirs, true, true) => ("fd78::2", "fd78::1"),
        };
        [own, peer].map(|address| address.parse().expect("an address"))
    }

    fn group(self) -> IpAddr {
        if self.v6 { "ff02::50" } else { "225.0.0.50" }.parse().expect("an address")
    }

    /// Our `[replication]`, after a virtual router that is alone: it serves at once, or not for an hour.
    fn ours(self, serves: Serves, [own, peer]: [IpAddr; 2]) -> String {
        let startup_limit = if serves == Serves::Ours { "0s" } else { "1h" };
        let mode = match self.mode {
            Mode::Ftfw => "ftfw",
            Mode::Notrack => "notrack",
            Mode::Alarm => "alarm",
        };
        let link = match self.transport {
            Transport::Multicast => format!("multicast = \"{}\"", self.group()),
            Transport::Udp => format!("local = \"{own}\"\npeers = [\"{peer}\"]"),
            Transport::Tcp => {
                format!("local = \"{own}\"\npeers = [\"{peer}\"]\ntransport = \"tcp\"")
            }
        };
        let alarm = if self.mode == Mode::Alarm {
            "refresh-interval = \"1s\"\ncache-timeout = \"20s\"\n"
        } else {
            ""
        };
        format!(
            r#"
[router]
id = "ours"

[vrrp.gateway]
interface = "eth0"
vrid = 51
advertisement-interval = "100ms"
startup-limit = "{startup_limit}"
addresses = ["10.51.0.1/24"]

[replication]
group = "gateway"
protocol = "conntrackd"
mode = "{mode}"
{alarm}
[[replication.link]]
interface = "eth2"
{link}
port = {PORT}
receive-buffer = 8388608
"#
        )
    }

    /// Their section `Sync`.
    fn theirs(self, [own, peer]: [IpAddr; 2], startup_resync: bool) -> String {
        let resync = if startup_resync { "StartupResync on" } else { "" };
        let mode = match self.mode {
            Mode::Ftfw => format!("Mode FTFW {{ {resync} }}"),
            Mode::Notrack => format!("Mode NOTRACK {{ {resync} }}"),
            Mode::Alarm => "Mode ALARM { RefreshTime 1 CacheTimeout 20 }".to_owned(),
        };
        let family = if self.v6 { "IPv6" } else { "IPv4" };
        let buffers = "SndSocketBuffer 8388608 RcvSocketBuffer 8388608 Checksum on";
        let group = self.group();
        let link = match (self.transport, self.v6) {
            (Transport::Multicast, false) => format!(
                "Multicast {{ IPv4_address {group} Group {PORT} IPv4_interface {own} Interface eth2 {buffers} }}"
            ),
            (Transport::Multicast, true) => {
                format!(
                    "Multicast {{ IPv6_address {group} Group {PORT} Interface eth2 {buffers} }}"
                )
            }
            (Transport::Udp | Transport::Tcp, _) => format!(
                "{} {{ {family}_address {own} {family}_Destination_Address {peer} Port {PORT} Interface eth2 {buffers} }}",
                if self.transport == Transport::Udp { "UDP" } else { "TCP" }
            ),
        };
        format!("  {mode}\n  {link}\n")
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Whose {
    Ours,
    Theirs,
}

impl Replicas {
    /// Both on one segment.
    ///
    /// # Panics
    /// When namespaces cannot be made.
    #[must_use]
    pub fn next_to_each_other(setting: Setting) -> Self {
        let sync = Lan::new().expect("a LAN (the tests need the right to make network namespaces)");
        let ours = router("ours", &sync, setting.addresses(Whose::Ours, false)[0]);
        let theirs = router("theirs", &sync, setting.addresses(Whose::Theirs, false)[0]);
        Self { ours, theirs, relay: None, setting, _relay_host: None }
    }

    /// Each on a segment of its own, with a relay between; not for TCP.
    ///
    /// # Panics
    /// When namespaces cannot be made.
    #[must_use]
    pub fn relayed(setting: Setting) -> Self {
        let lan =
            || Lan::new().expect("a LAN (the tests need the right to make network namespaces)");
        let lans = [lan(), lan()];
        let addresses = [Whose::Ours, Whose::Theirs].map(|whose| setting.addresses(whose, true));
        let ours = router("ours", &lans[0], addresses[0][0]);
        let theirs = router("theirs", &lans[1], addresses[1][0]);
        let host = Node::new("relay").expect("a namespace");
        let mut sides = Vec::new();
        for ((interface, lan), [router, relay]) in
            ["left", "right"].into_iter().zip(&lans).zip(addresses)
        {
            host.attach(lan, &Interface::new(interface).address(prefix(relay)))
                .expect("an interface");
            let towards =
                if setting.transport == Transport::Multicast { setting.group() } else { router };
            sides.push(Side { interface, address: relay, towards });
        }
        let relay = Relay::start(&host, [sides[0], sides[1]], PORT);
        Self { ours, theirs, relay: Some(relay), setting, _relay_host: Some(host) }
    }

    /// Lockstep, in this part.
    #[track_caller]
    pub fn start_lockstep(&self, serves: Serves) -> Lockstep {
        let addresses = self.setting.addresses(Whose::Ours, self.relay.is_some());
        let lockstep = Lockstep::start(&self.ours, &self.setting.ours(serves, addresses));
        let state = if serves == Serves::Ours { "master" } else { "backup" };
        lockstep.wait_for_state("gateway", state);
        lockstep
    }

    /// conntrackd.
    #[track_caller]
    pub fn start_conntrackd(&self, startup_resync: bool) -> Conntrackd {
        let addresses = self.setting.addresses(Whose::Theirs, self.relay.is_some());
        let sync = self.setting.theirs(addresses, startup_resync);
        Conntrackd::configured(&self.theirs, &sync, "")
    }

    /// NOTRACK over TCP: waits until conntrackd has its connection. It tries once a second, only when it has something to
    /// say, and keeps 128 batches for then: what else its kernel does meanwhile is lost, and nobody asks for it.
    #[track_caller]
    pub fn wait_until_conntrackd_can_tell(&self, conntrackd: &Conntrackd) {
        if self.setting.mode == Mode::Notrack && self.setting.transport == Transport::Tcp {
            wait::until("conntrackd is connected", || {
                conntrackd.command(&["-n"]);
                conntrackd.command(&["-s"]).contains("client=connected")
            });
        }
    }

    /// conntrackd, with these lines more in its section `Sync`.
    #[track_caller]
    pub fn start_conntrackd_with(&self, more: &str) -> Conntrackd {
        let addresses = self.setting.addresses(Whose::Theirs, self.relay.is_some());
        let sync = self.setting.theirs(addresses, false) + more;
        Conntrackd::configured(&self.theirs, &sync, "")
    }

    /// What our kernel has of [`tables::flow`]s, as the lists of both programs show it.
    #[track_caller]
    pub fn our_table(&self) -> Content {
        table(&self.ours)
    }

    /// What their kernel has.
    #[track_caller]
    pub fn their_table(&self) -> Content {
        table(&self.theirs)
    }

    /// Waits until conntrackd's external cache is what our kernel has, states and marks included.
    #[track_caller]
    pub fn wait_until_they_have_ours(&self, conntrackd: &Conntrackd, mut help: impl FnMut()) {
        let wanted = self.our_table();
        let what = format!("{:?}: conntrackd has what we have", self.setting);
        wait::until_or_stuck(&what, || {
            let count = conntrackd.external_len();
            let wrong = still_wrong(count, &wanted, || conntrackd.external_content());
            if wrong.is_some() {
                help();
            }
            wrong
        });
        explain(&wanted, &conntrackd.external_content());
    }

    /// Waits until our external cache is what their kernel has, states and marks included.
    #[track_caller]
    pub fn wait_until_we_have_theirs(&self, lockstep: &Lockstep) {
        let wanted = self.their_table();
        let what = format!("{:?}: we have what they have", self.setting);
        wait::until_or_stuck(&what, || {
            still_wrong(external_len(lockstep), &wanted, || external(lockstep))
        });
        explain(&wanted, &external(lockstep));
    }
}

/// What a cache of so many flows has, unless it is what it is to have. Counting is cheap, reading is not.
fn still_wrong(
    count: usize,
    wanted: &Content,
    read: impl FnOnce() -> Content,
) -> Option<(usize, Option<Content>)> {
    if count != wanted.len() {
        return Some((count, None));
    }
    let content = read();
    (content != *wanted).then_some((count, Some(content)))
}

/// How many flows our external cache has.
#[track_caller]
pub fn external_len(lockstep: &Lockstep) -> usize {
    number(&lockstep.status()["replication"]["external"]) as usize
}

/// Our external cache.
#[track_caller]
pub fn external(lockstep: &Lockstep) -> Content {
    cache(lockstep, "external")
}

/// Our internal cache.
#[track_caller]
pub fn internal(lockstep: &Lockstep) -> Content {
    cache(lockstep, "internal")
}

#[track_caller]
fn cache(lockstep: &Lockstep, which: &str) -> Content {
    let output = lockstep.command(&["replication", which]);
    assert!(output.status.success(), "{output:?}");
    content(&without_timeouts(&String::from_utf8_lossy(&output.stdout)))
}

/// The seconds in the third place, which conntrackd's lists do not have, are taken out.
fn without_timeouts(list: &str) -> String {
    let mut text = String::with_capacity(list.len());
    for line in list.lines() {
        for (at, word) in line.split_whitespace().enumerate() {
            if at != 2 || word.parse::<u32>().is_err() {
                text.push_str(word);
                text.push(' ');
            }
        }
        text.push('\n');
    }
    text
}

#[track_caller]
fn table(node: &Node) -> Content {
    let lines: Vec<String> = tables::read(node)
        .iter()
        .map(|flow| lockstep_ctnetlink::list_line(flow, &lockstep_ctnetlink::Details::default()))
        .collect();
    content(&without_timeouts(&lines.join("\n")))
}

/// Fails with the first differences and not with a hundred thousand lines.
#[track_caller]
fn explain(wanted: &Content, found: &Content) {
    let lines = |content: &Content| -> BTreeSet<String> {
        content.iter().map(|(flow, rest)| format!("{flow} {rest}")).collect()
    };
    let (wanted, found) = (lines(wanted), lines(found));
    let missing: Vec<&String> = wanted.difference(&found).collect();
    let unwanted: Vec<&String> = found.difference(&wanted).collect();
    assert!(
        missing.is_empty() && unwanted.is_empty(),
        "of {} flows {} are missing: {:?}; {} should not be there: {:?}",
        wanted.len(),
        missing.len(),
        missing.iter().take(5).collect::<Vec<_>>(),
        unwanted.len(),
        unwanted.iter().take(5).collect::<Vec<_>>(),
    );
}

fn router(name: &str, sync: &Lan, address: IpAddr) -> Node {
    let node = Node::new(name).expect("a namespace");
    let lan = Lan::new().expect("a LAN");
    let own = "10.51.0.2/24".parse().expect("an address");
    node.attach(&lan, &Interface::new("eth0").address(own)).expect("an interface");
    node.attach(sync, &Interface::new("eth2").address(prefix(address))).expect("an interface");
    wait::until("the address of eth2 can be used", || {
        node.run(|| UdpSocket::bind((address, 0)).is_ok()).expect("the router can be entered")
    });
    // Flows that were made before anybody listened must be told later, too.
    node.set("net/netfilter/nf_conntrack_events", "1").expect("events are on");
    node
}

fn prefix(address: IpAddr) -> ipnet::IpNet {
    let length = if address.is_ipv4() { 24 } else { 64 };
    ipnet::IpNet::new(address, length).expect("a prefix length")
}

const PORT: u16 = 3780;
