//! What is ours after a kill and a new start, and what never is.

use super::*;

const STATIC: u8 = 4;

/// Routes and rules that are wanted in every state, with a protocol number that others use too.
fn always() -> Declared {
    let throw =
        |to: &str, protocol| Arc::new(Route { kind: RouteKind::Throw, protocol, ..route(to) });
    Declared {
        routes: vec![
            throw("10.147.46.0/24", STATIC),
            throw("10.147.47.0/24", PROTOCOL_LOCKSTEP),
            Arc::new(Route {
                next_hops: by("10.147.52.1", None),
                protocol: STATIC,
                ..route("10.147.70.0/24")
            }),
        ],
        rules: vec![Rule { protocol: STATIC, ..rule(32_000) }, rule(32_001)],
        ..Declared::default()
    }
}

/// Lets `test` have an actor in the host, and then leaves it as a kill does.
fn live_and_die(
    node: &Node,
    declared: Declared,
    state_directory: &TempDir,
    test: impl AsyncFnOnce(&mut Actor) + Send,
) {
    let settings =
        Settings { state_directory: state_directory.path().to_owned(), ..settings(declared) };
    node.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (core, _events) = mpsc::channel(QUEUE);
            let mut actor = Actor::start(settings, core).await.unwrap();
            test(&mut actor).await;
        });
    })
    .unwrap();
}

fn ip(node: &Node, arguments: &[&str]) -> String {
    let mut command = Command::new("ip");
    command.args(arguments);
    let output = node.output(command).unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Table 100 and the rules that lead to it, but for what nobody has made.
fn picture(node: &Node) -> Vec<String> {
    let rules = ip(node, &["rule"]);
    let routes = ip(node, &["route", "show", "table", "100"]);
    let lines = routes.lines().chain(rules.lines().filter(|line| line.contains("lookup 100")));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn what_a_killed_run_has_made_is_taken_over_without_a_touch() {
    let Some((node, _lan)) = node() else { return };
    let state = TempDir::new().unwrap();
    live_and_die(&node, always(), &state, async |actor| actor.settle(None).await);
    let before = picture(&node);
    assert_eq!(before.len(), 5, "{before:#?}");
    live_and_die(&node, always(), &state, async |actor| {
        assert_eq!(lockstep_routes::plan(actor.desired(), &actor.actual), []);
        actor.settle(None).await;
    });
    assert_eq!(picture(&node), before);
}

#[test]
fn what_a_killed_run_has_made_and_nobody_wants_any_more_goes_after_the_rest_has_come() {
    let Some((node, _lan)) = node() else { return };
    let state = TempDir::new().unwrap();
    live_and_die(&node, always(), &state, async |actor| actor.settle(None).await);
    let other = Declared {
        routes: vec![Arc::new(Route {
            kind: RouteKind::Throw,
            table: TableId(200),
            ..route("10.9.0.0/16")
        })],
        ..Declared::default()
    };
    live_and_die(&node, other, &state, async |actor| {
        let changes = lockstep_routes::plan(actor.desired(), &actor.actual);
        let routes: Vec<bool> = changes
            .iter()
            .filter_map(|change| match change {
                Change::AddRoute { .. } => Some(true),
                Change::RemoveRoute { .. } => Some(false),
                _ => None,
            })
            .collect();
        assert_eq!(routes, [true, false, false, false], "{changes:#?}");
        actor.settle(None).await;
    });
    assert_eq!(picture(&node), Vec::<String>::new());
    assert_eq!(ip(&node, &["route", "show", "table", "200"]).lines().count(), 1);
    live_and_die(&node, Declared::default(), &state, async |actor| {
        assert!(actor.ownership.owned().routes.is_empty(), "what is gone is forgotten");
        assert!(actor.ownership.owned().rules.is_empty());
        actor.settle(None).await;
    });
    assert_eq!(ip(&node, &["route", "show", "table", "all"]).matches("proto 112").count(), 0);
}

#[test]
fn an_equal_static_route_or_rule_of_somebody_elses_is_used_and_never_removed() {
    let Some((node, _lan)) = node() else { return };
    let state = TempDir::new().unwrap();
    for theirs in [
        &["route", "add", "throw", "10.147.46.0/24", "table", "100", "proto", "static"][..],
        &[
            "route",
            "add",
            "10.147.70.0/24",
            "via",
            "10.147.52.1",
            "table",
            "100",
            "proto",
            "static",
        ],
        &["rule", "add", "priority", "32000", "fwmark", "2", "lookup", "100", "protocol", "static"],
    ] {
        ip(&node, theirs);
    }
    let theirs = picture(&node);
    live_and_die(&node, always(), &state, async |actor| {
        actor.settle(None).await;
        let status = shown(&actor.snapshot());
        assert!(all_installed(&status), "{status:#?}");
    });
    assert_eq!(state.path().read_dir().unwrap().count(), 0, "nothing is to be remembered");
    live_and_die(&node, Declared::default(), &state, async |actor| actor.settle(None).await);
    assert_eq!(picture(&node), theirs);
}

#[test]
fn somebody_who_is_faster_with_an_equal_static_route_keeps_it() {
    let Some((node, _lan)) = node() else { return };
    let state = TempDir::new().unwrap();
    let host = &node;
    live_and_die(host, always(), &state, async |actor| {
        let changes = lockstep_routes::plan(actor.desired(), &actor.actual);
        let theirs = ["throw", "10.147.46.0/24", "table", "100", "proto", "static"];
        ip(host, &[&["route", "add"], &theirs[..]].concat());
        actor.carry_out(&changes).await;
        let (_sender, inbox) = mpsc::channel(QUEUE);
        let mut requests = Requests::new(inbox);
        assert!(actor.take_stock(look::Turn::Orders(&mut requests)).await.unwrap());
        actor.settle(None).await;
        let status = shown(&actor.snapshot());
        assert!(all_installed(&status), "{status:#?}");
    });
    live_and_die(host, Declared::default(), &state, async |actor| actor.settle(None).await);
    assert_eq!(picture(host), ["throw 10.147.46.0/24 proto static"]);
}

#[test]
fn a_router_that_cannot_write_has_its_routes_and_says_what_it_does_not_keep() {
    let Some((node, _lan)) = node() else { return };
    let declared = always();
    let unwritable = settings(declared);
    node.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (core, _events) = mpsc::channel(QUEUE);
            let mut actor = Actor::start(unwritable, core).await.unwrap();
            actor.settle(None).await;
            let status = shown(&actor.snapshot());
            assert!(all_installed(&status), "{status:#?}");
            let why = status.not_kept.unwrap();
            assert!(why.starts_with("cannot write /proc/nowhere/routes.json"), "{why}");
        });
    })
    .unwrap();
    assert_eq!(picture(&node).len(), 5);
}

#[test]
fn an_address_that_a_killed_run_has_put_there_otherwise_is_made_as_it_is_declared_now() {
    let Some((node, _lan)) = node() else { return };
    let state = TempDir::new().unwrap();
    let first = Address {
        address: "10.1.1.9/32".parse().unwrap(),
        condition: Condition::ALWAYS,
        ..declared().addresses[0].clone()
    };
    let host = &node;
    let line = || {
        let all = ip(host, &["-4", "-o", "addr", "show", "dev", "eth0"]);
        all.lines().find(|line| line.contains("10.1.1.9/32")).unwrap_or_default().to_owned()
    };
    let mut is_first = true;
    for (address, words) in [
        (first.clone(), "brd 10.1.1.255 scope global "),
        (
            Address { broadcast: "10.1.1.127".parse().ok(), ..first.clone() },
            "brd 10.1.1.127 scope global ",
        ),
        (Address { scope: Scope::Link, ..first.clone() }, "brd 10.1.1.255 scope link "),
        (Address { label: Some("eth0:9".to_owned()), ..first }, "scope global eth0:9"),
    ] {
        let declared = Declared { addresses: vec![address], ..Declared::default() };
        live_and_die(host, declared, &state, async |actor| {
            let before = line();
            assert!(before.is_empty() == is_first, "it stays until it is made anew: {before}");
            actor.settle(None).await;
            assert!(line().contains(words), "{words}: {before}, then {}", line());
            assert_eq!(lockstep_routes::plan(actor.desired(), &actor.actual), []);
        });
        is_first = false;
    }
}
