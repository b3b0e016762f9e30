//! keepalived and conntrackd on one router, and the script that keepalived calls so that conntrackd
//! learns of its state.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use lockstep_lab::{Lab, Node, RouterId};
use lockstep_tests::conntrackd::Conntrackd;
use lockstep_tests::keepalived::Keepalived;
use lockstep_tests::wait;
use tempfile::TempDir;

use crate::side::{CHECK_EVERY, Division, LINK_BUFFER, Setting, Since, State, milliseconds};

/// Of the buffer for the kernel's events, in bytes, at first and at most: what Lockstep has by
/// itself, so that none of the flows that are made at once is missed.
const EVENT_BUFFER: u32 = 8 << 20;
const EVENT_BUFFER_LIMIT: u32 = 64 << 20;

/// Both daemons; the first field ends first.
pub(crate) struct Theirs {
    keepalived: Keepalived,
    conntrackd: Conntrackd,
    directory: TempDir,
}

/// One finished run of the script. The moments are by the calendar, since 1970.
struct Run {
    state: String,
    began: Duration,
    committed: Duration,
    ended: Duration,
    failed: usize,
}

impl Theirs {
    pub(crate) fn start(node: &Node, id: RouterId, setting: &Setting) -> Self {
        let directory = TempDir::new().unwrap();
        let [_, _, address] = Lab::addresses(id);
        let sync = format!(
            "  Mode FTFW {{
    StartupResync on
  }}
  Multicast {{
    IPv4_address 225.0.0.50
    Group {}
    IPv4_interface {address}
    Interface eth2
    SndSocketBuffer {LINK_BUFFER}
    RcvSocketBuffer {LINK_BUFFER}
    Checksum on
  }}
",
            Lab::REPLICATION_PORT,
        );
        let general = format!(
            "  HashSize {size}
  HashLimit {limit}
  NetlinkBufferSize {EVENT_BUFFER}
  NetlinkBufferSizeMaxGrowth {EVENT_BUFFER_LIMIT}
  Filter From Userspace {{
    Protocol Accept {{
      TCP
    }}
  }}
",
            size = (setting.limit / 4).max(32_768),
            limit = setting.limit,
        );
        let conntrackd = Conntrackd::configured(node, &sync, &general);
        let script = directory.path().join("primary-backup");
        let text = script_text(&conntrackd.configuration(), &log_in(&directory));
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        let keepalived = Keepalived::configured(node, &configuration(id, setting, &script));
        Self { keepalived, conntrackd, directory }
    }

    pub(crate) fn wait_for(&self, state: State) {
        let (theirs, argument) = match state {
            State::Master => ("MASTER", "master"),
            State::Backup => ("BACKUP", "backup"),
        };
        self.keepalived.wait_for_state(theirs);
        wait::until("the script has run", || {
            self.runs().last().is_some_and(|run| run.state == argument)
        });
    }

    pub(crate) fn known(&self) -> u64 {
        self.conntrackd.external_len() as u64
    }

    pub(crate) fn masteries(&self) -> usize {
        self.to_master().len()
    }

    pub(crate) fn division(&self, before: usize, since: Since, addresses: Instant) -> Division {
        let run = wait::some("the script has run", || self.to_master().into_iter().nth(before));
        let milliseconds_since = |moment: Duration| {
            let start = since.at.duration_since(UNIX_EPOCH).unwrap();
            milliseconds(moment) - milliseconds(start)
        };
        Division::Theirs {
            script_after: milliseconds_since(run.began) - milliseconds(addresses - since.instant),
            commit: milliseconds(run.committed.saturating_sub(run.began)),
            script: milliseconds(run.ended.saturating_sub(run.began)),
            failed: run.failed,
        }
    }

    pub(crate) fn kill(self) {
        self.keepalived.kill();
        drop(self.conntrackd);
    }

    pub(crate) fn stop(self) {
        self.keepalived.stop();
        self.conntrackd.stop();
    }

    fn to_master(&self) -> Vec<Run> {
        self.runs().into_iter().filter(|run| run.state == "master").collect()
    }

    fn runs(&self) -> Vec<Run> {
        let text = fs::read_to_string(log_in(&self.directory)).unwrap_or_default();
        text.lines().filter_map(run).collect()
    }
}

fn log_in(directory: &TempDir) -> PathBuf {
    directory.path().join("runs")
}

/// A line of the script's log; `None` for one that is still being written.
fn run(line: &str) -> Option<Run> {
    let words: Vec<&str> = line.split(' ').collect();
    let [state, began, committed, ended, failed, "."] = words[..] else { return None };
    // The decimal point is what the locale has.
    let moment = |text: &str| text.replace(',', ".").parse().ok().map(Duration::from_secs_f64);
    Some(Run {
        state: state.to_owned(),
        began: moment(began)?,
        committed: moment(committed)?,
        ended: moment(ended)?,
        failed: failed.parse().ok()?,
    })
}

/// The calls that conntrackd's manual gives for each state, and a line about them.
fn script_text(configuration: &Path, log: &Path) -> String {
    format!(
        "#!/bin/bash
state=$1 failed=0 began=$EPOCHREALTIME committed=$EPOCHREALTIME
tell() {{ conntrackd -C '{configuration}' \"$1\" || failed=$((failed + 1)); }}
case $state in
master)
    tell -c
    committed=$EPOCHREALTIME
    tell -f
    tell -R
    tell -B
    ;;
backup)
    tell -t
    tell -n
    ;;
fault)
    tell -t
    ;;
esac
echo \"$state $began $committed $EPOCHREALTIME $failed .\" >> '{log}'
",
        configuration = configuration.display(),
        log = log.display(),
    )
}

fn configuration(id: RouterId, setting: &Setting, script: &Path) -> String {
    let (check, checks) = match setting.health(id) {
        Some(health) => (
            format!(
                "vrrp_script healthy {{\n  script \"/usr/bin/test -e {}\"\n  interval {}\n}}\n",
                health.display(),
                CHECK_EVERY.as_secs_f64()
            ),
            "  track_script {\n    healthy\n  }\n",
        ),
        None => (String::new(), ""),
    };
    let addresses = Lab::virtual_addresses()
        .map(|(interface, address)| format!("    {address} dev {interface}\n"))
        .concat();
    format!(
        "global_defs {{
  script_user root
}}
{check}vrrp_instance gateway {{
  state BACKUP
  interface eth0
  virtual_router_id 51
  version 3
  priority {priority}
  advert_int {interval}
{checks}  virtual_ipaddress {{
{addresses}  }}
  notify_master \"{script} master\"
  notify_backup \"{script} backup\"
  notify_fault \"{script} fault\"
}}
",
        priority = Setting::priority(id),
        interval = setting.interval.as_secs_f64(),
        script = script.display(),
    )
}
