//! Reading the kernel's table, and purging it.

use std::time::Instant;

use lockstep_ctnetlink::{Batch, Family, Kind, Messages};
use lockstep_kernel::conntrack::TableError;
use tracing::{debug, info, warn};

use super::Actor;

/// Most readings in a row of a table that changes its size under the reader.
const ATTEMPTS: usize = 3;
/// Parts of a reading, of about 100 flows each, between two looks at the link.
const PARTS_IN_A_ROW: usize = 16;

/// Most receptions in a row of events that come faster than they are taken; then the table is read
/// once more later.
const DRAIN_LIMIT: usize = 1_000;

impl Actor {
    /// Reads the kernel's table into the internal cache. Cut short by a step, it is done again
    /// afterwards.
    pub(super) fn read_table(&mut self) -> Result<(), TableError> {
        // What was lost so far is made good by this reading; what is lost from now on is not. What
        // waits even now is older than the reading, and would be taken for news after it.
        let emptied = self.drain_events();
        self.dumped_at = Some(Instant::now());
        self.redump_at = None;
        if !emptied {
            self.redump();
        }
        for attempt in 1..=ATTEMPTS {
            self.dumped_at = Some(Instant::now());
            self.replicator.begin_dump();
            let Some(consistent) = self.read_parts()? else {
                self.redump();
                return Ok(());
            };
            self.dumped_at = Some(Instant::now());
            if consistent || attempt == ATTEMPTS {
                if !self.replicator.end_dump(Instant::now()) {
                    self.redump();
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the reading is consistent; `None` when it was cut short.
    fn read_parts(&mut self) -> Result<Option<bool>, TableError> {
        let mut buffer = Vec::new();
        // A socket of its own, so that the reading may go on while others are served.
        let mut reader = match lockstep_kernel::conntrack::TableSocket::open() {
            Ok(reader) => reader,
            Err(error) => {
                warn!("no socket to read the kernel's flows: {error:#}");
                return Ok(None);
            }
        };
        let mut dump = reader.dump(Family::Any)?;
        let mut parts = 0;
        while dump.read(&mut buffer)? {
            let now = Instant::now();
            for message in Messages::new(&buffer) {
                match message {
                    Ok(message) if matches!(message.kind(), Ok(Kind::Entry)) => {
                        match message.flow() {
                            Ok(flow) => self.replicator.dumped(&flow, now),
                            Err(error) => debug!(%error, "a flow that cannot be understood"),
                        }
                    }
                    Ok(_) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            parts += 1;
            if parts % PARTS_IN_A_ROW == 0 {
                self.serve_peer();
                if !self.drain_events() {
                    self.redump();
                }
                if self.interrupted() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(!dump.interrupted()))
    }

    /// Takes the events that wait, until none does; `false` when some are left. The kernel tells of
    /// lost events only once until its queue has been emptied: an overrun that is met with a full
    /// queue would stay unknown.
    fn drain_events(&mut self) -> bool {
        for _ in 0..DRAIN_LIMIT {
            let mut buffer = std::mem::take(&mut self.netlink);
            let received = self.events.try_receive(&mut buffer);
            self.netlink = buffer;
            match received {
                Ok(Some(events)) => self.take(events),
                Ok(None) => return true,
                Err(error) => {
                    warn!("the kernel's events cannot be read: {error:#}");
                    return false;
                }
            }
        }
        false
    }

    /// Hears and answers the peer in the middle of long work.
    pub(super) fn serve_peer(&mut self) {
        let now = Instant::now();
        self.hear();
        if self.replicator.next_deadline().is_some_and(|at| now >= at) {
            self.replicator.handle_timeout(now);
        }
        self.transmit();
    }

    /// Removes from the kernel what was ours when we left the active role, if its time has come.
    pub(super) fn purge(&mut self) {
        let Some(mut purge) = self.replicator.begin_purge() else { return };
        let mut batch = Batch::new();
        let mut removed = 0;
        loop {
            batch.clear();
            while !batch.is_full() {
                let Some(flow) = purge.next(&self.replicator) else { break };
                let added = batch.delete(&flow.key(), flow.id);
                debug_assert!(added, "the batch was not full");
            }
            if batch.is_empty() {
                break;
            }
            if self.interrupted() {
                return self.replicator.put_off_purge(removed, Instant::now());
            }
            match self.table.execute(&mut batch) {
                // One that is gone already has ended by itself.
                Ok(failures) => removed += (batch.len() - failures.len()) as u64,
                Err(error) => {
                    warn!("the flows of before cannot be removed: {error:#}");
                    self.reopen_table();
                    return self.replicator.put_off_purge(removed, Instant::now());
                }
            }
            self.serve_peer();
        }
        info!(removed, "flows of the time as master removed from the kernel");
        self.replicator.end_purge(removed);
    }
}
