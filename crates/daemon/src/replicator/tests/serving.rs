//! More than one router that serves for a while, and more than one group of one router.

use lockstep_failover::{Outcome, Step};

use super::super::*;
use super::flows::{flow, make, table};
use super::router::{Router, config, pair};

/// Both have started and know each other; the first serves these flows.
fn serving(config: &Config, flows: u32) -> Option<(lockstep_lab::Lan, Router, Router)> {
    let (lan, [old, new]) = pair()?;
    let mut old = Router::start(old, config.clone());
    let new = Router::start(new, config.clone());
    assert_eq!(old.node.run(move || make((0..flows).map(flow))).unwrap(), 0);
    old.become_active();
    new.until("the flows have arrived", |status| {
        status.external == u64::from(flows) && status.in_sync
    });
    Some((lan, old, new))
}

#[test]
fn a_group_comes_and_another_goes_without_a_flow_removed_or_a_commit_cut_short() {
    let groups = vec!["gateway".to_owned(), "other".to_owned()];
    let config = Config { groups, purge_timeout: Duration::from_secs(1), ..config() };
    let Some((lan, old, mut new)) = serving(&config, 2_000) else { return };
    new.hold();
    new.ask_of("gateway", Step::CommitFlows);
    new.ask_of("other", Step::CommitFlows);
    new.release();
    let Outcome::Done(report) = new.answered() else { panic!("cut short") };
    assert!(report.contains("2000"), "{report}");
    assert_eq!(new.status().statistics["committed"], 2_000, "one commit for both");
    for group in ["gateway", "other"] {
        new.ask_of(group, Step::ReplicateActive);
        assert!(matches!(new.answered(), Outcome::Done(_)));
    }
    new.until("each has what the other one serves", |status| {
        status.external == 2_000 && status.internal == 2_000 && status.in_sync
    });
    new.ask_of("other", Step::ReplicateBackup);
    let Outcome::Done(said) = new.answered() else { panic!("failed") };
    assert_eq!(said, "flows are told on: this router serves gateway");
    assert_eq!(new.status().role, "active");
    old.until("both serve", |status| status.external == 2_000 && status.in_sync);
    // The last one goes, and with it what the other router serves.
    new.ask_of("gateway", Step::ReplicateBackup);
    assert!(matches!(new.answered(), Outcome::Done(_)));
    new.until("the purge", |status| {
        status.role == "backup" && status.statistics["purged"] == 2_000
    });
    assert_eq!(table(&new.node).len(), 0);
    assert_eq!(table(&old.node).len(), 2_000);
    drop(lan);
}
