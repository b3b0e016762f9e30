//! What single words mean: durations, prefixes, names, protocol numbers.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use lockstep_routes::PROTOCOL_LOCKSTEP;

use crate::problem::Problem;
use crate::schema::nearest;

/// Longest name of an interface in bytes (`IFNAMSIZ` without the closing zero).
const INTERFACE_NAME_LENGTH: usize = 15;

/// Longest name of a virtual router, group or check in bytes.
const NAME_LENGTH: usize = 64;

/// Routing protocol numbers with names (`rt_protos`).
pub(crate) const ROUTING_PROTOCOLS: &[(&str, u8)] =
    &[("kernel", 2), ("boot", 3), ("static", 4), ("lockstep", PROTOCOL_LOCKSTEP)];

/// IP protocols with names (`/etc/protocols`).
pub(crate) const IP_PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("sctp", 132),
    ("udplite", 136),
];

/// One of `choices`; `what` names the choice in the sentence.
pub(crate) fn word<T: Copy>(text: &str, what: &str, choices: &[(&str, T)]) -> Result<T, Problem> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let known: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let quoted: Vec<String> = known.iter().map(|word| format!("\"{word}\"")).collect();
    let problem = Problem::error(format!("unknown {what} \"{text}\""))
        .label(format!("known: {}", quoted.join(", ")));
    Err(match nearest(text, &known) {
        Some(near) => problem.help(format!("did you mean \"{near}\"?")),
        None => problem,
    })
}

/// A duration such as `250ms`, `1s`, `2m` or `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, Problem> {
    let wrong = || {
        let number = text.trim();
        let help = if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("say the unit: \"{number}s\" or \"{number}ms\"")
        } else {
            "write a whole number and ms, s, m or h: \"250ms\", \"1s\", \"2m\"".to_owned()
        };
        Problem::error(format!("\"{text}\" is not a duration"))
            .label("not a whole number with a unit")
            .help(help)
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds_each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds_each).map(Duration::from_millis).ok_or_else(wrong)
}

/// A duration as the file writes it.
pub(crate) fn show_duration(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "0s".to_owned(),
        milliseconds if milliseconds % 3_600_000 == 0 => format!("{}h", milliseconds / 3_600_000),
        milliseconds if milliseconds % 60_000 == 0 => format!("{}m", milliseconds / 60_000),
        milliseconds if milliseconds % 1_000 == 0 => format!("{}s", milliseconds / 1_000),
        milliseconds => format!("{milliseconds}ms"),
    }
}

/// The name of a virtual router, group or check: it stands in commands, logs and hook arguments.
pub(crate) fn name(text: &str) -> Result<(), Problem> {
    let fits = !text.is_empty() && text.len() <= NAME_LENGTH;
    if fits && !text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Ok(());
    }
    Err(Problem::error(format!("\"{text}\" cannot be a name"))
        .label(format!("must be 1 to {NAME_LENGTH} bytes without blanks")))
}

/// The name of a user of this host; whether there is one is found out when it is needed.
pub(crate) fn user(text: &str) -> Result<String, Problem> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == ':' || c == '/';
    if text.is_empty() || text.len() > NAME_LENGTH || text.contains(odd) {
        return Err(Problem::error(format!("\"{text}\" cannot be a user"))
            .label(format!("must be 1 to {NAME_LENGTH} bytes without blanks, `:` or `/`"))
            .help("the user's groups come with it"));
    }
    Ok(text.to_owned())
}

/// The name of a group of users of this host; whether there is one is found out when it is needed.
pub(crate) fn user_group(text: &str) -> Result<String, Problem> {
    let problem = || Problem::error(format!("\"{text}\" cannot be a group of users"));
    user(text).map_err(|_| problem().label("must be a name without blanks, `:` or `/`"))
}

/// The name of an interface, as the kernel accepts it.
pub(crate) fn interface(text: &str) -> Result<String, Problem> {
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let label = match text {
        "" => "is empty",
        "." | ".." => "is reserved",
        _ if text.len() > INTERFACE_NAME_LENGTH => "has more than 15 bytes",
        _ if text.contains(odd) => "holds a blank, `/` or `:`",
        _ => return Ok(text.to_owned()),
    };
    Err(Problem::error(format!("\"{text}\" cannot be an interface")).label(label))
}

/// The path of a directory; whether there is one is found out when it is needed.
pub(crate) fn directory(text: &str) -> Result<PathBuf, Problem> {
    let problem = Problem::error(format!("\"{text}\" cannot be a directory"));
    if text.contains('\0') {
        return Err(problem.label("holds a zero byte"));
    }
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err(problem.label("is no absolute path")) }
}

/// The path of a file; whether there is one is found out when it is needed.
pub(crate) fn file(text: &str) -> Result<PathBuf, Problem> {
    let problem = Problem::error(format!("\"{text}\" cannot be a file"));
    if text.contains('\0') {
        return Err(problem.label("holds a zero byte"));
    }
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err(problem.label("is no absolute path"));
    }
    if text.ends_with('/') { Err(problem.label("names a directory")) } else { Ok(path) }
}

/// One word of a command.
pub(crate) fn argument(text: &str) -> Result<String, Problem> {
    if text.contains('\0') {
        return Err(Problem::error("a command holds a zero byte").label("no argument can hold it"));
    }
    Ok(text.to_owned())
}

pub(crate) fn ip_address(text: &str) -> Result<IpAddr, Problem> {
    text.parse().map_err(|_| {
        let problem = Problem::error(format!("\"{text}\" is not an IP address"));
        match text.split_once('/') {
            Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
                problem.label("has a prefix length").help(format!("write \"{address}\""))
            }
            _ => problem.label("neither IPv4 nor IPv6"),
        }
    })
}

/// An address with its prefix length: `10.1.1.1/24`.
pub(crate) fn interface_address(text: &str) -> Result<IpNet, Problem> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let (near, host) = if address.is_ipv4() { (24, 32) } else { (64, 128) };
        return Err(Problem::error(format!("{text} has no prefix length"))
            .label("the prefix length is missing")
            .help(format!("write \"{text}/{near}\" with the length of its network, or \"{text}/{host}\" for the address alone")));
    }
    let address: IpNet = text.parse().map_err(|_| not_a_prefix(text))?;
    let ip = address.addr();
    let label = if ip.is_unspecified() {
        "is no address of a host"
    } else if ip.is_multicast() {
        "is a multicast group"
    } else if ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        "is the broadcast address"
    } else if address.prefix_len() == 0 {
        return Err(Problem::error(format!("{text} covers every address")).label("prefix length 0"));
    } else {
        return Ok(address);
    };
    Err(Problem::error(format!("{text} cannot be given to an interface")).label(label))
}

/// A network, `10.1.1.0/24`, or a single address, as in iproute2.
pub(crate) fn network(text: &str) -> Result<IpNet, Problem> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| not_a_prefix(text))?;
    if network.addr() != network.network() {
        return Err(Problem::error(format!("{text} is not a network"))
            .label("has bits after the prefix")
            .help(format!("write \"{}\"", network.trunc())));
    }
    Ok(network)
}

fn not_a_prefix(text: &str) -> Problem {
    let problem = Problem::error(format!("\"{text}\" is not an address with a prefix length"));
    match text.split_once('/').map(|(address, _)| address.parse::<IpAddr>()) {
        Some(Ok(IpAddr::V4(_))) => problem.label("the prefix length must be 0 to 32"),
        Some(Ok(IpAddr::V6(_))) => problem.label("the prefix length must be 0 to 128"),
        _ => problem.label("not like \"10.1.1.1/24\" or \"2001:db8::1/64\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(duration("1s").unwrap(), Duration::from_secs(1));
        assert_eq!(duration("2m").unwrap(), Duration::from_mins(2));
        assert_eq!(duration("1h").unwrap(), Duration::from_hours(1));
        for wrong in [
            "",
            "s",
            "1",
            "1 s",
            "-1s",
            "1.5s",
            "1S",
            "1sec",
            "18446744073709551615h",
            "99999999999999999999s",
            "١s",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for text in ["0s", "10ms", "1s", "90s", "2m", "1h", "40950ms"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn interface_names_are_the_kernels() {
        for good in ["eth0", "eth0.100", "br-lan", "a23456789012345"] {
            assert!(interface(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a234567890123456", "eth 0", "eth/0", "eth0:1"] {
            assert!(interface(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_network_has_no_host_bits() {
        assert_eq!(network("10.1.1.7").unwrap().to_string(), "10.1.1.7/32");
        assert_eq!(network("10.1.1.0/24").unwrap().to_string(), "10.1.1.0/24");
        assert!(network("10.1.1.7/24").is_err());
        assert!(network("10.1.1.0/33").is_err());
    }
}
