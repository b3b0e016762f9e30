//! The lab on the real kernel: packets pass where they should, and only there.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use lockstep_ctnetlink::{Batch, Family, Flow, Kind, Messages};
use lockstep_kernel::conntrack::TableSocket;
use lockstep_lab::traffic::{Connections, Pace, Probe, flows};
use lockstep_lab::{Firewall, Interface, Lab, Lan, Node, RouterId, Selector, lose, lose_nothing};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for an answer that comes at all.
const SILENCE: Duration = Duration::from_millis(600);

#[test]
fn hosts_of_a_lan_reach_each_other_until_a_cable_is_pulled() -> Result<()> {
    let Some((here, there)) = pair()? else { return Ok(()) };
    let probe = Probe::start(&here, &there, "10.0.0.2:7".parse()?)?;
    assert!(probe.wait_for_answers(Instant::now(), PATIENCE).is_some());

    there.unplug("eth0")?;
    let pulled = Instant::now();
    assert_eq!(probe.wait_for_answers(pulled + SILENCE / 2, SILENCE), None);

    there.plug("eth0")?;
    let plugged = Instant::now();
    assert!(probe.wait_for_answers(plugged, PATIENCE).is_some());
    assert!(probe.longest_outage(pulled).lost > 0);
    Ok(())
}

/// The kernel is in no hurry with a cable whose ends have the same number, as those of the second one here.
#[test]
fn an_attached_interface_is_running() -> Result<()> {
    let node = Node::new("node")?;
    for name in ["eth0", "eth1", "eth2"] {
        node.attach(&Lan::new()?, &Interface::new(name))?;
        // Asked for one interface the kernel would look at its carrier first.
        let mut ip = Command::new("ip");
        ip.args(["-br", "link"]);
        let shown = String::from_utf8(node.output(ip)?.stdout)?;
        let line = shown.lines().find(|line| line.starts_with(name));
        assert!(line.is_some_and(|line| line.contains(" UP ")), "{shown}");
    }
    Ok(())
}

#[test]
fn a_loss_rule_loses_what_it_names_until_it_is_taken_back() -> Result<()> {
    let Some((here, there)) = pair()? else { return Ok(()) };
    let probe = Probe::start(&here, &there, "10.0.0.2:7".parse()?)?;
    assert!(probe.wait_for_answers(Instant::now(), PATIENCE).is_some());

    lose(&there, "eth0", Selector::UdpPort(8), 1000)?;
    assert!(probe.wait_for_answers(Instant::now(), PATIENCE).is_some());
    lose(&there, "eth0", Selector::UdpPort(7), 1000)?;
    assert_eq!(probe.wait_for_answers(Instant::now(), SILENCE), None);
    lose_nothing(&there)?;
    assert!(probe.wait_for_answers(Instant::now(), PATIENCE).is_some());

    let begin = Instant::now();
    lose(&there, "eth0", Selector::Everything, 300)?;
    let deadline = begin + PATIENCE;
    while probe.longest_outage(begin).lost == 0 {
        assert!(Instant::now() < deadline, "of thirty in a hundred some are lost");
        std::thread::yield_now();
    }
    lose_nothing(&there)?;
    Ok(())
}

#[test]
fn connections_pass_the_translation_and_come_from_the_virtual_address() -> Result<()> {
    for firewall in [Firewall::Strict, Firewall::Default] {
        let Some(lab) = lab(firewall)? else { return Ok(()) };
        serve_on(&lab, RouterId::A)?;
        let (client, server) = connect(&lab)?;
        assert_eq!(server.peer_addr()?.ip(), Lab::WAN_VIRTUAL);
        drop((client, server));

        let connections = open(&lab, 20)?;
        let verdict = connections.settle(Instant::now(), PATIENCE);
        assert!(verdict.all_survived(), "{verdict:?}");
    }
    Ok(())
}

#[test]
fn a_strict_firewall_lets_nothing_new_in_and_the_default_one_does() -> Result<()> {
    for (firewall, comes_in) in [(Firewall::Strict, false), (Firewall::Default, true)] {
        let Some(lab) = lab(firewall)? else { return Ok(()) };
        serve_on(&lab, RouterId::A)?;
        lab.server().add_route(Lab::LAN.into(), Lab::WAN_VIRTUAL.into())?;
        let address = SocketAddr::from((Lab::CLIENT, 99));
        let inside = lab.client().run(|| UdpSocket::bind(address))??;
        inside.set_read_timeout(Some(SILENCE))?;
        let outside = lab.server().run(|| UdpSocket::bind("0.0.0.0:0"))??;
        outside.send_to(b"hello", address)?;
        assert_eq!(inside.recv(&mut [0; 8]).is_ok(), comes_in, "{firewall:?}");
    }
    Ok(())
}

#[test]
fn a_lost_flow_is_reset_by_the_default_firewall() -> Result<()> {
    let Some(mut lab) = lab(Firewall::Default)? else { return Ok(()) };
    serve_on(&lab, RouterId::A)?;
    let (_client, mut server) = connect(&lab)?;
    lab.power_off(RouterId::A);
    serve_on(&lab, RouterId::B)?;

    server.set_read_timeout(Some(PATIENCE))?;
    server.write_all(b"does anybody know me?")?;
    let error = server.read(&mut [0; 8]).expect_err("router B answers for itself");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    Ok(())
}

#[test]
fn a_lost_flow_stalls_behind_the_strict_firewall() -> Result<()> {
    let Some(mut lab) = lab(Firewall::Strict)? else { return Ok(()) };
    serve_on(&lab, RouterId::A)?;
    let (mut client, mut server) = connect(&lab)?;
    lab.power_off(RouterId::A);
    serve_on(&lab, RouterId::B)?;
    // A new connection shows that router B serves; the old one is what it does not know.
    let fresh = connect(&lab)?;

    for stream in [&mut client, &mut server] {
        stream.set_read_timeout(Some(SILENCE))?;
        stream.write_all(b"does anybody know me?")?;
    }
    for stream in [&mut client, &mut server] {
        let error = stream.read(&mut [0; 8]).expect_err("nothing passes");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    drop(fresh);
    Ok(())
}

#[test]
fn connections_survive_a_failover_exactly_when_their_flows_are_carried_over() -> Result<()> {
    for (firewall, carried) in
        [(Firewall::Strict, true), (Firewall::Default, true), (Firewall::Strict, false)]
    {
        let Some(mut lab) = lab(firewall)? else { return Ok(()) };
        serve_on(&lab, RouterId::A)?;
        let connections = open(&lab, 10)?;
        let table = if carried { table_of(lab.router(RouterId::A)?)? } else { Vec::new() };
        lab.power_off(RouterId::A);
        fill_table_of(lab.router(RouterId::B)?, &table)?;
        serve_on(&lab, RouterId::B)?;

        let patience = if carried { PATIENCE } else { SILENCE };
        let verdict = connections.settle(Instant::now(), patience);
        let expected = if carried { (10, 0) } else { (0, 10) };
        assert_eq!((verdict.alive, verdict.stalled), expected, "{firewall:?}: {verdict:?}");
        assert_eq!(verdict.all_survived(), carried);
    }
    Ok(())
}

#[test]
fn a_router_that_was_switched_off_comes_back_without_addresses_and_flows() -> Result<()> {
    let Some(mut lab) = lab(Firewall::Strict)? else { return Ok(()) };
    serve_on(&lab, RouterId::A)?;
    let held = connect(&lab)?;
    assert_ne!(tracked(lab.router(RouterId::A)?)?, 0);
    lab.power_off(RouterId::A);
    assert!(lab.router(RouterId::A).is_err());

    lab.power_on(RouterId::A)?;
    let router = lab.router(RouterId::A)?;
    let own = Lab::addresses(RouterId::A)[0];
    let ipv4: Vec<_> =
        router.addresses("eth0")?.iter().map(ipnet::IpNet::addr).filter(IpAddr::is_ipv4).collect();
    assert_eq!(ipv4, [own]);
    assert_eq!(tracked(router)?, 0);
    drop(held);
    Ok(())
}

#[test]
fn flows_can_be_put_into_a_router_and_leave_no_more_than_the_rest_of_the_room() -> Result<()> {
    let Some(lab) = lab(Firewall::Strict)? else { return Ok(()) };
    let router = lab.router(RouterId::B)?;
    let room = flows::room(router)?;
    flows::install(router, 1000)?;
    assert_eq!(flows::count(router)?, 1000);
    assert_eq!(flows::room(router)?, room - 1000);
    assert_eq!(flows::count(lab.router(RouterId::A)?)?, 0);
    Ok(())
}

#[test]
fn a_process_runs_in_its_host_and_ends_with_its_owner() -> Result<()> {
    let Some((here, _there)) = pair()? else { return Ok(()) };
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let process = here.start(command)?;
    let namespace = format!("/proc/{}/ns/net", process.id());
    assert_eq!(std::fs::read_link(&namespace)?, std::fs::read_link(here.path())?);
    drop(process);
    assert!(std::fs::read_link(&namespace).is_err());
    Ok(())
}

/// The lab, or `None` with a word about it where the privilege is missing.
fn lab(firewall: Firewall) -> Result<Option<Lab>> {
    if let Err(refusal) = lockstep_lab::available() {
        eprintln!("skipped: no network namespaces here: {refusal}");
        return Ok(None);
    }
    Lab::new(firewall).map(Some)
}

/// Two hosts with a cable between them.
fn pair() -> Result<Option<(Node, Node)>> {
    if let Err(refusal) = lockstep_lab::available() {
        eprintln!("skipped: no network namespaces here: {refusal}");
        return Ok(None);
    }
    let lan = Lan::new()?;
    let (here, there) = (Node::new("here")?, Node::new("there")?);
    here.attach(&lan, &Interface::new("eth0").address("10.0.0.1/24".parse()?))?;
    there.attach(&lan, &Interface::new("eth0").address("10.0.0.2/24".parse()?))?;
    Ok(Some((here, there)))
}

/// Gives the virtual addresses to a router and says so to the neighbours.
fn serve_on(lab: &Lab, id: RouterId) -> Result<()> {
    let router = lab.router(id)?;
    for (interface, address) in Lab::virtual_addresses() {
        router.add_address(interface, address)?;
        router.announce(interface, address.addr())?;
    }
    Ok(())
}

/// A connection from the client to the server: the client's end, the server's end.
fn connect(lab: &Lab) -> Result<(TcpStream, TcpStream)> {
    let listener = lab.server().run(|| TcpListener::bind((Lab::SERVER, 0)))??;
    let address = listener.local_addr()?;
    let client = lab.client().run(|| TcpStream::connect_timeout(&address, PATIENCE))??;
    Ok((client, listener.accept()?.0))
}

fn open(lab: &Lab, count: usize) -> Result<Connections> {
    let address = SocketAddr::from((Lab::SERVER, 5001));
    Connections::open(lab.client(), lab.server(), address, count, Pace::default())
}

fn table_of(router: &Node) -> Result<Vec<Flow>> {
    router.run(|| {
        let mut table = TableSocket::open()?;
        let mut dump = table.dump(Family::Ipv4)?;
        let (mut buffer, mut flows) = (Vec::new(), Vec::new());
        while dump.read(&mut buffer)? {
            for message in Messages::new(&buffer) {
                let message = message?;
                if message.kind()? == Kind::Entry {
                    flows.push(message.flow()?);
                }
            }
        }
        Ok(flows)
    })?
}

fn fill_table_of(router: &Node, flows: &[Flow]) -> Result<()> {
    router.run(|| {
        let mut table = TableSocket::open()?;
        let mut batch = Batch::new();
        for flow in flows {
            assert!(batch.create(flow), "a few flows fit one batch");
        }
        assert_eq!(table.execute(&mut batch)?, []);
        Ok(())
    })?
}

fn tracked(router: &Node) -> Result<u32> {
    Ok(router.setting("net/netfilter/nf_conntrack_count")?.parse()?)
}
