//! A pair with authentication headers is replaced while it works, one router after the other.

use super::*;
use lockstep_tests::setting::{Authentication, PASSWORD};

#[test]
fn a_pair_with_headers_is_replaced_the_backup_first() {
    replace("a_pair_with_headers_is_replaced_the_backup_first", |segment, setting, new| {
        segment.stop(1);
        segment.install(1, new);
        segment.start_backup(1, setting);
        segment.stop(0);
        segment.wait_for_only_master(1);
        segment.install(0, new);
        segment.start_backup(0, setting);
        "ab"
    });
}

#[test]
fn a_pair_with_headers_is_replaced_the_master_first() {
    replace("a_pair_with_headers_is_replaced_the_master_first", |segment, setting, new| {
        segment.stop(0);
        segment.wait_for_only_master(1);
        segment.install(0, new);
        segment.start_backup(0, setting);
        segment.stop(1);
        segment.wait_for_only_master(0);
        segment.install(1, new);
        segment.start_backup(1, setting);
        "aba"
    });
}

/// Two of the first program become two of the second, as many clouds set them up: equal priorities, and nobody preempts.
/// Beside that, keepalived is replaced by itself, and Lockstep by keepalived.
#[track_caller]
fn replace(scenario: &str, work: impl Fn(&mut Segment, &Setting, Program) -> &'static str + Sync) {
    let authentication = Authentication::Header(PASSWORD);
    let setting = Setting { authentication, preempt: false, ..Setting::version_2() };
    compare::compare(scenario, &["KK", "KL", "LK"], DIFFERENCES, |programs| {
        let &[old, new] = programs else { unreachable!("mixes of two") };
        let mut seen = Observation::default();
        let mut segment = Segment::new(&[old, old]);
        segment.start_master(0, &setting);
        segment.start_backup(1, &setting);

        let masters = work(&mut segment, &setting, new);

        segment.wait_for_masters(masters);
        numbers_only_grow(&segment);
        seen.note("story", segment.story());
        seen.note("holders", segment.holders());
        seen
    });
}
