//! One change of the kernel's state.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{
    ActualRoute, ActualRule, Address, PROTOCOL_LOCKSTEP, Route, RouteKey, Rule, RuleKey,
    VirtualLink, protocol_name,
};

/// One change; carrying it out when it has been done already must do no harm.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// Makes a link with a virtual MAC address; it is down then.
    AddVirtualLink {
        /// The link.
        link: VirtualLink,
        /// The link below.
        parent: u32,
    },
    /// Removes a link of our own.
    RemoveLink {
        /// The link.
        index: u32,
        /// Its name.
        name: String,
    },
    /// Sets a link up or down.
    SetLink {
        /// The link.
        index: u32,
        /// Its name.
        name: String,
        /// Up, or down.
        up: bool,
    },
    /// Adds an address.
    AddAddress {
        /// The link.
        index: u32,
        /// The address.
        address: Address,
        /// The metric of the connected route that comes with it, when not the kernel's usual one.
        metric: Option<u32>,
    },
    /// Removes an address.
    RemoveAddress {
        /// The link.
        index: u32,
        /// Its name.
        name: String,
        /// The address.
        address: IpNet,
    },
    /// Adds a route where none with its key is.
    AddRoute {
        /// The route.
        route: Arc<Route>,
        /// The outgoing links of its next hops, in order, where declared.
        devs: Vec<Option<u32>>,
    },
    /// Puts a route in the place of one of ours with the same key, without a gap.
    ReplaceRoute {
        /// The new one.
        route: Arc<Route>,
        /// The outgoing links of its next hops, in order, where declared.
        devs: Vec<Option<u32>>,
    },
    /// Removes a route.
    RemoveRoute {
        /// As it was dumped.
        route: ActualRoute,
    },
    /// Adds a rule.
    AddRule {
        /// The rule.
        rule: Rule,
    },
    /// Removes a rule.
    RemoveRule {
        /// As it was dumped.
        rule: ActualRule,
    },
}

/// Names one object, whatever is done to it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Object {
    /// A link by name.
    Link(String),
    /// An address on a link by name.
    Address(String, IpNet),
    /// A route.
    Route(RouteKey),
    /// A rule.
    Rule(RuleKey),
}

impl Change {
    /// What it is done to.
    pub fn object(&self) -> Object {
        match self {
            Self::AddVirtualLink { link, .. } => Object::Link(link.name.clone()),
            Self::SetLink { name, .. } | Self::RemoveLink { name, .. } => {
                Object::Link(name.clone())
            }
            Self::AddAddress { address, .. } => {
                Object::Address(address.interface.clone(), address.address)
            }
            Self::RemoveAddress { name, address, .. } => Object::Address(name.clone(), *address),
            Self::AddRoute { route, .. } | Self::ReplaceRoute { route, .. } => {
                Object::Route(route.key())
            }
            Self::RemoveRoute { route } => Object::Route(route.key()),
            Self::AddRule { rule } => Object::Rule(rule.key()),
            Self::RemoveRule { rule } => Object::Rule(rule.key.clone()),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddVirtualLink { link, .. } => {
                write!(f, "add link {} on {}", link.name, link.parent)
            }
            Self::RemoveLink { name, .. } => write!(f, "remove link {name}"),
            Self::SetLink { name, up, .. } => {
                write!(f, "set link {name} {}", if *up { "up" } else { "down" })
            }
            Self::AddAddress { address, .. } => write!(f, "add address {address}"),
            Self::RemoveAddress { name, address, .. } => {
                write!(f, "remove address {address} dev {name}")
            }
            Self::AddRoute { route, .. } => {
                write!(f, "add route {route}{}", Protocol(route.protocol))
            }
            Self::ReplaceRoute { route, .. } => {
                write!(f, "replace route {route}{}", Protocol(route.protocol))
            }
            Self::RemoveRoute { route } => {
                write!(f, "remove route {route}{}", Protocol(route.protocol))
            }
            Self::AddRule { rule } => {
                write!(f, "add rule {}{}", rule.key(), Protocol(rule.protocol))
            }
            Self::RemoveRule { rule } => {
                write!(f, "remove rule {}{}", rule.key, Protocol(rule.protocol))
            }
        }
    }
}

/// A protocol number, where it is not ours.
struct Protocol(u8);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == PROTOCOL_LOCKSTEP {
            return Ok(());
        }
        write!(f, " proto {}", protocol_name(self.0))
    }
}
