//! What a person or a script has replication do, by both names of the program, with two daemons at
//! work.

mod conntrackd;
mod fault;
mod links;
mod lockstep;
mod reload;
mod returning;
mod two;
