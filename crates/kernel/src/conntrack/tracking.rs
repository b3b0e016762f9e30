//! Whether the kernel tracks connections here, and tells of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use lockstep_ctnetlink::{Batch, Key, L4, Tuple, ZoneDirection};

use super::{TableError, TableSocket};
use crate::sysctl;

const EVENTS: &str = "net/netfilter/nf_conntrack_events";

/// Makes the kernel of this namespace tell of every flow from now on.
///
/// `nf_conntrack_events` is 2 by default: a flow made while nobody listens stays silent for its
/// whole life, so a restarted listener would never hear of its end. 1 has every flow tell. Where
/// the setting cannot be written, 2 is put up with and 0 is an error.
pub fn keep_events() -> io::Result<()> {
    let setting = sysctl::read(EVENTS)?;
    if setting == "1" {
        return Ok(());
    }
    match sysctl::write(EVENTS, "1") {
        Err(error) if setting == "0" => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether packets meet the connection tracker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tracking {
    /// The kernel has no connection tracking.
    Absent,
    /// No rule looks at connections or translates them, so packets pass untracked. A chain of
    /// type NAT alone is not enough, a rule must be in it.
    Idle,
    /// Packets are tracked.
    Active,
}

/// Finds out by sending a datagram to the loopback interface and looking for its flow.
///
/// A rule that exempts loopback from tracking makes the answer [`Tracking::Idle`] too.
///
/// # Errors
/// When there is no loopback to send to, or the table cannot be read.
pub fn tracking(table: &mut TableSocket) -> Result<Tracking, TableError> {
    if sysctl::read(EVENTS).is_err() {
        return Ok(Tracking::Absent);
    }
    let orig = send_probe().map_err(|source| TableError::Socket { operation: "probe", source })?;
    let key = Key { orig, zone: 0, zone_direction: ZoneDirection::Both };
    let Some(flow) = table.get(&key)? else { return Ok(Tracking::Idle) };
    let mut batch = Batch::new();
    if batch.delete(&key, flow.id) {
        table.execute(&mut batch)?;
    }
    Ok(Tracking::Active)
}

fn send_probe() -> io::Result<Tuple> {
    const UDP: u8 = 17;
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let to = UdpSocket::bind(loopback)?;
    let from = UdpSocket::bind(loopback)?;
    from.send_to(&[], to.local_addr()?)?;
    Ok(Tuple {
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        destination: IpAddr::V4(Ipv4Addr::LOCALHOST),
        protocol: UDP,
        l4: L4::Ports { source: from.local_addr()?.port(), destination: to.local_addr()?.port() },
    })
}
