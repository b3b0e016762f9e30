//! Interfaces without an address of their own, or with one that cannot be used yet, and who may speak to the virtual ones.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};

use super::*;
use lockstep_tests::segment::{ipv4, link_local};

#[test]
fn without_an_address_of_its_own_a_router_advertises_from_the_one_it_is_told() {
    let mut segment = beside_keepalived();
    let setting = Setting::version_3();
    segment.run(OURS, &["ip", "address", "del", "10.51.0.11/24", "dev", "eth0"]);
    segment.start_master(OURS, &setting.priority(150).ours("source = \"10.51.0.11\""));
    segment.start_backup(OTHER, &setting);
    wait_for_advertisements(&segment, OURS, 5);
    segment.wait_for_masters("a");
    assert!(segment.advertisements(OURS).iter().all(|seen| seen.source == ipv4(OURS)));
    segment.stop(OURS);
    segment.wait_for_master(OTHER);
}

#[test]
fn a_backup_without_an_address_of_its_own_hears_and_takes_over() {
    let mut segment = beside_keepalived();
    let setting = Setting::version_3();
    segment.run(OURS, &["ip", "address", "del", "10.51.0.11/24", "dev", "eth0"]);
    segment.start_master(OTHER, &setting.priority(150));
    segment.start_backup(OURS, &setting.ours("source = \"10.51.0.11\""));
    wait_for_advertisements(&segment, OTHER, 6);
    segment.wait_for_masters("b");
    segment.kill(OTHER);
    segment.wait_for_master(OURS);
    segment.wait_for_masters("ba");
}

#[test]
fn a_tentative_address_is_waited_for_and_virtual_ones_are_never_tentative() {
    let mut segment = alone();
    // With detection of duplicates, the interface has no usable address for a while after it came up.
    segment.run(OURS, &["sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1"]);
    segment.run(OURS, &["sysctl", "-qw", "net.ipv6.conf.eth0.dad_transmits=3"]);
    segment.run(OURS, &["ip", "link", "set", "eth0", "down"]);
    segment.run(OURS, &["ip", "link", "set", "eth0", "up"]);
    segment.start(OURS, &Setting::version_3_ipv6());
    segment.wait_for_master(OURS);

    let virtual_ones =
        segment.run(OURS, &["ip", "-6", "address", "show", "dev", "eth0", "tentative"]);
    assert!(!virtual_ones.contains("51:1"), "{virtual_ones}");
    let sources = segment.advertisements(OURS);
    assert!(sources.iter().all(|seen| seen.source == link_local(OURS)), "{sources:?}");
    wait_for_advertisements(&segment, OURS, 3);
}

#[test]
fn an_interface_whose_link_local_address_is_a_duplicate_is_a_fault_until_it_has_another() {
    let mut segment = Segment::new(&[Program::Lockstep, Program::Keepalived]);
    // The other host has the address that ours makes of its MAC address.
    segment.run(OTHER, &["ip", "address", "add", "fe80::ff:fe00:a/64", "dev", "eth0", "nodad"]);
    segment.run(OURS, &["sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1"]);
    segment.run(OURS, &["ip", "link", "set", "eth0", "down"]);
    segment.run(OURS, &["ip", "link", "set", "eth0", "up"]);
    wait::until("the kernel has found the duplicate", || {
        segment.run(OURS, &["ip", "-6", "address", "show", "dev", "eth0"]).contains("dadfailed")
    });
    segment.start(OURS, &Setting::version_3_ipv6());
    segment.wait_for(OURS, Role::Fault);
    wait_for_reason(&mut segment, &["eth0"]);

    segment.run(OTHER, &["ip", "address", "del", "fe80::ff:fe00:a/64", "dev", "eth0"]);
    segment.run(OURS, &["ip", "address", "del", "fe80::ff:fe00:a/64", "dev", "eth0"]);
    segment.run(OURS, &["ip", "address", "add", "fe80::ff:fe00:a/64", "dev", "eth0", "nodad"]);
    segment.wait_for_master(OURS);
}

#[test]
fn virtual_addresses_answer_unless_they_are_told_not_to() {
    let address: IpAddr = "10.51.0.1".parse().expect("an address");
    let connect = |segment: &Segment| {
        let there = SocketAddr::from((address, 80));
        let connect = || TcpStream::connect_timeout(&there, Duration::from_millis(500));
        let result = segment.node(OTHER).run(connect).expect("the node can be entered");
        result.expect_err("nobody listens there").kind()
    };
    let cases = [(true, ErrorKind::ConnectionRefused), (false, ErrorKind::TimedOut)];
    each(cases, |(accept, answer)| {
        let mut segment = beside_keepalived();
        segment.start_master(OURS, &Setting::version_3().ours(&format!("accept = {accept}")));
        assert_eq!(connect(&segment), answer, "with accept = {accept}");
    });
}
