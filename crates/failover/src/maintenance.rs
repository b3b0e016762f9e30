//! Maintenance: a group that is not to be master, because somebody works on the router.
//!
//! It is `backup` then and not `fault`, whatever is observed of its interfaces and checks; its
//! members take no part in elections. A master hands over first.

use crate::fitness::Fitness;
use crate::group::{Context, Group};
use crate::handover::Cause;
use crate::{Action, State};

impl Group {
    /// Since when it is in maintenance, for people.
    pub fn in_maintenance_since(&self) -> Option<&str> {
        self.maintenance.as_deref()
    }

    pub(crate) fn maintain(&mut self, since: Option<String>, context: &mut Context<'_>) {
        let is_handing_over = self.is_handing_over();
        let handover = self.handover.as_mut().filter(|_| is_handing_over);
        if let Some(since) = since {
            self.maintenance.get_or_insert(since);
            if let Some(handover) = handover {
                handover.is_ordered(Cause::Maintenance);
                handover.may_return = false;
            }
        } else if self.maintenance.take().is_some() {
            if let Some(handover) = handover {
                handover.is_ordered(Cause::Switchover { force: true });
                // Who may return does not look for a successor.
                handover.may_return = true;
            } else {
                self.let_return(context);
            }
        } else {
            return;
        }
        // One that has not started is told before anything is known.
        if self.state != State::Init || self.started {
            self.decide(context);
        }
    }

    /// The members may preempt those to whom they have handed over.
    pub(crate) fn let_return(&self, context: &mut Context<'_>) {
        let may_return = self
            .members
            .iter()
            .map(|member| Action::MayReturn { virtual_router: member.name.clone() });
        context.actions.extend(may_return);
    }

    /// Sees to it that the group is and stays backup.
    pub(crate) fn keep_out(&mut self, context: &mut Context<'_>) {
        match self.state {
            State::Master if self.is_handing_over() => {
                if let Fitness::Unfit(why) = self.fitness() {
                    self.not_handed_over(&why, context);
                }
            }
            State::Master if self.is_settled() => {
                let reason = self.maintenance_reason();
                self.hand_over(Cause::Maintenance, &reason, context);
            }
            State::Init | State::Master | State::Fault => {
                let reason = self.maintenance_reason();
                self.withdraw(context);
                self.enter(State::Backup, reason, context);
            }
            State::Backup if self.takes_part => {
                self.withdraw(context);
                self.stays_backup(self.maintenance_reason(), context);
            }
            State::Backup | State::Stopped => {}
        }
    }

    /// Maintenance has ended, and the group can serve.
    pub(crate) fn take_part_again(&mut self, context: &mut Context<'_>) {
        self.stays_backup("maintenance has ended".to_owned(), context);
        self.start_elections(context);
    }

    /// The members leave their elections.
    pub(crate) fn withdraw(&mut self, context: &mut Context<'_>) {
        self.takes_part = false;
        self.forget_elections();
        let withdraw = self
            .members
            .iter()
            .map(|member| Action::Withdraw { virtual_router: member.name.clone() });
        context.actions.extend(withdraw);
    }

    pub(crate) fn maintenance_reason(&self) -> String {
        let since = self.maintenance.as_deref().unwrap_or("now");
        format!("in maintenance since {since}")
    }

    /// Another reason for the same state, which the journal has too.
    fn stays_backup(&mut self, reason: String, context: &mut Context<'_>) {
        let (name, now) = (self.name(), context.now);
        let number = context.journal.begin(name, State::Backup, State::Backup, &reason, now);
        context.journal.is_over(number);
        self.reason = reason;
    }
}
