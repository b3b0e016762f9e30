//! Reading the kernel's table into the internal cache.

use std::time::Instant;

use lockstep_ctnetlink::{Family, Kind, Messages};
use lockstep_kernel::conntrack::{TableError, TableSocket};
use lockstep_replicator::Expectations;
use tracing::{debug, warn};

use super::commands::done;
use super::{Actor, PIECE, Person, REDUMP};
use crate::control::protocol::What;

/// Most readings in a row of a table that changes its size under the reader.
const ATTEMPTS: usize = 3;
/// Receptions of waiting events in one piece, of up to 64 datagrams each.
const RECEPTIONS: usize = 4;
/// Most receptions in a row of events that come faster than they are taken; then the table is read
/// once more later.
const DRAIN_LIMIT: usize = 1_000;

/// A reading under way.
pub(super) struct Reading {
    /// One of its own, so that others may use the table meanwhile.
    socket: TableSocket,
    what: What,
    stage: Stage,
    buffer: Vec<u8>,
    attempts: usize,
    /// Flows read, in this attempt.
    pub(super) done: u64,
    /// Flows in the kernel when it began.
    pub(super) total: Option<u64>,
    readers: Vec<Person>,
}

enum Stage {
    /// The events that wait are taken first: they are older than the reading, and would be taken
    /// for news after it. The kernel tells of lost events only once until its queue has been
    /// emptied, so an overrun met with a full queue would stay unknown as well.
    Draining {
        /// Receptions left.
        left: usize,
    },
    /// The table is being told.
    Flows,
    /// What was not in it is gone.
    Burying,
    /// What the kernel expects is being told; their masters are known by now.
    Expectations,
}

impl Actor {
    /// Begins to read the table; a reading under way goes on as it is.
    pub(super) fn begin_reading(&mut self) {
        if self.reading.is_some() {
            return;
        }
        // What was lost so far is made good by this reading; what is lost from now on is not.
        self.redump_at = None;
        self.dumped_at = Some(Instant::now());
        let socket = match TableSocket::open() {
            Ok(socket) => socket,
            Err(error) => {
                warn!("no socket to read the kernel's flows: {error:#}");
                self.redump();
                return;
            }
        };
        self.reading = Some(Reading {
            socket,
            what: self.wished.take().unwrap_or_default(),
            stage: Stage::Draining { left: DRAIN_LIMIT },
            buffer: Vec::new(),
            attempts: 0,
            done: 0,
            total: self.kernel.map(|kernel| kernel.entries.into()),
            readers: std::mem::take(&mut self.readers),
        });
    }

    /// Gives a reading under way up, if there is one, and reads the table from its beginning.
    pub(super) fn read_anew(&mut self) {
        self.abandon_reading();
        self.wished = None;
        self.begin_reading();
    }

    /// Gives a reading under way up; whoever waits for it waits for the next.
    pub(super) fn abandon_reading(&mut self) {
        if let Some(reading) = self.reading.take() {
            self.readers.extend(reading.readers);
            self.redump();
        }
    }

    /// A piece of the reading under way.
    pub(super) fn do_reading(&mut self) {
        let Some(mut reading) = self.reading.take() else { return };
        match self.read_on(&mut reading) {
            Ok(Progress::Further) => {
                // An event of before that meets a failing socket may have begun a new one.
                self.reading.get_or_insert(reading);
            }
            Ok(Progress::Finished) => self.end_reading(reading),
            Err(error) => {
                let error = anyhow::Error::new(error);
                warn!("the kernel's flows cannot be read: {error:#}");
                for person in reading.readers {
                    // Whoever asked may have given up.
                    drop(person.send(Err(format!("the kernel's flows cannot be read: {error:#}"))));
                }
                self.redump_at = Some(Instant::now() + REDUMP);
                self.wished = None;
            }
        }
    }

    fn read_on(&mut self, reading: &mut Reading) -> Result<Progress, TableError> {
        if let Stage::Draining { left } = &mut reading.stage {
            let emptied = self.take_waiting_events();
            *left = left.saturating_sub(RECEPTIONS);
            if !emptied && *left > 0 {
                return Ok(Progress::Further);
            }
            if !emptied {
                self.redump();
            }
            self.begin_attempt(reading)?;
            return Ok(Progress::Further);
        }
        self.take_waiting_events();
        let until = Instant::now() + PIECE;
        if matches!(reading.stage, Stage::Burying) {
            return self.bury(reading, until);
        }
        loop {
            if !reading.socket.read_part(&mut reading.buffer)? {
                return self.end_attempt(reading);
            }
            self.store(reading)?;
            if Instant::now() >= until {
                return Ok(Progress::Further);
            }
        }
    }

    fn begin_attempt(&mut self, reading: &mut Reading) -> Result<(), TableError> {
        if reading.what == What::Expectations {
            return self.begin_expectations(reading);
        }
        reading.stage = Stage::Flows;
        reading.attempts += 1;
        reading.done = 0;
        self.dumped_at = Some(Instant::now());
        self.replicator.begin_dump();
        reading.socket.begin_dump(Family::Any)
    }

    fn end_attempt(&mut self, reading: &mut Reading) -> Result<Progress, TableError> {
        if matches!(reading.stage, Stage::Expectations) {
            let whole = self.replicator.end_expectation_dump(Instant::now());
            if !whole || reading.socket.dump_interrupted() {
                self.redump();
            }
            return Ok(Progress::Finished);
        }
        if reading.socket.dump_interrupted() && reading.attempts < ATTEMPTS {
            self.begin_attempt(reading)?;
            return Ok(Progress::Further);
        }
        reading.stage = Stage::Burying;
        Ok(Progress::Further)
    }

    /// What the kernel has no more leaves the cache; what it has told since is newer.
    fn bury(&mut self, reading: &mut Reading, until: Instant) -> Result<Progress, TableError> {
        let trusted = loop {
            let now = Instant::now();
            match self.replicator.end_dump_step(now) {
                Some(trusted) => break trusted,
                None if now >= until => return Ok(Progress::Further),
                None => {}
            }
        };
        self.dumped_at = Some(Instant::now());
        if !trusted {
            self.redump();
        }
        if self.config.expectations == Expectations::Off || reading.what == What::Flows {
            return Ok(Progress::Finished);
        }
        self.begin_expectations(reading)?;
        Ok(Progress::Further)
    }

    fn begin_expectations(&mut self, reading: &mut Reading) -> Result<(), TableError> {
        reading.stage = Stage::Expectations;
        self.replicator.begin_expectation_dump();
        reading.socket.begin_expectation_dump(Family::Any)
    }

    fn end_reading(&mut self, reading: Reading) {
        self.dumped_at = Some(Instant::now());
        let flows = self.replicator.internal_len() as u64;
        let expectations = self.replicator.internal_expectations_len() as u64;
        for person in reading.readers {
            let summary = format!("{flows} flows and {expectations} expectations are known now");
            let read = done(summary, [("flows", flows), ("expectations", expectations)]);
            drop(person.send(Ok(read)));
        }
    }

    /// Puts a part into the cache.
    fn store(&mut self, reading: &mut Reading) -> Result<(), TableError> {
        let now = Instant::now();
        for message in Messages::new(&reading.buffer) {
            let message = message?;
            let understood = match message.kind() {
                Ok(Kind::Entry) => message.flow().map(|flow| self.replicator.dumped(&flow, now)),
                Ok(Kind::ExpectationEntry) => message
                    .expectation()
                    .map(|expectation| self.replicator.dumped_expectation(&expectation, now)),
                _ => continue,
            };
            reading.done += 1;
            if let Err(error) = understood {
                debug!(%error, "an entry that cannot be understood");
            }
        }
        Ok(())
    }

    /// Takes events that wait, some hundreds at most; whether none is left.
    fn take_waiting_events(&mut self) -> bool {
        (0..RECEPTIONS).any(|_| !self.listen())
    }
}

enum Progress {
    Further,
    Finished,
}
