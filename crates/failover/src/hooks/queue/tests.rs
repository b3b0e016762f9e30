//! One at a time, newest state last, nothing twice.

use super::*;

fn queue() -> HookQueue {
    let mut queue = HookQueue::new();
    for name in ["a", "b", "c"] {
        queue.declare_group(name, Form::OfState);
    }
    queue
}

fn to(group: &str, to: State) -> Hook {
    let notice = Notice {
        group: group.to_owned(),
        virtual_router: None,
        from: State::Init,
        to,
        reason: "a test".to_owned(),
        priority: 100,
    };
    Hook { notice, form: Form::OfState }
}

#[test]
fn a_hook_starts_at_once_when_none_runs() {
    let mut queue = queue();
    assert_eq!(queue.push(to("a", State::Backup)), Ok(Some(to("a", State::Backup))));
    assert_eq!(queue.running(), Some(&to("a", State::Backup)));
}

#[test]
fn hooks_of_all_groups_run_one_at_a_time_in_the_order_of_the_transitions() {
    let mut queue = queue();
    queue.push(to("b", State::Master)).unwrap();
    assert_eq!(queue.push(to("c", State::Master)), Ok(None));
    assert_eq!(queue.push(to("a", State::Master)), Ok(None));
    assert_eq!(queue.ended(true), Some(to("c", State::Master)));
    assert_eq!(queue.ended(true), Some(to("a", State::Master)));
    assert_eq!(queue.ended(true), None);
    assert!(queue.is_idle());
}

#[test]
fn only_the_newest_waiting_state_of_a_group_runs() {
    let mut queue = queue();
    queue.push(to("a", State::Backup)).unwrap();
    queue.push(to("a", State::Master)).unwrap();
    queue.push(to("a", State::Fault)).unwrap();
    assert_eq!(queue.ended(true), Some(to("a", State::Fault)));
    assert_eq!(queue.ended(true), None);
}

#[test]
fn a_state_that_the_last_run_established_is_not_run_again() {
    let mut queue = queue();
    queue.push(to("a", State::Master)).unwrap();
    queue.push(to("a", State::Fault)).unwrap();
    queue.push(to("a", State::Master)).unwrap();
    assert_eq!(queue.ended(true), None);
    assert!(queue.is_idle());
}

#[test]
fn a_failed_run_establishes_nothing_so_its_state_runs_again_when_it_waits() {
    let mut queue = queue();
    queue.push(to("a", State::Master)).unwrap();
    queue.push(to("a", State::Fault)).unwrap();
    queue.push(to("a", State::Master)).unwrap();
    assert!(queue.is_outdated());
    assert_eq!(queue.ended(false), Some(to("a", State::Master)));
    assert!(!queue.is_outdated());
}

#[test]
fn a_failed_run_alone_is_not_repeated() {
    let mut queue = queue();
    queue.push(to("a", State::Master)).unwrap();
    assert_eq!(queue.ended(false), None);
    assert!(queue.is_idle());
}

#[test]
fn a_transition_without_a_command_counts_as_run() {
    let mut queue = queue();
    queue.push(to("a", State::Backup)).unwrap();
    queue.ended(true);
    queue.push(to("a", State::Fault)).unwrap();
    queue.ended(true);
    assert_eq!(queue.push(to("a", State::Backup)), Ok(Some(to("a", State::Backup))));
}

#[test]
fn a_virtual_router_and_a_group_of_the_same_name_and_both_forms_are_told_apart() {
    let mut queue = queue();
    queue.declare_virtual_router("a", Form::OfState);
    queue.declare_group("a", Form::General);
    let group = to("a", State::Master);
    let mut virtual_router = group.clone();
    virtual_router.notice.virtual_router = Some("a".to_owned());
    let general = Hook { form: Form::General, ..group.clone() };
    queue.push(virtual_router.clone()).unwrap();
    queue.push(group.clone()).unwrap();
    queue.push(general.clone()).unwrap();
    assert_eq!(queue.running(), Some(&virtual_router));
    assert_eq!(queue.ended(true), Some(group));
    assert_eq!(queue.ended(true), Some(general));
    assert_eq!(queue.ended(true), None);
}

#[test]
fn while_it_is_held_nothing_starts_and_only_the_newest_is_kept() {
    let mut queue = queue();
    queue.hold();
    assert_eq!(queue.push(to("a", State::Backup)), Ok(None));
    assert_eq!(queue.push(to("b", State::Backup)), Ok(None));
    assert_eq!(queue.push(to("a", State::Master)), Ok(None));
    assert_eq!(queue.release(), Some(to("b", State::Backup)));
    assert_eq!(queue.ended(true), Some(to("a", State::Master)));
}

#[test]
fn a_hook_that_was_not_declared_is_refused() {
    let mut queue = queue();
    assert_eq!(queue.push(to("x", State::Master)), Err(Undeclared("x".to_owned())));
    let general = Hook { form: Form::General, ..to("a", State::Master) };
    assert_eq!(queue.push(general), Err(Undeclared("a".to_owned())));
    assert!(queue.is_idle());
}

#[test]
fn an_end_without_a_running_hook_does_nothing() {
    assert_eq!(queue().ended(true), None);
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Event {
        Push(&'static str, State),
        Ended(bool),
        Hold,
        Release,
    }

    fn event() -> impl Strategy<Value = Event> {
        let states = prop::sample::select(vec![State::Backup, State::Master, State::Fault]);
        let groups = prop::sample::select(vec!["a", "b", "c"]);
        prop_oneof![
            4 => (groups, states).prop_map(|(group, state)| Event::Push(group, state)),
            4 => any::<bool>().prop_map(Event::Ended),
            1 => Just(Event::Hold),
            1 => Just(Event::Release),
        ]
    }

    proptest! {
        #[test]
        fn hooks_never_overlap_and_the_last_one_is_for_the_real_state(
            events in prop::collection::vec(event(), 0..80)
        ) {
            let mut queue = queue();
            let (mut running, mut held) = (None::<Hook>, false);
            // Per group: the newest state, and what the last hook was run for with its success.
            let mut newest = BTreeMap::new();
            let mut last_run = BTreeMap::new();
            let mut step = |queue: &mut HookQueue, event: Event| -> Result<bool, TestCaseError> {
                let started = match event {
                    Event::Push(group, state) => {
                        newest.insert(group.to_owned(), state);
                        queue.push(to(group, state)).unwrap()
                    }
                    Event::Ended(success) => {
                        if let Some(ended) = running.take() {
                            last_run.insert(ended.notice.group, (ended.notice.to, success));
                        }
                        queue.ended(success)
                    }
                    Event::Hold => { held = true; queue.hold(); None }
                    Event::Release => { held = false; queue.release() }
                };
                if let Some(started) = started {
                    prop_assert!(running.is_none(), "a hook started beside another");
                    prop_assert!(!held, "a hook started while all are held back");
                    let state = started.notice.to;
                    prop_assert_ne!(last_run.get(&started.notice.group), Some(&(state, true)));
                    running = Some(started);
                }
                prop_assert_eq!(queue.running(), running.as_ref());
                prop_assert!(queue.waiting().count() <= 3, "more waiting than groups");
                if running.is_none() && !held {
                    prop_assert!(queue.is_idle());
                    for (group, state) in &newest {
                        prop_assert_eq!(last_run.get(group).map(|run| run.0), Some(*state));
                    }
                }
                Ok(running.is_some())
            };
            for event in events {
                step(&mut queue, event)?;
            }
            step(&mut queue, Event::Release)?;
            for _ in 0..=3 {
                step(&mut queue, Event::Ended(true))?;
            }
            prop_assert!(queue.is_idle(), "ending every hook empties the queue");
        }
    }
}

/// Another configuration, with places for these groups; `same` are those with the same commands.
fn follow(queue: &mut HookQueue, groups: &[&str], same: &[&str]) {
    let mut declared = HookQueue::new();
    for name in groups {
        declared.declare_group(name, Form::OfState);
    }
    queue.follow(&declared, |of_router, name, _| !of_router && same.contains(&name));
}

#[test]
fn what_waits_keeps_its_turn_in_another_configuration_unless_its_place_is_gone() {
    let mut queue = queue();
    queue.push(to("a", State::Master)).unwrap();
    queue.push(to("b", State::Master)).unwrap();
    queue.push(to("c", State::Master)).unwrap();
    follow(&mut queue, &["a", "c", "d"], &["a"]);
    assert_eq!(queue.running(), Some(&to("a", State::Master)));
    assert_eq!(queue.push(to("b", State::Fault)), Err(Undeclared("b".to_owned())));
    assert_eq!(queue.push(to("d", State::Master)), Ok(None));
    assert_eq!(queue.ended(true), Some(to("c", State::Master)));
    assert_eq!(queue.ended(true), Some(to("d", State::Master)));
    assert_eq!(queue.ended(true), None);
}

#[test]
fn a_new_command_is_run_for_a_state_that_the_one_before_has_established() {
    let mut queue = queue();
    queue.push(to("a", State::Master)).unwrap();
    queue.push(to("b", State::Master)).unwrap();
    queue.ended(true);
    queue.ended(true);
    follow(&mut queue, &["a", "b"], &["b"]);
    assert_eq!(queue.push(to("b", State::Master)), Ok(None), "established by the same");
    assert_eq!(queue.push(to("a", State::Master)), Ok(Some(to("a", State::Master))));
}

#[test]
fn a_command_that_is_replaced_while_it_runs_establishes_nothing_for_the_new_one() {
    let mut queue = queue();
    queue.push(to("a", State::Master)).unwrap();
    follow(&mut queue, &["a", "b"], &["b"]);
    assert_eq!(queue.push(to("a", State::Master)), Ok(None));
    assert_eq!(queue.ended(true), Some(to("a", State::Master)), "by the new command");
    assert_eq!(queue.push(to("a", State::Master)), Ok(None));
    assert_eq!(queue.ended(true), None, "which has established it");
}

#[test]
fn one_that_runs_for_a_place_that_goes_ends_without_a_trace() {
    let mut queue = queue();
    queue.push(to("a", State::Master)).unwrap();
    follow(&mut queue, &["b"], &["b"]);
    assert_eq!(queue.ended(true), None);
    assert!(queue.is_idle());
    assert_eq!(queue.push(to("a", State::Fault)), Err(Undeclared("a".to_owned())));
}
