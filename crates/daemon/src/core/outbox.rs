//! What waits to be given to another thread.
//!
//! Everything one turn of the core's loop gives out goes in one message. When the channel is full
//! it stays here and goes with the next: the core waits for nobody.

use std::collections::{BTreeMap, HashMap};

use lockstep_failover::Step;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// The way to one thread. Holds at most one item for each group and step: a group that asks for the
/// same step again no longer waits for the answer to the first.
pub(super) struct Outbox<Item, Message> {
    to: mpsc::Sender<Message>,
    message: fn(Vec<Item>) -> Message,
    /// By the order in which they were put.
    waiting: BTreeMap<u64, Item>,
    place: HashMap<(String, Step), u64>,
    next: u64,
}

impl<Item, Message> Outbox<Item, Message> {
    /// `message` makes one message of many items.
    pub(super) fn new(to: mpsc::Sender<Message>, message: fn(Vec<Item>) -> Message) -> Self {
        Self { to, message, waiting: BTreeMap::new(), place: HashMap::new(), next: 0 }
    }

    pub(super) fn put(&mut self, group: String, step: Step, item: Item) {
        self.next += 1;
        if let Some(before) = self.place.insert((group, step), self.next) {
            self.waiting.remove(&before);
        }
        self.waiting.insert(self.next, item);
    }

    /// Sends what waits, if there is room; returns what can never be sent, because the thread has
    /// ended.
    pub(super) fn send(&mut self) -> Vec<Item> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        match self.to.try_reserve() {
            Ok(permit) => {
                self.place.clear();
                let items = std::mem::take(&mut self.waiting).into_values().collect();
                permit.send((self.message)(items));
                Vec::new()
            }
            Err(TrySendError::Full(())) => Vec::new(),
            Err(TrySendError::Closed(())) => {
                self.place.clear();
                std::mem::take(&mut self.waiting).into_values().collect()
            }
        }
    }

    /// Sends something that is no item; whether that is done with. Nothing is kept here.
    pub(super) fn tell<T: Clone>(&self, message: fn(T) -> Message, what: &T) -> bool {
        !matches!(self.to.try_send(message(what.clone())), Err(TrySendError::Full(_)))
    }

    /// Waits until there is room for what waits, here or, with `more`, elsewhere for the same thread;
    /// for ever when nothing does.
    pub(super) async fn ready(&self, more: bool) {
        if self.waiting.is_empty() && !more {
            std::future::pending::<()>().await;
        }
        // Whether there is room or nobody reads any more is found out by sending.
        drop(self.to.reserve().await);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn outbox() -> (Outbox<u32, Vec<u32>>, mpsc::Receiver<Vec<u32>>) {
        let (sender, receiver) = mpsc::channel(1);
        (Outbox::new(sender, |items| items), receiver)
    }

    fn put(outbox: &mut Outbox<u32, Vec<u32>>, group: &str, step: Step, item: u32) {
        outbox.put(group.to_owned(), step, item);
    }

    fn is_ready(outbox: &Outbox<u32, Vec<u32>>) -> bool {
        pin!(outbox.ready(false)).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn what_is_put_in_one_turn_is_one_message_in_that_order() {
        let (mut outbox, mut receiver) = outbox();
        assert!(outbox.send().is_empty());
        assert!(receiver.try_recv().is_err(), "nothing to say is not said");
        for item in 0..1_000 {
            put(&mut outbox, &format!("group {item}"), Step::AddressesUp, item);
        }
        assert!(outbox.send().is_empty());
        assert_eq!(receiver.try_recv().unwrap(), (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn what_finds_no_room_waits_and_goes_with_the_next() {
        let (mut outbox, mut receiver) = outbox();
        put(&mut outbox, "a", Step::LinksUp, 1);
        outbox.send();
        put(&mut outbox, "a", Step::AddressesUp, 2);
        assert!(outbox.send().is_empty(), "a full channel is no failure");
        assert!(!is_ready(&outbox));
        put(&mut outbox, "b", Step::LinksUp, 3);
        assert_eq!(receiver.try_recv().unwrap(), [1]);
        assert!(is_ready(&outbox));
        outbox.send();
        assert_eq!(receiver.try_recv().unwrap(), [2, 3]);
        assert!(!is_ready(&outbox));
    }

    #[test]
    fn a_step_asked_for_again_waits_once_and_behind_what_came_between() {
        let (mut outbox, mut receiver) = outbox();
        put(&mut outbox, "other", Step::LinksUp, 0);
        outbox.send();
        for round in 0..100 {
            put(&mut outbox, "a", Step::AddressesUp, 2 * round + 1);
            put(&mut outbox, "a", Step::AddressesDown, 2 * round + 2);
            outbox.send();
        }
        put(&mut outbox, "a", Step::AddressesUp, 300);
        receiver.try_recv().unwrap();
        outbox.send();
        assert_eq!(receiver.try_recv().unwrap(), [200, 300]);
    }

    #[test]
    fn what_nobody_reads_any_more_comes_back() {
        let (mut outbox, receiver) = outbox();
        drop(receiver);
        put(&mut outbox, "a", Step::Hooks, 1);
        assert!(is_ready(&outbox));
        assert_eq!(outbox.send(), [1]);
        assert!(outbox.send().is_empty());
    }
}
