//! Established connections that exist only in a router's tracking table: the weight that a
//! failover has to carry.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail};
use lockstep_ctnetlink::{
    Batch, Family, Flow, Kind, L4, Messages, ProtocolState, Status, TcpState, Tuple,
};
use lockstep_kernel::conntrack::TableSocket;

use crate::{Lab, Node};

/// Most flows that [`install`] can tell apart.
pub const MOST: u32 = PORTS * 254;

/// How much room a router's tracking table has left.
pub fn room(router: &Node) -> Result<u32> {
    let most: u32 = router.setting("net/netfilter/nf_conntrack_max")?.parse()?;
    let taken: u32 = router.setting("net/netfilter/nf_conntrack_count")?.parse()?;
    Ok(most.saturating_sub(taken))
}

/// Puts `count` established TCP flows into a router's table, from hosts of the LAN through the
/// translation to servers beyond the WAN. No packet of them ever comes; they last for days.
///
/// # Errors
/// When the kernel refuses one, for example because the table is full.
pub fn install(router: &Node, count: u32) -> Result<()> {
    if count > MOST {
        bail!("at most {MOST} flows can be told apart");
    }
    router.run(|| {
        let mut table = TableSocket::open()?;
        let mut batch = Batch::new();
        for number in 0..count {
            let _ = batch.create(&flow(number));
            if batch.is_full() || number + 1 == count {
                if let Some(failure) = table.execute(&mut batch)?.into_iter().next() {
                    let error = std::io::Error::from_raw_os_error(failure.errno);
                    return Err(error).context("the kernel refused a flow");
                }
                batch.clear();
            }
        }
        Ok(())
    })?
}

/// How many of the flows of [`install`] a router's table holds.
pub fn count(router: &Node) -> Result<u32> {
    router.run(|| {
        let mut table = TableSocket::open()?;
        let mut dump = table.dump(Family::Ipv4)?;
        let mut buffer = Vec::new();
        let mut found = 0;
        while dump.read(&mut buffer)? {
            for message in Messages::new(&buffer) {
                let message = message?;
                if message.kind()? == Kind::Entry {
                    found += u32::from(is_ours(&message.flow()?));
                }
            }
        }
        Ok(found)
    })?
}

fn flow(number: u32) -> Flow {
    let port = (FIRST_PORT + number % PORTS) as u16;
    let host = Ipv4Addr::from(Lab::LAN.network().to_bits() + 101 + number % 100);
    let server = Ipv4Addr::from(SERVERS.to_bits() + 1 + number / PORTS);
    let tuple = |source, destination, l4| Tuple {
        source: IpAddr::V4(source),
        destination: IpAddr::V4(destination),
        protocol: TCP,
        l4,
    };
    let orig = tuple(host, server, L4::Ports { source: port, destination: HTTPS });
    let reply = tuple(server, Lab::WAN_VIRTUAL, L4::Ports { source: HTTPS, destination: port });
    let mut flow = Flow::new(orig, reply);
    flow.status = Status(Status::SEEN_REPLY | Status::ASSURED);
    flow.timeout_s = Some(FIVE_DAYS_S);
    flow.protocol_state =
        ProtocolState::Tcp(TcpState { state: ESTABLISHED, ..TcpState::default() });
    flow
}

fn is_ours(flow: &Flow) -> bool {
    match flow.orig.destination {
        IpAddr::V4(server) => server.to_bits() & !0xff == SERVERS.to_bits(),
        IpAddr::V6(_) => false,
    }
}

/// A network of addresses that nobody has (RFC 5737).
const SERVERS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 0);
const FIRST_PORT: u32 = 1024;
const PORTS: u32 = 60_000;
const HTTPS: u16 = 443;
const TCP: u8 = 6;
const ESTABLISHED: u8 = 3;
/// The kernel's own timeout of an established connection.
const FIVE_DAYS_S: u32 = 432_000;
