//! Changes of the kernel's table that go on beside everything else: the flows of a backup that
//! stands by in its kernel, their timeouts after a takeover, and flows that the kernel has to be
//! asked for because it tells no event of what it changes in them.

use std::time::Instant;

use lockstep_kernel::conntrack::{Injector, OpenError, TableSocket};
use tracing::warn;

use super::{Actor, PIECE};

/// Most flows that the kernel is asked for in one piece.
const REFRESHED: usize = 128;

/// Puts into the kernel what the replicator gives out for it.
pub(super) struct Injection {
    injector: Injector,
    /// One of its own: the kernel need not tell us what this one has done.
    table: TableSocket,
    /// The last piece has not come to the end of what was due.
    pub(super) more: bool,
}

impl Injection {
    pub(super) fn open() -> Result<Self, OpenError> {
        Ok(Self { injector: Injector::new(), table: TableSocket::open()?, more: false })
    }

    /// The netlink port its changes come from.
    pub(super) fn port_id(&self) -> u32 {
        self.table.port_id()
    }
}

impl Actor {
    /// A piece of what is to be put into the kernel.
    pub(super) fn do_injection(&mut self) {
        let now = Instant::now();
        let due = self.replicator.next_injection(now).is_some_and(|at| at <= now);
        if !due && !self.injection.more {
            return;
        }
        let until = now + PIECE;
        let injection = &mut self.injection;
        loop {
            let now = Instant::now();
            let table = &mut injection.table;
            match injection.injector.advance(table, &mut self.replicator, now) {
                Ok(more) => injection.more = more,
                Err(error) => {
                    warn!("flows cannot be put into the kernel: {:#}", anyhow::Error::new(error));
                    return self.renew_injection();
                }
            }
            if !injection.more || Instant::now() >= until {
                return;
            }
        }
    }

    /// Brings what is begun to its end: it was planned for the role that ends.
    pub(super) fn finish_injection(&mut self) {
        let Injection { injector, table, .. } = &mut self.injection;
        loop {
            match injector.finish(table, &mut self.replicator, Instant::now()) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    warn!("flows cannot be put into the kernel: {:#}", anyhow::Error::new(error));
                    return self.renew_injection();
                }
            }
        }
    }

    /// Begins anew with another socket; what has become of the last changes the table tells.
    fn renew_injection(&mut self) {
        match Injection::open() {
            Ok(injection) => self.injection = injection,
            Err(error) => {
                self.injection.more = false;
                warn!("no new socket for the kernel's flows: {error:#}");
            }
        }
        self.filter_events();
        self.redump();
    }

    /// Asks the kernel for some of the flows that it changes without a word.
    pub(super) fn do_refresh(&mut self) {
        let now = Instant::now();
        if self.replicator.refresh_deadline(now).is_none_or(|at| at > now) {
            return;
        }
        let replicator = &mut self.replicator;
        let next = || replicator.next_refresh(now);
        let keys: Vec<_> = std::iter::from_fn(next).take(REFRESHED).collect();
        // The end of one that is gone is an event.
        let asked = self.table.get_many(&keys, |_, flow| {
            if let Some(flow) = flow {
                replicator.refreshed(&flow, now);
            }
        });
        if let Err(error) = asked {
            warn!("flows cannot be looked at: {:#}", anyhow::Error::new(error));
            self.reopen_table();
        }
    }
}
