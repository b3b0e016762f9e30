//! Requests and answers on one rtnetlink socket.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use lockstep_sys::netlink::Receiver;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NetlinkBuffer, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Most requests in one system call. Their answers, all queued before the first is read, must fit
/// into the smallest usual receive buffer, and are read by one system call.
pub(super) const BATCH: usize = 64;

/// Largest datagram the kernel builds for a dump is half of this.
pub(super) const DATAGRAM: usize = 64 * 1024;

/// `NLMSGERR_ATTR_MSG`: the kernel's explanation of a refusal.
const EXPLANATION: u16 = 1;
/// The fixed part of every netlink message.
const HEADER: usize = 16;
/// The error number at the start of an answer.
const CODE: usize = 4;

/// The kernel's refusal of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    /// Positive error number.
    pub errno: i32,
    /// The kernel's explanation, when it gives one.
    pub explanation: Option<String>,
}

impl Refusal {
    /// Stands for an answer that was lost.
    pub(super) fn lost() -> Self {
        Self { errno: libc::ENOBUFS, explanation: Some("the answer was lost".to_owned()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(nix::errno::Errno::from_raw(self.errno).desc())?;
        match &self.explanation {
            Some(explanation) => write!(f, ": {}", explanation.trim_end_matches('.')),
            None => Ok(()),
        }
    }
}

/// One socket, one request or batch of requests at a time.
pub(super) struct Conversation {
    socket: AsyncFd<Socket>,
    sequence: u32,
    /// What is sent.
    requests: Vec<u8>,
    /// One datagram of a dump.
    received: Vec<u8>,
    /// The answers to requests; made with the first one.
    answers: Option<Receiver>,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Conversation {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.bind_auto()?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        // Without it (before Linux 4.20) dumps come unfiltered, and are filtered here anyway.
        if let Err(error) = socket.set_netlink_get_strict_chk(true) {
            tracing::debug!(%error, "dumps are not filtered by the kernel");
        }
        Ok(Self {
            socket: watch(socket)?,
            sequence: 0,
            requests: Vec::new(),
            received: Vec::new(),
            answers: None,
        })
    }

    /// Makes room for no more than one answer.
    #[cfg(test)]
    pub(super) fn shrink(&mut self) -> io::Result<()> {
        self.socket.get_mut().set_rx_buf_sz(1)
    }

    /// Sends the requests, at most [`BATCH`], in one system call, and takes the kernel's answer to
    /// each: `None` for one that was lost, so that nobody knows whether the request was carried
    /// out.
    pub(super) async fn request(
        &mut self,
        messages: impl IntoIterator<Item = (RouteNetlinkMessage, u16)>,
    ) -> io::Result<Vec<Option<Result<(), Refusal>>>> {
        let first = self.sequence.wrapping_add(1);
        self.requests.clear();
        for (message, flags) in messages {
            self.append(message, flags | NLM_F_ACK);
        }
        let mut answers = vec![None; self.sequence.wrapping_sub(first).wrapping_add(1) as usize];
        self.send().await?;
        let mut missing = answers.len();
        while missing > 0 {
            let receiver = self.answers.get_or_insert_default();
            match receiver.fill(self.socket.get_ref().as_fd()) {
                Ok(_) => {}
                // The kernel answers within the system call that sends: what is not there now
                // never comes.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(error),
            }
            for answer in receiver.datagrams().flat_map(messages_in) {
                let place = answer.sequence_number().wrapping_sub(first) as usize;
                if let (NLMSG_ERROR, Some(free @ None)) =
                    (answer.message_type(), answers.get_mut(place))
                {
                    *free = Some(verdict(answer.flags(), answer.payload()));
                    missing -= 1;
                }
            }
        }
        // Many batches are not to keep the thread from everything else.
        tokio::task::yield_now().await;
        Ok(answers)
    }

    /// Hands the type and payload of every dumped message to `each`. Returns whether nothing
    /// changed meanwhile. What does not exist, such as a table or IPv6, is an empty dump.
    pub(super) async fn dump(
        &mut self,
        request: &RouteNetlinkMessage,
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<bool> {
        self.requests.clear();
        self.append(request.clone(), NLM_F_DUMP);
        self.send().await?;
        let mut consistent = true;
        loop {
            self.receive().await?;
            for message in messages_in(&self.received) {
                if message.sequence_number() != self.sequence {
                    continue;
                }
                consistent &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return match verdict(message.flags(), message.payload()) {
                            Err(refusal) if !is_absence(refusal.errno) => {
                                Err(io::Error::from_raw_os_error(refusal.errno))
                            }
                            Ok(()) | Err(_) => Ok(consistent),
                        };
                    }
                    NLMSG_NOOP => {}
                    kind => each(kind, message.payload()),
                }
            }
            // The rest of a large table is waiting already, and would keep a caller that watches
            // something else meanwhile from looking at it.
            tokio::task::yield_now().await;
        }
    }

    fn append(&mut self, message: RouteNetlinkMessage, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = self.requests.len();
        self.requests.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut self.requests[start..]);
    }

    async fn send(&self) -> io::Result<()> {
        let kernel = SocketAddr::new(0, 0);
        let send = |socket: &Socket| loop {
            match socket.send_to(&self.requests, &kernel, 0) {
                // It was interrupted before the kernel looked at it.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent,
            }
        };
        let sent = self.socket.async_io(Interest::WRITABLE, send).await?;
        if sent == self.requests.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Receives one datagram of a dump from the kernel; others' are ignored.
    async fn receive(&mut self) -> io::Result<()> {
        self.received.reserve(DATAGRAM);
        loop {
            self.received.clear();
            let received = &mut self.received;
            let receive = |socket: &Socket| socket.recv_from(received, libc::MSG_TRUNC);
            let (length, sender) = match self.socket.async_io(Interest::READABLE, receive).await {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            if sender.port_number() != 0 {
                continue;
            }
            if length > self.received.len() {
                let words = format!("a dump's datagram of {length} bytes was cut off");
                return Err(io::Error::new(io::ErrorKind::InvalidData, words));
            }
            return Ok(());
        }
    }
}

#[expect(deprecated, reason = "its successor is unsafe, and this type keeps its descriptor")]
fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    AsyncFd::new(socket)
}

/// Whether reading can go on after it: the call was interrupted, or the kernel tells that it had to
/// throw answers away, and the others are still waiting.
fn is_passing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted || error.raw_os_error() == Some(libc::ENOBUFS)
}

/// The well-formed messages at the start of a datagram.
pub(super) fn messages_in(datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = (message.length() as usize).max(HEADER).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
        Some(message)
    })
}

fn verdict(flags: u16, payload: &[u8]) -> Result<(), Refusal> {
    let code =
        payload.first_chunk::<CODE>().map_or(-libc::EBADMSG, |bytes| i32::from_ne_bytes(*bytes));
    if code >= 0 {
        return Ok(());
    }
    Err(Refusal { errno: code.saturating_neg(), explanation: explanation(flags, payload) })
}

/// The explanation after the answered request, whose header is repeated.
fn explanation(flags: u16, payload: &[u8]) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let repeated = if flags & NLM_F_CAPPED != 0 {
        HEADER
    } else {
        let length: [u8; 4] = payload.get(CODE..CODE + 4)?.try_into().ok()?;
        (u32::from_ne_bytes(length) as usize).next_multiple_of(4)
    };
    let attributes = payload.get(CODE.checked_add(repeated)?..)?;
    NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == EXPLANATION)
        .map(|attribute| {
            String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned()
        })
}

/// Whether a dump failed because there is nothing of its kind: no such table, no IPv6.
fn is_absence(errno: i32) -> bool {
    [libc::ENOENT, libc::EAFNOSUPPORT, libc::EOPNOTSUPP].contains(&errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_kernels_words() {
        let mut payload = (-libc::ENETUNREACH).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        payload.extend([12u16.to_ne_bytes(), EXPLANATION.to_ne_bytes()].concat());
        payload.extend(b"No way.\0");
        let refusal = verdict(NLM_F_ACK_TLVS | NLM_F_CAPPED, &payload).unwrap_err();
        assert_eq!(refusal.errno, libc::ENETUNREACH);
        assert_eq!(refusal.to_string(), "Network is unreachable: No way");
    }

    #[test]
    fn bytes_that_are_no_message_end_the_datagram() {
        for datagram in [&[][..], &[1; 7], &[0; 16], &[0xff; 64]] {
            assert_eq!(messages_in(datagram).count(), 0, "{datagram:?}");
        }
    }

    #[test]
    fn a_truncated_answer_is_a_refusal_not_a_panic() {
        for length in 0..CODE {
            assert_eq!(verdict(0, &vec![0xff; length]).unwrap_err().errno, libc::EBADMSG);
        }
        for length in CODE..CODE + HEADER + 12 {
            assert!(verdict(NLM_F_ACK_TLVS, &vec![0xff; length]).is_err());
            assert!(verdict(NLM_F_ACK_TLVS | NLM_F_CAPPED, &vec![0xff; length]).is_err());
        }
    }
}
