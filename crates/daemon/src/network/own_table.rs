//! The nftables table of our own: what is to be in it, and that there may be none.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use lockstep_config::Config;
use lockstep_kernel::own_table::{OwnTable, Rules, TableError};
use lockstep_vrrp::{Authentication, Priority, Transport};
use tracing::{debug, info, warn};

/// Attempts to get the table from an earlier run, whose last sockets are just being closed.
const ATTEMPTS: usize = 20;
/// Wait between two of them.
const WAIT: Duration = Duration::from_millis(10);

/// The table, when there is one.
pub(super) struct Table {
    rules: Rules,
    own: Option<OwnTable>,
    /// Somebody else has it; it is tried again.
    is_taken: bool,
    /// A refusal has been told.
    is_told: bool,
    /// The kernel has refused other rules, which are tried again.
    is_behind: bool,
    /// The groups for which forwarding is held.
    holding: BTreeSet<String>,
}

impl Table {
    pub(super) fn of(rules: Rules) -> Self {
        Self {
            rules,
            own: None,
            is_taken: false,
            is_told: false,
            is_behind: false,
            holding: BTreeSet::new(),
        }
    }

    /// Makes the table. Without it everything else works: what is missing is said once.
    pub(super) fn install(&mut self, silent: &BTreeSet<String>) {
        for attempt in 1..=ATTEMPTS {
            match OwnTable::install(&self.rules) {
                Err(TableError::Held) if attempt < ATTEMPTS => thread::sleep(WAIT),
                result => return self.installed(result, silent),
            }
        }
    }

    /// Tries again to make the table where somebody else had it, to change it, and to hold forwarding or pass it
    /// where the kernel has refused that.
    pub(super) fn retry(&mut self, silent: &BTreeSet<String>) {
        if self.is_taken {
            let result = OwnTable::install(&self.rules);
            self.installed(result, silent);
        }
        if self.is_behind {
            self.exchange(silent);
        }
        let hold = !self.holding.is_empty();
        if let Some(table) = &mut self.own
            && let Err(error) = table.hold_forwarding(hold)
        {
            warn!(%error, hold, "forwarding is held or passed against what is wanted");
        }
    }

    /// Holds other rules from now on, with these virtual links silent. Where the kernel refuses them,
    /// those before stay in force until the next look.
    pub(super) fn configure(&mut self, rules: Rules, silent: &BTreeSet<String>) {
        if rules == self.rules {
            return;
        }
        self.rules = rules;
        self.is_behind = self.own.is_some();
        self.exchange(silent);
    }

    fn exchange(&mut self, silent: &BTreeSet<String>) {
        let Some(table) = &mut self.own else { return };
        match table.exchange(&self.rules, silent) {
            Ok(()) => self.is_behind = false,
            Err(error) => warn!(%error, "the table inet lockstep is still the one before"),
        }
    }

    fn installed(&mut self, result: Result<OwnTable, TableError>, silent: &BTreeSet<String>) {
        self.is_taken = matches!(result, Err(TableError::Taken | TableError::Held));
        match result {
            Ok(table) => {
                if self.is_told {
                    info!("the table inet lockstep is in place now");
                }
                self.own = Some(table);
                self.keep_silent(silent);
            }
            Err(error) if self.is_told => debug!(%error, "still without an nftables table"),
            Err(error) => {
                self.is_told = true;
                let without = self.missing();
                warn!("{:#}; without it {without}", anyhow::Error::from(error));
            }
        }
    }

    /// What does not work without the table, in words.
    fn missing(&self) -> String {
        let mut missing = vec!["the routers' own packets are tracked as connections"];
        if !self.rules.refused.is_empty() {
            missing.push("`accept = false` has no effect");
        }
        if !self.rules.virtual_links.is_empty() {
            missing.push("a backup's virtual MAC interfaces hear and speak");
        }
        if self.rules.holds_forwarding {
            missing.push("`hold-forwarding` has no effect");
        }
        missing.join(", ")
    }

    /// Keeps these virtual links silent and deaf, and lets the others speak.
    pub(super) fn keep_silent(&mut self, links: &BTreeSet<String>) {
        if let Some(table) = &mut self.own
            && let Err(error) = table.keep_silent(links)
        {
            warn!(%error, "cannot tell the virtual MAC interfaces of a backup from a master's");
        }
    }

    /// Holds forwarding for these groups, or no more. It is held while any group wants it so.
    ///
    /// # Errors
    /// Why it cannot be held or passed, in words.
    pub(super) fn hold<'a>(
        &mut self,
        groups: impl Iterator<Item = &'a str>,
        hold: bool,
    ) -> Result<(), String> {
        for group in groups {
            if hold {
                self.holding.insert(group.to_owned());
            } else {
                self.holding.remove(group);
            }
        }
        match &mut self.own {
            Some(table) => {
                let hold = !self.holding.is_empty();
                table.hold_forwarding(hold).map_err(|error| error.to_string())
            }
            None if hold => Err("there is no table inet lockstep".to_owned()),
            None => Ok(()),
        }
    }
}

/// What the table is to hold for a configuration.
pub(crate) fn rules_of(config: &Config) -> Rules {
    let routers = || config.virtual_routers.iter().map(|router| (router, &router.vrrp));
    Rules {
        refused: routers()
            .filter(|(router, vrrp)| !router.accept && vrrp.priority != Priority::OWNER)
            .flat_map(|(_, vrrp)| vrrp.addresses.iter().copied())
            .collect(),
        header_peers: routers()
            .filter(|(_, vrrp)| matches!(vrrp.authentication, Authentication::Header(_)))
            .flat_map(|(_, vrrp)| match &vrrp.transport {
                Transport::Multicast => &[][..],
                Transport::Unicast { peers, .. } => peers,
            })
            .copied()
            .collect(),
        replication: config
            .replication
            .iter()
            .flat_map(|replication| &replication.links)
            .map(|link| (link.interface.clone(), link.port))
            .collect(),
        holds_forwarding: config.failover.groups.iter().any(|group| group.holds_forwarding),
        virtual_links: config.declared.virtual_links.iter().map(|link| link.name.clone()).collect(),
    }
}
