//! What a person is told of a file with mistakes: each text beside this file, and all that is said
//! of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lockstep_config::{
    Doubt, Program, Secret, Severity, Surroundings, parse, referenced_files, referenced_programs,
    render, render_all,
};
use lockstep_routes::TableId;
use snapbox::data::DataFormat;
use snapbox::{Data, assert_data_eq};

fn surroundings() -> Surroundings {
    let secret = |text: &str| Ok(Secret::new(text.to_owned()));
    let files = [
        ("/etc/lockstep/secret", secret("hunter2!\n")),
        ("/etc/lockstep/lines", secret("hunter2!\nhunter2!\n")),
        ("/etc/lockstep/short", secret("hunter2!hunter2!hunter2!hunter2\n")),
        ("/etc/lockstep/open", Err("can be read by others (mode 0644)".to_owned())),
    ];
    Surroundings {
        hostname: "r1".to_owned(),
        state_directory: None,
        table_names: vec![("mgmt".to_owned(), TableId(7))],
        programs: programs(),
        files: files.into_iter().map(|(path, contents)| (PathBuf::from(path), contents)).collect(),
    }
}

fn programs() -> BTreeMap<Program, Doubt> {
    let program = |program: &str, user: Option<&str>| Program {
        program: program.to_owned(),
        user: user.map(str::to_owned),
    };
    let writable = "/srv/hook can be replaced: /srv is writable by others".to_owned();
    BTreeMap::from([
        (
            program("/srv/hook", Some("nobody")),
            Doubt { severity: Severity::Error, why: writable, insecure: true },
        ),
        (
            program("missing", None),
            Doubt {
                severity: Severity::Warning,
                why: "there is no missing in PATH".to_owned(),
                insecure: false,
            },
        ),
    ])
}

/// Everything that is said of `text`, as `lockstep check` says it.
fn said(text: &str) -> String {
    let problems = match parse("lockstep.toml", text, &surroundings()) {
        Ok(checked) => checked.warnings,
        Err(problems) => problems,
    };
    let one_by_one: Vec<String> =
        problems.iter().map(|problem| render(problem, text, false)).collect();
    for problem in &problems {
        let shown = format!("{problem:?} {problem}");
        assert!(!shown.contains("hunter2"), "a secret is shown: {shown}");
    }
    let said = render_all(&problems, text, false);
    assert_eq!(said, one_by_one.join("\n\n"));
    assert!(!said.contains("hunter2"), "a secret is shown: {said}");
    said
}

/// Compares what is said of `NAME.toml` with `NAME.txt`; `SNAPSHOTS=overwrite` writes it anew.
fn check(name: &str, text: &str) {
    let expected =
        snapbox::utils::current_dir!().join("diagnostics").join(name).with_extension("txt");
    assert_data_eq!(said(text), Data::read_from(&expected, Some(DataFormat::Text)).raw());
}

macro_rules! said_of {
    ($($file:literal: $test:ident;)*) => {
        $(
            #[test]
            fn $test() {
                check($file, include_str!(concat!("diagnostics/", $file, ".toml")));
            }
        )*
    };
}

said_of! {
    "syntax": every_syntax_error_is_told_and_what_may_follow_from_it_is_not;
    "nothing": a_file_that_does_nothing_is_warned_about;
    "unknown_keys": an_unknown_key_is_told_with_its_neighbour_or_the_word_used_here;
    "wrong_types": a_value_of_the_wrong_type_is_told_with_the_right_one;
    "virtual_router": every_setting_of_a_virtual_router_is_checked;
    "versions": what_a_protocol_version_cannot_do_is_told;
    "engine": timers_and_behaviours_of_a_virtual_router_are_checked_against_each_other;
    "unicast": peers_and_the_source_must_be_other_routers_and_this_one;
    "virtual_mac": interfaces_of_our_own_need_names_of_their_own;
    "signatures": keys_are_checked_and_never_shown;
    "tracking": what_is_tracked_must_exist_once_and_weigh_something;
    "keepalived_words": keepalived_s_words_are_told_in_ours;
    "authentication": passwords_are_checked_and_never_shown;
    "addresses": addresses_are_checked_by_themselves_and_against_each_other;
    "groups": names_of_routers_checks_and_groups_must_exist_and_be_clear;
    "unlike_members": members_of_a_group_that_are_not_as_the_others_are_told;
    "hooks": hooks_and_what_is_known_of_their_programs_are_checked;
    "no_group": following_a_group_needs_one;
    "replication": every_setting_of_replication_is_checked;
    "replication_groups": groups_that_share_a_replication_must_exist_once_each;
    "replication_groups_in_kernel": several_groups_cannot_stand_by_in_the_kernel;
    "replication_group_and_groups": one_group_and_several_are_not_both_named;
    "replication_no_groups": replication_of_no_group_is_refused;
    "replication_without_links": replication_needs_a_link;
    "replication_links": links_have_one_transport_and_each_its_place;
    "replication_peers": peers_are_other_routers_of_the_same_family_each_once;
    "replication_peer_counts": settings_of_replication_that_do_not_go_together_are_told;
    "conntrackd_words": conntrackd_s_words_are_told_in_ours;
    "tables": names_of_tables_must_exist_and_agree_with_the_host;
    "routes": a_route_that_the_kernel_would_refuse_is_told;
    "next_hops": several_next_hops_are_checked_by_themselves_and_against_each_other;
    "iproute2_words": iproute2_s_words_are_told_in_ours;
    "loose_ends": routes_and_rules_that_lead_to_nothing_declared_are_warned_about;
    "rules": a_rule_that_the_kernel_would_refuse_is_told;
}

#[test]
fn only_files_that_are_needed_are_asked_for() {
    let files = referenced_files(include_str!("diagnostics/authentication.toml"));
    let expected =
        ["absent", "secret", "lines", "open"].map(|name| PathBuf::from("/etc/lockstep").join(name));
    assert_eq!(files, expected);
    let files = referenced_files(include_str!("diagnostics/signatures.toml"));
    assert_eq!(files, ["/etc/lockstep/next", "/etc/lockstep/short"].map(PathBuf::from));
    assert_eq!(referenced_files("vrrp = 3"), Vec::<PathBuf>::new());
}

#[test]
fn every_program_that_would_be_run_is_asked_for_with_its_user() {
    let programs = referenced_programs(
        r#"
        router.notify-fifo-command = ["reader", "-v"]
        router.notify-fifo-user = "vyos"
        check.heartbeat.command = ["/ramdisk/rrouter/heartbeat.sh"]
        vrrp.inside.notify = { notify = ["/opt/hook"], user = "nobody" }
        group.gateway.notify = { master = ["/opt/hook", "--master"], backup = "odd", timeout = "1s" }
        group.odd = 3
        "#,
    );
    let program = |program: &str, user: Option<&str>| Program {
        program: program.to_owned(),
        user: user.map(str::to_owned),
    };
    let expected = [
        program("/opt/hook", None),
        program("/opt/hook", Some("nobody")),
        program("/ramdisk/rrouter/heartbeat.sh", None),
        program("reader", Some("vyos")),
    ];
    assert_eq!(programs, BTreeSet::from(expected));
}

#[test]
fn what_others_could_replace_is_no_problem_where_that_is_allowed() {
    let text = include_str!("diagnostics/hooks.toml");
    assert!(said(text).contains("/srv is writable by others"));
    let allowed = text.replace("[router]", "[router]\nallow-insecure-scripts = true");
    let said = said(&allowed);
    assert!(!said.contains("/srv is writable by others") && said.contains("no missing in PATH"));
}
