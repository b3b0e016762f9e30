//! A real conntrackd in a namespace, and the flows that it and the kernel know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use lockstep_lab::{Lab, Node, Process};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::wait;

/// conntrackd on one router. Dropped, it is killed; when the test panics, its log is
/// printed.
#[derive(Debug)]
pub struct Conntrackd {
    process: Process,
    directory: TempDir,
}

/// A flow by what identifies it: protocol number and the original tuple, as text.
pub type Flows = BTreeSet<String>;

impl Conntrackd {
    /// Starts it in FTFW mode over UDP multicast on `eth2`, for TCP flows only, and waits until it answers.
    ///
    /// # Panics
    /// When it does not; also when conntrackd is not installed.
    #[track_caller]
    pub fn start(node: &Node, startup_resync: bool) -> Self {
        let address = node.addresses("eth2").expect("the addresses of eth2")[0].addr();
        let sync = format!(
            "  Mode FTFW {{
    StartupResync {}
  }}
  Multicast {{
    IPv4_address 225.0.0.50
    Group {}
    IPv4_interface {address}
    Interface eth2
    Checksum on
  }}
",
            if startup_resync { "on" } else { "off" },
            Lab::REPLICATION_PORT,
        );
        let filter = "  Filter From Userspace {\n    Protocol Accept {\n      TCP\n    }\n  }\n";
        Self::configured(node, &sync, filter)
    }

    /// Starts it with these lines in its section `Sync`, and these besides the usual ones in `General`.
    ///
    /// # Panics
    /// When it does not answer; also when conntrackd is not installed.
    #[track_caller]
    pub fn configured(node: &Node, sync: &str, general: &str) -> Self {
        let directory = TempDir::new().expect("a directory for conntrackd");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("conntrackd.conf"), configuration(&directory, sync, general))
            .expect("its configuration");
        let log = File::create(path("output")).expect("its output");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "conntrackd", "-C"])
            .arg(path("conntrackd.conf"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        let process = node.start(command).expect("setpriv can be started");
        let mut conntrackd = Self { process, directory };
        wait::until("conntrackd (is it installed?) answers", || {
            let ended = conntrackd.process.ended().expect("it can be waited for");
            assert!(ended.is_none(), "conntrackd ended: {}", conntrackd.log());
            conntrackd.try_command(&["-s"]).is_some()
        });
        conntrackd
    }

    /// Its configuration file, for scripts that call `conntrackd -C`.
    pub fn configuration(&self) -> PathBuf {
        self.directory.path().join("conntrackd.conf")
    }

    /// Runs `conntrackd -C … ARGUMENTS` and gives its output.
    ///
    /// # Panics
    /// When the daemon cannot be asked.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> String {
        self.try_command(arguments).unwrap_or_else(|| panic!("conntrackd {arguments:?} fails"))
    }

    fn try_command(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new("conntrackd");
        let output = command.arg("-C").arg(self.configuration()).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The flows that its kernel told it (`-i`).
    #[track_caller]
    pub fn internal(&self) -> Flows {
        flows(&self.command(&["-i"]))
    }

    /// The flows that its peer told it (`-e`).
    #[track_caller]
    pub fn external(&self) -> Flows {
        flows(&self.command(&["-e"]))
    }

    /// What it shows of each flow that its kernel told it, by what identifies the flow.
    #[track_caller]
    pub fn internal_content(&self) -> Content {
        content(&self.command(&["-i"]))
    }

    /// What it shows of each flow that its peer told it, by what identifies the flow.
    #[track_caller]
    pub fn external_content(&self) -> Content {
        content(&self.command(&["-e"]))
    }

    /// How many flows its peer has told it and not ended.
    ///
    /// # Panics
    /// When its statistics do not say.
    #[track_caller]
    pub fn external_len(&self) -> usize {
        let statistics = self.command(&["-s"]);
        let (_, external) = statistics.split_once("cache external:").expect("an external cache");
        let line = external.lines().find(|line| line.starts_with("current active connections:"));
        let count = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
        count.unwrap_or_else(|| panic!("no number of flows in {statistics}"))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged and printed.
    pub fn log(&self) -> String {
        let text = |name| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        text("log") + &text("output")
    }

    /// Stops it.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn stop(mut self) {
        self.process.signal(Signal::SIGTERM).expect("conntrackd can be signalled");
        let status = self.process.wait(wait::PATIENCE).expect("it can be waited for");
        assert!(status.is_some(), "conntrackd does not end");
    }
}

impl Drop for Conntrackd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let statistics = self.try_command(&["-s", "network"]).unwrap_or_default();
            eprintln!("==== conntrackd:\n{}\n{statistics}", self.log());
        }
    }
}

/// The version installed, for example `conntrackd 1.4.7`.
///
/// # Panics
/// When conntrackd is not installed.
pub fn version() -> String {
    let output = Command::new("conntrackd").arg("-v").output();
    let output = output.expect("conntrackd (is it installed?) runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().find_map(|word| {
        let number = word.strip_prefix('v')?.trim_end_matches('.');
        number.starts_with(|first: char| first.is_ascii_digit()).then(|| number.to_owned())
    });
    format!("conntrackd {}", version.unwrap_or_default())
}

/// The flows of a kernel, of one protocol (`tcp`, `udp`).
///
/// # Panics
/// When they cannot be listed.
#[track_caller]
pub fn kernel_flows(node: &Node, protocol: &str) -> Flows {
    flows(&conntrack(node, &["-L", "-p", protocol]))
}

/// Puts established TCP connections into a kernel's table, `count` of them from port `first` on. No packet of them exists.
///
/// # Panics
/// When they cannot be put there.
#[track_caller]
pub fn insert_flows(node: &Node, first: u16, count: u16) {
    let line = |port: u16| {
        format!(
            "-I -p tcp -s 10.10.0.77 -d 203.0.113.77 --sport {port} --dport 443 --state ESTABLISHED \
             -u SEEN_REPLY,ASSURED -t 1000\n"
        )
    };
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), (first..first + count).map(line).collect::<String>()).expect("its text");
    conntrack(node, &["-R", &file.path().display().to_string()]);
}

/// Runs `conntrack ARGUMENTS` on a node.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn conntrack(node: &Node, arguments: &[&str]) -> String {
    let mut command = Command::new("conntrack");
    command.args(arguments);
    let output = node.output(command).expect("conntrack (is it installed?) runs");
    assert!(output.status.success(), "conntrack {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Reads the common form of conntrack's and conntrackd's lists: `tcp 6 … src= dst= sport= dport= …`, one flow a line.
pub fn flows(list: &str) -> Flows {
    list.lines().filter_map(flow).collect()
}

/// What lists of every kind show of a flow, by what identifies it: its state and its mark.
pub type Content = BTreeMap<String, String>;

/// Reads a list as [`flows`] does, with the state and the mark of each flow.
pub fn content(list: &str) -> Content {
    let described = |line: &str| {
        let words = || line.split_whitespace();
        let is_state =
            |word: &&str| word.chars().all(|char| char.is_ascii_uppercase() || char == '_');
        let state = words().skip(2).find(is_state).unwrap_or("-");
        let mark = words().find_map(|word| word.strip_prefix("mark=")).unwrap_or("0");
        Some((flow(line)?, format!("{state} {mark}")))
    };
    list.lines().filter_map(described).collect()
}

fn flow(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let protocol: u8 = words.by_ref().nth(1)?.parse().ok()?;
    let words: Vec<&str> = words.collect();
    let field = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)).unwrap_or("-");
    let [source, destination] = [field("src="), field("dst=")];
    let zone = words.iter().find_map(|word| word.strip_prefix("zone=")).unwrap_or("0");
    let of_query = words.iter().find_map(|word| word.strip_prefix("id=")).unwrap_or("-");
    let [from, to] = if [1, 58].contains(&protocol) {
        [of_query, field("type=")]
    } else {
        [field("sport="), field("dport=")]
    };
    Some(format!("{protocol} {source}:{from} {destination}:{to} {zone}"))
}

fn configuration(directory: &TempDir, sync: &str, general: &str) -> String {
    let path = |name: &str| directory.path().join(name).display().to_string();
    format!(
        "Sync {{
{sync}}}
General {{
  Systemd off
  HashSize 32768
  HashLimit 131072
  LogFile {}
  Syslog off
  LockFile {}
  UNIX {{
    Path {}
  }}
  NetlinkBufferSize 2097152
  NetlinkBufferSizeMaxGrowth 8388608
{general}}}
",
        path("log"),
        path("lock"),
        path("socket"),
    )
}
