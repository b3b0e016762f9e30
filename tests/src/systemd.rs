//! A host that has booted systemd, to run the service as its unit has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use lockstep_lab::{Node, Process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::daemon::{Control, binary, children, first_child};
use crate::wait;

/// Where the units and drop-ins are that operators install.
const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/systemd");
const SYSTEM: &str = "/etc/systemd/system";

/// A systemd in process, mount, host name, IPC and control group namespaces of its own, and in the network of a
/// node. Dropped, everything in it is killed; when the test panics, its journal is printed.
#[derive(Debug)]
pub struct Machine {
    control: Control,
    /// What set the namespaces up and clears them away.
    keeper: Process,
    /// systemd, as this process sees it.
    init: Pid,
    _directory: TempDir,
}

impl Machine {
    /// Boots it, with the program under test installed and no unit of ours.
    ///
    /// # Panics
    /// When systemd does not come up: it is not installed, or namespaces, cgroup2 or overlayfs are not to be had.
    #[track_caller]
    pub fn boot(node: &Node) -> Self {
        let directory = TempDir::new().expect("a directory");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/systemd.sh");
        let log = directory.path().join("log");
        let said = fs::File::create(&log).expect("a log");
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "--",
            "unshare",
            "--mount",
            "--propagation",
            "private",
        ]);
        command.args(["sh", script]).arg(directory.path()).arg(binary());
        command.stdin(Stdio::null()).stdout(said.try_clone().expect("a descriptor")).stderr(said);
        let mut keeper = node.start(command).expect("setpriv can be started");
        let init = wait::some("systemd is process 1 of its own", || {
            if let Some(status) = keeper.ended().expect("it can be asked") {
                let said = fs::read_to_string(&log).unwrap_or_default();
                panic!("systemd is needed and cannot be booted ({status}): {said}");
            }
            let init = first_child(first_child(keeper.id())?.as_raw() as u32)?;
            let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
            (name.trim() == "systemd").then_some(init)
        });
        let socket = PathBuf::from(format!("/proc/{init}/root/run/lockstep/lockstep.sock"));
        let control = Control::new(node.name(), socket);
        let machine = Self { control, keeper, init, _directory: directory };
        wait::until("systemd has started what is to be started", || {
            machine.run(&["systemctl", "is-system-running"]).stdout == b"running\n"
        });
        machine
    }

    /// Boots it with a service of this configuration, which has started.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn with_service(node: &Node, config: &str) -> Self {
        let machine = Self::boot(node);
        machine.configure(config);
        machine.start_service();
        machine
    }

    /// Installs the unit as the guide says and starts it, which waits for the service's word that it is ready.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_service(&self) {
        self.install("lockstep.service", "lockstep.service");
        self.systemctl(&["enable", "--now", "lockstep"]);
        assert_eq!(self.property("ActiveState"), "active");
    }

    /// Writes the configuration.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure(&self, config: &str) {
        fs::create_dir_all(self.path("/etc/lockstep")).expect("its directory");
        fs::write(self.path("/etc/lockstep/lockstep.toml"), config).expect("its configuration");
    }

    /// Installs one of our unit files, at this place below systemd's own directory.
    ///
    /// # Panics
    /// When it is not there.
    pub fn install(&self, unit: &str, place: &str) {
        let place = self.path(SYSTEM).join(place);
        fs::create_dir_all(place.parent().expect("a directory")).expect("its directory");
        fs::copy(Path::new(UNITS).join(unit), place).expect("the unit");
        self.systemctl(&["daemon-reload"]);
    }

    /// Where a file of the machine is for this process.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// What a file of the machine holds; nothing while it is not there.
    pub fn read(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).unwrap_or_default()
    }

    /// Runs a command in the machine to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn run(&self, command: &[&str]) -> Output {
        let mut entering = Command::new("nsenter");
        entering.args(["--all", "--target", &self.init.to_string()]);
        entering.args(["env", "--ignore-environment", "PATH=/usr/sbin:/usr/bin", "PAGER="]);
        entering.args(command).stdin(Stdio::null()).output().expect("nsenter can be started")
    }

    /// Runs `systemctl ARGUMENTS` and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn systemctl(&self, arguments: &[&str]) -> String {
        let output = self.run(&[&["systemctl"], arguments].concat());
        assert!(output.status.success(), "systemctl {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A property of the service.
    #[track_caller]
    pub fn property(&self, name: &str) -> String {
        self.property_of("lockstep", name)
    }

    /// A property of a unit.
    #[track_caller]
    pub fn property_of(&self, unit: &str, name: &str) -> String {
        self.systemctl(&["show", unit, "--value", "--property", name]).trim().to_owned()
    }

    /// The process that systemd takes for the service, as this process sees it.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn guard(&self) -> Pid {
        let inside = self.property("MainPID");
        children(self.init.as_raw() as u32)
            .into_iter()
            .find(|child| {
                let status =
                    fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
                let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
                ids.is_some_and(|ids| ids.split_whitespace().next_back() == Some(inside.as_str()))
            })
            .unwrap_or_else(|| panic!("no process has the number {inside}"))
    }

    /// The process that the guard has started, while there is one.
    #[track_caller]
    pub fn worker(&self) -> Option<Pid> {
        first_child(self.guard().as_raw() as u32)
    }

    /// Sends guard or worker a signal.
    ///
    /// # Panics
    /// When it is gone.
    #[track_caller]
    pub fn signal(&self, process: Pid, signal: Signal) {
        kill(process, signal).expect("it can be signalled");
    }

    /// The way to its daemon.
    pub fn lockstep(&self) -> &Control {
        &self.control
    }

    /// What the machine's journal holds, of the kernel and systemd too.
    #[track_caller]
    pub fn journal(&self) -> String {
        let output = self.run(&["journalctl", "--no-pager", "--output=short-monotonic"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("==== the journal of {}:\n{}", self.control.name(), self.journal());
        }
        // It takes its control groups away before it ends.
        let _ = self.keeper.signal(Signal::SIGTERM);
        let _ = self.keeper.wait(wait::PATIENCE);
    }
}
