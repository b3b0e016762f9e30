//! `lockstep switchover` and `lockstep maintenance`.

use clap::{Args, ValueEnum};

use super::Ask;
use super::output::{print, print_json};
use crate::control::client::Client;
use crate::control::protocol::{Maintained, Request, Switched};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The group
    group: String,
    /// Also when nobody knows whether a peer is there and holds every flow
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Args, Debug)]
pub(crate) struct MaintenanceOptions {
    /// Whether the group is not to be master
    order: Order,
    /// The group; all without
    group: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Order {
    /// Give mastership up and refuse it
    On,
    /// Take part in elections again
    Off,
}

/// Hands a group over, and tells how it went.
pub(super) fn switchover(options: &Options) -> anyhow::Result<()> {
    let Options { group, force, ask } = options;
    let request = Request::Switchover { group: group.clone(), force: *force };
    let switched: Switched = Client::connect(&ask.socket.socket)?.ask(&request)?;
    if ask.json { print_json(&switched) } else { print(&format!("{}\n", sentence(&switched))) }
}

/// Orders or ends maintenance, and tells what followed.
pub(super) fn maintenance(options: &MaintenanceOptions) -> anyhow::Result<()> {
    let MaintenanceOptions { order, group, ask } = options;
    let request = Request::Maintenance { on: *order == Order::On, group: group.clone() };
    let maintained: Vec<Maintained> = Client::connect(&ask.socket.socket)?.ask(&request)?;
    if ask.json {
        return print_json(&maintained);
    }
    maintained.iter().try_for_each(|one| print(&format!("{}\n", told(one))))
}

fn told(one: &Maintained) -> String {
    let Maintained { group, since, handed_over, left_because } = one;
    match (since, handed_over, left_because) {
        (None, ..) => format!("{group} takes part in elections"),
        (Some(since), Some(switched), _) => {
            format!("{group} is in maintenance since {since}; {}", sentence(switched))
        }
        (Some(since), None, Some(why)) => {
            format!("{group} is in maintenance since {since}; it was not handed over: {why}")
        }
        (Some(since), None, None) => format!("{group} is in maintenance since {since}"),
    }
}

fn sentence(switched: &Switched) -> String {
    let Switched { group, master, announced, claimed_us, served_us, .. } = switched;
    let after = |us: &Option<u64>| {
        us.map_or_else(String::new, |us| format!(" after {}.{} ms", us / 1000, us % 1000 / 100))
    };
    let master = master.as_deref().unwrap_or("a peer");
    let claimed = after(claimed_us);
    if *announced {
        format!("{master} is master of {group}: it claimed{claimed} and served{}", after(served_us))
    } else {
        format!("{master} is master of {group}: it claimed{claimed}, and was not heard to serve")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switched(announced: bool) -> Switched {
        Switched {
            group: "gateway".to_owned(),
            master: Some("10.1.1.3".to_owned()),
            announced,
            prepared_us: 900,
            claimed_us: Some(6_410),
            served_us: announced.then_some(9_060),
        }
    }

    #[test]
    fn a_hand_over_is_told_in_a_sentence() {
        let served =
            "10.1.1.3 is master of gateway: it claimed after 6.4 ms and served after 9.0 ms";
        assert_eq!(sentence(&switched(true)), served);
        let claimed =
            "10.1.1.3 is master of gateway: it claimed after 6.4 ms, and was not heard to serve";
        assert_eq!(sentence(&switched(false)), claimed);
    }

    #[test]
    fn maintenance_says_what_followed() {
        let mut one = Maintained {
            group: "gateway".to_owned(),
            since: Some("2026-03-01T12:00:00.000Z".to_owned()),
            handed_over: None,
            left_because: Some("no peer is there".to_owned()),
        };
        let expected = "gateway is in maintenance since 2026-03-01T12:00:00.000Z; \
                        it was not handed over: no peer is there";
        assert_eq!(told(&one), expected);
        one.since = None;
        assert_eq!(told(&one), "gateway takes part in elections");
    }
}
