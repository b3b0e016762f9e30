//! What a router does because its election or its group says so.

use std::rc::Rc;
use std::time::{Duration, Instant};

use lockstep_failover::{self as failover, Outcome, Step, StepId, VirtualRouterEvent};
use lockstep_vrrp::{self as vrrp, Action, Advertisement, StateName};

use super::{Output, Pending, Router};
use crate::elections::expectation::{Expectation, Terms};
use crate::elections::frame::Frame;
use crate::elections::group::NAME;

impl Router {
    pub(super) fn drive(
        &mut self,
        event: vrrp::Event,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), String> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let actions = daemon.election.handle(event, now);
        self.carry_out(actions, None, now, out)
    }

    /// `interval` is that of the advertisement that led to these actions.
    pub(super) fn carry_out(
        &mut self,
        actions: Vec<Action>,
        interval: Option<Duration>,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), String> {
        let mut observed = Vec::new();
        for action in actions {
            observed.push(match action {
                Action::Send(advertisement) => {
                    if let Some(failing) = self.send(&advertisement, now, out)? {
                        observed.push(failing);
                    }
                    continue;
                }
                Action::StateChanged { from, to } => {
                    self.state_changed(from, to, interval, now, out);
                    continue;
                }
                Action::Elected { reason } => {
                    let Some(daemon) = &self.daemon else { return Ok(()) };
                    daemon.expectation.elected(now)?;
                    VirtualRouterEvent::Elected { reason }
                }
                Action::Deferred => VirtualRouterEvent::Deferred,
                Action::Succeeded { by, .. } => VirtualRouterEvent::Succeeded { by },
                Action::Superseded { reason, .. } => VirtualRouterEvent::Superseded { reason },
                Action::Rejected { .. }
                | Action::Differs { .. }
                | Action::Withheld { .. }
                | Action::Conflict { .. }
                | Action::Overslept { .. } => {
                    out.note(|| format!("router {}: {action:?}", self.number));
                    continue;
                }
            });
        }
        for event in observed {
            out.note(|| format!("router {}: {event:?}", self.number));
            self.feed(failover::Event::VirtualRouter { name: NAME.to_owned(), event }, now, out)?;
        }
        Ok(())
    }

    fn state_changed(
        &mut self,
        from: StateName,
        to: StateName,
        interval: Option<Duration>,
        now: Instant,
        out: &mut Output,
    ) {
        let Some(daemon) = &mut self.daemon else { return };
        let terms = Terms { config: &daemon.settings, priority: daemon.priority };
        let own = daemon.settings.advertisement_interval;
        daemon.expectation = match (from, to) {
            (_, StateName::Master) => Expectation::master(terms, now),
            (StateName::Initialize, StateName::Backup) => Expectation::started(terms, now),
            (_, StateName::Backup) => {
                Expectation::stepped_down(terms, interval.unwrap_or(own), now)
            }
            (_, StateName::Initialize) => Expectation::Nothing,
        };
        let masters = [from, to].iter().filter(|state| **state == StateName::Master).count();
        self.transitions += masters as u64;
        if to == StateName::Master {
            daemon.counted.became_master += 1;
            out.elected = true;
        }
        out.note(|| format!("router {} is {}", self.number, to.as_str()));
    }

    /// Sends, or says that it could not for too long.
    fn send(
        &mut self,
        advertisement: &Advertisement,
        now: Instant,
        out: &mut Output,
    ) -> Result<Option<VirtualRouterEvent>, String> {
        let (sends, utc) = (self.link && !self.mute, self.utc(now));
        let Some(daemon) = &mut self.daemon else { return Ok(None) };
        daemon.counted.sent += 1;
        daemon.counted.sent_zero += u64::from(advertisement.priority == 0);
        if advertisement.priority > 0 {
            let terms = Terms { config: &daemon.settings, priority: daemon.priority };
            daemon.expectation.spoke(terms, now)?;
            let said = (advertisement.priority, advertisement.interval);
            let in_force = (daemon.priority, daemon.settings.advertisement_interval);
            if said != in_force {
                return Err(format!("it advertises {said:?}, and {in_force:?} is in force"));
            }
        }
        if !sends {
            let failing = daemon.not_sent(now);
            self.failures += u64::from(failing.is_some());
            return Ok(failing);
        }
        daemon.unsent_since = None;
        for packet in daemon.encoder.packets(advertisement, self.address, utc) {
            out.frames.push(Rc::new(Frame {
                from: self.number,
                destination: packet.destination,
                bytes: packet.bytes,
                priority: advertisement.priority,
                interval: advertisement.interval,
                sender: Rc::clone(&daemon.settings),
                source: self.address,
            }));
        }
        Ok(None)
    }

    pub(super) fn feed(
        &mut self,
        event: failover::Event,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), String> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let actions = daemon.failover.handle(event, now);
        self.perform(actions, now, out)
    }

    pub(super) fn perform(
        &mut self,
        actions: Vec<failover::Action>,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), String> {
        for action in actions {
            match action {
                failover::Action::Startup { .. } => {
                    self.drive(vrrp::Event::Startup { primary: self.address }, now, out)?;
                }
                failover::Action::Claim { .. } => self.drive(vrrp::Event::Claim, now, out)?,
                failover::Action::PreemptAllowed { allowed, .. } => {
                    self.drive(vrrp::Event::PreemptAllowed(allowed), now, out)?;
                }
                failover::Action::Priority { priority, .. } => {
                    self.prioritise(priority, now, out)?;
                }
                failover::Action::Serves { .. } => {}
                failover::Action::Withdraw { .. } => {
                    self.drive(vrrp::Event::Shutdown, now, out)?;
                }
                failover::Action::MayReturn { .. } => {
                    self.drive(vrrp::Event::MayReturn, now, out)?;
                }
                failover::Action::HandoverEnded { .. } => {}
                failover::Action::Stopped { .. } => {
                    let Some(daemon) = &mut self.daemon else { return Ok(()) };
                    daemon.stopped = true;
                }
                failover::Action::Step { id, step, to, reason, .. } => {
                    if matches!(step, Step::Claim | Step::StopClaiming) {
                        out.note(|| format!("router {} to {}: {reason}", self.number, to.as_str()));
                    }
                    self.step(id, step, to, now, out)?;
                }
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        id: StepId,
        step: Step,
        to: failover::State,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), String> {
        let outcome = match (step, to) {
            (Step::Claim, _) => {
                if let Some(daemon) = &mut self.daemon
                    && daemon.state() != StateName::Master
                {
                    daemon.unsent_since = None;
                }
                self.drive(vrrp::Event::Claim, now, out)?;
                match &self.daemon {
                    Some(daemon) if daemon.unsent_since.is_some() => {
                        self.failures += 1;
                        Outcome::Failed("advertisement not sent".to_owned())
                    }
                    _ => Outcome::Done(String::new()),
                }
            }
            (Step::StopClaiming, failover::State::Backup) => {
                self.drive(vrrp::Event::Relinquish, now, out)?;
                Outcome::Done(String::new())
            }
            (Step::StopClaiming, _) => {
                self.drive(vrrp::Event::Shutdown, now, out)?;
                Outcome::Done(String::new())
            }
            (Step::Announce | Step::Hooks, _) => Outcome::Done(String::new()),
            _ => {
                let Some(daemon) = &mut self.daemon else { return Ok(()) };
                let time = Duration::from_micros(self.steps.u64(50..3_000));
                let after = daemon.network.back().map_or(now, |last| last.due).max(now);
                daemon.network.push_back(Pending { id, step, due: after + time });
                return Ok(());
            }
        };
        self.feed(failover::Event::Stepped { id, outcome }, now, out)
    }
}
