//! Taking an input apart, byte by byte; when it is used up, everything is 0.

use std::time::Duration;

/// What is left of an input.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of it.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    /// The next two bytes as a number.
    pub fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A length from the next byte, and as many bytes, or as there are.
    pub fn block(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (block, rest) = self.0.split_at(length);
        self.0 = rest;
        block
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// One of several.
    pub fn pick<'b, T>(&mut self, all: &'b [T]) -> &'b T {
        &all[usize::from(self.byte()) % all.len()]
    }

    /// Nothing, some microseconds to about an hour: each length of time is as likely as another.
    pub fn time(&mut self) -> Duration {
        let [exponent, mantissa] = [self.byte() % 25, self.byte()];
        Duration::from_micros(u64::from(mantissa) << exponent)
    }
}
