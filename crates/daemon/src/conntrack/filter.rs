//! Which flows and expectations are shown: the options of `conntrack -L` and `-E`.

use std::fs;
use std::net::IpAddr;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use lockstep_ctnetlink::{
    Expectation, Family, Flow, L4, ProtocolState, Status, TcpState, Tuple, ZoneDirection,
    protocol_name, state_name,
};

/// Where labels have names, as `conntrack` and iptables read them: a bit's number and its name on a
/// line.
const LABEL_NAMES: &str = "/etc/xtables/connlabel.conf";
/// Labels of a flow.
const LABELS: u8 = 128;

/// A filter; everything that is set has to agree.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Only those of this family
    #[arg(short, long, value_enum, default_value_t = Families::Any)]
    pub(super) family: Families,
    /// Source of the original direction: an address or a network
    #[arg(short = 's', long, visible_aliases = ["orig-src"], value_name = "ADDRESS", value_parser = network)]
    src: Option<IpNet>,
    /// Destination of the original direction
    #[arg(short = 'd', long, visible_aliases = ["orig-dst"], value_name = "ADDRESS", value_parser = network)]
    dst: Option<IpNet>,
    /// Source of the reply direction
    #[arg(short = 'r', long, value_name = "ADDRESS", value_parser = network)]
    reply_src: Option<IpNet>,
    /// Destination of the reply direction
    #[arg(short = 'q', long, value_name = "ADDRESS", value_parser = network)]
    reply_dst: Option<IpNet>,
    /// Protocol by name or number
    #[arg(short = 'p', long, visible_aliases = ["proto"], value_name = "PROTOCOL", value_parser = protocol)]
    protonum: Option<u8>,
    /// Source port of the original direction
    #[arg(long, visible_aliases = ["orig-port-src"], value_name = "PORT")]
    sport: Option<u16>,
    /// Destination port of the original direction
    #[arg(long, visible_aliases = ["orig-port-dst"], value_name = "PORT")]
    dport: Option<u16>,
    /// Source port of the reply direction
    #[arg(long, value_name = "PORT")]
    reply_port_src: Option<u16>,
    /// Destination port of the reply direction
    #[arg(long, value_name = "PORT")]
    reply_port_dst: Option<u16>,
    /// State of the protocol, such as ESTABLISHED
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<&'static str>,
    /// Mark, decimal or hexadecimal
    #[arg(short, long, value_name = "MARK[/MASK]", value_parser = mark)]
    mark: Option<Masked>,
    /// Zone of both directions
    #[arg(short = 'w', long, visible_short_alias = 'z', value_name = "ZONE")]
    zone: Option<u16>,
    /// Zone of the original direction alone
    #[arg(long, value_name = "ZONE")]
    orig_zone: Option<u16>,
    /// Zone of the reply direction alone
    #[arg(long, value_name = "ZONE")]
    reply_zone: Option<u16>,
    /// Labels that are all set, by number or by their name in /etc/xtables/connlabel.conf
    #[arg(short, long, value_delimiter = ',', value_name = "LABEL", value_parser = label)]
    label: Vec<u8>,
    /// Source NAT, to this address when one is named
    #[arg(short = 'n', long, num_args = 0..=1, value_name = "ADDRESS")]
    #[expect(clippy::option_option, reason = "not asked for, any, or one")]
    src_nat: Option<Option<IpAddr>>,
    /// Destination NAT, to this address when one is named
    #[arg(short = 'g', long, num_args = 0..=1, value_name = "ADDRESS")]
    #[expect(clippy::option_option, reason = "not asked for, any, or one")]
    dst_nat: Option<Option<IpAddr>>,
    /// NAT of either kind, to this address when one is named
    #[arg(short = 'j', long, num_args = 0..=1, value_name = "ADDRESS")]
    #[expect(clippy::option_option, reason = "not asked for, any, or one")]
    any_nat: Option<Option<IpAddr>>,
    /// Status that is set, such as `ASSURED,SEEN_REPLY`; also UNREPLIED
    #[arg(short = 'u', long, value_delimiter = ',', value_name = "STATUS", value_parser = status)]
    status: Vec<Bits>,
}

/// Address families.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum Families {
    #[default]
    Any,
    Ipv4,
    Ipv6,
}

/// A value and the bits of it that count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Masked {
    value: u32,
    mask: u32,
}

/// Status bits that must be set, or must not be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Bits {
    bits: u32,
    set: bool,
}

impl Filter {
    /// The family that the kernel is asked for.
    pub(super) fn family(&self) -> Family {
        match self.family {
            Families::Any => Family::Any,
            Families::Ipv4 => Family::Ipv4,
            Families::Ipv6 => Family::Ipv6,
        }
    }

    /// Why nothing can agree with it, whatever the kernel has: as in `conntrack`, that is a mistake
    /// and not an empty list. Expectations have less that can be asked for than flows.
    pub(super) fn contradiction(&self, of_flows: bool) -> Option<String> {
        if !of_flows && let Some(option) = self.option_of_flows() {
            return Some(format!("expectations have nothing that {option} could be about"));
        }
        let [v4, v6] = [true, false].map(|v4| self.addresses().any(|it| it.is_ipv4() == v4));
        if (v4 && (v6 || self.family == Families::Ipv6)) || (v6 && self.family == Families::Ipv4) {
            return Some("a flow has addresses of one family only".to_owned());
        }
        let protocol = self.protonum?;
        let name = protocol_name(protocol).map_or_else(|| protocol.to_string(), str::to_owned);
        if self.names_a_port() && WITHOUT_PORTS.contains(&protocol) {
            return Some(format!("{name} has no ports"));
        }
        let state = self.state?;
        let known: Vec<&str> = states(protocol).collect();
        if known.is_empty() {
            return Some(format!("{name} has no states"));
        }
        (!known.contains(&state))
            .then(|| format!("{name} has no state {state}; known: {}", known.join(", ")))
    }

    /// An option that is set and has to do with flows only.
    fn option_of_flows(&self) -> Option<&'static str> {
        let set = [
            (self.reply_src.is_some(), "--reply-src"),
            (self.reply_dst.is_some(), "--reply-dst"),
            (self.reply_port_src.is_some(), "--reply-port-src"),
            (self.reply_port_dst.is_some(), "--reply-port-dst"),
            (self.state.is_some(), "--state"),
            (self.mark.is_some(), "--mark"),
            (self.orig_zone.is_some(), "--orig-zone"),
            (self.reply_zone.is_some(), "--reply-zone"),
            (!self.label.is_empty(), "--label"),
            (self.src_nat.is_some(), "--src-nat"),
            (self.dst_nat.is_some(), "--dst-nat"),
            (self.any_nat.is_some(), "--any-nat"),
            (!self.status.is_empty(), "--status"),
        ];
        set.into_iter().find_map(|(is_set, option)| is_set.then_some(option))
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let networks = [self.src, self.dst, self.reply_src, self.reply_dst];
        let translations = [self.src_nat, self.dst_nat, self.any_nat];
        let networks = networks.into_iter().flatten().map(|network| network.addr());
        networks.chain(translations.into_iter().flatten().flatten())
    }

    fn names_a_port(&self) -> bool {
        let ports = [self.sport, self.dport, self.reply_port_src, self.reply_port_dst];
        ports.iter().any(Option::is_some)
    }

    /// Whether the flow is wanted.
    pub(super) fn takes(&self, flow: &Flow) -> bool {
        let (from, to) = ports(&flow.orig);
        let (reply_from, reply_to) = ports(&flow.reply);
        self.takes_family(&flow.orig)
            && within(self.src, flow.orig.source)
            && within(self.dst, flow.orig.destination)
            && within(self.reply_src, flow.reply.source)
            && within(self.reply_dst, flow.reply.destination)
            && self.protonum.is_none_or(|wanted| wanted == flow.orig.protocol)
            && equals(self.sport, from)
            && equals(self.dport, to)
            && equals(self.reply_port_src, reply_from)
            && equals(self.reply_port_dst, reply_to)
            && self.takes_state(flow)
            && self.takes_mark(flow)
            && self.takes_zone(flow)
            && self.takes_nat(flow)
            && self.label.iter().all(|label| has_label(flow, *label))
            && self.status.iter().all(|one| flow.status.contains(one.bits) == one.set)
    }

    /// Whether the expectation is wanted: addresses and ports are those of the expected connection.
    pub(super) fn takes_expectation(&self, expectation: &Expectation) -> bool {
        let (from, to) = ports(&expectation.tuple);
        self.takes_family(&expectation.master)
            && within(self.src, expectation.tuple.source)
            && within(self.dst, expectation.tuple.destination)
            && self.protonum.is_none_or(|wanted| wanted == expectation.tuple.protocol)
            && equals(self.sport, from)
            && equals(self.dport, to)
            && self.zone.is_none_or(|zone| zone == expectation.zone)
    }

    fn takes_family(&self, tuple: &Tuple) -> bool {
        match self.family {
            Families::Any => true,
            Families::Ipv4 => tuple.source.is_ipv4(),
            Families::Ipv6 => tuple.source.is_ipv6(),
        }
    }

    fn takes_state(&self, flow: &Flow) -> bool {
        self.state.is_none_or(|wanted| state_name(&flow.protocol_state) == Some(wanted))
    }

    fn takes_mark(&self, flow: &Flow) -> bool {
        let Some(Masked { value, mask }) = self.mark else { return true };
        flow.mark.unwrap_or(0) & mask == value & mask
    }

    fn takes_zone(&self, flow: &Flow) -> bool {
        let of = |direction| if flow.zone_direction == direction { flow.zone } else { 0 };
        self.zone.is_none_or(|zone| zone == of(ZoneDirection::Both))
            && self.orig_zone.is_none_or(|zone| zone == of(ZoneDirection::Orig))
            && self.reply_zone.is_none_or(|zone| zone == of(ZoneDirection::Reply))
    }

    fn takes_nat(&self, flow: &Flow) -> bool {
        let source = |to: Option<IpAddr>| {
            flow.source_translated() && to.is_none_or(|to| to == flow.reply.destination)
        };
        let destination = |to: Option<IpAddr>| {
            flow.destination_translated() && to.is_none_or(|to| to == flow.reply.source)
        };
        self.src_nat.is_none_or(source)
            && self.dst_nat.is_none_or(destination)
            && self.any_nat.is_none_or(|to| source(to) || destination(to))
    }
}

fn within(network: Option<IpNet>, address: IpAddr) -> bool {
    network.is_none_or(|network| network.contains(&address))
}

fn equals(wanted: Option<u16>, port: Option<u16>) -> bool {
    wanted.is_none() || wanted == port
}

fn ports(tuple: &Tuple) -> (Option<u16>, Option<u16>) {
    match tuple.l4 {
        L4::Ports { source, destination } => (Some(source), Some(destination)),
        L4::None | L4::Icmp { .. } => (None, None),
    }
}

fn has_label(flow: &Flow, label: u8) -> bool {
    let (word, bit) = (usize::from(label / 32), label % 32);
    flow.labels.is_some_and(|words| words[word] >> bit & 1 == 1)
}

fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    text.parse().map_err(|_| "not an address or a network".to_owned())
}

fn protocol(text: &str) -> Result<u8, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let wanted = if text == "ipv6-icmp" { "icmpv6" } else { text };
    (0..=u8::MAX)
        .find(|number| protocol_name(*number) == Some(wanted))
        .ok_or_else(|| "not a protocol with a name here; write its number".to_owned())
}

/// The states of a protocol; none of one that has none.
fn states(protocol: u8) -> impl Iterator<Item = &'static str> {
    (0..=u8::MAX).map_while(move |state| state_name(&in_state(protocol, state)))
}

fn in_state(protocol: u8, state: u8) -> ProtocolState {
    match protocol {
        TCP => ProtocolState::Tcp(TcpState { state, ..TcpState::default() }),
        SCTP => ProtocolState::Sctp { state, vtag_orig: 0, vtag_reply: 0 },
        DCCP => ProtocolState::Dccp { state, role: 0, handshake_sequence: 0 },
        _ => ProtocolState::None,
    }
}

fn state(text: &str) -> Result<&'static str, String> {
    let mut known: Vec<&'static str> = Vec::new();
    for state in [TCP, SCTP, DCCP].into_iter().flat_map(states) {
        if !known.contains(&state) {
            known.push(state);
        }
    }
    let found = known.iter().find(|state| state.eq_ignore_ascii_case(text));
    found.copied().ok_or_else(|| format!("known: {}", known.join(", ")))
}

const TCP: u8 = 6;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
/// ICMP, IGMP, OSPF, VRRP and `ICMPv6`.
const WITHOUT_PORTS: [u8; 5] = [1, 2, 89, 112, 58];

fn mark(text: &str) -> Result<Masked, String> {
    let number = |text: &str| {
        let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.map_err(|_| format!("\"{text}\" is not a number of 32 bits"))
    };
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    Ok(Masked { value: number(value)?, mask: number(mask)? })
}

fn label(text: &str) -> Result<u8, String> {
    let named = || {
        let names = fs::read_to_string(LABEL_NAMES).unwrap_or_default();
        names.lines().find_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let (number, name) = (words.next()?, words.next()?);
            (name == text).then(|| number.parse::<u8>().ok())?
        })
    };
    let number = text.parse().ok().or_else(named);
    number
        .filter(|number| *number < LABELS)
        .ok_or_else(|| format!("neither 0 to {} nor a name in {LABEL_NAMES}", LABELS - 1))
}

fn status(text: &str) -> Result<Bits, String> {
    const NAMES: [(&str, u32, bool); 9] = [
        ("ASSURED", Status::ASSURED, true),
        ("SEEN_REPLY", Status::SEEN_REPLY, true),
        ("UNREPLIED", Status::SEEN_REPLY, false),
        ("EXPECTED", Status::EXPECTED, true),
        ("FIXED_TIMEOUT", Status::FIXED_TIMEOUT, true),
        ("SRC_NAT", Status::SRC_NAT, true),
        ("DST_NAT", Status::DST_NAT, true),
        ("OFFLOAD", Status::OFFLOAD, true),
        ("HW_OFFLOAD", Status::HW_OFFLOAD, true),
    ];
    let found = NAMES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(text));
    found
        .map(|(_, bits, set)| Bits { bits: *bits, set: *set })
        .ok_or_else(|| format!("known: {}", NAMES.map(|(name, ..)| name).join(", ")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    fn takes(options: &str, flow: &Flow) -> bool {
        let words = std::iter::once("conntrack").chain(options.split_whitespace());
        Line::try_parse_from(words).unwrap().filter.takes(flow)
    }

    fn flow() -> Flow {
        let tuple = |source: &str, destination: &str, from, to| Tuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: 17,
            l4: L4::Ports { source: from, destination: to },
        };
        let mut flow = Flow::new(
            tuple("10.1.0.9", "10.2.0.2", 1000, 53),
            tuple("10.2.0.2", "192.0.2.1", 53, 1000),
        );
        flow.status = Status(Status::SEEN_REPLY | Status::SRC_NAT);
        flow.mark = Some(0x15);
        flow.zone = 7;
        flow.labels = Some([1 << 3, 0, 1, 0]);
        flow
    }

    #[test]
    fn every_option_takes_what_it_names_and_nothing_else() {
        for (taken, not_taken) in [
            ("-s 10.1.0.9", "-s 10.1.0.8"),
            ("--src 10.1.0.0/24", "--orig-src 10.1.1.0/24"),
            ("-d 10.2.0.2", "-d 10.1.0.9"),
            ("-r 10.2.0.2", "-r 192.0.2.1"),
            ("-q 192.0.2.1", "-q 10.1.0.9"),
            ("-p udp", "-p tcp"),
            ("-p 17", "-p 6"),
            ("--sport 1000 --dport 53", "--sport 53"),
            ("--orig-port-dst 53", "--dport 54"),
            ("--reply-port-src 53 --reply-port-dst 1000", "--reply-port-dst 53"),
            ("-m 21", "-m 20"),
            ("-m 0x5/0xf", "-m 0x4/0xf"),
            ("-w 7", "-w 0"),
            ("-z 7", "-z 8"),
            ("--orig-zone 0", "--orig-zone 7"),
            ("--reply-zone 0", "--reply-zone 7"),
            ("-l 3", "-l 4"),
            ("-l 3,64", "-l 3,65"),
            ("-n", "-g"),
            ("-n 192.0.2.1", "-n 192.0.2.2"),
            ("-j", "-j 10.2.0.2"),
            ("-u SEEN_REPLY", "-u ASSURED"),
            ("-u seen_reply,SRC_NAT", "-u UNREPLIED"),
            ("-f ipv4", "-f ipv6"),
            ("-s 10.1.0.9 -p udp --dport 53", "-s 10.1.0.9 -p udp --dport 54"),
        ] {
            assert!(takes(taken, &flow()), "{taken}");
            assert!(!takes(not_taken, &flow()), "{not_taken}");
        }
    }

    #[test]
    fn a_zone_of_one_direction_is_not_one_of_both() {
        let mut flow = flow();
        flow.zone_direction = ZoneDirection::Orig;
        assert!(takes("--orig-zone 7", &flow));
        assert!(takes("-w 0", &flow), "as conntrack has it");
        assert!(!takes("-w 7", &flow));
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        for options in [
            "-f ipv5",
            "-s here",
            "-d 10.0.0.0/33",
            "-r 10.0.0",
            "-q ::1/x",
            "-p bananas",
            "-p 256",
            "-m x",
            "-m 1/y",
            "-m 0x1ffffffff",
            "-l 128",
            "-l nobody-has-named-this",
            "-u UNSET",
            "-u ASSURED,UNSET",
            "-w 65536",
            "--orig-zone x",
            "--reply-zone -1",
            "--sport 70000",
            "--dport http",
            "--reply-port-src 1-2",
            "--reply-port-dst 0x50",
            "-n here",
            "-g here",
            "-j 10.0.0.0/8",
            "--state BOGUS",
        ] {
            let words = std::iter::once("conntrack").chain(options.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{options}");
        }
    }

    fn contradiction(options: &str, of_flows: bool) -> Option<String> {
        let words = std::iter::once("conntrack").chain(options.split_whitespace());
        Line::try_parse_from(words).unwrap().filter.contradiction(of_flows)
    }

    #[test]
    fn what_no_flow_can_agree_with_is_refused() {
        for (options, why) in [
            ("-p udp --state ESTABLISHED", "udp has no states"),
            ("-p tcp --state COOKIE_WAIT", "tcp has no state COOKIE_WAIT; known: NONE, SYN_SENT"),
            ("-p icmp --dport 5", "icmp has no ports"),
            ("-f ipv4 -s fd00::1", "one family"),
            ("-f ipv6 -n 10.0.0.1", "one family"),
            ("-s 10.0.0.0/8 -q fd00::/8", "one family"),
        ] {
            let said = contradiction(options, true).unwrap_or_default();
            assert!(said.contains(why), "{options}: {said}");
        }
        for options in [
            "",
            "-p tcp --state established",
            "-p sctp --state COOKIE_WAIT --sport 5",
            "--state TIMEWAIT",
            "-s 10.0.0.1 -d 10.0.0.2 -f ipv4",
            "-p 47 --sport 7",
        ] {
            assert_eq!(contradiction(options, true), None, "{options}");
        }
    }

    #[test]
    fn of_an_expectation_only_what_it_has_can_be_asked_for() {
        for option in ["-r", "-q", "--reply-port-src", "--reply-port-dst", "--state", "-m"]
            .into_iter()
            .chain(["--orig-zone", "--reply-zone", "-l", "-n", "-g", "-j", "-u"])
        {
            let value = match option {
                "-r" | "-q" | "-n" | "-g" | "-j" => "10.0.0.1",
                "--state" => "CLOSE",
                "-u" => "ASSURED",
                _ => "1",
            };
            let said = contradiction(&format!("{option} {value}"), false).unwrap_or_default();
            assert!(said.contains("expectations have nothing"), "{option}: {said}");
        }
        assert_eq!(contradiction("-s 10.0.0.1 -p tcp --dport 5 -w 3 -f ipv4", false), None);
    }
}
