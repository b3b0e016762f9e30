//! Another configuration for a running pair: what can be taken comes into force without a transition, what cannot changes
//! nothing.

use std::fs;

use super::*;

/// A router's file; `vrrp`, `replication` and `more` are added to its sections.
fn config(priority: u8, addresses: &str, vrrp: &str, more: &str) -> String {
    format!(
        "[vrrp.gateway]\ninterface = \"eth0\"\nvrid = 51\npriority = {priority}\n\
         advertisement-interval = \"100ms\"\nstartup-limit = \"0s\"\naddresses = [{addresses}]\n{vrrp}\n{more}\n"
    )
}

const ADDRESS: &str = "\"10.51.0.1/24\"";
const TWO: &str = "\"10.51.0.1/24\", \"10.51.0.2/24\"";

const CHECK: &str = "[check.a]\ncommand = [\"/bin/true\"]\ninterval = \"100ms\"\n";

/// A file of which the kernel shows nothing, and what is said of it.
fn plain(vrrp: &str, more: &str, said: &'static str) -> Change {
    let more = more.replace("{pid}", &std::process::id().to_string());
    (config(140, ADDRESS, vrrp, &more), said, "link show eth0", "eth0", true)
}

/// What is in the file, what is said of it, what the kernel is asked, and what it shows then or shows no more.
type Change = (String, &'static str, &'static str, &'static str, bool);

/// Authentication by this key; `more` goes into the same table.
fn signed(number: u8, more: &str) -> String {
    let key = key(number);
    format!("authentication = {{ type = \"hmac\", {key}{more} }}")
}

fn key(number: u8) -> String {
    format!("key-id = {number}, key = \"{}\"", number.to_string().repeat(32))
}

/// What the kernel of router `OURS` shows for `ip ARGUMENTS`.
pub(crate) fn ip(segment: &Segment, arguments: &str) -> String {
    let words: Vec<&str> = ["ip"].into_iter().chain(arguments.split_whitespace()).collect();
    segment.run(OURS, &words)
}

#[test]
fn what_a_running_daemon_takes_is_in_force_at_once_and_moves_no_group() {
    let segment = alone();
    let daemon = Lockstep::start(segment.node(OURS), &config(150, ADDRESS, "", ""));
    daemon.wait_for_state("gateway", "master");
    let route = "[[route]]\nto = \"10.70.0.0/16\"\nvia = \"10.51.0.99\"\n";
    let other_route = "[[route]]\nto = \"10.70.0.0/16\"\nvia = \"10.51.0.98\"\n";
    let table = "[tables]\nisp = 100\n[[route]]\nto = \"10.71.0.0/16\"\nvia = \"10.51.0.98\"\ntable = \"isp\"\n\
                 [[rule]]\nfwmark = 7\ntable = \"isp\"\npriority = 1000\n";
    let follows = "[[route]]\nto = \"10.72.0.0/16\"\nvia = \"10.51.0.98\"\nwhen = \"master\"\n";
    let own_address = "[[address]]\naddress = \"10.52.0.1/24\"\ninterface = \"eth0\"\n";
    let mut slower = plain("", "", "vrrp.gateway.advertisement-interval");
    slower.0 = slower.0.replace("100ms", "250ms");
    let matrix: &[Change] = &[
        (config(140, ADDRESS, "", ""), "vrrp.gateway.priority", "link show eth0", "eth0", true),
        (
            config(140, ADDRESS, "preempt = false", ""),
            "vrrp.gateway.preempt",
            "link show eth0",
            "eth0",
            true,
        ),
        (
            config(140, ADDRESS, "preempt-delay = \"5s\"", ""),
            "vrrp.gateway.preempt-delay",
            "link show eth0",
            "eth0",
            true,
        ),
        (
            config(140, TWO, "", ""),
            "vrrp.gateway.addresses",
            "address show eth0",
            "10.51.0.2/24",
            true,
        ),
        (
            config(140, ADDRESS, "", ""),
            "vrrp.gateway.addresses",
            "address show eth0",
            "10.51.0.2/24",
            false,
        ),
        (
            config(140, ADDRESS, "announce = { refresh = \"1s\" }", ""),
            "vrrp.gateway.announce",
            "link show eth0",
            "eth0",
            true,
        ),
        (
            config(140, ADDRESS, "when-misunderstood = \"stay-backup\"", ""),
            "vrrp.gateway.when-misunderstood",
            "link show eth0",
            "eth0",
            true,
        ),
        (
            config(140, ADDRESS, "", route),
            "route",
            "route show",
            "10.70.0.0/16 via 10.51.0.99",
            true,
        ),
        (
            config(140, ADDRESS, "", other_route),
            "route",
            "route show",
            "10.70.0.0/16 via 10.51.0.98",
            true,
        ),
        (config(140, ADDRESS, "", table), "rule", "rule show", "fwmark 0x7 lookup 100", true),
        (
            config(140, ADDRESS, "", table),
            "in force already",
            "route show table 100",
            "10.71.0.0/16",
            true,
        ),
        (
            config(140, ADDRESS, "", follows),
            "route",
            "route show",
            "10.72.0.0/16 via 10.51.0.98",
            true,
        ),
        (config(140, ADDRESS, "", ""), "route", "route show", "10.72.0.0/16", false),
        (
            config(140, ADDRESS, "", own_address),
            "address",
            "address show eth0",
            "10.52.0.1/24",
            true,
        ),
        (config(140, ADDRESS, "", ""), "address", "address show eth0", "10.52.0.1/24", false),
        plain("notify = { master = [\"/bin/true\"] }", "", "vrrp.gateway.notify"),
        plain("", "[router]\nnotify-fifo = \"/run/lockstep-states-{pid}\"\n", "router.notify-fifo"),
        plain("", "", "router.notify-fifo"),
        plain("checks = [\"a\"]", CHECK, "check.a"),
        plain("checks = [\"a\"]", "[check.a]\ncommand = [\"/bin/echo\"]\n", "check.a"),
        plain("track = [{ check = \"a\", weight = 10 }]", CHECK, "vrrp.gateway.track"),
        plain("track = [{ interface = \"eth0\" }]", "", "vrrp.gateway.track"),
        plain("track = [{ file = \"/nowhere\", weight = -1 }]", "", "vrrp.gateway.track"),
        plain("track = [{ process = \"nowhere\", weight = 1 }]", "", "vrrp.gateway.track"),
        plain("", "", "vrrp.gateway.track"),
        plain("checksum = \"rfc9568\"", "", "vrrp.gateway.checksum"),
        plain(&signed(1, ""), "", "vrrp.gateway.authentication"),
        plain(&signed(2, ""), "", "vrrp.gateway.authentication"),
        plain("", "", "vrrp.gateway.authentication"),
        slower,
    ];
    let other = daemon.directory().join("other.toml");
    for (text, said, question, shown, is_there) in matrix {
        fs::write(&other, text).expect("the file is written");
        let output = daemon.command(&["check", "--diff", other.to_str().expect("text")]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected = match *said {
            "in force already" => "nothing differs from what is in force".to_owned(),
            said => format!("{said}: taken by a reload"),
        };
        assert!(output.status.success() && told.contains(&expected), "{said}: {output:?}");
        let (status, words) = daemon.reload(text);
        assert_eq!(status, Some(0), "{said}: {words}");
        assert!(words.contains(said), "{said}: {words}");
        let answer = ip(&segment, question);
        assert_eq!(answer.contains(shown), *is_there, "{said}: {answer}");
        assert!(ip(&segment, "address show eth0").contains("10.51.0.1/24"), "{said}");
    }
    assert_eq!(number(&daemon.virtual_router("gateway")["priority"]), 140);
    let log = daemon.log();
    assert!(log.contains("an address has come") && !log.contains("was gone"), "{log}");
    let to: Vec<String> =
        daemon.journal("gateway").iter().map(|entry| text(&entry["to"])).collect();
    assert_eq!(to, ["backup", "master"]);
    assert_eq!(ip(&segment, "route show table 100").trim(), "");
}

#[test]
fn a_check_that_is_added_moves_the_group_when_it_fails_and_no_more_when_it_is_gone() {
    let segment = alone();
    let file = |vrrp: &str, more: &str| config(150, ADDRESS, vrrp, more);
    let daemon = Lockstep::start(segment.node(OURS), &file("", ""));
    daemon.wait_for_state("gateway", "master");
    // Its first run ends only when there is a file.
    let flag = daemon.directory().join("flag");
    let check = format!(
        "[check.a]\ncommand = [\"/bin/sh\", \"-c\", \"until test -e {}; do sleep 0.01; done; exit 1\"]\n\
         interval = \"100ms\"\ntimeout = \"1m\"\n",
        flag.display()
    );
    let (status, words) = daemon.reload(&file("checks = [\"a\"]", &check));
    assert_eq!((status, words.contains("check.a")), (Some(0), true), "{words}");
    let (status, words) = daemon.reload(&file("checks = [\"a\"]\npreempt = false", &check));
    assert_eq!((status, words.contains("check.a")), (Some(0), false), "{words}");
    assert_eq!(daemon.journal("gateway").len(), 2, "nothing happens before it has run");
    fs::write(&flag, "").expect("the file is written");
    daemon.wait_for_state("gateway", "fault");
    let (status, words) = daemon.reload(&file("", ""));
    assert_eq!(status, Some(0), "{words}");
    daemon.wait_for_state("gateway", "master");
    let to: Vec<String> =
        daemon.journal("gateway").iter().map(|entry| text(&entry["to"])).collect();
    assert_eq!(to, ["backup", "master", "fault", "backup", "master"]);
}

#[test]
fn an_interface_that_is_tracked_only_now_is_looked_at_and_a_new_hook_is_run_for_the_next_state() {
    let segment = alone();
    let file = |vrrp: &str| config(150, ADDRESS, vrrp, "");
    let daemon = Lockstep::start(segment.node(OURS), &file(""));
    daemon.wait_for_state("gateway", "master");
    let log = daemon.directory().join("hooked");
    let hook = format!(
        "notify = {{ master = [\"/bin/sh\", \"-c\", \"echo master >> {}\"] }}",
        log.display()
    );
    daemon.take(&file(&hook));
    let tracked = format!("{hook}\ntrack = [{{ interface = \"eth9\" }}]");
    daemon.take(&file(&tracked));
    daemon.wait_for_state("gateway", "fault");
    assert_eq!(text(&daemon.group("gateway")["reason"]), "eth9 does not exist");
    assert!(!log.exists(), "nothing is run for a reload");
    segment.run(OURS, &["ip", "link", "add", "eth9", "type", "veth", "peer", "name", "eth10"]);
    segment.run(OURS, &["ip", "link", "set", "eth10", "up"]);
    segment.run(OURS, &["ip", "link", "set", "eth9", "up"]);
    daemon.wait_for_state("gateway", "master");
    wait::until("the hook has run", || log.exists());
    daemon.take(&file(&hook));
    segment.run(OURS, &["ip", "link", "del", "eth9"]);
    // Whatever would follow from that has followed when this has been looked at.
    daemon.take(&file(""));
    let to: Vec<String> =
        daemon.journal("gateway").iter().map(|entry| text(&entry["to"])).collect();
    assert_eq!(to, ["backup", "master", "fault", "backup", "master"]);
    assert_eq!(fs::read_to_string(&log).expect("the log"), "master\n");
}

#[test]
fn what_needs_a_restart_or_is_wrong_changes_nothing() {
    let segment = alone();
    let good = config(150, ADDRESS, "", "");
    let daemon = Lockstep::start(segment.node(OURS), &good);
    daemon.wait_for_state("gateway", "master");
    let more = |more: &str| config(150, TWO, "", more);
    let matrix = [
        (more("[router]\nreal-time = 5"), 1, "router.real-time"),
        (more("[router]\nlock-memory = true"), 1, "router.lock-memory"),
        (
            more("[interface.eth0]\nannouncement-interval = \"1ms\""),
            1,
            "interface.eth0.announcement-interval",
        ),
        (
            more(
                "[replication]\ngroup = \"gateway\"\nprotocol = \"conntrackd\"\n[[replication.link]]\n\
                  interface = \"eth0\"\nmulticast = \"225.0.0.50\"",
            ),
            1,
            "replication",
        ),
        (more("nonsense = 1"), 78, "nonsense"),
        (
            more("[[route]]\nto = \"10.70.0.0/16\"\nvia = \"10.51.0.99\"\ntable = \"nowhere\""),
            78,
            "nowhere",
        ),
    ];
    let other = daemon.directory().join("other.toml");
    for (text, status, said) in &matrix {
        fs::write(&other, text).expect("the file is written");
        let output = daemon.command(&["check", "--diff", other.to_str().expect("text")]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        match status {
            1 => assert!(told.contains(&format!("{said}: needs a restart")), "{said}: {output:?}"),
            _ => assert_eq!(output.status.code(), Some(*status), "{said}: {output:?}"),
        }
        let (got, words) = daemon.reload(text);
        assert_eq!((got, words.contains(said)), (Some(*status), true), "{said}: {words}");
        let addresses = ip(&segment, "address show eth0");
        assert!(
            addresses.contains("10.51.0.1/24") && !addresses.contains("10.51.0.2/24"),
            "{said}: {addresses}"
        );
    }
    // Nobody may ever write to a pipe: it is not waited for.
    let pipe = daemon.directory().join("pipe");
    segment.run(OURS, &["mkfifo", pipe.to_str().expect("text")]);
    let output = daemon.command(&["check", "--diff", pipe.to_str().expect("text")]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("it is not a regular file"), "{told}");
    daemon.take(&good);
    assert_eq!(daemon.journal("gateway").len(), 2);
}

#[test]
fn an_address_that_one_router_has_first_makes_no_two_masters() {
    for first in [0, 1] {
        let segment = Segment::new(&[Program::Lockstep, Program::Lockstep]);
        let pair = Pair::start(&segment, |priority| config(priority, ADDRESS, "", ""));
        for index in [first, 1 - first] {
            pair.reload(index, |priority| config(priority, TWO, "", ""));
            pair.wait_for_five("advertisement-rcvd");
        }
        pair.assert_has_not_moved();
        assert!(ip(&segment, "address show eth0").contains("10.51.0.2/24"));
    }
}

/// Two routers of which the first is master, and how a file is made for each.
struct Pair<'a> {
    segment: &'a Segment,
    daemons: [Lockstep; 2],
}

impl<'a> Pair<'a> {
    fn start(segment: &'a Segment, file: impl Fn(u8) -> String) -> Self {
        let master = Lockstep::start(segment.node(0), &file(PRIORITIES[0]));
        master.wait_for_state("gateway", "master");
        let backup = Lockstep::start(segment.node(1), &file(PRIORITIES[1]));
        backup.wait_for_state("gateway", "backup");
        Self { segment, daemons: [master, backup] }
    }

    /// Has one router read another file, which it takes.
    #[track_caller]
    fn reload(&self, index: usize, file: impl Fn(u8) -> String) {
        self.daemons[index].take(&file(PRIORITIES[index]));
    }

    /// A counter of the backup.
    fn counted(&self, counter: &str) -> u64 {
        number(&self.daemons[1].virtual_router("gateway")["statistics"][counter])
    }

    /// Waits until the backup has counted five more.
    #[track_caller]
    fn wait_for_five(&self, counter: &str) {
        let before = self.counted(counter);
        wait::until(counter, || self.counted(counter) >= before + 5);
    }

    /// The first has always been master, and nothing has happened since the start.
    #[track_caller]
    fn assert_has_not_moved(&self) {
        assert_eq!(self.segment.masters(), "a");
        let [master, backup] = &self.daemons;
        assert_eq!(master.journal("gateway").len() + backup.journal("gateway").len(), 3);
    }
}

const PRIORITIES: [u8; 2] = [150, 100];

#[test]
fn keys_and_intervals_are_changed_on_one_router_after_the_other_without_a_second_master() {
    let and = |number: u8| format!(", other-keys = [{{ {} }}]", key(number));
    let steps = [
        (signed(1, ", mode = \"receive-only\""), "100ms"),
        (signed(1, ", mode = \"permissive\""), "100ms"),
        (signed(1, ""), "100ms"),
        (signed(1, &and(2)), "100ms"),
        (signed(2, &and(1)), "100ms"),
        (signed(2, ""), "100ms"),
        (signed(2, ""), "300ms"),
        (signed(2, ""), "50ms"),
    ];
    each([0, 1], |first| {
        let segment = Segment::new(&[Program::Lockstep, Program::Lockstep]);
        let pair = Pair::start(&segment, |priority| config(priority, ADDRESS, "", ""));
        for (vrrp, interval) in &steps {
            let file = |priority| config(priority, ADDRESS, vrrp, "").replace("100ms", interval);
            for index in [first, 1 - first] {
                pair.reload(index, file);
                pair.wait_for_five("advertisement-rcvd");
            }
        }
        assert_eq!(pair.counted("authentication-failures"), 0);
        assert_eq!(pair.counted("authentication-type-errors"), 0);
        pair.assert_has_not_moved();
    });
}

#[test]
fn a_password_or_the_interval_of_version_2_is_changed_without_a_second_master_by_who_stays_backup()
{
    let file = |password: &str, interval: &str, priority| {
        let vrrp = format!(
            "version = 2\nwhen-misunderstood = \"stay-backup\"\n\
             authentication = {{ type = \"pass\", password = \"{password}\" }}"
        );
        config(priority, ADDRESS, &vrrp, "").replace("100ms", interval)
    };
    let changes = [("second", "1s", "authentication-failures"), ("first", "2s", "interval-errors")];
    let cases = [0, 1].into_iter().flat_map(|first| changes.map(|change| (first, change)));
    each(cases, |(first, (password, interval, refused))| {
        let segment = Segment::new(&[Program::Lockstep, Program::Lockstep]);
        let pair = Pair::start(&segment, |priority| file("first", "1s", priority));
        let changed = |priority| file(password, interval, priority);
        pair.reload(first, changed);
        // For longer than a master that is silent would be waited for.
        pair.wait_for_five(refused);
        pair.assert_has_not_moved();
        pair.reload(1 - first, changed);
        pair.wait_for_five("advertisement-rcvd");
        pair.assert_has_not_moved();
    });
}

#[test]
fn a_password_that_only_one_has_makes_two_masters_who_say_so_and_one_again_when_both_have_it() {
    let file = |kind: &str, password: &str, priority| {
        let vrrp = format!(
            "version = 2\nauthentication = {{ type = \"{kind}\", password = \"{password}\" }}"
        );
        config(priority, ADDRESS, &vrrp, "").replace("100ms", "1s")
    };
    let cases = [0, 1].into_iter().flat_map(|first| ["pass", "ah"].map(|kind| (first, kind)));
    each(cases, |(first, kind)| {
        let segment = Segment::new(&[Program::Lockstep, Program::Lockstep]);
        let pair = Pair::start(&segment, |priority| file(kind, "first", priority));
        let [a, b] = &pair.daemons;
        let changed = |priority| file(kind, "second", priority);
        wait::until("the backup knows its master", || pair.counted("advertisement-rcvd") > 0);
        pair.reload(first, changed);
        b.wait_for_state("gateway", "master");
        assert_eq!(a.state("gateway"), "master", "nobody has told it anything that it believes");
        let reason = text(&b.group("gateway")["reason"]);
        let [of_a, of_b] = [0, 1].map(|index| ipv4(index).to_string());
        assert!(reason.contains(&format!("{of_a} is heard")), "{reason}");
        assert!(reason.contains("password"), "{reason}");
        for (daemon, neighbour) in [(a, &of_b), (b, &of_a)] {
            wait::until("each names the neighbour that it refuses, and counts", || {
                let router = daemon.virtual_router("gateway");
                let refused = router["rejected"].to_string();
                refused.contains(neighbour)
                    && number(&router["statistics"]["authentication-failures"]) > 0
            });
            let output = daemon.command(&["metrics"]);
            let metrics = String::from_utf8_lossy(&output.stdout).into_owned();
            let refused = metrics
                .lines()
                .find(|line| line.starts_with("lockstep_vrrp_refused_neighbours{"))
                .expect("it is measured");
            assert!(refused.ends_with(" 1.0"), "{refused}");
        }

        pair.reload(1 - first, changed);
        b.wait_for_state("gateway", "backup");
        let reason = text(&b.group("gateway")["reason"]);
        assert!(reason.contains(&of_a) && reason.contains("higher than our"), "{reason}");
        let refused = b.virtual_router("gateway")["rejected"].clone();
        assert_eq!(refused.as_array().map(Vec::len), Some(0), "nobody is refused any more");
        assert_eq!(a.journal("gateway").len(), 2, "the better one has been master all the time");
        let states = b.journal("gateway");
        let states: Vec<String> = states.iter().map(|entry| text(&entry["to"])).collect();
        assert_eq!(states, ["backup", "master", "backup"]);
    });
}
