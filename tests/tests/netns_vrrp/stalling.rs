//! Late is not dead: a process that was not scheduled listens before it speaks.

use super::*;

#[test]
fn a_stalled_master_finds_its_successor_and_gives_way() {
    each([Program::Keepalived, Program::Lockstep], |other| {
        let mut segment = Segment::new(&[Program::Lockstep, other]);
        let setting = Setting { preempt: false, ..Setting::version_3() };
        segment.start_master(OURS, &setting.priority(150));
        segment.start_backup(OTHER, &setting);

        segment.router(OURS).stall();
        segment.wait_for_master(OTHER);
        wait_for_advertisements(&segment, OTHER, 8);
        segment.router(OURS).wake();

        segment.wait_for(OURS, Role::Backup);
        wait::until("it gives the address up", || segment.has_none(OURS));
        wait_for_advertisements(&segment, OTHER, 4);
        segment.wait_for_masters("ab");
        assert!(segment.has_all(OTHER));
        let router = ours(&mut segment).virtual_router("gateway");
        assert_eq!(number(&router["statistics"]["overslept"]), 1, "{router:#}");
    });
}

#[test]
fn a_stalled_master_that_was_not_replaced_goes_on() {
    let mut segment = alone();
    segment.start_master(OURS, &Setting::version_3());
    let before = since_1970();
    segment.router(OURS).stall();
    wait::until("more than three intervals pass", || {
        since_1970() > before + Setting::version_3().interval * 8
    });
    segment.router(OURS).wake();
    wait_for_advertisements(&segment, OURS, 4);
    assert_eq!(segment.role(OURS), Role::Master);
    assert!(segment.has_all(OURS));
    let router = ours(&mut segment).virtual_router("gateway");
    assert_eq!(number(&router["statistics"]["overslept"]), 1, "{router:#}");
}

#[test]
fn a_stalled_backup_takes_nothing_over_from_a_master_that_lives() {
    each([Program::Keepalived, Program::Lockstep], |other| {
        let mut segment = Segment::new(&[Program::Lockstep, other]);
        let setting = Setting::version_3();
        segment.start_master(OTHER, &setting.priority(150));
        segment.start_backup(OURS, &setting);
        wait_for_advertisements(&segment, OTHER, 2);

        segment.router(OURS).stall();
        wait_for_advertisements(&segment, OTHER, 10);
        segment.router(OURS).wake();
        wait_for_advertisements(&segment, OTHER, 6);

        assert_eq!(segment.role(OURS), Role::Backup);
        segment.wait_for_masters("b");
        assert!(segment.has_none(OURS));
        assert_eq!(ours(&mut segment).journal("gateway").len(), 1, "it has only become backup");
    });
}
