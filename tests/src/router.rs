//! A router that runs one of the two programs, and is asked the same way whichever it is.

use std::net::IpAddr;

use lockstep_lab::Node;
use nix::sys::signal::Signal;

use crate::daemon::Lockstep;
use crate::keepalived::Keepalived;
use crate::setting::Setting;

/// What a router runs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Program {
    /// Lockstep, as built.
    Lockstep,
    /// keepalived, as installed.
    Keepalived,
}

/// What a router is, in words that both programs have.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// It has not said yet.
    Starting,
    /// It serves the addresses.
    Master,
    /// It listens.
    Backup,
    /// It cannot serve.
    Fault,
}

/// A program that runs.
#[derive(Debug)]
pub enum Router {
    /// Lockstep.
    Lockstep(Box<Lockstep>),
    /// keepalived.
    Keepalived(Box<Keepalived>),
}

impl Router {
    /// Starts `program` on `node` and waits until it answers, or listens.
    #[track_caller]
    pub fn start(
        program: Program,
        node: &Node,
        setting: &Setting,
        source: IpAddr,
        peers: &[IpAddr],
    ) -> Self {
        match program {
            Program::Lockstep => {
                let daemon = Lockstep::start(node, &setting.lockstep(source, peers));
                Self::Lockstep(Box::new(daemon))
            }
            Program::Keepalived => {
                let daemon = Keepalived::configured(node, &setting.keepalived(source, peers));
                Self::Keepalived(Box::new(daemon))
            }
        }
    }

    /// What it takes itself for.
    pub fn role(&self) -> Role {
        match self {
            Self::Lockstep(daemon) => {
                let group = daemon.group("gateway");
                match group["state"].as_str() {
                    Some("master") if group["step"].is_null() => Role::Master,
                    Some("backup") if group["step"].is_null() => Role::Backup,
                    Some("fault") => Role::Fault,
                    _ => Role::Starting,
                }
            }
            Self::Keepalived(daemon) => match daemon.state().as_deref() {
                Some("MASTER") => Role::Master,
                Some("BACKUP") => Role::Backup,
                Some("FAULT") => Role::Fault,
                _ => Role::Starting,
            },
        }
    }

    /// Stops it as systemd does.
    #[track_caller]
    pub fn stop(self) {
        match self {
            Self::Lockstep(mut daemon) => {
                let status = daemon.stop();
                assert!(status.success(), "a clean stop ends with 0: {status}");
            }
            Self::Keepalived(daemon) => daemon.stop(),
        }
    }

    /// Ends it so that it says nothing and leaves everything.
    #[track_caller]
    pub fn kill(self) {
        match self {
            Self::Lockstep(mut daemon) => daemon.kill(),
            Self::Keepalived(daemon) => daemon.kill(),
        }
    }

    /// Keeps it from being scheduled, until [`Router::wake`].
    #[track_caller]
    pub fn stall(&mut self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it be scheduled again.
    #[track_caller]
    pub fn wake(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&mut self, signal: Signal) {
        match self {
            Self::Lockstep(daemon) => {
                daemon.process().signal(signal).expect("it can be signalled");
            }
            Self::Keepalived(daemon) => daemon.signal(signal),
        }
    }

    /// Lockstep's own side of it.
    pub fn lockstep(&self) -> Option<&Lockstep> {
        match self {
            Self::Lockstep(daemon) => Some(daemon),
            Self::Keepalived(_) => None,
        }
    }

    /// keepalived's own side of it.
    pub fn keepalived(&self) -> Option<&Keepalived> {
        match self {
            Self::Keepalived(daemon) => Some(daemon),
            Self::Lockstep(_) => None,
        }
    }
}

impl Program {
    /// Its initial, in the names of mixes.
    pub fn initial(self) -> char {
        match self {
            Self::Lockstep => 'L',
            Self::Keepalived => 'K',
        }
    }
}
