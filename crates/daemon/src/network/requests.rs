//! What the thread is asked: steps first, those of one kind together, and whoever asks for the
//! state of the network together.

use std::collections::{BTreeSet, VecDeque};

use lockstep_failover::{Step, StepId};
use tokio::sync::{mpsc, oneshot};

use super::Snapshot;
use crate::messages::{GroupStep, NetworkRequest, QUEUE, Wanted};

/// With so many steps taken out of the channel and not begun, the rest wait in the channel.
const STEPS: usize = 16_384;
/// Most askers waiting together; one more is turned away.
const ASKERS: usize = QUEUE;

type Asker = oneshot::Sender<Snapshot>;
/// What is to be wanted, and who waits until it is.
pub(super) type Configuration = (Wanted, oneshot::Sender<Result<(), String>>);

/// A request that waits for no dump.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// Steps of one kind, at least one, to be carried out and answered together.
    Steps(Vec<GroupStep>),
    /// Steps, at least one, that are answered and not carried out: a newer one has overtaken them.
    Overtaken(Vec<StepId>),
    /// [`NetworkRequest::Stop`], or nobody is left to ask for anything.
    Stop,
}

/// The channel and what has been taken out of it, so that neither a step nor the channel waits
/// behind askers, each of whom costs a dump.
pub(super) struct Requests {
    inbox: mpsc::Receiver<NetworkRequest>,
    steps: VecDeque<GroupStep>,
    /// Steps that were overtaken before they were begun.
    overtaken: Vec<StepId>,
    /// The newest one that was not taken yet.
    configuration: Option<Configuration>,
    /// Virtual routers whose addresses follow their groups now.
    admitted: Vec<String>,
    /// Nothing comes after the steps that are there.
    ended: bool,
    askers: Vec<Asker>,
    /// Those whom what is known serves as well, when a dump would take long.
    modest: Vec<Asker>,
}

impl Requests {
    pub(super) fn new(inbox: mpsc::Receiver<NetworkRequest>) -> Self {
        Self {
            inbox,
            steps: VecDeque::new(),
            overtaken: Vec::new(),
            configuration: None,
            admitted: Vec::new(),
            ended: false,
            askers: Vec::new(),
            modest: Vec::new(),
        }
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
        self.steps.len() + self.overtaken.len() >= STEPS || self.ended
    }

    fn put(&mut self, request: Option<NetworkRequest>) {
        match request {
            None | Some(NetworkRequest::Stop) => self.ended = true,
            Some(NetworkRequest::Steps(steps)) => {
                for step in steps {
                    self.line_up(step);
                }
            }
            Some(NetworkRequest::Configure(wanted, answer)) => {
                self.configuration = Some((*wanted, answer));
            }
            Some(NetworkRequest::Admit(names)) => self.admitted.extend(names),
            Some(NetworkRequest::Look(asker)) => wait_in(&mut self.askers, asker),
            Some(NetworkRequest::Status(asker)) => wait_in(&mut self.modest, asker),
        }
    }

    fn line_up(&mut self, newest: GroupStep) {
        let overtaken = &mut self.overtaken;
        self.steps.retain(|one| {
            let keep = !one.step.is_overtaken_by(newest.step) || one.group != newest.group;
            if !keep {
                overtaken.push(one.id);
            }
            keep
        });
        self.steps.push_back(newest);
    }

    /// What is to be wanted from now on. Steps wait for it: their groups may be new.
    pub(super) fn take_configuration(&mut self) -> Option<Configuration> {
        self.sort();
        self.configuration.take()
    }

    /// Who was admitted since the last call.
    pub(super) fn take_admitted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.admitted)
    }

    /// The next order, whatever else was asked before it. Steps of the same kind as the first are
    /// brought forward to it, but not past an earlier step of their own group.
    pub(super) fn next_order(&mut self) -> Option<Order> {
        self.sort();
        if !self.overtaken.is_empty() {
            return Some(Order::Overtaken(std::mem::take(&mut self.overtaken)));
        }
        let Some(kind) = self.steps.front().map(|first| first.step) else {
            return self.ended.then_some(Order::Stop);
        };
        let mut passed_over = BTreeSet::new();
        let steps = std::mem::take(&mut self.steps).into_iter();
        let (together, rest): (VecDeque<_>, VecDeque<_>) = steps.partition(|one| {
            let now = one.step == kind && !passed_over.contains(&one.group);
            if !now {
                passed_over.insert(one.group.clone());
            }
            now
        });
        self.steps = rest;
        Some(Order::Steps(together.into()))
    }

    /// Steps of links or addresses, all of one kind, that need not wait for the end of a step of the
    /// routes of `busy` groups: of other groups, and not past an earlier step of their own group.
    pub(super) fn next_urgent(&mut self, busy: &BTreeSet<&str>) -> Vec<GroupStep> {
        self.sort();
        let mut passed_over: BTreeSet<String> =
            busy.iter().map(|group| (*group).to_owned()).collect();
        let mut kind = None;
        let steps = std::mem::take(&mut self.steps).into_iter();
        let (together, rest): (VecDeque<_>, VecDeque<_>) = steps.partition(|one| {
            let now = is_urgent(one.step)
                && kind.is_none_or(|kind| kind == one.step)
                && !passed_over.contains(&one.group);
            if now {
                kind = Some(one.step);
            } else {
                passed_over.insert(one.group.clone());
            }
            now
        });
        self.steps = rest;
        together.into()
    }

    fn has_urgent(&self, busy: &BTreeSet<&str>) -> bool {
        let mut passed_over = busy.clone();
        self.steps.iter().any(|one| {
            let now = is_urgent(one.step) && !passed_over.contains(&*one.group);
            passed_over.insert(&one.group);
            now
        })
    }

    /// Waits until there is such a step. May be given up half way.
    pub(super) async fn urgent(&mut self, busy: &BTreeSet<&str>) {
        loop {
            self.sort();
            if self.has_urgent(busy) {
                return;
            }
            if self.is_full() {
                return std::future::pending().await;
            }
            let request = self.inbox.recv().await;
            self.put(request);
        }
    }

    /// Whether there is an order.
    pub(super) fn is_waited_for(&mut self) -> bool {
        self.sort();
        self.is_ordered()
    }

    fn is_ordered(&self) -> bool {
        let steps = !self.steps.is_empty() || !self.overtaken.is_empty();
        self.ended || steps || self.configuration.is_some() || !self.admitted.is_empty()
    }

    /// Waits until there is an order. May be given up half way.
    pub(super) async fn ordered(&mut self) {
        loop {
            self.sort();
            if self.is_ordered() {
                return;
            }
            let request = self.inbox.recv().await;
            self.put(request);
        }
    }

    /// Waits until somebody asks or orders. May be given up half way.
    pub(super) async fn asked(&mut self) {
        self.sort();
        while !self.is_ordered() && !self.is_asked() {
            let request = self.inbox.recv().await;
            self.put(request);
        }
    }

    /// Whether somebody waits for the state of the network; forgets who no longer does.
    pub(super) fn is_asked(&mut self) -> bool {
        for askers in [&mut self.askers, &mut self.modest] {
            askers.retain(|asker| !asker.is_closed());
        }
        !self.askers.is_empty() || !self.modest.is_empty()
    }

    /// Those whom a dump that begins now answers.
    pub(super) fn take_askers(&mut self) -> Vec<Asker> {
        let mut askers = std::mem::take(&mut self.askers);
        askers.append(&mut self.modest);
        askers
    }

    /// Those whom what is known answers.
    pub(super) fn take_modest(&mut self) -> Vec<Asker> {
        std::mem::take(&mut self.modest)
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
        self.modest.clear();
        while let Ok(request) = self.inbox.try_recv() {
            if let NetworkRequest::Steps(steps) = request {
                self.steps.extend(steps);
            }
        }
        let overtaken = std::mem::take(&mut self.overtaken);
        overtaken.into_iter().chain(self.steps.drain(..).map(|step| step.id)).collect()
    }
}

/// Whether a step is of links or addresses, which are few, or of the packet filter.
fn is_urgent(step: Step) -> bool {
    matches!(
        step,
        Step::HoldForwarding
            | Step::PassForwarding
            | Step::LinksUp
            | Step::AddressesUp
            | Step::AddressesDown
            | Step::LinksDown
    )
}

fn wait_in(askers: &mut Vec<Asker>, asker: Asker) {
    if askers.len() >= ASKERS {
        askers.retain(|asker| !asker.is_closed());
    }
    if askers.len() < ASKERS {
        askers.push(asker);
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

    fn ask(sender: &mpsc::Sender<NetworkRequest>) -> oneshot::Receiver<Snapshot> {
        let (asker, answer) = oneshot::channel();
        sender.try_send(NetworkRequest::Look(asker)).unwrap();
        answer
    }

    fn group_step(id: u64, group: &str, step: Step) -> GroupStep {
        GroupStep { id: StepId(id), group: group.to_owned(), step }
    }

    fn step(id: u64) -> NetworkRequest {
        NetworkRequest::Steps(vec![group_step(id, "a", Step::AddressesUp)])
    }

    fn order(id: u64) -> Order {
        Order::Steps(vec![group_step(id, "a", Step::AddressesUp)])
    }

    /// The numbers of the steps of each order, in order.
    fn orders(requests: &mut Requests) -> Vec<Vec<u64>> {
        let mut all = Vec::new();
        while let Some(Order::Steps(steps)) = requests.next_order() {
            all.push(steps.iter().map(|step| step.id.0).collect());
        }
        all
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
        drop(sender);
        assert_eq!(requests.next_order(), Some(order(1)));
        assert_eq!(requests.next_order(), Some(Order::Stop));
    }

    #[test]
    fn steps_of_one_kind_are_one_order_whatever_stands_between_them() {
        let (sender, mut requests) = requests();
        let steps = vec![
            group_step(1, "a", Step::AddressesUp),
            group_step(2, "b", Step::RoutesUp),
            group_step(3, "c", Step::AddressesUp),
        ];
        sender.try_send(NetworkRequest::Steps(steps)).unwrap();
        let later = vec![group_step(4, "d", Step::AddressesUp)];
        sender.try_send(NetworkRequest::Steps(later)).unwrap();
        assert_eq!(orders(&mut requests), [vec![1, 3, 4], vec![2]]);
    }

    #[test]
    fn a_step_is_not_brought_forward_past_another_of_its_group() {
        let (sender, mut requests) = requests();
        let steps = vec![
            group_step(1, "a", Step::AddressesUp),
            group_step(2, "b", Step::AddressesDown),
            group_step(3, "b", Step::AddressesUp),
            group_step(4, "a", Step::RoutesUp),
            group_step(5, "a", Step::AddressesUp),
        ];
        sender.try_send(NetworkRequest::Steps(steps)).unwrap();
        assert_eq!(orders(&mut requests), [vec![1], vec![2], vec![3], vec![4], vec![5]]);
    }

    #[test]
    fn what_a_removal_of_addresses_overtakes_is_answered_and_not_carried_out() {
        let (sender, mut requests) = requests();
        let steps = vec![
            group_step(1, "a", Step::LinksUp),
            group_step(2, "b", Step::AddressesUp),
            group_step(3, "a", Step::AddressesUp),
        ];
        sender.try_send(NetworkRequest::Steps(steps)).unwrap();
        assert!(is_ready(requests.ordered()));
        let later = vec![
            group_step(4, "a", Step::RoutesUp),
            group_step(5, "a", Step::RoutesDown),
            group_step(6, "a", Step::AddressesDown),
            group_step(7, "a", Step::AddressesUp),
        ];
        sender.try_send(NetworkRequest::Steps(later)).unwrap();
        let overtaken = vec![StepId(1), StepId(3), StepId(4)];
        assert_eq!(requests.next_order(), Some(Order::Overtaken(overtaken)));
        assert_eq!(orders(&mut requests), [vec![2], vec![5], vec![6], vec![7]]);
        assert!(!requests.is_waited_for());
    }

    #[test]
    fn what_is_overtaken_during_a_step_of_routes_is_not_carried_out_beside_it() {
        let (sender, mut requests) = requests();
        let steps = vec![
            group_step(1, "a", Step::AddressesUp),
            group_step(2, "b", Step::AddressesUp),
            group_step(3, "a", Step::AddressesDown),
        ];
        sender.try_send(NetworkRequest::Steps(steps)).unwrap();
        let busy = BTreeSet::from(["c"]);
        let mut urgent =
            || -> Vec<u64> { requests.next_urgent(&busy).iter().map(|step| step.id.0).collect() };
        assert_eq!([urgent(), urgent(), urgent()], [vec![2], vec![3], vec![]]);
        assert!(requests.is_waited_for());
        assert_eq!(requests.next_order(), Some(Order::Overtaken(vec![StepId(1)])));
        assert_eq!(requests.next_order(), None);
    }

    #[test]
    fn addresses_of_other_groups_do_not_wait_for_a_groups_routes() {
        let (sender, mut requests) = requests();
        let steps = vec![
            group_step(1, "busy", Step::AddressesDown),
            group_step(2, "b", Step::RoutesUp),
            group_step(3, "b", Step::AddressesUp),
            group_step(4, "c", Step::LinksUp),
            group_step(5, "c", Step::AddressesUp),
            group_step(6, "d", Step::LinksUp),
        ];
        sender.try_send(NetworkRequest::Steps(steps)).unwrap();
        let busy = BTreeSet::from(["busy"]);
        assert!(is_ready(requests.urgent(&busy)));
        let mut urgent =
            || -> Vec<u64> { requests.next_urgent(&busy).iter().map(|step| step.id.0).collect() };
        assert_eq!([urgent(), urgent(), urgent()], [vec![4, 6], vec![5], vec![]]);
        assert!(requests.is_waited_for());
        assert!(!is_ready(requests.urgent(&busy)), "those that are left have to wait");
        assert_eq!(orders(&mut requests), [vec![1], vec![2], vec![3]]);
        assert!(!requests.is_waited_for() && !is_ready(requests.urgent(&busy)));
    }

    #[test]
    fn who_is_content_with_what_is_known_need_not_wait_for_a_dump() {
        let (sender, mut requests) = requests();
        let (asker, _answer) = oneshot::channel();
        sender.try_send(NetworkRequest::Status(asker)).unwrap();
        let _patient = ask(&sender);
        assert!(is_ready(requests.asked()));
        assert_eq!(requests.take_modest().len(), 1);
        assert_eq!(requests.take_askers().len(), 1);
        assert!(!requests.is_asked());
    }

    #[test]
    fn every_step_not_begun_is_returned_at_the_end() {
        let (sender, mut requests) = requests();
        sender.try_send(step(1)).unwrap();
        assert!(is_ready(requests.ordered()));
        let answer = ask(&sender);
        sender.try_send(step(2)).unwrap();
        let down = vec![group_step(3, "a", Step::AddressesDown)];
        requests.put(Some(NetworkRequest::Steps(down)));
        assert_eq!(requests.close(), [1, 3, 2].map(StepId));
        assert!(sender.try_send(step(4)).is_err(), "whoever comes later is told at once");
        assert!(answer.blocking_recv().is_err());
    }
}
