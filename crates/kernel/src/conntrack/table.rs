//! The content of the table, and changes to it.

mod lookup;
mod statistics;

pub use statistics::Statistics;

use std::io;
use std::os::fd::AsFd;

use lockstep_ctnetlink::{
    Answer, Batch, DecodeError, Family, Flow, Key, Kind, Messages, dump, dump_expectations, get,
};
use lockstep_sys::netlink::Receiver;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::{OpenError, set_up};

/// The answers of a whole [`Batch`] must fit at once; the kernel reckons about 1 KiB for each.
const RECEIVE_BUFFER: usize = 1 << 20;
/// What the kernel fills at most with one part of a dump.
const DUMP_BUFFER: usize = 32 * 1024;

/// Reads and changes the connection tracking table of one network namespace.
///
/// Needs `CAP_NET_ADMIN` there. No call waits, but each keeps the thread busy while the kernel
/// works: about half a millisecond for a full [`Batch`] of new flows, less for a part of a dump.
#[derive(Debug)]
pub struct TableSocket {
    socket: Socket,
    port_id: u32,
    receiver: Receiver,
    next_sequence: u32,
    /// A dump was begun and its end not read.
    dumping: bool,
    dump_sequence: u32,
    dump_interrupted: bool,
    answers: Vec<u8>,
}

/// The table could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The system call failed.
    #[error("failed to {operation} the connection tracking table")]
    Socket {
        /// What was being done: "read" or "change".
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Answers were lost, so what was carried out is not known.
    #[error("answers about the connection tracking table were lost")]
    Overrun,
    /// The kernel refused the request as a whole.
    #[error("the kernel refused the request: {text}")]
    Refused {
        /// A positive error number.
        errno: i32,
        /// The kernel's own words, or the error number's usual ones.
        text: String,
    },
    /// The kernel's answer has no meaning.
    #[error("the kernel's answer cannot be understood")]
    Answer(#[from] DecodeError),
    /// The kernel did not answer.
    #[error("the kernel did not answer")]
    NoAnswer,
}

/// A request of a batch that was not carried out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Which, counted from 0 in the order they were added.
    pub index: usize,
    /// A positive error number.
    pub errno: i32,
    /// The kernel's own words, when it has any.
    pub text: Option<String>,
}

impl TableSocket {
    /// Opens the socket in the namespace of the calling thread.
    pub fn open() -> Result<Self, OpenError> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(OpenError::at("open"))?;
        socket.set_non_blocking(true).map_err(OpenError::at("set up"))?;
        let port_id = set_up(&mut socket, RECEIVE_BUFFER)?;
        socket.set_cap_ack(true).map_err(OpenError::at("set up"))?;
        socket.set_ext_ack(true).map_err(OpenError::at("set up"))?;
        Ok(Self {
            socket,
            port_id,
            receiver: Receiver::new(),
            next_sequence: 1,
            dumping: false,
            dump_sequence: 0,
            dump_interrupted: false,
            answers: Vec::new(),
        })
    }

    /// The netlink port: events that this socket's requests caused carry it.
    pub fn port_id(&self) -> u32 {
        self.port_id
    }

    /// Carries out all requests of `batch`, in one system call, and returns those that failed.
    ///
    /// # Errors
    /// When it is not known what was carried out.
    pub fn execute(&mut self, batch: &mut Batch) -> Result<Vec<Failure>, TableError> {
        let mut failures = Vec::new();
        if batch.is_empty() {
            return Ok(failures);
        }
        let first = self.take_sequences(batch.len());
        let last = first.wrapping_add(batch.len() as u32 - 1);
        self.send("change", batch.seal(first))?;
        loop {
            self.receive_answers("change")?;
            for message in Messages::new(&self.answers) {
                let message = message?;
                let index = message.header().sequence.wrapping_sub(first) as usize;
                let Kind::Answer(Answer { errno, text }) = message.kind()? else { continue };
                if index >= batch.len() {
                    continue;
                }
                if errno != 0 {
                    failures.push(Failure { index, errno, text: text.map(str::to_owned) });
                }
                if message.header().sequence == last {
                    return Ok(failures);
                }
            }
        }
    }

    /// Looks one flow up.
    pub fn get(&mut self, key: &Key) -> Result<Option<Flow>, TableError> {
        let sequence = self.take_sequences(1);
        let mut request = Vec::new();
        get(&mut request, key, sequence);
        self.send("read", &request)?;
        loop {
            self.receive_answers("read")?;
            for message in Messages::new(&self.answers) {
                let message = message?;
                if message.header().sequence != sequence {
                    continue;
                }
                match message.kind()? {
                    Kind::Entry => return Ok(Some(message.flow()?)),
                    Kind::Answer(answer) if answer.errno == libc::ENOENT => return Ok(None),
                    Kind::Answer(answer) => return Err(TableError::refused(answer)),
                    _ => {}
                }
            }
        }
    }

    /// Begins to read the table.
    pub fn dump(&mut self, family: Family) -> Result<Dump<'_>, TableError> {
        self.begin_dump(family)?;
        Ok(Dump { table: self })
    }

    /// Begins to read the table, for whoever goes on with [`TableSocket::read_part`] whenever there
    /// is time. Every other request on this socket skips the rest of the reading.
    pub fn begin_dump(&mut self, family: Family) -> Result<(), TableError> {
        let sequence = self.take_sequences(1);
        let mut request = Vec::new();
        dump(&mut request, family, sequence);
        self.send("read", &request)?;
        self.dumping = true;
        self.dump_sequence = sequence;
        self.dump_interrupted = false;
        Ok(())
    }

    /// Begins to read the table of expectations; it goes on with [`TableSocket::read_part`].
    pub fn begin_expectation_dump(&mut self, family: Family) -> Result<(), TableError> {
        let sequence = self.take_sequences(1);
        let mut request = Vec::new();
        dump_expectations(&mut request, family, sequence);
        self.send("read", &request)?;
        self.dumping = true;
        self.dump_sequence = sequence;
        self.dump_interrupted = false;
        Ok(())
    }

    /// See [`Dump::read`].
    pub fn read_part(&mut self, buffer: &mut Vec<u8>) -> Result<bool, TableError> {
        buffer.clear();
        if !self.dumping {
            return Ok(false);
        }
        self.receive_dump(buffer)?;
        for message in Messages::new(buffer) {
            let message = message?;
            if message.header().sequence != self.dump_sequence {
                continue;
            }
            self.dump_interrupted |= message.interrupted();
            match message.kind()? {
                Kind::Done(0) => self.dumping = false,
                Kind::Done(errno) => {
                    self.dumping = false;
                    return Err(TableError::refused(Answer { errno, text: None }));
                }
                Kind::Answer(answer) => {
                    self.dumping = false;
                    return Err(TableError::refused(answer));
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// See [`Dump::interrupted`].
    pub fn dump_interrupted(&self) -> bool {
        self.dump_interrupted
    }

    fn take_sequences(&mut self, count: usize) -> u32 {
        let first = self.next_sequence;
        self.next_sequence = first.wrapping_add(count as u32);
        first
    }

    fn send(&mut self, operation: &'static str, requests: &[u8]) -> Result<(), TableError> {
        self.forget_dump()?;
        loop {
            match self.socket.send_to(requests, &SocketAddr::new(0, 0), 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TableError::Socket { operation, source }),
            }
        }
    }

    /// Replaces `self.answers` by what is waiting.
    fn receive_answers(&mut self, operation: &'static str) -> Result<(), TableError> {
        self.answers.clear();
        loop {
            match self.receiver.receive(self.socket.as_fd(), &mut self.answers) {
                Ok(received) if received.truncated > 0 => return Err(TableError::Overrun),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TableError::receiving(operation, error)),
            }
        }
    }

    /// Reads a dump that was dropped to its end: the kernel runs one at a time on a socket.
    fn forget_dump(&mut self) -> Result<(), TableError> {
        let mut buffer = Vec::new();
        while self.dumping {
            self.receive_dump(&mut buffer)?;
            self.dumping = !Messages::new(&buffer)
                .map_while(Result::ok)
                .any(|message| matches!(message.kind(), Ok(Kind::Done(_) | Kind::Answer(_))));
        }
        Ok(())
    }

    /// Replaces the content of `buffer` by one part of a dump.
    fn receive_dump(&mut self, buffer: &mut Vec<u8>) -> Result<(), TableError> {
        loop {
            buffer.clear();
            buffer.reserve(DUMP_BUFFER);
            // With MSG_TRUNC the length is the message's, also where the buffer ended before it.
            match self.socket.recv_from(buffer, libc::MSG_TRUNC) {
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) if length > buffer.len() => return Err(TableError::Overrun),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.dumping = false;
                    return Err(TableError::receiving("read", error));
                }
            }
        }
    }
}

impl TableError {
    fn receiving(operation: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOBUFS) => Self::Overrun,
            Some(libc::EAGAIN) => Self::NoAnswer,
            _ => Self::Socket { operation, source },
        }
    }

    fn refused(answer: Answer<'_>) -> Self {
        let text = match answer.text {
            Some(text) => text.to_owned(),
            None => io::Error::from_raw_os_error(answer.errno).to_string(),
        };
        Self::Refused { errno: answer.errno, text }
    }
}

/// A reading of the table, part by part. Dropping it early is allowed; the next request on the
/// socket then has to skip the rest.
#[derive(Debug)]
pub struct Dump<'a> {
    table: &'a mut TableSocket,
}

impl Dump<'_> {
    /// Replaces the content of `buffer` by the next part, about 100 flows as messages of
    /// [`Kind::Entry`]; `false`, and an empty buffer, when all is told.
    ///
    /// A flow that changes while the table is read may be told twice or, when the kernel resizes
    /// its table meanwhile, not at all.
    pub fn read(&mut self, buffer: &mut Vec<u8>) -> Result<bool, TableError> {
        self.table.read_part(buffer)
    }

    /// Whether the kernel said that what has been read so far may be inconsistent; whoever needs
    /// the whole reads again.
    pub fn interrupted(&self) -> bool {
        self.table.dump_interrupted
    }
}
