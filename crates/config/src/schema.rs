//! Every key of the file, by section. The reader asks for none that is not here, and
//! `docs/reference/configuration.md` describes each.

use crate::problem::Problem;

/// A table of the file and its keys.
#[derive(Debug)]
pub(crate) struct Section {
    /// As a person writes it, with `NAME` for what is theirs to choose.
    pub heading: &'static str,
    /// Its keys; none for a table whose keys are free names.
    pub keys: &'static [&'static str],
    /// Words of other programs that people try here, and what to write instead.
    foreign: &'static [(&'static str, &'static str)],
}

impl Section {
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }
}

pub(crate) const ROOT: Section = Section {
    heading: "the file",
    keys: &[
        "router",
        "check",
        "vrrp",
        "group",
        "replication",
        "tables",
        "interface",
        "address",
        "route",
        "rule",
    ],
    foreign: &[
        ("global-defs", "write `[router]`"),
        ("vrrp-instance", "write `[vrrp.NAME]`"),
        ("vrrp-sync-group", "write `[group.NAME]`"),
        ("vrrp-script", "write `[check.NAME]`"),
        ("sync", "write `[replication]`"),
        ("general", "what of it is still needed stands under `[replication]`"),
        ("routes", "write `[[route]]`, once for each"),
        ("rules", "write `[[rule]]`, once for each"),
        ("addresses", "write `[[address]]`, once for each"),
        ("static-routes", "write `[[route]]`, once for each"),
        ("static-rules", "write `[[rule]]`, once for each"),
        ("static-ipaddress", "write `[[address]]`, once for each"),
    ],
};

pub(crate) const ROUTER: Section = Section {
    heading: "[router]",
    keys: &[
        "id",
        "real-time",
        "lock-memory",
        "state-directory",
        "notify-fifo",
        "notify-fifo-user",
        "notify-fifo-group",
        "notify-fifo-command",
        "allow-insecure-scripts",
    ],
    foreign: &[
        ("router-id", "write `id`"),
        ("name", "write `id`"),
        ("vrrp-rt-priority", "write `real-time = 50`"),
        ("realtime", "write `real-time = 50`"),
        ("vrrp-no-swap", "write `lock-memory = true`"),
        ("state-dir", "write `state-directory`"),
        ("tmp-config-directory", "write `state-directory` for what has to outlive the daemon"),
        ("vrrp-startup-delay", "write `startup-limit` under `[vrrp.NAME]`"),
        ("vrrp-garp-interval", "write `announcement-interval` under `[interface.NAME]`"),
        ("vrrp-gna-interval", "write `announcement-interval` under `[interface.NAME]`"),
        (
            "vrrp-garp-master-refresh",
            "write `announce = { refresh = \"60s\" }` under `[vrrp.NAME]`",
        ),
        ("vrrp-version", "write `version` under `[vrrp.NAME]`"),
        ("script-user", "write `user` under `[check.NAME]` and under `notify`"),
        ("notify-fifo-script", "write `notify-fifo-command = [\"/path/of/program\"]`"),
        ("vrrp-notify-fifo", "write `notify-fifo`"),
        ("vrrp-notify-fifo-script", "write `notify-fifo-command = [\"/path/of/program\"]`"),
        (
            "enable-script-security",
            "leave it out: what others could replace is not run unless `allow-insecure-scripts` is set",
        ),
        ("vrrp-strict", "leave it out: what a version cannot do is an error already"),
        (
            "vrrp-skip-check-adv-addr",
            "leave it out: another address list is shown and never refused",
        ),
        (
            "dynamic-interfaces",
            "leave it out: an interface that is not there is a fault until it is",
        ),
    ],
};

pub(crate) const VRRP: Section = Section {
    heading: "[vrrp.NAME]",
    keys: &[
        "interface",
        "vrid",
        "version",
        "priority",
        "preempt",
        "preempt-delay",
        "advertisement-interval",
        "authentication",
        "checksum",
        "unicast",
        "source",
        "virtual-mac",
        "advertise-from",
        "addresses",
        "accept",
        "announce",
        "startup-limit",
        "when-misunderstood",
        "checks",
        "track",
        "notify",
    ],
    foreign: &[
        ("virtual-router-id", "write `vrid`"),
        ("advert-int", "write `advertisement-interval = \"1s\"`"),
        ("nopreempt", "write `preempt = false`"),
        ("virtual-ipaddress", "write `addresses = [\"10.1.1.1/24\"]`"),
        (
            "virtual-ipaddress-excluded",
            "write `[[address]]` with `when = \"master\"`, once for each",
        ),
        ("virtual-routes", "write `[[route]]` with `when = \"master\"`, once for each"),
        ("virtual-rules", "write `[[rule]]` with `when = \"master\"`, once for each"),
        (
            "track-script",
            "write `checks = [\"NAME\"]`, or `track = [{ check = \"NAME\", weight = -20 }]`",
        ),
        (
            "track-interface",
            "write `track = [{ interface = \"eth2\" }]`, with `weight = -20` for the priority only",
        ),
        ("track-file", "write `track = [{ file = \"/path\", weight = 1 }]`"),
        ("track-process", "write `track = [{ process = \"named\", weight = -20 }]`"),
        (
            "weight",
            "write it beside what is tracked: `track = [{ check = \"NAME\", weight = -20 }]`",
        ),
        ("unicast-peer", "write `unicast = { peers = [\"10.0.0.3\"] }`"),
        ("unicast-ttl", "write `unicast = { peers = […], ttl = 255 }`"),
        ("unicast-src-ip", "write `source = \"10.0.0.2\"`"),
        ("mcast-src-ip", "write `source = \"10.0.0.2\"`"),
        ("check-unicast-src", "leave it out: only peers are heeded"),
        ("peers", "write `unicast = { peers = [\"10.0.0.3\"] }`"),
        ("use-vmac", "write `virtual-mac = true`, or the interface's name instead of `true`"),
        ("vmac-xmit-base", "write `advertise-from = \"interface\"`"),
        ("no-accept", "write `accept = false`"),
        ("accept-mode", "write `accept`"),
        ("garp-master-delay", "write `announce = { after = [\"0s\", \"5s\"] }`"),
        (
            "garp-master-repeat",
            "write `announce = { after = [\"0s\", \"100ms\", \"1s\"] }`: a time for each",
        ),
        ("garp-master-refresh", "write `announce = { refresh = \"60s\" }`"),
        ("v3-checksum-as-v2", "write `checksum = \"rfc9568\"`"),
        (
            "auth-hmac",
            "write `authentication = { type = \"hmac\", key-id = 1, key-file = \"/path\" }`",
        ),
        ("hold-time", "write `preempt-delay`"),
        ("startup-delay", "write `startup-limit`"),
        ("skip-check-adv-addr", "leave it out: another address list is shown and never refused"),
        ("strict-mode", "leave it out: what a version cannot do is an error already"),
        ("dont-track-primary", "a virtual router cannot serve without its interface"),
        ("native-ipv6", "leave it out: the family is that of `addresses`"),
        ("state", "leave it out: every router starts as backup, the priority decides"),
        ("dev", "write `interface`"),
        ("auth-type", "write `authentication = { type = \"pass\", password = \"…\" }`"),
        ("auth-pass", "write `authentication = { type = \"pass\", password = \"…\" }`"),
        ("password", "write `authentication = { type = \"pass\", password = \"…\" }`"),
        ("password-file", "write `authentication = { type = \"pass\", password-file = \"…\" }`"),
        ("group", "name the virtual router in `virtual-routers` of `[group.NAME]`"),
        ("notify-master", "write `master` under `[vrrp.NAME.notify]`"),
        ("notify-primary", "write `master` under `[vrrp.NAME.notify]`"),
        ("notify-backup", "write `backup` under `[vrrp.NAME.notify]`"),
        ("notify-fault", "write `fault` under `[vrrp.NAME.notify]`"),
        ("notify-stop", "write `stop` under `[vrrp.NAME.notify]`"),
    ],
};

pub(crate) const AUTHENTICATION: Section = Section {
    heading: "[vrrp.NAME.authentication]",
    keys: &[
        "type",
        "password",
        "password-file",
        "key-id",
        "key",
        "key-file",
        "other-keys",
        "mode",
        "window",
    ],
    foreign: &[
        ("auth-type", "write `type`"),
        ("auth-pass", "write `password`"),
        ("active-key", "write `key-id`, and the other keys under `other-keys`"),
        ("time-window", "write `window`"),
        ("anti-replay", "leave it out: every advertisement is stamped with the time of day"),
    ],
};

pub(crate) const OTHER_KEY: Section = Section {
    heading: "other-keys = [{ … }]",
    keys: &["key-id", "key", "key-file"],
    foreign: &[("id", "write `key-id`")],
};

pub(crate) const UNICAST: Section = Section {
    heading: "[vrrp.NAME.unicast]",
    keys: &["peers", "ttl", "minimum-ttl"],
    foreign: &[
        ("peer", "write `peers = [\"10.0.0.3\"]`"),
        ("unicast-peer", "write `peers = [\"10.0.0.3\"]`"),
        ("min-ttl", "write `minimum-ttl`"),
        ("hop-limit", "write `ttl`"),
        ("unicast-src-ip", "write `source` under `[vrrp.NAME]`"),
        ("source", "write it under `[vrrp.NAME]`"),
    ],
};

pub(crate) const ANNOUNCE: Section = Section {
    heading: "[vrrp.NAME.announce]",
    keys: &["after", "refresh"],
    foreign: &[
        ("delay", "write `after = [\"0s\", \"5s\"]`"),
        ("repeat", "write `after = [\"0s\", \"100ms\", \"1s\"]`: a time for each"),
        ("interval", "write `announcement-interval` under `[interface.NAME]`"),
    ],
};

pub(crate) const TRACK: Section = Section {
    heading: "track = [{ … }]",
    keys: &["check", "interface", "file", "process", "weight", "quorum", "delay"],
    foreign: &[
        ("script", "write `check = \"NAME\"`"),
        ("dev", "write `interface`"),
        ("path", "write `file`"),
        ("command", "write `process` for a program that runs, `check` for one to run"),
        ("priority", "write `weight`"),
        ("reverse", "track a check that fails when the thing is as it should not be"),
        ("count", "write `quorum`"),
    ],
};

pub(crate) const VIRTUAL_ADDRESS: Section = Section {
    heading: "addresses = [{ … }]",
    keys: &["address", "broadcast", "interface", "label", "scope"],
    foreign: &[
        ("brd", "write `broadcast`"),
        ("dev", "write `interface`"),
        ("prefix", "write `address = \"10.1.1.1/24\"`"),
    ],
};

pub(crate) const CHECK: Section = Section {
    heading: "[check.NAME]",
    keys: &["command", "user", "group", "interval", "timeout", "rise", "fall"],
    foreign: &[
        ("script", "write `command = [\"/path/of/program\", \"argument\"]`"),
        ("script-user", "write `user`"),
        (
            "weight",
            "write it where the check is tracked: `track = [{ check = \"NAME\", weight = -20 }]`",
        ),
        ("init-fail", "leave it out: a router serves only once the check has succeeded"),
    ],
};

pub(crate) const GROUP: Section = Section {
    heading: "[group.NAME]",
    keys: &["virtual-routers", "checks", "track", "notify", "hand-over-limit"],
    foreign: &[
        ("track-interface", "write `track = [{ interface = \"eth2\" }]`"),
        ("track-file", "write `track = [{ file = \"/path\", weight = 1 }]`"),
        ("track-process", "write `track = [{ process = \"named\", weight = -20 }]`"),
        ("sync-group-tracking-weight", "leave it out: weights of members always count"),
        ("global-tracking", "leave it out: `track` of a group is for all its members"),
        ("group", "write `virtual-routers`"),
        ("members", "write `virtual-routers`"),
        ("track-script", "write `checks = [\"NAME\"]`"),
        ("notify-master", "write `master` under `[group.NAME.notify]`"),
        ("notify-backup", "write `backup` under `[group.NAME.notify]`"),
        ("notify-fault", "write `fault` under `[group.NAME.notify]`"),
        ("notify-stop", "write `stop` under `[group.NAME.notify]`"),
        ("preempt", "write it under `[vrrp.NAME]` of each member"),
        ("priority", "write it under `[vrrp.NAME]` of each member"),
    ],
};

pub(crate) const NOTIFY: Section =
    Section { heading: "[group.NAME.notify]", keys: NOTIFY_KEYS, foreign: NOTIFY_FOREIGN };

pub(crate) const VRRP_NOTIFY: Section =
    Section { heading: "[vrrp.NAME.notify]", keys: NOTIFY_KEYS, foreign: NOTIFY_FOREIGN };

const NOTIFY_KEYS: &[&str] =
    &["master", "backup", "fault", "stop", "notify", "timeout", "user", "group", "on-failure"];

const NOTIFY_FOREIGN: &[(&str, &str)] = &[
    ("primary", "write `master`"),
    ("active", "write `master`"),
    ("deleted", "leave it out: it takes a restart to remove anything, which is a `stop`"),
    ("every", "write `notify`"),
    ("script-user", "write `user`"),
];

pub(crate) const REPLICATION: Section = Section {
    heading: "[replication]",
    keys: &[
        "group",
        "groups",
        "protocol",
        "mode",
        "standby",
        "link",
        "filter",
        "expectations",
        "ack-window",
        "resend-queue",
        "cache-limit",
        "commit-timeout",
        "commit-limit",
        "hold-forwarding",
        "preempt-limit",
        "purge-timeout",
        "refresh-interval",
        "cache-timeout",
        "event-buffer",
        "event-buffer-limit",
    ],
    foreign: &[
        ("ackwindowsize", "write `ack-window`"),
        ("resendqueuesize", "write `resend-queue`"),
        ("hashlimit", "write `cache-limit`"),
        ("hashsize", "leave it out: the caches grow by themselves"),
        ("purgetimeout", "write `purge-timeout`"),
        ("committimeout", "write `commit-timeout`"),
        ("refreshtime", "write `refresh-interval`"),
        ("cachetimeout", "write `cache-timeout`"),
        ("disableexternalcache", "write `standby = \"kernel\"`"),
        ("disableinternalcache", "leave it out: the kernel's events are always kept until told"),
        ("startupresync", "leave it out: peers are always asked for everything at the start"),
        ("expectationsync", "write `expectations = true`, or the helpers: `[\"ftp\"]`"),
        ("tcpwindowtracking", "leave it out: window scales are always kept"),
        ("options", "write `expectations`; window scales are always kept"),
        ("netlinkbuffersize", "write `event-buffer`"),
        ("socketbuffersize", "write `event-buffer`"),
        ("netlinkbuffersizemaxgrowth", "write `event-buffer-limit`"),
        ("socketbuffersizemaxgrowth", "write `event-buffer-limit`"),
        ("socketbuffersizemaxgrown", "write `event-buffer-limit`"),
        ("netlinkoverrunresync", "leave it out: the table is read again after lost events"),
        ("netlinkeventsreliable", "leave it out: what events do not tell is read again"),
        ("pollsecs", "leave it out: the kernel's events are used"),
        ("eventiterationlimit", "leave it out: peers are served between events"),
        ("multicast", "write `[[replication.link]]` with `multicast`"),
        ("udp", "write `[[replication.link]]` with `local` and `peers`"),
        ("tcp", "write `[[replication.link]]` with `local`, `peers` and `transport = \"tcp\"`"),
        ("transport", "write it under `[[replication.link]]`"),
        ("links", "write `[[replication.link]]`, once for each"),
    ],
};

pub(crate) const REPLICATION_LINK: Section = Section {
    heading: "[[replication.link]]",
    keys: &[
        "interface",
        "multicast",
        "local",
        "peers",
        "transport",
        "port",
        "checksum",
        "send-buffer",
        "receive-buffer",
    ],
    foreign: &[
        ("ipv4-address", "write `multicast` for a group, `local` for this router's address"),
        ("ipv6-address", "write `multicast` for a group, `local` for this router's address"),
        ("ipv4-destination-address", "write `peers = [\"192.168.100.3\"]`"),
        ("ipv6-destination-address", "write `peers = [\"fd00::3\"]`"),
        ("ipv4-interface", "leave it out: it is the address of `interface`"),
        ("ipv6-interface", "leave it out: it is the address of `interface`"),
        ("source", "write `local`"),
        ("peer", "write `peers = [\"192.168.100.3\"]`"),
        ("group", "write `port`"),
        ("sndsocketbuffer", "write `send-buffer`"),
        ("rcvsocketbuffer", "write `receive-buffer`"),
        ("errorqueuelength", "leave it out: what cannot be sent yet waits and is never cut"),
        ("default", "leave it out: the first link that works is used"),
    ],
};

pub(crate) const REPLICATION_FILTER: Section = Section {
    heading: "[replication.filter]",
    keys: &[
        "protocols",
        "ignore-protocols",
        "addresses",
        "ignore-addresses",
        "tcp-states",
        "include-local",
    ],
    foreign: &[
        ("protocol", "write `protocols`, or `ignore-protocols`"),
        ("address", "write `addresses`, or `ignore-addresses`"),
        ("state", "write `tcp-states = [\"established\"]`"),
        ("states", "write `tcp-states`"),
        ("from", "leave it out: the kernel leaves out what it can by itself"),
    ],
};

pub(crate) const TABLES: Section = Section { heading: "[tables]", keys: &[], foreign: &[] };

pub(crate) const INTERFACE: Section = Section {
    heading: "[interface.NAME]",
    keys: &["up-when", "group", "announcement-interval"],
    foreign: &[
        ("when", "write `up-when`"),
        ("up", "write `up-when = \"always\"`"),
        ("garp-interval", "write `announcement-interval`"),
        ("gna-interval", "write `announcement-interval`"),
    ],
};

pub(crate) const ADDRESS: Section = Section {
    heading: "[[address]]",
    keys: &["address", "interface", "broadcast", "label", "scope", "when", "group"],
    foreign: &[
        ("brd", "write `broadcast`"),
        ("dev", "write `interface`"),
        ("local", "write `address`"),
    ],
};

pub(crate) const ROUTE: Section = Section {
    heading: "[[route]]",
    keys: &[
        "to",
        "type",
        "via",
        "dev",
        "onlink",
        "next-hops",
        "src",
        "table",
        "metric",
        "mtu",
        "scope",
        "protocol",
        "when",
        "group",
    ],
    foreign: &[
        ("destination", "write `to`"),
        ("dst", "write `to`"),
        ("gateway", "write `via`"),
        ("gw", "write `via`"),
        ("nexthop", "write `via`, or of several `next-hops = [{ via = \"10.1.1.254\" }, …]`"),
        ("next-hop", "write `via`, or of several `next-hops = [{ via = \"10.1.1.254\" }, …]`"),
        ("nexthops", "write `next-hops = [{ via = \"10.1.1.254\", weight = 1 }, …]`"),
        ("multipath", "write `next-hops = [{ via = \"10.1.1.254\", weight = 1 }, …]`"),
        ("weight", "write it in each of `next-hops`"),
        ("nhid", "write the next hops themselves: `via`, `dev` or `next-hops`"),
        ("interface", "write `dev`"),
        ("oif", "write `dev`"),
        ("on-link", "write `onlink`"),
        ("source", "write `src`"),
        ("from", "write `src` for the preferred source address"),
        ("lookup", "write `table`"),
        ("priority", "write `metric`"),
        ("preference", "write `metric`"),
        ("pref", "write `metric`"),
        ("proto", "write `protocol`"),
        ("kind", "write `type`"),
        ("up-when", "write `when`"),
        ("track-group", "write `group`, and `when = \"master\"`"),
        ("no-track", "leave it out: the state of a route is no fault of a group"),
    ],
};

pub(crate) const NEXT_HOP: Section = Section {
    heading: "next-hops = [{ … }]",
    keys: &["via", "dev", "weight", "onlink"],
    foreign: &[
        ("gateway", "write `via`"),
        ("gw", "write `via`"),
        ("nexthop", "write `via`"),
        ("interface", "write `dev`"),
        ("oif", "write `dev`"),
        ("on-link", "write `onlink`"),
        ("src", "write it once, in the route itself"),
        ("metric", "write it once, in the route itself; shares are set by `weight`"),
        ("nhid", "write `via` and `dev`"),
    ],
};

pub(crate) const RULE: Section = Section {
    heading: "[[rule]]",
    keys: &[
        "priority",
        "table",
        "action",
        "from",
        "to",
        "fwmark",
        "iif",
        "oif",
        "tos",
        "ipproto",
        "sport",
        "dport",
        "suppress-prefixlength",
        "family",
        "protocol",
        "when",
        "group",
    ],
    foreign: &[
        ("lookup", "write `table`"),
        ("pref", "write `priority`"),
        ("preference", "write `priority`"),
        ("order", "write `priority`"),
        ("mark", "write `fwmark`"),
        ("dev", "write `iif`"),
        ("src", "write `from`"),
        ("dst", "write `to`"),
        ("type", "write `action`"),
        ("blackhole", "write `action = \"blackhole\"`"),
        ("unreachable", "write `action = \"unreachable\"`"),
        ("prohibit", "write `action = \"prohibit\"`"),
        ("dsfield", "write `tos`"),
        ("dscp", "write `tos`: four times the DSCP"),
        ("proto", "write `ipproto` for TCP and the like, `protocol` for who made the rule"),
        ("ip-proto", "write `ipproto`"),
        ("ip-protocol", "write `ipproto`"),
        ("ipprotocol", "write `ipproto`"),
        ("source-port", "write `sport`"),
        ("destination-port", "write `dport`"),
        ("suppress-prefix-length", "write `suppress-prefixlength`"),
        ("suppress-pl", "write `suppress-prefixlength`"),
        ("goto", "leave it out: what a rule jumps over is better selected by the others"),
        ("track-group", "write `group`, and `when = \"master\"`"),
        ("no-track", "leave it out: the state of a rule is no fault of a group"),
    ],
};

/// Every section, in the order of the reference.
#[cfg(test)]
pub(crate) const SECTIONS: &[&Section] = &[
    &ROOT,
    &ROUTER,
    &VRRP,
    &VRRP_NOTIFY,
    &AUTHENTICATION,
    &OTHER_KEY,
    &UNICAST,
    &ANNOUNCE,
    &TRACK,
    &VIRTUAL_ADDRESS,
    &CHECK,
    &GROUP,
    &NOTIFY,
    &REPLICATION,
    &REPLICATION_LINK,
    &REPLICATION_FILTER,
    &TABLES,
    &INTERFACE,
    &ADDRESS,
    &ROUTE,
    &NEXT_HOP,
    &RULE,
];

/// Longest unknown word that is compared with the known ones, in bytes: comparing costs its square.
const COMPARED_LENGTH: usize = 64;

/// What to say of a key that `section` does not have.
pub(crate) fn unknown_key(section: &Section, key: &str) -> Problem {
    let place = if section.heading == ROOT.heading {
        String::new()
    } else {
        format!(" in `{}`", section.heading)
    };
    let problem = Problem::error(format!("unknown key `{key}`{place}"));
    let plain = normal(key);
    if let Some((_, help)) = section.foreign.iter().find(|(word, _)| *word == plain) {
        return problem.label("not a key here").help(*help);
    }
    match nearest(key, section.keys) {
        Some(near) => problem.label("not a key here").help(format!("did you mean `{near}`?")),
        None => {
            problem.label("not a key here").help(format!("known keys: {}", section.keys.join(", ")))
        }
    }
}

/// The word of `known` that `word` most likely stands for.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if word.len() > COMPARED_LENGTH {
        return None;
    }
    let word = normal(word);
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &normal(candidate)), *candidate))
        .filter(|(distance, candidate)| {
            *distance <= candidate.len().div_ceil(3).min(word.chars().count() / 2 + 1)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

fn normal(word: &str) -> String {
    word.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = include_str!("../../../docs/reference/configuration.md");

    /// The keys that a section of the reference describes: the first column of its tables.
    fn documented(heading: &str) -> Option<Vec<String>> {
        let title = format!("\n## `{heading}`\n");
        let start = REFERENCE.find(&title)? + title.len();
        let section = REFERENCE[start..].split("\n## ").next()?;
        let key = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
        Some(section.lines().filter_map(key).collect())
    }

    #[test]
    fn the_reference_describes_every_key_and_no_other() {
        for section in SECTIONS {
            let documented = documented(section.heading)
                .unwrap_or_else(|| panic!("no section `{}`", section.heading));
            let mut known: Vec<_> = section.keys.to_vec();
            let mut described: Vec<_> = documented.iter().map(String::as_str).collect();
            known.sort_unstable();
            described.sort_unstable();
            assert_eq!(described, known, "{}", section.heading);
        }
        assert_eq!(
            REFERENCE.matches("\n## `").count(),
            SECTIONS.len(),
            "a section that the reader does not know"
        );
    }

    #[test]
    fn words_of_other_programs_are_not_keys() {
        for section in SECTIONS {
            for (word, _) in section.foreign {
                assert!(!section.has(word), "{word} in {}", section.heading);
                assert_eq!(normal(word), *word, "{word} is never found");
            }
        }
    }

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_a_strange_one_none() {
        assert_eq!(nearest("vird", VRRP.keys), Some("vrid"));
        assert_eq!(nearest("advertisment_interval", VRRP.keys), Some("advertisement-interval"));
        assert_eq!(nearest("adresses", VRRP.keys), Some("addresses"));
        assert_eq!(nearest("bananas", VRRP.keys), None);
        assert_eq!(nearest("", VRRP.keys), None);
    }
}
