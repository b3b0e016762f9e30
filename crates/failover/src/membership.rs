//! Groups that leave, and members that come and go while their group is at work.
//!
//! A group that leaves stops as it does when the daemon ends, and is no more after that. A member
//! that comes begins as every other does: it listens first. It moves nobody: one that nobody else is
//! master of is claimed when its group is master already, and counts with the others when it is not.

use crate::group::{Context, Group, Member};
use crate::{Action, State, config};

/// Why a group has stopped.
const STOPPED: &str = "stopped on request";
const LEFT: &str = "left by another configuration";
/// Why a hand-over is called off.
const OTHER_MEMBERS: &str = "another configuration has other virtual routers for it";

impl Group {
    /// Stops for good.
    pub(crate) fn leave(&mut self, context: &mut Context<'_>) {
        if !std::mem::replace(&mut self.leaves, true) && !self.is_stopping() {
            self.stop(context);
        }
    }

    /// Lets a member leave its election: another configuration does not have it here. If one has it
    /// again after all, it begins anew.
    pub(crate) fn release(&mut self, member: usize, context: &mut Context<'_>) {
        self.set_elected(member, None);
        let Some(member) = self.members.get_mut(member) else { return };
        member.is_new = true;
        let virtual_router = member.name.clone();
        context.actions.push(Action::Withdraw { virtual_router });
    }

    /// Whether it has stopped, and nothing of that is still to be done.
    pub fn has_ended(&self) -> bool {
        self.state == State::Stopped && self.is_settled()
    }

    pub(crate) fn why_stopped(&self) -> &'static str {
        if self.leaves { LEFT } else { STOPPED }
    }

    /// Has the members of `config`, in their order; whether they were others before. Those that stay
    /// go on.
    pub(crate) fn change_members(
        &mut self,
        config: &config::Group,
        context: &mut Context<'_>,
    ) -> bool {
        let wanted = config.virtual_routers.iter();
        if self.members().eq(wanted.clone().map(|member| member.name.as_str())) {
            return false;
        }
        if self.is_handing_over() {
            self.not_handed_over(OTHER_MEMBERS, context);
        }
        let mut before = std::mem::take(&mut self.members);
        let members = wanted.map(|wanted| {
            let place = before.iter().position(|member| member.name == wanted.name);
            let is_new = self.takes_part;
            place.map_or_else(
                || Member { is_new, ..Member::of(wanted) },
                |place| before.swap_remove(place),
            )
        });
        self.members = members.collect();
        self.elected = self.members.iter().filter(|member| member.elected.is_some()).count();
        true
    }

    /// The member's interface can be used: one that has waited for that takes part from now on.
    pub(crate) fn begins(&mut self, member: usize, context: &mut Context<'_>) {
        let Some(member) = self.members.get_mut(member) else { return };
        if std::mem::take(&mut member.is_new) && self.takes_part {
            let virtual_router = member.name.clone();
            context.actions.push(Action::Startup { virtual_router });
        }
    }

    /// Claims the members that were elected after the group had become master.
    pub(crate) fn claim_what_came(&mut self, context: &mut Context<'_>) {
        if self.state != State::Master || !self.is_settled() {
            return;
        }
        for member in self.members.iter_mut().filter(|member| member.elected.is_some()) {
            member.elected = None;
            let virtual_router = member.name.clone();
            context.actions.push(Action::Claim { virtual_router });
        }
        self.elected = 0;
    }
}
