//! A second world: the election of one virtual router among two to five routers on one LAN.
//!
//! Each router is a real [`lockstep_vrrp::VirtualRouter`] and a real [`lockstep_failover::Failover`]
//! with one group, joined by real packets. A seed draws the version, family, authentication,
//! transport and interval (10 ms to 1 s, 2 s in version 2), priorities (equal ones and an owner among
//! them), preemption, delays and gates, and then what goes wrong: loss to 30 %, duplication,
//! reordering, asymmetric partitions, stalls to 30 s with sockets that fill and overflow meanwhile,
//! kills, stops, links that go down, sending that fails, tracking that weighs on priorities, and
//! settings that are changed on one router after the other. Afterwards everything is put right.
//!
//! # What must hold
//!
//! With `I` an advertisement interval, `skew` and `down = 3 I + skew` as in RFC 9568 §6.1 (in RFC
//! 3768 §6.1 skew does not follow the interval). Everything is counted from the packets that really
//! arrived and were understood, so that no check is switched off in rough weather.
//!
//! **A backup** elects itself inside a window that follows from what it heard (`expectation`).
//! It is master at the latest, and elects itself at the earliest:
//!
//! | after | at the latest | at the earliest |
//! |---|---|---|
//! | its start | the longer of `down` and the start-up gate; an owner at once | the same, without the gate once something was heard |
//! | an advertisement that it yields to | `down` of the interval that was heard | the same |
//! | priority 0 | `skew` | `skew`, or when it would have anyway |
//! | one of lower priority, with preemption | unchanged | unchanged |
//! | the same within the preempt delay | `down` of the interval that was heard | the same |
//! | one that it refuses, with `StayBackup` | twice `down`, by the slower of the two intervals | `down`, unless it heeds anything meanwhile |
//! | a stall that made it late | one `I` after it runs again | that, when it was a whole `I` late |
//! | another priority or other settings | `down` of the slower of the two, or as much later as they differ | any moment |
//!
//! So nobody who is fit and hears no master is without one for longer than that, and a late backup
//! with waiting packets never elects itself.
//!
//! **A master** advertises the priority and the interval in force, every `I`, and is no master any
//! more as soon as it has heeded a better one: a higher priority, or the same from a higher address.
//! One that was three `I` late or more is silent for one `I` first, and is no master any more as soon
//! as it hears any other in that time. Whoever is late more than three times in a row need not listen
//! any more.
//!
//! **Two masters** that hear and understand each other, and of whose advertisements none is lost,
//! are so for no longer than one `down` and twice the longest way of a packet.
//!
//! **No flapping**: every router changes to or from master at most twice for each cause, and twice
//! more. Causes are the beginning and the end of every fault, every change of settings, every claim
//! of its own that could not be sent, and every row of advertisements from one router to another
//! that were lost: two, or one where the way takes longer than `I`. Once everything was put right and
//! one master is left for an `I` (with the authentication header, whose numbers a restarted router
//! counts anew, for five), nobody changes.
//!
//! **In the end**, after a minute (a group that could not send stays in fault for that at most), the
//! start-up gate, twice the preempt delay and twenty `I`: one master, the addresses are there and
//! nowhere else, all others take it for the master, and none of higher priority that preempts is
//! among them. What the machines have counted is what the world has seen, and no table has outgrown
//! its bound.

mod counted;
mod expectation;
mod faults;
mod frame;
mod group;
mod invariants;
mod router;
mod table;
mod world;

pub use table::{Loss, Setting, Times};
pub use world::{Elections, ElectionsOutcome};
