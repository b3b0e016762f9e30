//! A backup that stands by in its kernel, in namespaces of the tests' own. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "shared with other tests, of which each uses a part")]
mod conntrack_support;
#[allow(dead_code, reason = "shared with other tests, of which each uses a part")]
mod peer;

use std::time::Duration;

use conntrack_support::*;
use lockstep_ctnetlink::{Family, Flow, HelperName, L4, ProtocolState, Status, TcpState};
use lockstep_kernel::conntrack::{Committer, EventSocket, Injector, TableSocket};
use lockstep_replicator::{Change, Config, KernelEvent, PARKED_S, Standby, is_parked};
use peer::Pair;

/// A pair of which the backup stands by in this kernel, and has been told `flows`.
struct Standing {
    pair: Pair,
    table: TableSocket,
    injector: Injector,
}

impl Standing {
    fn by(flows: &[Flow]) -> Self {
        let config = Config { standby: Standby::Kernel, ..peer::config(flows.len()) };
        let pair = Pair::told(flows, &config);
        let mut it = Self { pair, table: TableSocket::open().unwrap(), injector: Injector::new() };
        it.inject();
        it
    }

    fn inject(&mut self) {
        let now = self.pair.now;
        while self.injector.advance(&mut self.table, &mut self.pair.backup, now).unwrap() {}
    }

    fn tell(&mut self, change: Change, flow: &Flow) {
        self.pair.tell(change, flow);
        self.inject();
    }

    fn read(&mut self) {
        self.pair.backup.begin_dump();
        for flow in dump(&mut self.table, Family::Any) {
            self.pair.backup.dumped(&flow, self.pair.now);
        }
        assert!(self.pair.backup.end_dump(self.pair.now));
    }

    /// Returns how many flows the commit had to do with.
    fn take_over(&mut self) -> u64 {
        let mut commit = self.pair.backup.begin_commit();
        let mut committer = Committer::new();
        let (table, backup) = (&mut self.table, &self.pair.backup);
        while committer.advance(table, &mut commit, backup, self.pair.now).unwrap() {}
        assert_eq!(commit.report().refused(), 0, "{}", commit.report());
        self.pair.backup.end_commit(commit.report());
        self.pair.backup.activate(self.pair.now);
        commit.report().settled()
    }

    fn found(&mut self, flow: &Flow) -> Option<Flow> {
        self.table.get(&flow.key()).unwrap()
    }
}

fn is_still_parked(flow: &Flow) -> bool {
    flow.timeout_s.is_some_and(|left| left <= PARKED_S && left + 60 >= PARKED_S)
}

#[test]
fn every_kind_of_flow_is_parked_and_has_all_that_was_told() {
    in_namespace(|| {
        // What the wire carries: not everything that NAT does to ICMP is.
        let carried = |flow: &Flow| match (flow.orig.l4, flow.reply.l4) {
            (L4::Icmp { id, .. }, L4::Icmp { id: to, .. }) => id == to,
            _ => matches!(flow.orig.protocol, 6 | 17 | 132),
        };
        let told: Vec<Flow> = kinds().into_iter().filter(carried).collect();
        let mut standing = Standing::by(&told);
        let state = standing.pair.backup.injection();
        assert_eq!(state.refused, 0, "{}", state.report);
        assert_eq!(state.in_kernel, standing.pair.backup.external_len());
        assert_eq!(state.in_kernel, told.len());
        let external: Vec<Flow> = standing.pair.backup.external_flows().collect();
        for wanted in external {
            let found = standing.found(&wanted).unwrap();
            assert!(is_still_parked(&found), "{found:?}");
            assert_eq!((found.reply, found.mark), (wanted.reply, wanted.mark.or(found.mark)));
            if let ProtocolState::Sctp { .. } = wanted.protocol_state {
                assert_eq!(found.protocol_state, wanted.protocol_state);
            }
        }
    });
}

#[test]
fn changes_of_every_kind_reach_a_parked_flow() {
    in_namespace(|| {
        let mut flow = tcp(1, Nat::SourcePort);
        let mut standing = Standing::by(std::slice::from_ref(&flow));
        flow.mark = Some(9);
        flow.protocol_state = ProtocolState::Tcp(TcpState { state: 4, ..TcpState::default() });
        standing.tell(Change::Update, &flow);
        let found = standing.found(&flow).unwrap();
        assert_eq!(found.mark, Some(9));
        assert!(matches!(found.protocol_state, ProtocolState::Tcp(tcp) if tcp.state == 4));
        assert!(is_still_parked(&found));

        // The same tuple anew: less assured, and with another translation.
        let mut again = tcp(1, Nat::Source);
        again.status = Status(Status::CONFIRMED);
        again.protocol_state = ProtocolState::Tcp(TcpState { state: 1, ..TcpState::default() });
        standing.tell(Change::New, &again);
        let found = standing.found(&again).unwrap();
        assert_eq!(found.reply, again.reply);

        standing.tell(Change::Delete, &again);
        assert_eq!(dump(&mut standing.table, Family::Any), []);
        assert_eq!(standing.pair.backup.injection().report.refused(), 0);
    });
}

#[test]
fn a_related_flow_is_put_in_with_its_master_and_can_be_changed() {
    in_namespace(|| {
        let master = tcp(1, Nat::None);
        let mut related = tcp(2, Nat::None);
        related.master = Some(master.orig);
        related.status = Status(related.status.0 | Status::EXPECTED);
        let mut standing = Standing::by(std::slice::from_ref(&master));
        standing.tell(Change::New, &related);
        assert_eq!(standing.found(&related).unwrap().master, Some(master.orig));
        related.mark = Some(3);
        standing.tell(Change::Update, &related);
        assert_eq!(standing.found(&related).unwrap().mark, Some(3));
        // And one whose master is unknown here.
        let mut orphan = tcp(3, Nat::None);
        orphan.master = Some(tcp(99, Nat::None).orig);
        orphan.status = Status(orphan.status.0 | Status::EXPECTED);
        standing.tell(Change::New, &orphan);
        orphan.mark = Some(4);
        standing.tell(Change::Update, &orphan);
        assert_eq!(standing.found(&orphan).unwrap().mark, Some(4));
        let report = standing.pair.backup.injection().report;
        assert_eq!((report.without_master, report.refused()), (1, 0), "{report}");
    });
}

#[test]
fn a_takeover_of_many_flows_has_nothing_to_commit_and_then_gives_them_their_timeouts() {
    in_namespace(|| {
        let told: Vec<Flow> = (1..1_000).map(|port| tcp(port, Nat::SourcePort)).collect();
        let mut standing = Standing::by(&told);
        let known: Vec<Flow> = standing.pair.backup.external_flows().collect();
        assert_eq!(standing.take_over(), 0);
        assert!(dump(&mut standing.table, Family::Any).iter().all(is_still_parked));
        // A packet of one of them comes before its turn.
        let (served, idle) = (&known[7], &known[8]);
        let mut batch = lockstep_ctnetlink::Batch::new();
        assert!(batch.set_timeout(&served.key(), 432_000));
        standing.table.execute(&mut batch).unwrap();

        standing.read();
        standing.inject();

        let flows = dump(&mut standing.table, Family::Any);
        assert_eq!(flows.len(), told.len());
        assert!(flows.iter().all(|flow| !is_parked(flow.timeout_s.unwrap())));
        assert!(standing.found(served).unwrap().timeout_s.unwrap() > 431_000);
        let found = standing.found(idle).unwrap();
        assert_same(&Flow { timeout_s: idle.timeout_s, ..found }, idle);
    });
}

#[test]
fn what_others_delete_is_put_back_and_what_is_deleted_here_is_not() {
    in_namespace_async(async || {
        let mut events = EventSocket::open(1 << 20).unwrap();
        let mut standing = Standing::by(&[tcp(1, Nat::Source), tcp(2, Nat::Source)]);
        standing.tell(Change::Delete, &tcp(2, Nat::Source));
        run("conntrack", "-D -p tcp");
        let own = standing.table.port_id();
        // Two are made and one is deleted here, and one is deleted by others.
        for (what, flow, port) in hear(&mut events, 4).await {
            let change = if what == "new" { Change::New } else { Change::Delete };
            let event = KernelEvent { change, flow: &flow, own: port == own };
            standing.pair.backup.handle_kernel_event(event, standing.pair.now);
        }
        assert_eq!(dump(&mut standing.table, Family::Any), []);
        standing.inject();
        let flows = dump(&mut standing.table, Family::Any);
        assert_eq!(flows.len(), 1);
        assert_eq!(flows[0].orig, tcp(1, Nat::Source).orig);
        assert_eq!(standing.pair.backup.internal_len(), 0);
    });
}

#[test]
fn a_passive_copy_that_is_about_to_run_out_is_parked_again() {
    in_namespace(|| {
        let flow = udp(1, Nat::Source);
        let mut standing = Standing::by(std::slice::from_ref(&flow));
        let mut batch = lockstep_ctnetlink::Batch::new();
        assert!(batch.set_timeout(&flow.key(), 500));
        standing.table.execute(&mut batch).unwrap();
        for _ in 0..2 {
            standing.pair.now += Duration::from_hours(4);
            standing.inject();
        }
        assert!(is_still_parked(&standing.found(&flow).unwrap()));
    });
}

#[test]
fn a_clash_of_translations_is_reported_with_both_flows_and_the_other_one_lives() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let told = tcp(1, Nat::Source);
        let mut other = tcp(2, Nat::Source);
        other.reply = told.reply;
        assert_eq!(create(&mut table, std::slice::from_ref(&other)), []);

        let mut standing = Standing::by(std::slice::from_ref(&told));

        let state = standing.pair.backup.injection();
        assert_eq!((state.refused, state.in_kernel), (1, 0));
        let report = state.report.to_string();
        assert!(report.contains("EEXIST") && report.contains("the kernel has"), "{report}");
        assert_eq!(standing.found(&told), None);
        assert_eq!(standing.found(&other).unwrap().reply, other.reply);
    });
}

#[test]
fn a_flow_with_a_helper_this_kernel_does_not_have_stands_by_without_it() {
    in_namespace(|| {
        let mut told = tcp(1, Nat::None);
        told.helper = HelperName::new(b"nohelper");
        let mut standing = Standing::by(std::slice::from_ref(&told));
        assert_eq!(standing.found(&told).unwrap().helper, None);
        assert_eq!(standing.pair.backup.injection().report.without_helper, 1);
    });
}
