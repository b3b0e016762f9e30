//! Datagrams that wait to go out together.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use lockstep_sys::batch::{self, Outgoing, SLOTS};
use socket2::SockAddr;

/// Up to [`SLOTS`] datagrams, copied one after another into memory that is kept.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    waiting: Vec<Waiting>,
    /// How many of them have gone already.
    gone: usize,
}

#[derive(Debug)]
struct Waiting {
    bytes: Range<usize>,
    /// `None`: where the socket is connected to.
    to: Option<SockAddr>,
}

/// What became of the datagrams that [`Outbox::flush`] took up.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    /// Those the kernel would not send, and why it refused the last one.
    pub(super) refused: u64,
    pub(super) refusal: Option<io::Error>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.gone == self.waiting.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= SLOTS
    }

    /// The caller has seen that there is room.
    pub(super) fn push(&mut self, to: Option<SockAddr>, datagram: &[u8]) {
        debug_assert!(!self.is_full(), "asked before");
        let start = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        self.waiting.push(Waiting { bytes: start..self.bytes.len(), to });
    }

    /// Sends what waits, until the socket takes no more; what the kernel refuses is dropped, as it
    /// would be on a wire.
    ///
    /// # Errors
    /// `WouldBlock` when some is left, for which the socket has no room.
    pub(super) fn flush(
        &mut self,
        socket: BorrowedFd<'_>,
        flushed: &mut Flushed,
    ) -> io::Result<()> {
        while !self.is_empty() {
            let rest = &self.waiting[self.gone..];
            let bytes = &self.bytes;
            let messages = rest
                .iter()
                .map(|it| Outgoing { bytes: &bytes[it.bytes.clone()], to: it.to.as_ref() });
            match batch::send(socket, messages) {
                Ok(count) => {
                    flushed.datagrams += count as u64;
                    flushed.bytes +=
                        rest[..count].iter().map(|it| it.bytes.len() as u64).sum::<u64>();
                    self.gone += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_full(&error) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => {
                    flushed.refused += 1;
                    flushed.refusal = Some(error);
                    self.gone += 1;
                }
            }
        }
        self.bytes.clear();
        self.waiting.clear();
        self.gone = 0;
        Ok(())
    }
}

/// A socket buffer that is full says so; an interface's queue that is full (`ENOBUFS`) drops like
/// a wire does, and there is nothing to wait for.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
