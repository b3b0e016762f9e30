//! What waits to be said.

use std::time::Instant;

use super::{Control, Conversation, MAX_CONTROLS, Sent};
use crate::internal::Internal;
use crate::statistics::Counters;
use crate::table::Slot;

/// Most messages of one provocation.
const PROVOCATION: u32 = 1024;

impl Conversation {
    /// Puts a flow in line, unless it is already there; a number under which it is waiting for
    /// acknowledgement is forgotten, because the newer message replaces the older one.
    pub(crate) fn queue_flow(&mut self, slot: Slot, internal: &mut Internal) {
        let Some(entry) = internal.table.get_mut(slot) else { return };
        if entry.sent != 0 {
            self.resend.remove(&entry.sent);
            entry.sent = 0;
        }
        if !entry.queued {
            entry.queued = true;
            self.ticket += 1;
            self.flows.push_back((self.ticket, slot));
        }
    }

    /// Drops what is waiting about a flow of which nothing is to be said any more.
    pub(crate) fn forget_flow(&mut self, slot: Slot, internal: &mut Internal) {
        if let Some(entry) = internal.table.get_mut(slot).filter(|entry| entry.sent != 0) {
            self.resend.remove(&entry.sent);
            entry.sent = 0;
        }
        internal.release(slot);
    }

    /// Asks the peer for everything it has.
    pub(crate) fn ask_for_everything(&mut self, generation: u32, counters: &mut Counters) {
        self.open_resync = Some(generation);
        self.doubt = false;
        counters.resyncs_sent += 1;
        self.push(Control::Resync(generation), counters);
    }

    /// Sends everything we have, as soon as the peer knows us.
    pub(crate) fn want_copy(&mut self) {
        self.copy_wanted = true;
    }

    /// Messages that make the peer's window run full, so that it acknowledges now and not when it
    /// has nothing else to do, which a busy conntrackd never has.
    pub(crate) fn provoke(&mut self, counters: &mut Counters) {
        for _ in 0..self.ack_window.min(PROVOCATION) {
            self.push(Control::Alive, counters);
        }
    }

    /// The peer has been silent for so long that nothing is kept for it.
    pub(crate) fn peer_is_gone(&mut self, internal: &mut Internal) {
        let flows = std::mem::take(&mut self.flows).into_iter().map(|(_, slot)| slot);
        let sent = std::mem::take(&mut self.resend).into_values();
        let sent = sent.filter_map(|sent| match sent {
            Sent::Flow(slot) => Some(slot),
            Sent::Control(_) => None,
        });
        for slot in flows.chain(sent).collect::<Vec<_>>() {
            if let Some(entry) = internal.table.get_mut(slot) {
                entry.queued = false;
                entry.sent = 0;
            }
            internal.release(slot);
        }
        self.controls.clear();
        self.copy = None;
        self.copy_wanted = false;
        self.waiting.clear();
        self.open_nacks.clear();
        self.open_resync = None;
    }

    /// Another router is the peer now: begin from the start, with numbers that go on.
    pub(crate) fn new_peer(&mut self, internal: &mut Internal) {
        self.peer_is_gone(internal);
        self.greeted = false;
        self.peer_greets = false;
        self.greetings = None;
        self.say_back = false;
        self.rearm();
    }

    pub(super) fn queue_again(&mut self, slot: Slot, internal: &mut Internal) {
        if let Some(entry) = internal.table.get_mut(slot) {
            entry.sent = 0;
        }
        self.queue_flow(slot, internal);
    }

    /// Asks for the missing messages.
    pub(super) fn ask_again(&mut self, from: u32, to: u32, counters: &mut Counters, now: Instant) {
        if self.push(Control::Nack(from, to), counters) {
            self.open_nacks.push_back((from, now));
        } else {
            self.doubt = true;
        }
    }

    /// What begins with this number is asked for no more.
    pub(super) fn close_gap(&mut self, from: u32) {
        if let Some(index) = self.open_nacks.iter().position(|(first, _)| *first == from) {
            self.open_nacks.remove(index);
        }
    }

    /// Puts a message in line, if there is room; returns whether there was.
    pub(super) fn push(&mut self, control: Control, counters: &mut Counters) -> bool {
        if self.controls.len() >= MAX_CONTROLS {
            counters.control_overflow += 1;
            return false;
        }
        match control {
            Control::Ack(..) => counters.acks_sent += 1,
            Control::Nack(..) => counters.nacks_sent += 1,
            Control::Resync(_) | Control::Alive => {}
        }
        self.enqueue(control);
        true
    }

    pub(super) fn enqueue(&mut self, control: Control) {
        self.ticket += 1;
        self.controls.push_back((self.ticket, control));
    }
}
