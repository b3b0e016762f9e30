//! One virtual router (RFC 9568, RFC 3768): packets, authentication, election.
//!
//! Owns what an advertisement means and when this router is master, backup or neither. Knows
//! nothing of netlink, flows or groups, does no IO and never asks the time: the caller brings
//! events and `now`, and carries out the actions in order.
//!
//! The users' word for RFC 9568's *Active* router is **master**; it is used throughout.
//!
//! A packet's way in: [`Datagram`] → [`judge`] → [`VirtualRouter`] (which does both in
//! [`VirtualRouter::receive`]); its way out: [`Action::Send`] → [`Encoder`] → [`Packet`]. What is
//! to be told to the link after a takeover is made by [`announcement`], when [`Announcements`] says.

mod address_list;
mod advertisement;
mod announcement;
mod announcements;
mod authentication_header;
mod checksum;
mod config;
mod differences;
mod encoder;
mod event;
mod neighbours;
mod packet;
mod reason;
mod router;
mod statistics;
mod trailer;
mod verdict;

pub use address_list::AddressListDifference;
pub use advertisement::{Advertisement, AuthenticationData, DecodeError, Format, MAX_ADDRESSES};
pub use announcement::{announced, announcement, gratuitous_arp, neighbour_advertisement};
pub use announcements::{
    AnnouncementTarget, AnnouncementTimes, Announcements, MAX_ANNOUNCEMENTS_AT_ONCE,
};
pub use config::{
    Authentication, ChecksumDialect, Config, Family, InvalidPassword, InvalidTrailerKey, KeyId,
    Password, Priority, Trailer, TrailerKey, TrailerMode, Transport, Version, Vrid,
    WhenMisunderstood,
};
pub use differences::{Difference, Differing, MAX_DIFFERENCES};
pub use encoder::Encoder;
pub use event::{Action, Event, Heard, OtherMaster, State, StateName};
pub use neighbours::{MAX_NEIGHBOURS, Misunderstood};
pub use packet::{Datagram, Endpoints, InvalidIpv4Packet, PROTOCOL, PROTOCOL_AH, Packet, TTL};
pub use reason::{LastEvent, NewMasterReason};
pub use router::{Standing, VirtualRouter};
pub use statistics::Statistics;
pub use verdict::{Judged, Rejection, judge};
