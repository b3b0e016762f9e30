//! Many requests in one buffer, for one system call.

use zerocopy::{FromBytes, IntoBytes};

use crate::message::flags;
use crate::{
    Expectation, ExpectationKey, Flow, Header, Key, create_expectation, delete_expectation, encode,
    update_expectation,
};

/// Requests that are sent together; the kernel carries them out in order, and goes on after one
/// that fails.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    buffer: Vec<u8>,
    len: usize,
}

impl Batch {
    /// Most requests in one batch: each may fail, and all answers must fit the receive buffer of
    /// the socket at once.
    pub const CAPACITY: usize = 256;

    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests in the batch.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the batch must be sent before the next request is added.
    pub fn is_full(&self) -> bool {
        self.len >= Self::CAPACITY
    }

    /// Forgets the requests and keeps the memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.len = 0;
    }

    /// Adds [`create`](crate::create). `false`, and nothing added, when the batch is full; so do
    /// the others.
    #[must_use = "a full batch takes nothing"]
    pub fn create(&mut self, flow: &Flow) -> bool {
        self.add(|buffer| encode::create(buffer, flow, 0))
    }

    /// Adds [`update`](crate::update).
    #[must_use = "a full batch takes nothing"]
    pub fn update(&mut self, flow: &Flow) -> bool {
        self.add(|buffer| encode::update(buffer, flow, 0))
    }

    /// Adds [`delete`](crate::delete).
    #[must_use = "a full batch takes nothing"]
    pub fn delete(&mut self, key: &Key, id: Option<u32>) -> bool {
        self.add(|buffer| encode::delete(buffer, key, id, 0))
    }

    /// Adds [`set_timeout`](crate::set_timeout).
    #[must_use = "a full batch takes nothing"]
    pub fn set_timeout(&mut self, key: &Key, timeout_s: u32) -> bool {
        self.add(|buffer| encode::set_timeout(buffer, key, timeout_s, 0))
    }

    /// Adds [`be_liberal`](crate::be_liberal).
    #[must_use = "a full batch takes nothing"]
    pub fn be_liberal(&mut self, key: &Key) -> bool {
        self.add(|buffer| encode::be_liberal(buffer, key, 0))
    }

    /// Adds [`create_expectation`].
    #[must_use = "a full batch takes nothing"]
    pub fn create_expectation(&mut self, expectation: &Expectation) -> bool {
        self.add(|buffer| create_expectation(buffer, expectation, 0))
    }

    /// Adds [`update_expectation`].
    #[must_use = "a full batch takes nothing"]
    pub fn update_expectation(&mut self, expectation: &Expectation) -> bool {
        self.add(|buffer| update_expectation(buffer, expectation, 0))
    }

    /// Adds [`delete_expectation`].
    #[must_use = "a full batch takes nothing"]
    pub fn delete_expectation(&mut self, key: &ExpectationKey, id: Option<u32>) -> bool {
        self.add(|buffer| delete_expectation(buffer, key, id, 0))
    }

    fn add(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.is_full() {
            return false;
        }
        encode(&mut self.buffer);
        self.len += 1;
        true
    }

    /// Numbers the requests from `first_sequence` on (wrapping) and asks for an answer to the
    /// last; the others are answered only when they fail. Returns what is to be sent.
    pub fn seal(&mut self, first_sequence: u32) -> &[u8] {
        let mut rest = self.buffer.as_mut_slice();
        let mut sequence = first_sequence;
        // Nothing but whole messages has been added; their memory may start anywhere.
        while let Ok((mut header, _)) = Header::read_from_prefix(rest) {
            let length = header.length as usize;
            header.sequence = sequence;
            header.flags &= !flags::ACK;
            if length == rest.len() {
                header.flags |= flags::ACK;
            }
            rest[..Header::LENGTH].copy_from_slice(header.as_bytes());
            sequence = sequence.wrapping_add(1);
            rest = &mut rest[length..];
        }
        &self.buffer
    }
}
