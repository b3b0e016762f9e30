//! Advertisements to the group, out of one interface.

use std::io;

use lockstep_sys::batch::Outgoing;
use lockstep_sys::packet::{link_address, link_destination, link_kind};
use lockstep_vrrp::{Family, Packet};
use socket2::{SockAddr, Type};

use super::failure::{Failure, on_one_link, send_all};
use super::packet_socket::PacketSocket;
use super::{CONTROL_PRIORITY, widen_send_buffer};

/// Sends the advertisements of every virtual router, of both families, that leave by one interface:
/// the real one, or a macvlan with a virtual MAC.
///
/// A packet socket. The kernel makes the link header, so the source is the interface's own address;
/// the IP header is the caller's. No route is looked up, no address needs to be on the interface,
/// and no packet passes netfilter's output hooks, hence none appears in the conntrack table. The
/// packets do pass the interface's queueing discipline (no `PACKET_QDISC_BYPASS`): a queue that is
/// full is then told as `ENOBUFS` rather than as silence, the operator's `tc` rules and captures
/// see what leaves, and an advertisement is too rare for the half microsecond to count.
///
/// Receives nothing. A link that goes down and up needs no new one; after the interface was
/// deleted, sending fails with `ENXIO`: open another when it is back.
#[derive(Debug)]
pub struct Sender {
    socket: PacketSocket,
    index: u32,
    group_v4: SockAddr,
    group_v6: SockAddr,
}

impl Sender {
    /// Opens it on the interface with this number.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`, `ENODEV` without such an interface, `Unsupported` on a kind
    /// of link for which the group's station address is not known.
    pub fn open(index: u32) -> io::Result<Self> {
        let socket = PacketSocket::open(Type::DGRAM)?;
        socket.bind(&link_address(index, 0))?;
        socket.set_priority(CONTROL_PRIORITY)?;
        widen_send_buffer(&socket)?;
        let stations = match link_kind(&socket)? {
            Some(libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK) => {
                [Some(STATION_V4), Some(STATION_V6)]
            }
            Some(kind) if WITHOUT_STATIONS.contains(&kind) => [None, None],
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let group = |ethertype: i32, station| link_destination(index, ethertype as u16, station);
        Ok(Self {
            socket,
            index,
            group_v4: group(libc::ETH_P_IP, stations[0]),
            group_v6: group(libc::ETH_P_IPV6, stations[1]),
        })
    }

    /// The number of the interface it was opened on.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Sends packets for the group of either family, header included, in order and without
    /// waiting; returns those that could not be sent.
    ///
    /// Errors: `ENETDOWN` when the interface is down, `ENXIO` when it is gone, `ENOBUFS` when its
    /// queue is full, `WouldBlock` when the socket's is, `EMSGSIZE` beyond the MTU, `InvalidInput`
    /// for a packet that is not for the group.
    #[must_use = "what could not be sent is heard by nobody"]
    pub fn send(&mut self, packets: &[Packet]) -> Vec<Failure> {
        let message = |position: usize| {
            let packet: &Packet = &packets[position];
            let family = Family::of(packet.destination);
            let to = match family {
                Family::Ipv4 => &self.group_v4,
                Family::Ipv6 => &self.group_v6,
            };
            let for_group = packet.destination == family.group();
            for_group.then_some(Outgoing { bytes: &packet.bytes, to: Some(to) })
        };
        send_all(&self.socket, packets.len(), message, |error, _| on_one_link(error))
    }
}

/// The group's station address, 224.0.0.18 by RFC 1112 §6.4.
const STATION_V4: [u8; 6] = [0x01, 0x00, 0x5e, 0x00, 0x00, 0x12];
/// The group's station address, `ff02::12` by RFC 2464 §7.
const STATION_V6: [u8; 6] = [0x33, 0x33, 0x00, 0x00, 0x00, 0x12];
/// Links with one other end, or where the far end is the tunnel's to know.
const WITHOUT_STATIONS: [u16; 8] = [
    libc::ARPHRD_NONE,
    libc::ARPHRD_PPP,
    ARPHRD_RAWIP,
    libc::ARPHRD_TUNNEL,
    libc::ARPHRD_TUNNEL6,
    libc::ARPHRD_SIT,
    libc::ARPHRD_IPGRE,
    ARPHRD_IP6GRE,
];
/// Links of bare IP packets, such as a modem's.
const ARPHRD_RAWIP: u16 = 519;
const ARPHRD_IP6GRE: u16 = 823;
