//! Routers on one LAN, any of which may run either program, and an eye on the LAN.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use ipnet::IpNet;
use lockstep_lab::{Interface, Lan, Node};

use crate::frames::{Advertisement, Capture};
use crate::router::{Program, Role, Router};
use crate::setting::Setting;
use crate::story::{self, Step, Words};
use crate::wait;

/// Routers `a`, `b`, `c`, … by their index, each with one interface `eth0`. The later one has the higher addresses.
#[derive(Debug)]
pub struct Segment {
    /// What is on the LAN.
    pub capture: Capture,
    seats: Vec<Seat>,
    _tap: Node,
}

#[derive(Debug)]
struct Seat {
    program: Program,
    node: Node,
    router: Option<Router>,
    setting: Option<Setting>,
}

impl Segment {
    /// Makes the routers, with nothing running on them yet.
    ///
    /// # Panics
    /// When namespaces cannot be made.
    pub fn new(programs: &[Program]) -> Self {
        let lan = Lan::hub().expect("a LAN (the tests need the right to make network namespaces)");
        let tap = Node::new("tap").expect("a namespace");
        let seat = |(index, program): (usize, &Program)| {
            let node = Node::new(&format!("{}{}", letter(index), program.initial()));
            let node = node.expect("a namespace");
            let net = |address, length| IpNet::new(address, length).expect("a prefix");
            let interface = Interface::new("eth0")
                .mac(mac(index))
                .address(net(ipv4(index), 24))
                .address(net(ipv6(index), 64));
            node.attach(&lan, &interface).expect("an interface");
            Seat { program: *program, node, router: None, setting: None }
        };
        tap.attach(&lan, &Interface::new("eth0")).expect("an interface");
        let capture = Capture::start(&tap);
        let seats: Vec<Seat> = programs.iter().enumerate().map(seat).collect();
        for (index, seat) in seats.iter().enumerate() {
            // A cable that was just plugged in carries nothing until the kernel has noticed it.
            wait::until(&format!("{} can be seen", seat.node.name()), || {
                seat.node.announce("eth0", ipv4(index)).expect("it can announce itself");
                capture.announcements().iter().any(|seen| seen.mac == mac(index))
            });
        }
        capture.frames().clear();
        Self { capture, seats, _tap: tap }
    }

    /// Starts the program of router `index`.
    #[track_caller]
    pub fn start(&mut self, index: usize, setting: &Setting) {
        let own = |index| if setting.is_ipv6() { ipv6(index) } else { ipv4(index) };
        let others = (0..self.seats.len()).filter(|other| *other != index).map(own);
        let peers: Vec<IpAddr> = others.collect();
        let seat = &mut self.seats[index];
        seat.setting = Some(setting.clone());
        seat.router = Some(Router::start(seat.program, &seat.node, setting, own(index), &peers));
    }

    /// Starts it and waits until it is master with all its addresses.
    #[track_caller]
    pub fn start_master(&mut self, index: usize, setting: &Setting) {
        self.start(index, setting);
        self.wait_for_master(index);
    }

    /// Starts it and waits until it is backup.
    #[track_caller]
    pub fn start_backup(&mut self, index: usize, setting: &Setting) {
        self.start(index, setting);
        self.wait_for(index, Role::Backup);
    }

    /// Replaces what router `index` runs, once it is stopped.
    pub fn install(&mut self, index: usize, program: Program) {
        assert!(self.seats[index].router.is_none(), "it still runs something");
        self.seats[index].program = program;
    }

    /// What router `index` runs.
    pub fn program(&self, index: usize) -> Program {
        self.seats[index].program
    }

    /// The host of router `index`.
    pub fn node(&self, index: usize) -> &Node {
        &self.seats[index].node
    }

    /// The program of router `index`.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn router(&mut self, index: usize) -> &mut Router {
        self.seats[index].router.as_mut().expect("it runs")
    }

    /// The routers that run Lockstep now, and their indices.
    pub fn locksteps(&self) -> impl Iterator<Item = (usize, &crate::daemon::Lockstep)> {
        let daemon = |seat: &'_ Seat| seat.router.as_ref().and_then(Router::lockstep).is_some();
        self.seats.iter().enumerate().filter(move |(_, seat)| daemon(seat)).map(|(index, seat)| {
            (index, seat.router.as_ref().and_then(Router::lockstep).expect("it runs Lockstep"))
        })
    }

    /// Stops router `index` as systemd does, and waits for its end.
    #[track_caller]
    pub fn stop(&mut self, index: usize) {
        self.seats[index].router.take().expect("it runs").stop();
    }

    /// Kills router `index` so that it says nothing.
    #[track_caller]
    pub fn kill(&mut self, index: usize) {
        self.seats[index].router.take().expect("it runs").kill();
    }

    /// What router `index` takes itself for.
    #[track_caller]
    pub fn role(&self, index: usize) -> Role {
        self.seats[index].router.as_ref().expect("it runs").role()
    }

    /// Waits until router `index` is this, as it says itself.
    #[track_caller]
    pub fn wait_for(&self, index: usize, role: Role) {
        let what = format!("{} is {role:?}", self.seats[index].node.name());
        wait::until(&what, || self.role(index) == role);
    }

    /// Waits until router `index` is master and has all its addresses.
    #[track_caller]
    pub fn wait_for_master(&self, index: usize) {
        self.wait_for(index, Role::Master);
        let name = self.seats[index].node.name();
        wait::until(&format!("{name} has the addresses"), || self.has_all(index));
    }

    /// Waits until router `index` has announced all its addresses since it last claimed them.
    #[track_caller]
    pub fn wait_for_announcement(&self, index: usize) {
        let setting = self.seats[index].setting.as_ref().expect("it has been started");
        let addresses = setting.addresses.iter().map(IpNet::addr).collect();
        let name = self.seats[index].node.name();
        wait::until(&format!("{name} has announced its addresses"), || {
            let story = self.story();
            let master = story::masters(&story).chars().next_back();
            master == Some(letter(index))
                && story::announced(&story, letter(index)).is_superset(&addresses)
        });
    }

    /// Waits until router `index` is master and has said so to everybody, every other running one is backup, and the
    /// addresses are where they belong.
    #[track_caller]
    pub fn wait_for_only_master(&self, index: usize) {
        self.wait_for_master(index);
        self.wait_for_announcement(index);
        for other in (0..self.seats.len()).filter(|other| *other != index) {
            if self.seats[other].router.is_some() {
                self.wait_for(other, Role::Backup);
                let name = self.seats[other].node.name();
                wait::until(&format!("{name} has no address"), || self.has_none(other));
            }
        }
    }

    /// Whether router `index` has all of its virtual addresses.
    pub fn has_all(&self, index: usize) -> bool {
        let held = self.held(index);
        !held.is_empty() && held.iter().all(|held| *held)
    }

    /// Whether router `index` has none of its virtual addresses.
    pub fn has_none(&self, index: usize) -> bool {
        self.held(index).iter().all(|held| !held)
    }

    /// The routers that have virtual addresses: `a`, or `a (2 of 25)`.
    pub fn holders(&self) -> Vec<String> {
        let holder = |index: usize| {
            let held = self.held(index);
            let count = held.iter().filter(|held| **held).count();
            match count {
                0 => None,
                _ if count == held.len() => Some(letter(index).to_string()),
                _ => Some(format!("{} ({count} of {})", letter(index), held.len())),
            }
        };
        (0..self.seats.len()).filter_map(holder).collect()
    }

    /// Of each virtual address, whether it is there, wherever in the host. Link-local ones are left out: every link may
    /// have them.
    fn held(&self, index: usize) -> Vec<bool> {
        let Some(setting) = &self.seats[index].setting else { return Vec::new() };
        let addresses = setting.addresses.iter().map(IpNet::addr);
        let global = addresses.filter(|address| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        });
        let addresses: Vec<IpAddr> = global.collect();
        // A socket can be bound to an address only where the address is.
        let bind = |address: &IpAddr| UdpSocket::bind((*address, 0)).is_ok();
        let look = || addresses.iter().map(bind).collect();
        self.seats[index].node.run(look).expect("the namespace can be entered")
    }

    /// What happened on the wire so far.
    pub fn story(&self) -> Vec<Step> {
        story::tell(&self.capture.frames(), self.settled())
    }

    /// Who claimed to be master, in turn.
    pub fn masters(&self) -> String {
        story::masters(&self.story())
    }

    /// Waits until the masters so far are these.
    #[track_caller]
    pub fn wait_for_masters(&self, masters: &str) {
        wait::until(&format!("masters in turn: {masters}"), || self.masters() == masters);
    }

    /// The advertisements of router `index` so far.
    pub fn advertisements(&self, index: usize) -> Vec<Advertisement> {
        let mut all = self.capture.advertisements();
        all.retain(|seen| index_of(seen.source) == Some(index));
        all
    }

    /// How router `index` writes its advertisements and announcements, each form once.
    pub fn words(&self, index: usize) -> Words {
        Words::of(&self.capture.frames(), index)
    }

    /// Lets router `index` hear no advertisement any more. It goes on sending.
    #[track_caller]
    pub fn deafen(&self, index: usize) {
        self.nft(
            index,
            "add table inet deaf; add chain inet deaf in { type filter hook input priority 0; }; \
             add rule inet deaf in meta l4proto { 51, 112 } drop",
        );
    }

    /// Lets it hear again.
    #[track_caller]
    pub fn hear_again(&self, index: usize) {
        self.nft(index, "delete table inet deaf");
    }

    /// Runs nft on router `index`.
    #[track_caller]
    pub fn nft(&self, index: usize, script: &str) {
        self.run(index, &["nft", script]);
    }

    /// Runs a program on router `index` and gives what it prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, index: usize, words: &[&str]) -> String {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        let output = self.seats[index].node.output(command).expect("the program runs");
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Half of the shortest interval: what a router still says within that time of its successor's first word was on its
    /// way already.
    fn settled(&self) -> Duration {
        let settings = self.seats.iter().filter_map(|seat| seat.setting.as_ref());
        settings.map(|setting| setting.interval).min().unwrap_or_default() / 2
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("==== on the wire: {:#?}", self.story());
        }
    }
}

/// The name of router `index`.
pub fn letter(index: usize) -> char {
    char::from(b'a' + u8::try_from(index).expect("few routers"))
}

/// The primary IPv4 address of router `index`.
pub fn ipv4(index: usize) -> IpAddr {
    Ipv4Addr::new(10, 51, 0, 11 + u8::try_from(index).expect("few routers")).into()
}

/// The global IPv6 address of router `index`.
pub fn ipv6(index: usize) -> IpAddr {
    let host = 0x11 + u16::try_from(index).expect("few routers");
    Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, host).into()
}

/// The link-local address of router `index`.
pub fn link_local(index: usize) -> IpAddr {
    let host = 0xa + u16::try_from(index).expect("few routers");
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, host).into()
}

/// The hardware address of router `index`.
pub fn mac(index: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, 0xa + u8::try_from(index).expect("few routers")]
}

/// Whose primary address this is.
pub fn index_of(address: IpAddr) -> Option<usize> {
    let own = |index| [ipv4(index), ipv6(index), link_local(index)].contains(&address);
    (0..8).find(|index| own(*index))
}
