//! Packet sockets that nobody waits for when they are closed.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{LazyLock, mpsc};
use std::thread;

use socket2::{Domain, Socket, Type};

/// A packet socket. The kernel lets `close` wait until no processor looks at the socket any more
/// (`synchronize_net`): ten milliseconds and more, which is longer than an advertisement interval may
/// be. A thread of its own waits instead.
#[derive(Debug)]
pub(super) struct PacketSocket {
    /// There until it is dropped.
    socket: Option<Socket>,
}

impl PacketSocket {
    /// Opens one that does not block and receives nothing before it is bound.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`.
    pub(super) fn open(kind: Type) -> io::Result<Self> {
        Ok(Self { socket: Some(Socket::new(Domain::PACKET, kind.nonblocking(), None)?) })
    }
}

impl Deref for PacketSocket {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        self.socket.as_ref().expect("it is there until it is dropped")
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        (**self).as_raw_fd()
    }
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        let (Some(socket), Some(closer)) = (self.socket.take(), &*CLOSER) else { return };
        // The thread ends with the process only.
        drop(closer.send(socket));
    }
}

/// The way to the thread that closes. What waits there is bounded by the number of descriptors. Without
/// a thread whoever drops closes.
static CLOSER: LazyLock<Option<mpsc::Sender<Socket>>> = LazyLock::new(|| {
    let (closer, sockets) = mpsc::channel();
    let close = move || sockets.into_iter().for_each(drop);
    thread::Builder::new().name("closer".to_owned()).spawn(close).ok().map(|_| closer)
});
