//! What goes wrong, and what operators do meanwhile.

use std::time::Duration;

use super::{What, World};
use crate::faults::{Fault, Guarded};
use crate::invariants::Violation;
use crate::lan::Cut;
use crate::router::Next;
use crate::router::settings::Change;

/// From an order that could not be carried out to the next attempt.
const ASK_AGAIN: Duration = Duration::from_millis(200);

impl World {
    pub(super) fn strike(&mut self, fault: Fault) -> Result<(), Violation> {
        let mut effects = Vec::new();
        match fault {
            Fault::Kill(number) => self.kill(number, false),
            Fault::KillGuarded(number) => self.kill(number, true),
            Fault::PowerCut(number) => {
                self.routers[number].cut_power();
                self.invariants.forget_own(number);
                self.restart_later(number);
            }
            Fault::Stop(number) => {
                self.routers[number].stop(self.now, &mut effects);
                self.restart_later(number);
                return self.follow(number, effects);
            }
            Fault::Stall(number, time) => {
                if self.routers[number].daemon.is_some() {
                    self.routers[number].stalled_until = Some(self.now + time);
                }
            }
            Fault::Deaf(number, time) => self.cut(number == 0, number == 1, time),
            Fault::Partition(time) => self.cut(true, true, time),
            Fault::CheckFails(number, time) => {
                self.routers[number].check(false, self.now, &mut effects);
                self.later(time, What::CheckPasses(number));
                return self.follow(number, effects);
            }
            Fault::Refuses(number, time) => {
                self.routers[number].refuses_until = Some(self.now + time);
            }
            Fault::Hangs(number, actor, time) => {
                self.routers[number].hangs_until[actor as usize] = Some(self.now + time);
            }
            Fault::SlowCommit(number, pace, time) => {
                self.routers[number].slow_until = Some((pace, self.now + time));
            }
            Fault::KillAfterSteps(number, steps, guarded) => {
                if let Some(daemon) = &mut self.routers[number].daemon {
                    daemon.given = 0;
                    self.routers[number].kill_after = Some((steps, guarded));
                }
            }
            Fault::InterfaceDown(number, time) => {
                let down = Err("eth0 is down".to_owned());
                self.routers[number].usable(down, self.now, &mut effects);
                self.later(time, What::InterfaceUp(number));
                return self.follow(number, effects);
            }
            Fault::HooksFail(number, time) => {
                self.routers[number].hooks.fail(self.now + time);
            }
            Fault::HooksHang(number, time) => {
                self.routers[number].hooks.hang(self.now + time);
            }
            Fault::Reload(number, change, gap) => {
                self.later(gap, What::Reload { router: 1 - number, change });
                return self.reload(number, change);
            }
            Fault::Switchover(number, force) => {
                let begun = self.routers[number].switch_over(force, self.now, &mut effects);
                self.outcome.handovers += u64::from(begun);
                return self.follow(number, effects);
            }
            Fault::Maintenance(number, time) => {
                self.later(time, What::MaintenanceEnds(number));
                return self.maintain(number, Some("a while".to_owned()));
            }
        }
        Ok(())
    }

    pub(super) fn kill(&mut self, number: usize, guarded: Guarded) {
        if !guarded {
            self.routers[number].kill();
            return self.restart_later(number);
        }
        if self.routers[number].daemon.is_none() {
            return;
        }
        let start = Duration::from_millis(self.rng.u64(10..400));
        match self.routers[number].kill_guarded(self.now) {
            Next::AtOnce => self.later(start, What::Restart(number)),
            Next::After(wait) => self.later(wait + start, What::Restart(number)),
            Next::Never => self.restart_later(number),
        }
    }

    fn restart_later(&mut self, number: usize) {
        let back = Duration::from_millis(self.rng.u64(100..8_000));
        self.later(back, What::Restart(number));
    }

    /// Puts a changed configuration in force. What has nothing to do with elections is no transition.
    pub(super) fn reload(&mut self, number: usize, change: Change) -> Result<(), Violation> {
        let mut effects = Vec::new();
        let router = &mut self.routers[number];
        let state =
            |daemon: Option<&crate::router::Daemon>| daemon.map(|it| (it.state(), it.is_master()));
        let before = state(router.daemon.as_ref());
        let settings = router.settings.with(number, change);
        if !router.reload(settings, self.now, &mut effects) {
            self.later(ASK_AGAIN, What::Reload { router: number, change });
            return Ok(());
        }
        let after = state(router.daemon.as_ref());
        self.invariants.limit_changes(number);
        self.outcome.reloads += u64::from(before.is_some());
        self.note(|| format!("router {number} has reloaded: {change:?}"));
        if !change.concerns_election() && before != after {
            let what =
                format!("router {number} has gone from {before:?} to {after:?} by {change:?}");
            return self.judge(Err(what));
        }
        self.routers[number].settle(self.now, &mut effects);
        self.follow(number, effects)
    }

    pub(super) fn maintain(
        &mut self,
        number: usize,
        since: Option<String>,
    ) -> Result<(), Violation> {
        if self.routers[number].stalled_until.is_some() {
            if since.is_none() {
                self.later(ASK_AGAIN, What::MaintenanceEnds(number));
            }
            return Ok(());
        }
        let mut effects = Vec::new();
        self.note(|| format!("router {number}: maintenance {since:?}"));
        self.routers[number].maintain(since, self.now, &mut effects);
        self.follow(number, effects)
    }

    fn cut(&mut self, first: bool, second: bool, time: Duration) {
        let mut directions = Cut::default();
        directions[0][1] = first;
        directions[1][0] = second;
        self.lan.part(&directions);
        self.later(time, What::Hear(directions));
    }
}
