//! Settings that change while flows are replicated.

use std::time::Instant;

use lockstep_replicator::{Config, Expectations};
use tracing::info;

use super::commands::done;
use super::{Actor, Person};
use crate::control::protocol::What;

impl Actor {
    /// Puts these settings in force. The answer comes when what they let in has been read from the
    /// kernel.
    pub(super) fn configure(&mut self, config: Config, person: Person) {
        if !self.replicator.can_take(&config) {
            let refusal = "these settings need a restart".to_owned();
            // Whoever asked may have given up.
            return drop(person.send(Err(refusal)));
        }
        let incomplete = self.replicator.configure(config.clone(), Instant::now());
        let before = std::mem::replace(&mut self.config, config);
        info!("new settings of replication are in force");
        self.adapt_events(&before);
        if incomplete {
            // Events tell of what changes from now on, a reading of what is there already. It comes
            // although nobody may wait for it.
            self.redump_at = Some(Instant::now());
            return self.read_for(What::All, person);
        }
        drop(person.send(Ok(done("the settings are in force", []))));
    }

    /// Makes the events that are heard those that the settings want, by what has changed.
    fn adapt_events(&mut self, before: &Config) {
        let Config { expectations, event_buffer, event_buffer_limit, filter, .. } = &self.config;
        if *event_buffer != before.event_buffer {
            self.events.set_buffer(*event_buffer);
        }
        if *event_buffer_limit != before.event_buffer_limit {
            self.events.set_buffer_limit(*event_buffer_limit);
        }
        let new_filter = *filter != before.filter;
        let heard = self.events.hear_expectations(*expectations != Expectations::Off);
        if new_filter {
            self.filter_events();
        }
        if let Err(error) = heard {
            self.reopen_events(error);
        }
    }
}
