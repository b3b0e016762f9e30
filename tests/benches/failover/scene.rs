//! One pair of routers with live traffic through it, and the two changes that are measured.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use lockstep_lab::traffic::{Connections, Pace, Probe, Verdict, flows};
use lockstep_lab::{Lab, RouterId};
use lockstep_tests::wait;
use tempfile::TempDir;

use crate::addresses::Addresses;
use crate::options::{Experiment, Failure};
use crate::side::{Division, Router, Setting, Side, Since, State};

/// TCP connections that transfer.
pub(crate) const CONNECTIONS: usize = 50;
/// Longest wait for a successor.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longest wait for service after the change is over.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// What has not delivered so long after service is back, and three times the outage more, is lost.
const SETTLE: Duration = Duration::from_secs(10);
/// A reset may still be on its way to the end that did not cause it.
const AFTERMATH: Duration = Duration::from_secs(1);
const TCP_PORT: u16 = 5001;
const UDP_PORT: u16 = 5002;

/// Everything that exists during an experiment. Its parts end in this order: first the traffic,
/// then the daemons, then the networks.
pub(crate) struct Scene {
    connections: Option<Connections>,
    probe: Probe,
    routers: [Option<Router>; 2],
    lab: Lab,
    side: Side,
    experiment: Experiment,
    setting: Setting,
    health: [PathBuf; 2],
    _directory: TempDir,
}

/// What a change of mastership did.
pub(crate) struct Change {
    /// Connections that it ended, of [`CONNECTIONS`].
    pub(crate) lost: usize,
    /// How the first of them ended.
    pub(crate) loss: Option<String>,
    /// The longest time in which a surviving connection delivered nothing.
    pub(crate) stall: Duration,
    /// The longest time without an answer to a datagram.
    pub(crate) outage: Duration,
    /// From its cause until the successor had the addresses.
    pub(crate) addresses: Duration,
    pub(crate) division: Division,
    /// Flows without traffic in the successor's kernel, of all that there were.
    pub(crate) carried: [u32; 2],
}

impl Scene {
    /// Router A serves, and router B knows all that it knows.
    pub(crate) fn build(side: Side, experiment: Experiment, interval: Duration) -> Self {
        let directory = TempDir::new().unwrap();
        let health =
            RouterId::BOTH.map(|id| directory.path().join(format!("{}.healthy", id.name())));
        for file in &health {
            fs::write(file, "").unwrap();
        }
        let checked = experiment.failure == Failure::Check;
        let limit = 2 * experiment.flows + SPARE;
        let setting = Setting { interval, limit, health: checked.then(|| health.clone()) };
        let lab = Lab::new(experiment.firewall).unwrap();
        let routers =
            [(RouterId::A, State::Master), (RouterId::B, State::Backup)].map(|(id, state)| {
                let router = Router::start(side, lab.router(id).unwrap(), id, &setting);
                router.wait_for(state);
                Some(router)
            });
        let connections = Some(open(&lab));
        let address = SocketAddr::from((Lab::SERVER, UDP_PORT));
        let probe = Probe::start(lab.client(), lab.server(), address).unwrap();
        let scene = Self {
            connections,
            probe,
            routers,
            lab,
            side,
            experiment,
            setting,
            health,
            _directory: directory,
        };
        flows::install(scene.lab.router(RouterId::A).unwrap(), experiment.flows).unwrap();
        let expected = u64::from(experiment.flows) + CONNECTIONS as u64;
        wait::until("the standby knows all flows", || {
            let standby = scene.lab.router(RouterId::B).unwrap();
            scene.router(RouterId::B).known(standby).is_some_and(|known| known >= expected)
        });
        scene
    }

    /// Router A fails, and router B takes over.
    pub(crate) fn fail_over(&mut self) -> Change {
        let masteries = self.router(RouterId::B).masteries();
        self.measure(RouterId::B, masteries, |scene| scene.fail(RouterId::A))
    }

    /// Router A comes back, and takes over again. Connections that the failure has ended are made
    /// anew before.
    pub(crate) fn fail_back(&mut self) -> Change {
        let now = Instant::now();
        if !self.connections().settle(now, SETTLE).all_survived() {
            self.connections = None;
            self.connections = Some(open(&self.lab));
        }
        if self.experiment.failure == Failure::Crash {
            self.lab.power_on(RouterId::A).unwrap();
        }
        let masteries = self.routers[RouterId::A as usize].as_ref().map_or(0, Router::masteries);
        self.measure(RouterId::A, masteries, |scene| scene.repair(RouterId::A))
    }

    fn measure(
        &mut self,
        successor: RouterId,
        masteries: usize,
        cause: impl FnOnce(&mut Self),
    ) -> Change {
        let mut watch = Addresses::watch(self.lab.router(successor).unwrap());
        self.connections().forget_gaps();
        let since = Since { instant: Instant::now(), at: SystemTime::now() };
        // The cause may take until after the takeover.
        let watching =
            thread::spawn(move || watch.wait_for(Lab::virtual_addresses().len(), PATIENCE));
        cause(self);
        let there = watching.join().expect("the watch ends").expect("nobody takes over");
        let division = self.router(successor).division(masteries, since, there);
        let (verdict, outage) = self.settle(since.instant);
        let carried = flows::count(self.lab.router(successor).unwrap()).unwrap();
        Change {
            lost: verdict.connections.len() - verdict.alive,
            loss: verdict.connections.iter().find_map(|connection| connection.detail.clone()),
            stall: Duration::from_millis(verdict.longest_gap_ms),
            outage,
            addresses: there - since.instant,
            division,
            carried: [carried, self.experiment.flows],
        }
    }

    /// Waits until the traffic goes on; what has become of the connections, and the time without
    /// service.
    fn settle(&self, since: Instant) -> (Verdict, Duration) {
        let in_charge = Instant::now();
        // A service that stays away shows in the verdict.
        let answered = self.probe.wait_for_answers(in_charge, ANSWER_PATIENCE);
        let resumed = answered.unwrap_or(in_charge);
        let outage = self.probe.longest_outage(since).duration();
        self.connections().settle(resumed, SETTLE + outage * 3);
        thread::sleep(AFTERMATH);
        (self.connections().verdict(resumed), self.probe.longest_outage(since).duration())
    }

    fn fail(&mut self, id: RouterId) {
        match self.experiment.failure {
            Failure::Crash => {
                self.take(id).kill();
                self.lab.power_off(id);
            }
            Failure::Stop => self.take(id).stop(),
            Failure::Link => self.lab.router(id).unwrap().unplug("eth0").unwrap(),
            Failure::Check => fs::remove_file(&self.health[id as usize]).unwrap(),
        }
    }

    fn repair(&mut self, id: RouterId) {
        match self.experiment.failure {
            Failure::Crash | Failure::Stop => {
                let node = self.lab.router(id).unwrap();
                self.routers[id as usize] = Some(Router::start(self.side, node, id, &self.setting));
            }
            Failure::Link => self.lab.router(id).unwrap().plug("eth0").unwrap(),
            Failure::Check => fs::write(&self.health[id as usize], "").unwrap(),
        }
    }

    fn take(&mut self, id: RouterId) -> Router {
        self.routers[id as usize].take().expect("it runs")
    }

    fn router(&self, id: RouterId) -> &Router {
        self.routers[id as usize].as_ref().expect("it runs")
    }

    fn connections(&self) -> &Connections {
        self.connections.as_ref().expect("there is traffic")
    }
}

fn open(lab: &Lab) -> Connections {
    let address = SocketAddr::from((Lab::SERVER, TCP_PORT));
    Connections::open(lab.client(), lab.server(), address, CONNECTIONS, Pace::default()).unwrap()
}

/// Flows beside those asked for: the transfers, twice, and what is forgotten later.
const SPARE: u32 = 1_000;
