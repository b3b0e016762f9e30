//! A kernel that does what a node plans: commits, and what goes in beside them.

use std::collections::BTreeMap;

use lockstep_ctnetlink::{Flow, Key};
use lockstep_replicator::{Action, Planned, Retry};

use super::Site;
use crate::common::flow;

const EEXIST: i32 = 17;

/// What the kernel of a node has, in more detail than its set of numbers.
pub type Kernel = BTreeMap<Key, Flow>;

pub fn kernel_of(site: &Site, node: usize) -> Kernel {
    site.kernels[node].iter().map(|number| (flow(*number).key(), flow(*number))).collect()
}

/// Does in the kernel what was planned: the error, if it refuses.
pub fn execute(kernel: &mut Kernel, planned: &Planned) -> Result<(), i32> {
    let key = planned.flow.key();
    match planned.action {
        Action::Create if kernel.contains_key(&key) => return Err(EEXIST),
        Action::Create | Action::Update | Action::Replace => {
            kernel.insert(key, planned.flow.clone());
        }
        // No packet here has windows.
        Action::BeLiberal => assert!(kernel.contains_key(&key)),
        Action::SetTimeout => kernel.get_mut(&key).unwrap().timeout_s = planned.flow.timeout_s,
        Action::Delete => drop(kernel.remove(&key)),
    }
    Ok(())
}

/// Commits what the peers have told into the kernel.
pub fn commit(site: &mut Site, node: usize, kernel: &mut Kernel) {
    let now = site.now;
    let mut commit = site.nodes[node].begin_commit();
    while let Some(mut planned) = commit.next(&site.nodes[node], now) {
        loop {
            let Err(errno) = execute(kernel, &planned) else {
                commit.done(&planned);
                break;
            };
            let next = match commit.refused(planned, errno, "refused") {
                Retry::With(next) => Some(next),
                Retry::Look(look) => {
                    let existing = kernel.get(&look.flow.key()).cloned();
                    commit.compare(look, existing.as_ref())
                }
                Retry::GiveUp => None,
            };
            let Some(next) = next else { break };
            planned = next;
        }
    }
    site.nodes[node].end_commit(commit.report());
    let known = |number: &u32| kernel.contains_key(&flow(*number).key());
    site.kernels[node] = (0..3000).filter(known).collect();
}

/// Puts into the kernel what the node hands out beside any commit.
pub fn take_up(site: &mut Site, node: usize, kernel: &mut Kernel) {
    let now = site.now;
    while site.nodes[node].next_injection(now).is_some_and(|at| at <= now) {
        let Some(mut planned) = site.nodes[node].poll_injection(now) else { continue };
        loop {
            let Err(errno) = execute(kernel, &planned) else {
                site.nodes[node].injected(&planned);
                break;
            };
            let next = match site.nodes[node].injection_refused(planned, errno, "refused", now) {
                Retry::With(next) => Some(next),
                Retry::Look(look) => {
                    let existing = kernel.get(&look.flow.key()).cloned();
                    site.nodes[node].compare_injection(look, existing.as_ref())
                }
                Retry::GiveUp => None,
            };
            let Some(next) = next else { break };
            planned = next;
        }
    }
    let known = |number: &u32| kernel.contains_key(&flow(*number).key());
    site.kernels[node] = (0..3000).filter(known).collect();
    site.drain(node);
}

/// What the node does as the other one's group comes to it.
pub fn take_over(site: &mut Site, node: usize) {
    let mut kernel = kernel_of(site, node);
    commit(site, node, &mut kernel);
    site.activate(node);
}
