//! Many messages in one system call, for sockets whose messages are packets.

#![expect(unsafe_code, reason = "sendmmsg and recvmmsg are wrapped by no crate that fits")]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::SockAddr;

/// Most messages in one system call.
pub const SLOTS: usize = 64;
/// Up to as many messages need less preparation.
pub const FEW: usize = 8;

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The whole of it.
    pub bytes: &'a [u8],
    /// Where to; `None` for where the socket is bound or connected to.
    pub to: Option<&'a SockAddr>,
}

/// Sends the first [`SLOTS`] of `messages` at most, without waiting, and returns how many have
/// gone; the one after these was refused if fewer than that were asked for and more is there.
///
/// # Errors
/// Why the first message was refused; then none has gone.
pub fn send<'a>(
    socket: BorrowedFd<'_>,
    messages: impl IntoIterator<Item = Outgoing<'a>>,
) -> io::Result<usize> {
    let messages = messages.into_iter();
    match messages.size_hint().1 {
        Some(..=FEW) => send_up_to::<FEW>(socket, messages),
        _ => send_up_to::<SLOTS>(socket, messages),
    }
}

fn send_up_to<'a, const MOST: usize>(
    socket: BorrowedFd<'_>,
    messages: impl Iterator<Item = Outgoing<'a>>,
) -> io::Result<usize> {
    let mut vectors = [NO_BYTES; MOST];
    let mut headers = [NO_MESSAGE; MOST];
    let mut count = 0;
    for ((message, header), vector) in messages.zip(&mut headers).zip(&mut vectors) {
        vector.iov_base = message.bytes.as_ptr().cast_mut().cast();
        vector.iov_len = message.bytes.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        if let Some(to) = message.to {
            header.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = to.len();
        }
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    // SAFETY: each of the first `count` headers points to one vector of its own, which points to
    // bytes borrowed for `'a`, and to no name or an address borrowed as long. The kernel only
    // reads them, and writes nothing but `msg_len` of the headers.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_negative| io::Error::last_os_error())
}

/// Memory that messages are received into, for any number of sockets in turn.
#[derive(Debug)]
pub struct Receiver {
    room: usize,
    slots: Box<[u8]>,
    arrivals: Box<[Arrival; SLOTS]>,
    /// How many of the slots hold a message.
    filled: usize,
}

/// What the kernel tells of one message beside its bytes.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    source: libc::sockaddr_in6,
    control: Control,
    control_length: usize,
    length: usize,
    truncated: bool,
}

/// Aligned as the kernel's `cmsghdr`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// A message that was received.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The whole of it, or as much as there was room for.
    pub bytes: &'a [u8],
    /// Whether some of it had no room.
    pub truncated: bool,
    arrival: &'a Arrival,
}

impl Receiver {
    /// Takes the memory: [`SLOTS`] messages of at most `room` bytes each.
    pub fn new(room: usize) -> Self {
        Self {
            room,
            slots: vec![0; room * SLOTS].into_boxed_slice(),
            arrivals: Box::new([NO_ARRIVAL; SLOTS]),
            filled: 0,
        }
    }

    /// Takes what is waiting in a socket, at most `limit` and [`SLOTS`] messages, in place of what
    /// was here; returns how many. Fewer than `limit`: nothing more was waiting.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is waiting, and what the kernel reports of the socket.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        match limit {
            ..=FEW => self.receive_up_to::<FEW>(socket, limit),
            _ => self.receive_up_to::<SLOTS>(socket, limit),
        }
    }

    fn receive_up_to<const MOST: usize>(
        &mut self,
        socket: BorrowedFd<'_>,
        limit: usize,
    ) -> io::Result<usize> {
        self.filled = 0;
        let limit = limit.min(MOST);
        let mut vectors = [NO_BYTES; MOST];
        let mut headers = [NO_MESSAGE; MOST];
        let slots = self.slots.chunks_exact_mut(self.room).zip(self.arrivals.iter_mut());
        let messages = headers.iter_mut().zip(&mut vectors).zip(slots).take(limit);
        for ((header, vector), (slot, arrival)) in messages {
            vector.iov_base = slot.as_mut_ptr().cast();
            vector.iov_len = slot.len();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut arrival.source).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            header.msg_hdr.msg_control = arrival.control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL as _;
        }
        // SAFETY: each of the first `limit` headers points to one vector, source and control
        // buffer of its own, and each vector to a slot of its own, with their lengths; all of them
        // outlive the call, and nothing else uses them during it.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                limit as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.filled = usize::try_from(count).map_err(|_negative| io::Error::last_os_error())?;
        for (arrival, header) in self.arrivals.iter_mut().zip(&headers).take(self.filled) {
            arrival.length = (header.msg_len as usize).min(self.room);
            let control_length: usize = header.msg_hdr.msg_controllen as _;
            arrival.control_length = control_length.min(CONTROL);
            arrival.truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        }
        Ok(self.filled)
    }

    /// What the last [`Receiver::receive`] took, in the order of arrival.
    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        let slots = self.slots.chunks_exact(self.room).zip(self.arrivals.iter());
        slots.take(self.filled).map(|(slot, arrival)| Message {
            bytes: &slot[..arrival.length],
            truncated: arrival.truncated,
            arrival,
        })
    }
}

impl Message<'_> {
    /// The address of the sender of a message over IPv4 or IPv6.
    pub fn source(&self) -> Option<IpAddr> {
        match libc::c_int::from(self.arrival.source.sin6_family) {
            libc::AF_INET6 => Some(IpAddr::V6(self.source_v6())),
            // An IPv4 address follows the port where an IPv6 one has its flow label.
            libc::AF_INET => {
                let octets = self.arrival.source.sin6_flowinfo.to_ne_bytes();
                Some(IpAddr::V4(Ipv4Addr::from(octets)))
            }
            _ => None,
        }
    }

    /// The address a message was sent to, if the socket asks for it (`IP_PKTINFO`,
    /// `IPV6_RECVPKTINFO`).
    pub fn destination(&self) -> Option<IpAddr> {
        if let Some(address) = self.destination_v6() {
            return Some(IpAddr::V6(address));
        }
        // Interface, address to answer from, address in the packet's header.
        let info = self.control(libc::IPPROTO_IP, libc::IP_PKTINFO)?;
        let octets = info.get(8..)?.first_chunk::<4>()?;
        Some(IpAddr::V4(Ipv4Addr::from(*octets)))
    }

    /// The address of the sender of a message over IPv6; unspecified over anything else.
    pub fn source_v6(&self) -> Ipv6Addr {
        match libc::c_int::from(self.arrival.source.sin6_family) {
            libc::AF_INET6 => Ipv6Addr::from(self.arrival.source.sin6_addr.s6_addr),
            _ => Ipv6Addr::UNSPECIFIED,
        }
    }

    /// The address a message over IPv6 was sent to, if the socket asks for it
    /// (`IPV6_RECVPKTINFO`).
    pub fn destination_v6(&self) -> Option<Ipv6Addr> {
        let info = self.control(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)?;
        Some(Ipv6Addr::from(*info.first_chunk::<16>()?))
    }

    /// The hop limit of a message over IPv6, if the socket asks for it (`IPV6_RECVHOPLIMIT`).
    pub fn hop_limit_v6(&self) -> Option<u8> {
        let limit = self.control(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)?;
        u8::try_from(libc::c_int::from_ne_bytes(*limit.first_chunk()?)).ok()
    }

    /// The content of the control message of this kind: each is a length that counts itself, a
    /// level, a kind and the content, filled up to a multiple of the machine's word.
    fn control(&self, level: libc::c_int, kind: libc::c_int) -> Option<&[u8]> {
        let mut rest = &self.arrival.control.0[..self.arrival.control_length];
        loop {
            let (length, after) = rest.split_first_chunk::<{ size_of::<usize>() }>()?;
            let (its_level, after) = after.split_first_chunk::<4>()?;
            let (its_kind, _) = after.split_first_chunk::<4>()?;
            let length = usize::from_ne_bytes(*length);
            let content = rest.get(CONTROL_HEADER..length)?;
            if (*its_level, *its_kind) == (level.to_ne_bytes(), kind.to_ne_bytes()) {
                return Some(content);
            }
            rest = rest.get(length.next_multiple_of(size_of::<usize>())..)?;
        }
    }
}

/// Room for the control messages of one packet: its destination and its hop limit.
const CONTROL: usize = 64;
/// Bytes of a control message's length, level and kind.
const CONTROL_HEADER: usize = size_of::<libc::cmsghdr>();
const NO_BYTES: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
// SAFETY: `mmsghdr` consists of integers and pointers, for which all zeros is a value.
const NO_MESSAGE: libc::mmsghdr = unsafe { mem::zeroed() };
const NO_ARRIVAL: Arrival = Arrival {
    // SAFETY: `sockaddr_in6` consists of integers, for which all zeros is a value.
    source: unsafe { mem::zeroed() },
    control: Control([0; CONTROL]),
    control_length: 0,
    length: 0,
    truncated: false,
};

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use socket2::{Domain, Protocol, Socket, Type};

    use super::*;

    #[test]
    fn messages_arrive_whole_and_in_order() {
        let (a, b) = pair();
        let texts: Vec<String> = (0..100).map(|number| format!("message {number}")).collect();
        let outgoing = texts.iter().map(|text| Outgoing { bytes: text.as_bytes(), to: None });
        assert_eq!(send(a.as_fd(), outgoing.clone()).unwrap(), SLOTS);
        assert_eq!(send(a.as_fd(), outgoing.skip(SLOTS)).unwrap(), 100 - SLOTS);

        let mut receiver = Receiver::new(64);
        let mut arrived = Vec::new();
        for expected in [10, 64, 26] {
            let limit = if expected == 10 { 10 } else { SLOTS };
            assert_eq!(receiver.receive(b.as_fd(), limit).unwrap(), expected);
            arrived.extend(
                receiver.messages().map(|it| String::from_utf8(it.bytes.to_vec()).unwrap()),
            );
        }
        assert_eq!(arrived, texts);
        let error = receiver.receive(b.as_fd(), SLOTS).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(receiver.messages().count(), 0);
    }

    #[test]
    fn nothing_to_send_is_sent() {
        let (a, _b) = pair();
        assert_eq!(send(a.as_fd(), []).unwrap(), 0);
    }

    #[test]
    fn a_refused_message_leaves_those_before_it_sent() {
        let (a, b) = pair();
        let huge = vec![0; 10 << 20];
        let outgoing =
            [b"one".as_slice(), &huge, b"three"].map(|bytes| Outgoing { bytes, to: None });
        assert_eq!(send(a.as_fd(), outgoing).unwrap(), 1);
        let error = send(a.as_fd(), outgoing.into_iter().skip(1)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(Receiver::new(8).receive(b.as_fd(), SLOTS).unwrap(), 1);
    }

    #[test]
    fn a_message_without_room_is_marked_and_the_next_is_whole() {
        let (a, b) = pair();
        let texts = [b"far too long".as_slice(), b"fits"];
        send(a.as_fd(), texts.map(|bytes| Outgoing { bytes, to: None })).unwrap();
        let mut receiver = Receiver::new(4);
        receiver.receive(b.as_fd(), SLOTS).unwrap();
        let arrived: Vec<_> = receiver.messages().map(|it| (it.bytes, it.truncated)).collect();
        assert_eq!(arrived, [(b"far ".as_slice(), true), (b"fits", false)]);
    }

    #[test]
    fn endpoints_and_hop_limit_come_beside_a_message_over_ipv6() {
        let home = SockAddr::from(std::net::SocketAddr::from((Ipv6Addr::LOCALHOST, 0)));
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        if let Err(error) = socket.bind(&home) {
            eprintln!("skipped: no IPv6 here: {error}");
            return;
        }
        socket.set_recv_hoplimit_v6(true).unwrap();
        enable_packet_information(&socket).unwrap();
        socket.set_unicast_hops_v6(77).unwrap();
        let to = socket.local_addr().unwrap();
        send(socket.as_fd(), [Outgoing { bytes: b"x", to: Some(&to) }]).unwrap();

        let mut receiver = Receiver::new(4);
        receiver.receive(socket.as_fd(), SLOTS).unwrap();
        let message = receiver.messages().next().unwrap();
        assert_eq!(message.source_v6(), Ipv6Addr::LOCALHOST);
        assert_eq!(message.destination_v6(), Some(Ipv6Addr::LOCALHOST));
        assert_eq!(message.hop_limit_v6(), Some(77));
    }

    #[test]
    fn endpoints_come_beside_a_message_over_ipv4() {
        let home = SockAddr::from(std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        socket.bind(&home).unwrap();
        crate::option::set(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1).unwrap();
        let to = socket.local_addr().unwrap();
        send(socket.as_fd(), [Outgoing { bytes: b"x", to: Some(&to) }]).unwrap();

        let mut receiver = Receiver::new(4);
        receiver.receive(socket.as_fd(), SLOTS).unwrap();
        let message = receiver.messages().next().unwrap();
        let home = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!((message.source(), message.destination()), (home, home));
    }

    fn enable_packet_information(socket: &Socket) -> io::Result<()> {
        crate::option::set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    }

    fn pair() -> (Socket, Socket) {
        let (a, b) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        a.set_send_buffer_size(1 << 20).unwrap();
        (a, b)
    }
}
