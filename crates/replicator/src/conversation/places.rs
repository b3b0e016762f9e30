//! Where each object of the internal caches stands in one conversation: four bytes per slot.

use crate::internal::Object;
use crate::table::Slot;

/// Where an object stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// Nothing of it is under way.
    Nowhere,
    /// It waits in line.
    InLine,
    /// Sent under the number with these low 31 bits, and not acknowledged.
    Sent(u32),
}

/// Dense by slot; what was never touched takes no room.
#[derive(Default)]
pub(super) struct Places {
    flows: Vec<u32>,
    expectations: Vec<u32>,
}

impl Places {
    pub(super) fn get(&self, object: Object) -> Place {
        let (places, slot) = match object {
            Object::Flow(slot) => (&self.flows, slot),
            Object::Expectation(slot) => (&self.expectations, slot),
        };
        match places.get(slot as usize).copied().unwrap_or(NOWHERE) {
            NOWHERE => Place::Nowhere,
            IN_LINE => Place::InLine,
            sent => Place::Sent(sent - FIRST_NUMBER),
        }
    }

    pub(super) fn set(&mut self, object: Object, place: Place) {
        let (places, slot) = match object {
            Object::Flow(slot) => (&mut self.flows, slot),
            Object::Expectation(slot) => (&mut self.expectations, slot),
        };
        let value = match place {
            Place::Nowhere => NOWHERE,
            Place::InLine => IN_LINE,
            Place::Sent(low) => FIRST_NUMBER + (low & 0x7fff_ffff),
        };
        if let Some(known) = places.get_mut(slot as usize) {
            *known = value;
        } else if value != NOWHERE {
            grow(places, slot);
            places[slot as usize] = value;
        }
    }

    /// Gives the memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// In steps, so that a slot more is no move of the whole.
fn grow(places: &mut Vec<u32>, slot: Slot) {
    let length = (slot as usize + 1).next_multiple_of(4096);
    places.reserve(length - places.len());
    places.resize(length, NOWHERE);
}

const NOWHERE: u32 = 0;
const IN_LINE: u32 = 1;
const FIRST_NUMBER: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_found_again() {
        let mut places = Places::default();
        assert_eq!(places.get(Object::Flow(1 << 20)), Place::Nowhere);
        for place in [Place::InLine, Place::Sent(0), Place::Sent(0x7fff_ffff), Place::Nowhere] {
            places.set(Object::Flow(5000), place);
            assert_eq!(places.get(Object::Flow(5000)), place);
        }
        assert_eq!(places.get(Object::Flow(4999)), Place::Nowhere);
    }
}
