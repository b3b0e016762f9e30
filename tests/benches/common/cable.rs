//! A cable between two nodes, without a bridge: what one costs would be in everybody's figures.

use std::process::Command;

use lockstep_lab::Node;

/// Connects two nodes; the interface has this name on both of them, and one address on each.
pub(crate) fn connect(one: &Node, other: &Node, name: &str, addresses: [&str; 2]) {
    let mut command = Command::new("ip");
    command.args(["link", "add", name, "type", "veth", "peer", "name", name, "netns"]);
    command.arg(other.path());
    let output = one.output(command);
    assert!(output.as_ref().unwrap().status.success(), "{output:?}");
    for (node, address) in [one, other].into_iter().zip(addresses) {
        node.set_link(name, true).unwrap();
        node.add_address(name, address.parse().unwrap()).unwrap();
    }
}
