//! conntrackd or lockstep, told the same, and asked the same.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lockstep_lab::{Node, Process};
use lockstep_tests::daemon::binary;
use serde_json::Value;
use tempfile::TempDir;

use crate::cable::connect;
use crate::cost::Cost;
use crate::load;

/// Which daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Conntrackd,
    Lockstep,
}

/// How the standby keeps what it is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standby {
    /// In its external cache.
    Cache,
    /// In its kernel.
    Kernel,
}

/// What a daemon can be told to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Put what the peer has told into the kernel.
    Commit,
    /// Forget what the peer has told.
    FlushExternal,
    /// Forget everything.
    Flush,
    /// Tell the peer everything.
    Bulk,
    /// Read the kernel's table.
    Reread,
}

/// A running daemon. Dropped, it is killed.
pub(crate) struct Daemon {
    kind: Kind,
    standby: Standby,
    process: Process,
    directory: TempDir,
}

/// Two routers, the first of which serves, with a cable for flows and one for advertisements.
pub(crate) struct Pair {
    pub(crate) nodes: [Node; 2],
}

/// Bytes of the socket buffers on the link, of both daemons.
const LINK_BUFFER: usize = 2 << 20;
/// Bytes of the buffer for the kernel's events, at first and at most.
pub(crate) const EVENT_BUFFER: [usize; 2] = [2 << 20, 8 << 20];
/// Both daemons have the real-time priority that conntrackd would give itself, lower, so that what
/// else the machine does is in neither's figures.
const PRIORITY: &str = "50";
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(1);
/// Wait for one probe.
const PROBE_FOR: Duration = Duration::from_secs(1);
/// Between two questions to a daemon, which cost it time.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Kind {
    pub(crate) const BOTH: [Self; 2] = [Self::Conntrackd, Self::Lockstep];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Conntrackd => "conntrackd",
            Self::Lockstep => "lockstep",
        }
    }
}

impl Pair {
    pub(crate) fn new() -> Self {
        let nodes = ["active", "standby"].map(|name| Node::new(name).unwrap());
        let [active, standby] = &nodes;
        connect(active, standby, "eth0", ["10.51.0.11/24", "10.51.0.12/24"]);
        connect(active, standby, "eth2", ["172.31.255.1/30", "172.31.255.2/30"]);
        Self { nodes }
    }

    /// Starts both daemons with room for so many flows, and waits until the standby is told.
    pub(crate) fn start(&self, kind: Kind, standby: Standby, limit: usize) -> [Daemon; 2] {
        let daemons = [0, 1].map(|which| self.start_one(which, kind, standby, limit));
        self.wait_until_told(&daemons);
        daemons
    }

    /// Starts the daemon of one router; it may take a while until it is ready.
    pub(crate) fn start_one(
        &self,
        which: usize,
        kind: Kind,
        standby: Standby,
        limit: usize,
    ) -> Daemon {
        Daemon::start(kind, &self.nodes[which], which, standby, limit)
    }

    /// Waits until a flow of the active router is with the standby.
    pub(crate) fn wait_until_told(&self, daemons: &[Daemon; 2]) {
        until("the active router serves", || daemons[0].serves());
        // What is told before both know each other may be lost.
        until("the standby is told", || {
            load::probe(&self.nodes[0], true);
            let told = within(PROBE_FOR, || self.standby_len(&daemons[1]) == 1).is_some();
            load::probe(&self.nodes[0], false);
            told
        });
        until("and also of the end", || self.standby_len(&daemons[1]) == 0);
    }

    /// Flows that the standby holds.
    pub(crate) fn standby_len(&self, daemon: &Daemon) -> usize {
        match daemon.standby {
            Standby::Cache => daemon.external().unwrap_or(0),
            Standby::Kernel => load::count(&self.nodes[1]),
        }
    }
}

impl Daemon {
    fn start(kind: Kind, node: &Node, which: usize, standby: Standby, limit: usize) -> Self {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "chrt", "--rr", PRIORITY]);
        match kind {
            Kind::Conntrackd => {
                let text = conntrackd(&directory, which, standby, limit);
                fs::write(path("conntrackd.conf"), text).unwrap();
                command.args(["conntrackd", "-C"]).arg(path("conntrackd.conf"));
            }
            Kind::Lockstep => {
                fs::write(path("lockstep.toml"), lockstep(which, standby, limit)).unwrap();
                command.arg(binary()).args(["run", "--unsupervised"]);
                command.arg("--config").arg(path("lockstep.toml"));
                command.arg("--socket").arg(path("socket"));
                command.env("NO_COLOR", "1");
            }
        }
        let log = File::create(path("output")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = node.start(command).unwrap();
        Self { kind, standby, process, directory }
    }

    /// What it has used until now.
    pub(crate) fn cost(&self) -> Cost {
        Cost::of(&[self.process.id()])
    }

    /// Whether it has begun to serve.
    pub(crate) fn serves(&self) -> bool {
        match self.kind {
            Kind::Conntrackd => self.statistics().is_some(),
            Kind::Lockstep => self.replication().is_some_and(|answer| answer["role"] == "active"),
        }
    }

    /// Flows that its kernel has told; `None` while it does not answer.
    pub(crate) fn internal(&self) -> Option<usize> {
        match self.kind {
            Kind::Conntrackd => number_after(&self.statistics()?, "cache internal:"),
            Kind::Lockstep => self.replication()?["internal"].as_u64().map(|count| count as usize),
        }
    }

    /// Flows that its peer has told; `None` while it does not answer.
    pub(crate) fn external(&self) -> Option<usize> {
        match self.kind {
            Kind::Conntrackd => number_after(&self.statistics()?, "cache external:"),
            Kind::Lockstep => self.replication()?["external"].as_u64().map(|count| count as usize),
        }
    }

    /// Has it do something, and waits until it has.
    ///
    /// # Errors
    /// What it says when it does not.
    pub(crate) fn order(&self, order: Order) -> Result<(), String> {
        match self.kind {
            Kind::Conntrackd => {
                let mut command = Command::new("conntrackd");
                command.arg("-C").arg(self.path("conntrackd.conf")).args(order.theirs());
                let output = command.output().unwrap();
                let said = format!("{order:?}: {output:?}");
                output.status.success().then_some(()).ok_or(said)
            }
            Kind::Lockstep => {
                let answer = self.ask(order.ours()).ok_or("no answer")?;
                let error = answer["error"].as_str();
                error.map_or(Ok(()), |error| Err(format!("{order:?}: {error}")))
            }
        }
    }

    /// Ends it so that it says nothing.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What `conntrackd -s` prints.
    fn statistics(&self) -> Option<String> {
        const STATISTICS: i32 = 21;
        let mut stream = UnixStream::connect(self.path("socket")).ok()?;
        stream.write_all(&STATISTICS.to_ne_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// What it tells of replication.
    fn replication(&self) -> Option<Value> {
        Some(self.ask(r#"{"request":"replication"}"#)?["ok"].take())
    }

    /// The last transition of the router's group.
    pub(crate) fn last_transition(&self) -> Option<Value> {
        let mut answer = self.ask(r#"{"request":"journal"}"#)?;
        answer["ok"].as_array_mut()?.pop()
    }

    fn ask(&self, request: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.path("socket")).ok()?;
        writeln!(stream, "{request}").ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }
}

impl Order {
    fn theirs(self) -> &'static [&'static str] {
        match self {
            Self::Commit => &["-c"],
            Self::FlushExternal => &["-f", "external"],
            Self::Flush => &["-f"],
            Self::Bulk => &["-B"],
            Self::Reread => &["-R"],
        }
    }

    fn ours(self) -> &'static str {
        match self {
            Self::Commit => r#"{"request":"replication-commit"}"#,
            Self::FlushExternal => r#"{"request":"replication-flush","which":"external"}"#,
            Self::Flush => r#"{"request":"replication-flush","which":"both"}"#,
            Self::Bulk => r#"{"request":"replication-bulk"}"#,
            Self::Reread => r#"{"request":"replication-reread"}"#,
        }
    }
}

/// Waits until it is so; how long that took.
#[track_caller]
pub(crate) fn until(what: &str, condition: impl FnMut() -> bool) -> Duration {
    within(PATIENCE, condition).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// The same; `None` when it is not so in this time.
pub(crate) fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> Option<Duration> {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > limit {
            return None;
        }
        thread::sleep(LOOK_EVERY);
    }
    Some(began.elapsed())
}

/// The first number behind a heading.
fn number_after(text: &str, heading: &str) -> Option<usize> {
    let (_, rest) = text.split_once(heading)?;
    rest.split_whitespace().find_map(|word| word.parse().ok())
}

fn lockstep(which: usize, standby: Standby, limit: usize) -> String {
    let [router, priority] = [["active", "150"], ["standby", "100"]][which];
    let [buffer, buffer_limit] = EVENT_BUFFER;
    let more = match standby {
        Standby::Cache => "",
        Standby::Kernel => "standby = \"kernel\"\n",
    };
    format!(
        "[router]
id = \"{router}\"

[vrrp.gateway]
interface = \"eth0\"
vrid = 51
priority = {priority}
startup-limit = \"0s\"
addresses = [\"10.51.0.1/24\"]

[replication]
protocol = \"conntrackd\"
group = \"gateway\"
cache-limit = {limit}
event-buffer = {buffer}
event-buffer-limit = {buffer_limit}
{more}
[[replication.link]]
interface = \"eth2\"
multicast = \"225.0.0.50\"
send-buffer = {LINK_BUFFER}
receive-buffer = {LINK_BUFFER}
"
    )
}

fn conntrackd(directory: &TempDir, which: usize, standby: Standby, limit: usize) -> String {
    let path = |name: &str| directory.path().join(name).display().to_string();
    let [buffer, buffer_limit] = EVENT_BUFFER;
    let (injects, resyncs) = match standby {
        Standby::Cache => ("off", "on"),
        Standby::Kernel => ("on", "off"),
    };
    format!(
        "Sync {{
  Mode FTFW {{
    StartupResync {resyncs}
    DisableExternalCache {injects}
  }}
  Multicast {{
    IPv4_address 225.0.0.50
    Group 3780
    IPv4_interface 172.31.255.{}
    Interface eth2
    SndSocketBuffer {LINK_BUFFER}
    RcvSocketBuffer {LINK_BUFFER}
    Checksum on
  }}
}}
General {{
  Systemd off
  HashSize {}
  HashLimit {limit}
  LogFile {}
  Syslog off
  LockFile {}
  UNIX {{
    Path {}
  }}
  NetlinkBufferSize {buffer}
  NetlinkBufferSizeMaxGrowth {buffer_limit}
  Scheduler {{
    Type RR
    Priority {PRIORITY}
  }}
  Filter From Userspace {{
    Protocol Accept {{
      TCP
    }}
  }}
}}
",
        which + 1,
        limit.max(32_768),
        path("log"),
        path("lock"),
        path("socket"),
    )
}
