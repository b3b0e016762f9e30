//! Links, addresses, routes and rules: what is wanted, what is there, and the way from one to the
//! other.
//!
//! Owns the model and [`plan`], a function without history: it is run again after every change,
//! because the kernel drops routes at a link's down without a message. Says of each wanted object
//! whether it is installed, pending (why), conflicting or failed ([`assess`]). Knows nothing of VRRP
//! or flows and does no IO.

mod actual;
mod address;
mod assess;
mod change;
mod command;
mod desired;
mod index;
mod interest;
mod model;
mod networks;
mod next_hops;
mod owned;
mod places;
mod plan;
mod reach;
mod record;
mod refusal;
mod state;
mod tables;
mod text;
mod virtual_link;

pub use actual::{
    Actual, ActualAddress, ActualLink, ActualNextHop, ActualRoute, ActualRule, Macvlan,
};
pub use assess::{Assessment, assess, assess_groups};
pub use change::{Change, Object};
pub use desired::{Desired, Kind, Phase, Phases, Side};
pub use interest::Interest;
pub use model::*;
pub use next_hops::NextHops;
pub use owned::{Owned, OwnedRoute};
pub use plan::{plan, plan_kind};
pub use refusal::{Refusal, Refusals};
pub use state::{Reason, State};
pub use tables::Tables;
pub use text::protocol_name;
pub use virtual_link::{VIRTUAL_LINK_MARK, VIRTUAL_LINK_METRIC};
