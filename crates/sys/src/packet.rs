//! Packet sockets: link-layer addresses, and filters that keep a socket quiet.

use std::io;
use std::mem;

use socket2::{SockAddr, SockAddrStorage, SockFilter, Socket};

/// The address of an interface for a packet socket: bound to it, the socket sends there, and
/// receives what has `ethertype` (host byte order; 0 receives nothing, `ETH_P_ALL` everything).
pub fn link_address(index: u32, ethertype: u16) -> SockAddr {
    link_socket_address(index, ethertype, None)
}

/// The destination of a packet for which the kernel makes the link header: an interface, what is
/// in the packet, and a station or group on the link. `None` where links know no addresses.
pub fn link_destination(index: u32, ethertype: u16, station: Option<[u8; 6]>) -> SockAddr {
    link_socket_address(index, ethertype, station)
}

#[expect(unsafe_code, reason = "no crate makes a `sockaddr_ll` in safe code")]
fn link_socket_address(index: u32, ethertype: u16, station: Option<[u8; 6]>) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is one of this platform's socket address types, and smaller than the
    // storage; all its fields are integers, for which the zeroes there are valid.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = index as libc::c_int;
    if let Some(station) = station {
        address.sll_halen = station.len() as u8;
        address.sll_addr[..station.len()].copy_from_slice(&station);
    }
    // SAFETY: the family is AF_PACKET, the storage holds a `sockaddr_ll`, and this is its length.
    unsafe { SockAddr::new(storage, mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}

/// What kind of link a packet socket is bound to, as an `ARPHRD_` number; `None` when it is no
/// packet socket.
///
/// # Errors
/// When the kernel does not tell the socket's address.
#[expect(unsafe_code, reason = "no crate reads a `sockaddr_ll` in safe code")]
pub fn link_kind(socket: &Socket) -> io::Result<Option<u16>> {
    let address = socket.local_addr()?;
    if libc::c_int::from(address.family()) != libc::AF_PACKET {
        return Ok(None);
    }
    // SAFETY: addresses of this family are `sockaddr_ll`, and the storage behind the pointer is
    // larger than and aligned for every address type; what the kernel left out of it is zero.
    let link = unsafe { &*address.as_ptr().cast::<libc::sockaddr_ll>() };
    Ok(Some(link.sll_hatype))
}

/// Lets nothing into the socket's queue until [`socket2::Socket::detach_filter`].
///
/// A raw socket receives from every interface from the moment it is made; with this, nothing that
/// came before it was bound is taken for a packet of the right interface. What was queued before
/// the filter stays queued.
///
/// # Errors
/// When the kernel refuses the filter.
pub fn refuse_everything(socket: &Socket) -> io::Result<()> {
    let accept_0_bytes = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
    socket.attach_filter(&[accept_0_bytes])
}
