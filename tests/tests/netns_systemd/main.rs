//! The service under a real systemd, as its unit has it: with the unit's rights and no others, its watchdog, what is
//! done after a death, and the drop-ins and further units that come with it.

// All of it below one name, for whoever cannot run it: see test.sh.
mod under_systemd;
