//! What the tests of the service share.

mod deaths;
mod installed_beside;
mod orders;
mod rights;

use lockstep_lab::Node;
use lockstep_tests::pair::Pair;
use lockstep_tests::systemd::Machine;

/// A configuration with one virtual router and whatever else.
fn config(more: &str) -> String {
    format!(
        r#"
[vrrp.inside]
interface = "eth0"
vrid = 51
startup-limit = "0s"
advertisement-interval = "200ms"
addresses = ["10.51.0.1/24"]
[group.gateway]
virtual-routers = ["inside"]
{more}"#
    )
}

/// A machine whose service is master.
#[track_caller]
fn master(node: &Node, config: &str) -> Machine {
    let machine = Machine::with_service(node, config);
    machine.lockstep().wait_for_state("gateway", "master");
    assert!(Pair::has_virtual_address(node));
    machine
}
