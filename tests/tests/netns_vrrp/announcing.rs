//! When the addresses are announced.

use std::net::IpAddr;

use super::*;
use lockstep_tests::segment::mac;
use lockstep_tests::story::Step;

/// When ours announced an address, since 1970.
fn announced_at(segment: &Segment, address: &str) -> Vec<Duration> {
    let address: IpAddr = address.parse().expect("an address");
    let frames = segment.capture.frames();
    let own = frames.iter().filter(|frame| {
        let announced = frame.announcement().is_some_and(|seen| seen.address == address);
        announced && frame.source == mac(OURS)
    });
    own.map(|frame| frame.at).collect()
}

#[test]
fn addresses_are_announced_at_once_again_after_delays_and_refreshed() {
    let cases =
        [(Setting::version_3(), "10.51.0.1"), (Setting::version_3_ipv6(), "2001:db8:51::1")];
    each(cases, |(setting, address)| {
        let mut segment = alone();
        let announce = "announce = { after = [\"0s\", \"400ms\", \"1s\"], refresh = \"1s\" }";
        segment.start_master(OURS, &setting.ours(announce));
        wait::until("it announces five times", || announced_at(&segment, address).len() >= 5);

        let claimed = advertised_at(&segment, OURS)[0];
        let at = announced_at(&segment, address);
        let planned = [0, 400, 1_000, 2_000, 3_000].map(Duration::from_millis);
        for (at, planned) in at.into_iter().zip(planned) {
            // The plan counts from the decision, which is a little older than its advertisement.
            let after = at.checked_sub(claimed).expect("no announcement before the claim");
            assert!(after * 2 >= planned, "{after:?} after the claim instead of {planned:?}");
        }
    });
}

#[test]
fn announcements_keep_their_distance_and_never_come_before_the_claim() {
    const COUNT: u32 = 25;
    const DISTANCE: Duration = Duration::from_millis(40);
    let addresses: Vec<String> = (1..=COUNT).map(|host| format!("10.51.1.{host}/24")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut setting =
        Setting::version_3().addresses(&addresses).ours("announce = { after = [\"0s\"] }");
    setting.our_sections =
        format!("[interface.eth0]\nannouncement-interval = \"{}ms\"\n", DISTANCE.as_millis());
    let mut segment = alone();
    segment.start(OURS, &setting);
    segment.wait_for_announcement(OURS);

    let story = segment.story();
    assert!(matches!(story[0], Step::Claims('a', 100)), "the claim comes first: {story:?}");
    let first = announced_at(&segment, "10.51.1.1");
    let last = announced_at(&segment, "10.51.1.25");
    assert_eq!((first.len(), last.len()), (1, 1), "each once");
    // What leaves late does not make the next one late, so single distances may be shorter.
    let spread = last[0].saturating_sub(first[0]);
    assert!(spread >= DISTANCE * (COUNT - 1) / 2, "all of them within {spread:?}");
    wait_for_advertisements(&segment, OURS, 1);
}

#[test]
fn after_a_conflict_the_winner_announces_again_with_growing_distance() {
    let mut segment = beside_keepalived();
    let setting = Setting::version_3();
    let once = setting.priority(150).ours("announce = { after = [\"0s\"] }");
    segment.start_master(OURS, &once);
    segment.wait_for_announcement(OURS);
    segment.start_backup(OTHER, &setting);
    let announced = || announced_at(&segment, "10.51.0.1");
    wait_for_advertisements(&segment, OURS, 3);
    assert_eq!(announced().len(), 1, "without a conflict nothing more is announced");

    segment.deafen(OTHER);
    segment.wait_for_master(OTHER);
    wait::until("it announces while the conflict lasts", || announced().len() >= 5);
    let at = announced();
    let [first, second, third] =
        [2, 3, 4].map(|index: usize| at[index].saturating_sub(at[index - 1]));
    // Each distance is twice the one before; what a busy machine does to one of them is not half of it.
    assert!(third > first && second + third > first * 2, "{first:?}, {second:?}, {third:?}");
    assert_eq!(segment.role(OURS), Role::Master);

    segment.hear_again(OTHER);
    segment.wait_for(OTHER, Role::Backup);
    let theirs = advertised_at(&segment, OTHER).into_iter().next_back().expect("it was master");
    wait::until("it announces after the other's last word", || {
        announced().into_iter().next_back().is_some_and(|at| at > theirs)
    });
}

/// A group of two virtual routers of these priority and interval, announced once.
fn two_members(priority: u8, interval: &str) -> String {
    let members = [("a", 1), ("b", 2)].map(|(name, number)| {
        format!(
            "[vrrp.{name}]\ninterface = \"eth0\"\nvrid = {}\npriority = {priority}\n\
             advertisement-interval = \"{interval}\"\nstartup-limit = \"0s\"\n\
             addresses = [\"10.51.{number}.1/24\"]\nannounce = {{ after = [\"0s\"] }}\n",
            50 + number
        )
    });
    members.concat() + "[group.gateway]\nvirtual-routers = [\"a\", \"b\"]\n"
}

#[test]
fn of_two_masters_the_winner_announces_again_although_it_speaks_first() {
    let segment = Segment::new(&[Program::Lockstep, Program::Lockstep]);
    let announced =
        || ["10.51.1.1", "10.51.2.1"].map(|address| announced_at(&segment, address).len());
    // So seldom that it is not its advertisement that the winner hears.
    let loser = Lockstep::start(segment.node(OTHER), &two_members(100, "30s"));
    let start_winner = || Lockstep::start(segment.node(OURS), &two_members(150, "200ms"));
    let conflicts = |daemon: &Lockstep| {
        let routers = daemon.status()["virtual-routers"].clone();
        let routers = routers.as_array().expect("a list").clone();
        routers.iter().map(|one| number(&one["statistics"]["conflicts"])).sum::<u64>()
    };
    let winner = start_winner();
    winner.wait_for_state("gateway", "master");
    loser.wait_for_state("gateway", "backup");
    wait::until("all is announced", || announced() == [1, 1]);

    segment.deafen(OURS);
    segment.deafen(OTHER);
    loser.wait_for_state("gateway", "master");
    assert_eq!((conflicts(&winner), announced()), (0, [1, 1]));
    segment.hear_again(OURS);
    segment.hear_again(OTHER);
    loser.wait_for_state("gateway", "backup");
    wait::until("the addresses of both members are announced again", || announced() == [2, 2]);
    assert!((1..=2).contains(&conflicts(&winner)), "each member at most once");
    let said = "10.51.0.12 is or was master too (priority 100) and has to give way: heard once";
    let told = ["a", "b"].map(|name| winner.virtual_router(name)["other-master"].to_string());
    assert!(told.iter().any(|told| told.contains(said)), "{told:?}");
    let explained = winner.command(&["explain"]);
    assert!(String::from_utf8_lossy(&explained.stdout).contains(said), "{explained:?}");
    assert!(winner.log().contains("two masters: the other one has to give way"));
    assert_eq!(conflicts(&loser), 0);
    assert_eq!(winner.journal("gateway").len(), 2, "it stays what it is");
}

#[test]
fn a_master_that_is_preempted_is_no_second_one() {
    let segment = Segment::new(&[Program::Lockstep, Program::Lockstep]);
    let old = Lockstep::start(segment.node(OTHER), &two_members(100, "200ms"));
    old.wait_for_state("gateway", "master");
    let new = Lockstep::start(segment.node(OURS), &two_members(150, "200ms"));
    new.wait_for_state("gateway", "master");
    old.wait_for_state("gateway", "backup");
    wait_for_advertisements(&segment, OURS, 10);
    for name in ["a", "b"] {
        let statistics = new.virtual_router(name)["statistics"].clone();
        assert_eq!(number(&statistics["conflicts"]), 0, "{name}: {statistics}");
    }
    let announced = |address| announced_at(&segment, address).len();
    assert_eq!(["10.51.1.1", "10.51.2.1"].map(announced), [1, 1]);
}
