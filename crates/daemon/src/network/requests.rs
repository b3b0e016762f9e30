//! What the thread is asked: steps first, in the order they came, and whoever asks for the state
//! of the network together.

use std::collections::VecDeque;

use lockstep_failover::{Step, StepId};
use tokio::sync::{mpsc, oneshot};

use crate::messages::{NetworkRequest, QUEUE};
use crate::status;

/// Most steps taken out of the channel and not begun; the rest wait in the channel.
const STEPS: usize = QUEUE;
/// Most askers waiting together; one more is turned away.
const ASKERS: usize = QUEUE;

type Asker = oneshot::Sender<status::Network>;

/// A request that waits for no dump.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// [`NetworkRequest::Step`].
    Step {
        /// To be answered with.
        id: StepId,
        /// The group.
        group: String,
        /// What.
        step: Step,
    },
    /// [`NetworkRequest::Stop`], or nobody is left to ask for anything.
    Stop,
}

/// The channel and what has been taken out of it, so that neither a step nor the channel waits
/// behind askers, each of whom costs a dump.
pub(super) struct Requests {
    inbox: mpsc::Receiver<NetworkRequest>,
    orders: VecDeque<Order>,
    askers: Vec<Asker>,
}

impl Requests {
    pub(super) fn new(inbox: mpsc::Receiver<NetworkRequest>) -> Self {
        Self { inbox, orders: VecDeque::new(), askers: Vec::new() }
    }

    /// Takes out of the channel what is in it.
    fn sort(&mut self) {
        while !self.is_full() {
            match self.inbox.try_recv() {
                Ok(request) => self.put(Some(request)),
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => self.put(None),
            }
        }
    }

    /// After the end nothing is taken out any more.
    fn is_full(&self) -> bool {
        self.orders.len() >= STEPS || self.orders.back() == Some(&Order::Stop)
    }

    fn put(&mut self, request: Option<NetworkRequest>) {
        match request {
            None | Some(NetworkRequest::Stop) => self.orders.push_back(Order::Stop),
            Some(NetworkRequest::Step { id, group, step }) => {
                self.orders.push_back(Order::Step { id, group, step });
            }
            Some(NetworkRequest::Status(asker)) => {
                if self.askers.len() >= ASKERS {
                    self.askers.retain(|asker| !asker.is_closed());
                }
                if self.askers.len() < ASKERS {
                    self.askers.push(asker);
                }
            }
        }
    }

    /// The next order, whatever else was asked before it.
    pub(super) fn next_order(&mut self) -> Option<Order> {
        self.sort();
        self.orders.pop_front()
    }

    /// Waits until there is an order. May be given up half way.
    pub(super) async fn ordered(&mut self) {
        loop {
            self.sort();
            if !self.orders.is_empty() {
                return;
            }
            let request = self.inbox.recv().await;
            self.put(request);
        }
    }

    /// Waits until somebody asks or orders. May be given up half way.
    pub(super) async fn asked(&mut self) {
        self.sort();
        while self.orders.is_empty() && !self.is_asked() {
            let request = self.inbox.recv().await;
            self.put(request);
        }
    }

    /// Whether somebody waits for the state of the network; forgets who no longer does.
    pub(super) fn is_asked(&mut self) -> bool {
        self.askers.retain(|asker| !asker.is_closed());
        !self.askers.is_empty()
    }

    /// Those whom a dump that begins now answers.
    pub(super) fn take_askers(&mut self) -> Vec<Asker> {
        std::mem::take(&mut self.askers)
    }

    /// The dump has come to nothing: they wait for the next one.
    pub(super) fn put_back(&mut self, mut askers: Vec<Asker>) {
        askers.append(&mut self.askers);
        self.askers = askers;
    }

    /// Lets nobody ask any more, and returns the steps that were not begun.
    pub(super) fn close(&mut self) -> Vec<StepId> {
        self.inbox.close();
        self.askers.clear();
        let waiting =
            std::iter::from_fn(|| self.inbox.try_recv().ok()).filter_map(|request| match request {
                NetworkRequest::Step { id, .. } => Some(id),
                NetworkRequest::Status(_) | NetworkRequest::Stop => None,
            });
        let taken = self.orders.drain(..).filter_map(|order| match order {
            Order::Step { id, .. } => Some(id),
            Order::Stop => None,
        });
        taken.chain(waiting).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn requests() -> (mpsc::Sender<NetworkRequest>, Requests) {
        let (sender, inbox) = mpsc::channel(QUEUE);
        (sender, Requests::new(inbox))
    }

    fn ask(sender: &mpsc::Sender<NetworkRequest>) -> oneshot::Receiver<status::Network> {
        let (asker, answer) = oneshot::channel();
        sender.try_send(NetworkRequest::Status(asker)).unwrap();
        answer
    }

    fn step(id: u64) -> NetworkRequest {
        NetworkRequest::Step { id: StepId(id), group: String::new(), step: Step::AddressesUp }
    }

    fn order(id: u64) -> Order {
        Order::Step { id: StepId(id), group: String::new(), step: Step::AddressesUp }
    }

    fn is_ready(future: impl Future<Output = ()>) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn a_step_is_found_behind_a_channel_full_of_askers() {
        let (sender, mut requests) = requests();
        let askers: Vec<_> = (1..QUEUE).map(|_| ask(&sender)).collect();
        sender.try_send(step(7)).unwrap();
        assert!(is_ready(requests.ordered()));
        assert_eq!(requests.next_order(), Some(order(7)));
        assert_eq!(requests.take_askers().len(), askers.len());
    }

    #[test]
    fn askers_never_keep_a_step_out_of_the_channel() {
        let (sender, mut requests) = requests();
        let mut askers = Vec::new();
        for _ in 0..3 {
            askers.extend((0..QUEUE).map(|_| ask(&sender)));
            assert!(!is_ready(requests.ordered()), "askers order nothing");
            sender.try_send(step(1)).unwrap();
            assert_eq!(requests.next_order(), Some(order(1)));
        }
        assert_eq!(requests.take_askers().len(), ASKERS);
    }

    #[test]
    fn askers_that_gave_up_are_forgotten() {
        let (sender, mut requests) = requests();
        drop(ask(&sender));
        assert!(!is_ready(requests.asked()));
        let _patient = ask(&sender);
        drop(ask(&sender));
        assert!(is_ready(requests.asked()));
        assert!(requests.is_asked());
        assert_eq!(requests.take_askers().len(), 1);
        assert!(!requests.is_asked());
    }

    #[test]
    fn whoever_asks_during_a_dump_waits_for_the_next_and_nobody_is_lost() {
        let (sender, mut requests) = requests();
        let _first = ask(&sender);
        assert!(is_ready(requests.asked()));
        let begun = requests.take_askers();
        let _second = ask(&sender);
        assert!(is_ready(requests.asked()));
        requests.put_back(begun);
        assert_eq!(requests.take_askers().len(), 2);
    }

    #[test]
    fn orders_keep_their_order_and_a_lost_channel_is_the_end() {
        let (sender, mut requests) = requests();
        sender.try_send(step(1)).unwrap();
        sender.try_send(step(2)).unwrap();
        drop(sender);
        assert_eq!(requests.next_order(), Some(order(1)));
        assert_eq!(requests.next_order(), Some(order(2)));
        assert_eq!(requests.next_order(), Some(Order::Stop));
    }

    #[test]
    fn every_step_not_begun_is_returned_at_the_end() {
        let (sender, mut requests) = requests();
        sender.try_send(step(1)).unwrap();
        assert!(is_ready(requests.ordered()));
        let answer = ask(&sender);
        sender.try_send(step(2)).unwrap();
        assert_eq!(requests.close(), [StepId(1), StepId(2)]);
        assert!(sender.try_send(step(3)).is_err(), "whoever comes later is told at once");
        assert!(answer.blocking_recv().is_err());
    }
}
