//! Links that flap, lose their address or are made anew between the steps of a transition.

use super::*;

const UP: [Step; 3] = [Step::LinksUp, Step::AddressesUp, Step::RoutesUp];
const DOWN: [Step; 3] = [Step::AddressesDown, Step::RoutesDown, Step::LinksDown];

/// What happens to a link that the group's routes lead over.
const WEATHER: [fn(&Router, &str); 3] = [flap, lose_address, make_anew];

fn flap(router: &Router, interface: &str) {
    router.node.set_link(interface, false).unwrap();
    router.node.set_link(interface, true).unwrap();
}

fn lose_address(router: &Router, interface: &str) {
    let address = address_of(interface);
    router.node.remove_address(interface, address).unwrap();
    router.node.add_address(interface, address).unwrap();
}

fn make_anew(router: &Router, interface: &str) {
    router.ip(&["link", "del", interface]);
    let anew = Interface::new(interface).address(address_of(interface));
    router.node.attach(&router.lan, &anew).unwrap();
}

fn address_of(interface: &str) -> ipnet::IpNet {
    let address = if interface == "eth0" { "10.1.1.2/24" } else { "10.147.48.2/20" };
    address.parse().unwrap()
}

/// The master's routes lead over a link that is up on the master only, and over one that is always.
fn declared_on_both() -> Declared {
    let mut declared = declared();
    declared.routes.push(Arc::new(Route {
        next_hops: by("10.1.1.254", Some("eth0")),
        condition: master_only(),
        ..route("10.20.0.0/16")
    }));
    declared.rules[0].condition = master_only();
    declared
}

fn routes_and_rules(router: &Router) -> [String; 2] {
    [&["route", "show", "table", "100"][..], &["rule", "show"]].map(|command| router.ip(command))
}

#[test]
fn weather_between_any_two_steps_of_a_transition_costs_nothing() {
    for weather in WEATHER {
        for gap in 0..=UP.len() {
            let Some((node, lan)) = node() else { return };
            let mut router = Router::start(&declared_on_both(), node, lan);
            router.become_backup();
            router.until("what is always wanted", |status| {
                status.routes[0].standing.state == "installed"
            });
            let as_backup = routes_and_rules(&router);
            router.become_master();
            router.until("all of it", all_installed);
            let as_master = routes_and_rules(&router);
            router.become_backup();

            for (number, step) in UP.into_iter().enumerate() {
                if number == gap {
                    weather(&router, "eth2");
                    weather(&router, "eth0");
                }
                router.step(step);
            }
            if gap == UP.len() {
                weather(&router, "eth2");
                weather(&router, "eth0");
            }
            router.until("all of it again", all_installed);
            assert_eq!(routes_and_rules(&router), as_master, "weather before step {gap}");
            assert!(router.has("eth0", "10.1.1.1/32"));

            for (number, step) in DOWN.into_iter().enumerate() {
                if number == gap {
                    weather(&router, "eth2");
                    weather(&router, "eth0");
                }
                let outcome = router.step(step);
                assert!(matches!(outcome, Outcome::Done(_)), "{step:?}: {outcome:?}");
            }
            if gap == DOWN.len() {
                weather(&router, "eth0");
            }
            router.until("no more than a backup's", |status| {
                status.links[0].standing.state == "installed"
                    && states(status) == ["installed", "pending", "pending", "pending"]
            });
            assert_eq!(routes_and_rules(&router), as_backup, "weather before step {gap}");
            assert!(!router.has("eth0", "10.1.1.1/32"));
        }
    }
}

#[test]
fn a_link_that_is_down_at_the_step_of_the_routes_gets_them_later_without_a_step() {
    let Some((node, lan)) = node() else { return };
    let mut router = Router::start(&declared_on_both(), node, lan);
    router.become_backup();
    router.step(Step::LinksUp);
    router.node.set_link("eth0", false).unwrap();
    router.step(Step::AddressesUp);
    let outcome = router.step(Step::RoutesUp);
    let Outcome::Pending(reasons) = &outcome else { panic!("{outcome:?}") };
    assert!(reasons.contains("link eth0 is down"), "{reasons}");
    router.node.set_link("eth0", true).unwrap();
    router.until("all of it", all_installed);
}
