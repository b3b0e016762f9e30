//! Two dedicated links between Lockstep and conntrackd: what is told goes on over the other one when one fails.

use lockstep_lab::{Interface, Lan};
use lockstep_tests::conntrackd::Conntrackd;
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::replicas::{Mode, Replicas, Setting, Transport};
use lockstep_tests::tables::{self, flow};
use lockstep_tests::wait;

const SETTING: Setting = Setting { mode: Mode::Ftfw, transport: Transport::Multicast, v6: false };
const OURS: u8 = 1;
const THEIRS: u8 = 2;
const COUNT: u32 = 200;

const CONFIGURATION: &str = r#"
[vrrp.gateway]
interface = "eth0"
vrid = 51
advertisement-interval = "100ms"
startup-limit = "0s"
addresses = ["10.51.0.1/24"]

[replication]
protocol = "conntrackd"
mode = "ftfw"

[[replication.link]]
interface = "eth2"
multicast = "225.0.0.50"
port = 3780

[[replication.link]]
interface = "eth3"
multicast = "225.0.0.51"
port = 3781
"#;

const SYNC: &str = "  Mode FTFW { }
  Multicast Default {
    IPv4_address 225.0.0.50
    Group 3780
    IPv4_interface 192.168.77.3
    Interface eth2
    Checksum on
  }
  Multicast {
    IPv4_address 225.0.0.51
    Group 3781
    IPv4_interface 192.168.79.3
    Interface eth3
    Checksum on
  }
";

#[test]
fn flows_go_on_over_the_second_link_when_the_first_fails_and_come_back_with_it() {
    let replicas = Replicas::next_to_each_other(SETTING);
    let second = Lan::new().expect("a LAN");
    let both = [(&replicas.ours, OURS), (&replicas.theirs, THEIRS)];
    for ((node, _), address) in both.into_iter().zip(["192.168.79.2/24", "192.168.79.3/24"]) {
        let interface = Interface::new("eth3").address(address.parse().expect("an address"));
        node.attach(&second, &interface).expect("an interface");
    }
    let conntrackd = Conntrackd::configured(&replicas.theirs, SYNC, "");
    let lockstep = Lockstep::start(&replicas.ours, CONFIGURATION);
    lockstep.wait_for_state("gateway", "master");
    let told = || {
        replicas.wait_until_they_have_ours(&conntrackd, || {});
        replicas.wait_until_we_have_theirs(&lockstep);
    };
    let active = |interface: &str| {
        let replication = lockstep.ask(&["replication", "status"]);
        let links = replication["links"].as_array().cloned().unwrap_or_default();
        links.iter().any(|link| link["interface"] == interface && link["state"] == "active")
    };

    for (node, side) in both {
        tables::create(node, (0..COUNT).map(|number| flow(side, number)));
    }
    told();
    assert!(active("eth2"));

    for (node, _) in both {
        node.unplug("eth2").expect("a cable can be pulled");
    }
    for (node, side) in both {
        tables::update(node, (0..COUNT / 2).map(|number| flow(side, number)), 7);
        tables::delete(node, (0..COUNT).step_by(3).map(|number| flow(side, number)));
        tables::create(node, (COUNT..2 * COUNT).map(|number| flow(side, number)));
    }
    told();
    assert!(active("eth3"));

    for (node, _) in both {
        node.plug("eth2").expect("a cable can be put back");
        node.unplug("eth3").expect("a cable can be pulled");
    }
    for (node, side) in both {
        tables::delete(node, (COUNT..2 * COUNT).map(|number| flow(side, number)));
    }
    told();
    wait::until("the first link is in use again", || active("eth2"));
}
