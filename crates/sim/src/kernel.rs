//! A model of the kernel: the conntrack table and whether the virtual address is there.

use std::collections::BTreeMap;

use lockstep_ctnetlink::{Flow, L4, ProtocolState, Status, TcpState, Tuple};
use lockstep_replicator::{Action, Change, Commit, Planned, Retry};

/// What tells flows apart.
pub(crate) type Key = Tuple;

/// `errno` values the model answers with.
const ENOENT: i32 = 2;
const EEXIST: i32 = 17;

/// One router's kernel. It outlives the daemon, but not a power cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) flows: BTreeMap<Key, Flow>,
    pub(crate) address: bool,
}

/// A change to be told to whoever listens.
#[derive(Clone, Debug)]
pub(crate) struct KernelChange {
    pub(crate) change: Change,
    pub(crate) flow: Flow,
    pub(crate) own: bool,
}

impl Kernel {
    /// Does what a commit asks for one flow, with the refusals of a real kernel.
    pub(crate) fn carry_out(&mut self, commit: &mut Commit, planned: Planned) -> Vec<KernelChange> {
        let mut changes = Vec::new();
        let mut next = Some(planned);
        while let Some(planned) = next.take() {
            let key = planned.flow.orig;
            let refusal = match (planned.action, self.flows.contains_key(&key)) {
                (Action::Create, true) => Some((EEXIST, "file exists")),
                (Action::Create | Action::Replace, false) if self.reply_taken(&planned.flow) => {
                    Some((EEXIST, "file exists"))
                }
                (Action::Update | Action::Delete | Action::SetTimeout, false) => {
                    Some((ENOENT, "no such entry"))
                }
                (Action::Create | Action::Replace, _)
                | (Action::Update | Action::Delete | Action::SetTimeout, true) => None,
            };
            let Some((errno, reason)) = refusal else {
                let change = match planned.action {
                    Action::Create | Action::Replace => Change::New,
                    Action::Update | Action::SetTimeout => Change::Update,
                    Action::Delete => Change::Delete,
                };
                changes.push(KernelChange { change, flow: planned.flow.clone(), own: true });
                if change == Change::Delete {
                    self.flows.remove(&key);
                } else {
                    self.flows.insert(key, planned.flow.clone());
                }
                commit.done(&planned);
                continue;
            };
            next = match commit.refused(planned, errno, reason) {
                Retry::With(planned) => Some(planned),
                Retry::Look(planned) => {
                    let existing = self.flows.get(&planned.flow.orig).cloned();
                    commit.compare(planned, existing.as_ref())
                }
                Retry::GiveUp => None,
            };
        }
        changes
    }

    fn reply_taken(&self, flow: &Flow) -> bool {
        self.flows.values().any(|other| other.reply == flow.reply)
    }
}

/// An established TCP flow through source NAT; `number` makes it and its translation unique.
pub(crate) fn flow(number: u32, state: u8) -> Flow {
    let [a, b, c, d] = number.to_be_bytes();
    let client = [10, 1, c, d].into();
    let server = [198, 51, a, b].into();
    let port = 1024 + (number % 60_000) as u16;
    let (orig, reply) = (
        Tuple {
            source: client,
            destination: server,
            protocol: 6,
            l4: L4::Ports { source: port, destination: 443 },
        },
        Tuple {
            source: server,
            destination: [203, 0, 113, 1].into(),
            protocol: 6,
            l4: L4::Ports { source: 443, destination: port },
        },
    );
    let done = Status::SRC_NAT | Status::SRC_NAT_DONE | Status::DST_NAT_DONE;
    let seen = Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED;
    Flow {
        status: Status(done | seen),
        timeout_s: Some(600),
        protocol_state: ProtocolState::Tcp(TcpState { state, ..TcpState::default() }),
        ..Flow::new(orig, reply)
    }
}
