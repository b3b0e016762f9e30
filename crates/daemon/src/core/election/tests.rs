//! Many virtual routers without a kernel: no interface is there, so that nothing leaves.

use super::*;

/// `count` virtual routers on one interface that does not exist, all of them listening.
fn listening(count: u8, now: Instant) -> Elections {
    let mut text = String::new();
    for vrid in 1..=count {
        let section = format!("[vrrp.v{vrid}]\ninterface = \"eth0\"\nvrid = {vrid}\nversion = 3\n");
        let rest = format!("startup-limit = \"0s\"\naddresses = [\"10.1.1.{vrid}/32\"]\n");
        text.push_str(&section);
        text.push_str(&rest);
    }
    let surroundings = lockstep_config::Surroundings::default();
    let checked = lockstep_config::parse("test.toml", &text, &surroundings).unwrap();
    let mut elections = Elections::new(&checked.config.virtual_routers);
    for place in 0..usize::from(count) {
        let primary = "10.1.1.254".parse().unwrap();
        elections.machines.routers[place].primary = Some(primary);
        elections.machines.event(place, Event::Startup { primary }, now);
    }
    elections
}

fn elected(elections: &mut Elections) -> Vec<String> {
    let news = elections.take_news().into_iter();
    news.filter_map(|news| match news {
        News::Group { name, event: VirtualRouterEvent::Elected { .. } } => Some(name),
        News::Group { .. } | News::Conflict { .. } => None,
    })
    .collect()
}

fn failing(elections: &mut Elections) -> Vec<String> {
    let news = elections.take_news().into_iter();
    news.filter_map(|news| match news {
        News::Group { event: VirtualRouterEvent::Failing { reason }, .. } => Some(reason),
        News::Group { .. } | News::Conflict { .. } => None,
    })
    .collect()
}

#[test]
fn nothing_is_said_of_a_virtual_router_before_both_its_interfaces_are_known() {
    let text = "[vrrp.v1]\ninterface = \"eth0\"\nvrid = 1\nversion = 3\nvirtual-mac = \"v1\"\n\
                source = \"10.1.1.2\"\naddresses = [\"10.1.1.1/32\"]\n";
    let surroundings = lockstep_config::Surroundings::default();
    let checked = lockstep_config::parse("test.toml", text, &surroundings).unwrap();
    let mut elections = Elections::new(&checked.config.virtual_routers);
    let link = Some(LinkState { up: true, carrier: true, mtu: 1500, ..LinkState::default() });
    let mut told = |name: &str, link: Option<LinkState>| {
        let state = InterfaceState { name: name.to_owned(), link };
        let mut news = elections.interface(&state, Instant::now());
        news.pop().map(|(_, usable)| usable)
    };
    assert_eq!(told("eth0", None), None, "v1 is not known yet");
    assert_eq!(told("v1", link), Some(Err("eth0 does not exist".to_owned())));
    assert_eq!(told("v1", None), None);
    assert_eq!(told("eth7", None), None);
}

#[test]
fn all_that_fall_due_together_are_served_in_one_turn() {
    let now = Instant::now();
    let mut elections = listening(200, now);
    let due = elections.next_timer().unwrap();
    elections.timeout(now + Duration::from_secs(3));
    assert!(elected(&mut elections).is_empty());
    elections.timeout(due);
    assert_eq!(elected(&mut elections).len(), 200);
    assert!(elections.next_timer().unwrap() > due);
}

#[test]
fn a_master_of_which_nothing_leaves_for_three_intervals_says_so_once() {
    let now = Instant::now();
    let mut elections = listening(1, now);
    let mut at = elections.next_timer().unwrap();
    elections.timeout(at);
    elections.claim("v1", at);
    assert!(elections.send(at));
    assert_eq!(elections.trouble("v1"), Some("eth0 does not exist"));
    let claimed = at;
    let mut reasons = Vec::new();
    for _ in 0..10 {
        at = elections.next_timer().unwrap();
        elections.timeout(at);
        elections.send(at);
        let news = failing(&mut elections);
        if !news.is_empty() {
            assert_eq!(at - claimed, Duration::from_secs(3));
        }
        reasons.extend(news);
    }
    assert_eq!(reasons, ["no advertisement could be sent for 3s: eth0 does not exist"]);
}

#[test]
fn nobody_is_made_to_give_way_to_a_group_of_which_one_member_cannot_send() {
    let now = Instant::now();
    let mut elections = listening(2, now);
    let members = ["v1".to_owned(), "v2".to_owned()];
    let errors = |elections: &mut Elections, place: usize, at| {
        elections.status(at).remove(place).statistics["send-errors"]
    };
    assert!(elections.claim_together(&members, now), "nothing is known against either");
    elections.send(now);
    elections.machines.sent(0, Ok(()), now);
    let first = errors(&mut elections, 0, now);
    for member in &members {
        elections.shut_down(member, now);
        elections.send(now);
        elections.startup(member, now);
    }
    elections.machines.sent(0, Ok(()), now);
    assert!(!elections.claim_together(&members, now), "the second has not been able to send");
    assert!(!elections.machines.routers[0].is_master());
    assert_eq!(errors(&mut elections, 0, now), first + 1, "only the end of its mastership");
    assert!(elections.trouble("v2").is_some());
    elections.machines.sent(1, Ok(()), now);
    assert!(elections.claim_together(&members, now));
    assert!(elections.machines.routers[0].is_master());
}

#[test]
fn a_master_without_a_usable_interface_has_said_nothing_at_its_end() {
    let now = Instant::now();
    let mut elections = listening(1, now);
    let at = elections.next_timer().unwrap();
    elections.timeout(at);
    elections.claim("v1", at);
    elections.machines.routers[0].mute = Some("eth0 has no carrier".to_owned());
    assert!(elections.shut_down("v1", at));
    elections.send(at);
    assert!(!elections.shut_down("v1", at), "it is no master any more");
    let statistics = elections.status(at).remove(0).statistics;
    assert_eq!(statistics["send-errors"], 2, "the claim and the end");
    assert_eq!(statistics["send-errors-enetdown"], 1);
}

#[test]
fn warnings_about_strangers_are_bounded() {
    let now = Instant::now();
    let mut warnings = Warnings { since: now, written: 0 };
    let written = (0..10_000).filter(|_| warnings.may_write(now)).count();
    assert_eq!(written, WARNINGS as usize);
    assert!(warnings.may_write(now + Duration::from_secs(1)));
}
