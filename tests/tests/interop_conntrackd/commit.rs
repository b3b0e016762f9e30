//! What the one tells is in the kernel of the other after a takeover, attribute by attribute.

use lockstep_ctnetlink::{Flow, ProtocolState};
use lockstep_tests::replicas::{Mode, Replicas, Serves, Setting, Transport};
use lockstep_tests::{tables, wait};

const COUNT: u32 = 200;
const SETTING: Setting = Setting { mode: Mode::Ftfw, transport: Transport::Udp, v6: true };

#[test]
fn what_conntrackd_told_is_in_our_kernel_as_it_was_in_theirs() {
    let replicas = Replicas::next_to_each_other(SETTING);
    let _conntrackd = replicas.start_conntrackd(false);
    let lockstep = replicas.start_lockstep(Serves::Theirs);
    tables::create(&replicas.theirs, flows());
    replicas.wait_until_we_have_theirs(&lockstep);

    let output = lockstep.command(&["replication", "commit"]);
    assert!(output.status.success(), "{output:?}");

    let theirs: Vec<Flow> = tables::read(&replicas.theirs).iter().map(tables::lasting).collect();
    let ours: Vec<Flow> = tables::read(&replicas.ours).iter().map(tables::lasting).collect();
    assert_eq!(theirs.len(), COUNT as usize);
    assert_eq!(ours.len(), theirs.len());
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(our, their);
    }
}

#[test]
fn what_we_told_is_in_their_kernel_as_far_as_conntrackd_commits_it() {
    let replicas = Replicas::next_to_each_other(SETTING);
    let conntrackd = replicas.start_conntrackd(false);
    let _lockstep = replicas.start_lockstep(Serves::Ours);
    tables::create(&replicas.ours, flows());
    replicas.wait_until_they_have_ours(&conntrackd, || {});

    conntrackd.command(&["-c"]);

    // Its commit spoils a tag of SCTP, although the wire has it whole.
    let committed = |flow: &Flow| {
        let mut flow = tables::lasting(flow);
        if let ProtocolState::Sctp { vtag_orig, .. } = &mut flow.protocol_state {
            *vtag_orig = 0;
        }
        flow
    };
    let ours: Vec<Flow> = tables::read(&replicas.ours).iter().map(committed).collect();
    wait::until("conntrackd has committed", || tables::read(&replicas.theirs).len() == ours.len());
    let theirs: Vec<Flow> = tables::read(&replicas.theirs).iter().map(committed).collect();
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(our, their);
    }
}

fn flows() -> impl Iterator<Item = Flow> + Send {
    (0..COUNT).map(|number| tables::rich_flow(1, number))
}
