//! The resend queue: what was sent and not acknowledged, found by its number.
//!
//! Numbers grow by one, so a row of places serves: no search, no allocation per message. Places
//! whose message needs no repetition (any more) are empty; empty ones at the front are given back.

use std::collections::VecDeque;

use super::Sent;

#[derive(Default)]
pub(super) struct Ring {
    /// The number of the first place.
    base: u64,
    places: VecDeque<Option<Sent>>,
    kept: usize,
}

impl Ring {
    /// Messages kept.
    pub(super) fn len(&self) -> usize {
        self.kept
    }

    /// Places, empty ones too: the distance between the oldest and the newest.
    pub(super) fn span(&self) -> usize {
        self.places.len()
    }

    /// Keeps the message sent as `number`, which is higher than any before.
    pub(super) fn put(&mut self, number: u64, sent: Sent) {
        if self.places.is_empty() {
            self.base = number;
        }
        while self.base + (self.places.len() as u64) < number {
            self.places.push_back(None);
        }
        self.places.push_back(Some(sent));
        self.kept += 1;
    }

    /// What was sent as `number`.
    pub(super) fn get(&self, number: u64) -> Option<Sent> {
        let place = usize::try_from(number.checked_sub(self.base)?).ok()?;
        *self.places.get(place)?
    }

    /// Takes out what was sent as `number`.
    pub(super) fn take(&mut self, number: u64) -> Option<Sent> {
        let place = usize::try_from(number.checked_sub(self.base)?).ok()?;
        let taken = self.places.get_mut(place)?.take()?;
        self.kept -= 1;
        self.trim();
        Some(taken)
    }

    /// The part of `from..=to` that can be in the queue.
    pub(super) fn within(&self, from: u64, to: u64) -> std::ops::Range<u64> {
        let end = self.base + self.places.len() as u64;
        from.max(self.base)..to.saturating_add(1).min(end)
    }

    /// The oldest number kept.
    pub(super) fn first(&self) -> Option<u64> {
        // Trimmed: the first place is never empty.
        (self.kept > 0).then_some(self.base)
    }

    pub(super) fn pop_first(&mut self) -> Option<Sent> {
        self.take(self.base)
    }

    /// The number whose low 31 bits are these.
    pub(super) fn expand31(&self, low: u32) -> u64 {
        self.base + u64::from(low.wrapping_sub(self.base as u32) & 0x7fff_ffff)
    }

    /// Empties the places of which `unwanted` says so.
    pub(super) fn discard(&mut self, unwanted: impl Fn(&Sent) -> bool) {
        for place in &mut self.places {
            if place.as_ref().is_some_and(&unwanted) {
                *place = None;
                self.kept -= 1;
            }
        }
        self.trim();
    }

    fn trim(&mut self) {
        if self.kept == 0 {
            self.places.clear();
            return;
        }
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Control;
    use super::*;

    fn ack(number: u32) -> Sent {
        Sent::Control(Control::Ack(number, number))
    }

    #[test]
    fn messages_are_found_by_their_number_and_empty_places_given_back() {
        let mut ring = Ring::default();
        for number in [10_u64, 11, 14] {
            ring.put(number, ack(number as u32));
        }
        assert_eq!((ring.len(), ring.span(), ring.first()), (3, 5, Some(10)));
        assert_eq!(ring.take(11), Some(ack(11)));
        assert_eq!(ring.take(11), None);
        assert_eq!(ring.take(9), None);
        assert_eq!(ring.take(10), Some(ack(10)));
        assert_eq!((ring.len(), ring.span(), ring.first()), (1, 1, Some(14)));
        assert_eq!(ring.within(0, u64::MAX), 14..15);
        assert_eq!(ring.pop_first(), Some(ack(14)));
        assert_eq!((ring.len(), ring.first()), (0, None));
    }

    #[test]
    fn a_number_is_known_again_by_its_low_bits_across_their_wrap() {
        let mut ring = Ring::default();
        let first = 0x1_7fff_fffe_u64;
        for number in first..first + 4 {
            ring.put(number, ack(0));
        }
        for number in first..first + 4 {
            assert_eq!(ring.expand31(number as u32 & 0x7fff_ffff), number);
        }
    }

    #[test]
    fn a_place_takes_no_more_than_twelve_bytes() {
        assert!(size_of::<Option<Sent>>() <= 12, "{}", size_of::<Option<Sent>>());
    }
}
