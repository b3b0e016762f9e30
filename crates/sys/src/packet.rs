//! Packet sockets: link-layer addresses, and filters that keep a socket quiet.

use std::io;
use std::mem;

use socket2::{SockAddr, SockAddrStorage, SockFilter, Socket};

/// The address of an interface for a packet socket: bound to it, the socket sends there, and
/// receives what has `ethertype` (host byte order; 0 receives nothing, `ETH_P_ALL` everything).
#[expect(unsafe_code, reason = "no crate makes a `sockaddr_ll` in safe code")]
pub fn link_address(index: u32, ethertype: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is one of this platform's socket address types, and smaller than the
    // storage; all its fields are integers, for which the zeroes there are valid.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = index as libc::c_int;
    // SAFETY: the family is AF_PACKET, the storage holds a `sockaddr_ll`, and this is its length.
    unsafe { SockAddr::new(storage, mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
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
