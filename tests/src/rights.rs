//! What the daemon needs rights for, and what it says when one is missing.

use lockstep_lab::Lab;

/// Sections that need a right each: a check of another user that has to be killed, flows put into the kernel,
/// and a link, a route and a rule. The group is `routers`.
pub fn sections() -> String {
    format!(
        r#"
        [check.alive]
        command = ["sh", "-c", "sleep 600"]
        interval = "1s"
        timeout = "500ms"
        user = "nobody"

        [replication]
        group = "routers"
        protocol = "conntrackd"
        standby = "kernel"

        [[replication.link]]
        interface = "eth2"
        multicast = "225.0.0.50"
        port = {}

        [interface.eth1]
        up-when = "always"
        [[route]]
        to = "10.70.1.0/24"
        via = "10.10.0.254"
        table = 100
        when = "master"
        [[rule]]
        fwmark = 2
        table = 100
        priority = 32000
        when = "master"
        "#,
        Lab::REPLICATION_PORT,
    )
}

/// The first line that complains of a right that is missing.
pub fn complaint(log: &str) -> Option<&str> {
    log.lines().find(|line| {
        let line = line.to_lowercase();
        ["not permitted", "permission denied", "cap_", "seccomp", "sigsys"]
            .iter()
            .any(|word| line.contains(word))
    })
}
