//! Interfaces with a virtual MAC address, from the daemon's start to its end.

use std::collections::BTreeSet;
use std::io;
use std::time::Instant;

use lockstep_routes::{Change, Kind, VirtualLink, plan_kind};
use tracing::{debug, warn};

use super::Actor;

/// Rounds of planning until all are made and up.
const ROUNDS: usize = 2;

impl Actor {
    /// Takes over what an earlier run has left and makes the rest, before the core hears of any
    /// interface: an election is not to begin by one that is missing.
    pub(super) async fn raise_virtual_links(&mut self) {
        if self.declared.virtual_links.is_empty() {
            return;
        }
        for link in &self.declared.virtual_links {
            if let Some(there) = self.actual.link(&link.name)
                && there.mac == link.mac
            {
                self.network.adopt(link, there);
            }
        }
        self.make_virtual_links().await;
        // Whether they have a carrier.
        if let Err(error) = self.take_stock_of_links().await {
            debug!(%error, "cannot read links and addresses");
        }
    }

    /// Makes those that come, and removes those that are no longer wanted.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) async fn change_virtual_links(&mut self) -> io::Result<()> {
        if self.make_virtual_links().await {
            // Whether they have a carrier.
            self.take_stock_of_links().await?;
        }
        if self.declared.virtual_links.is_empty() {
            self.network.restore_settings();
        }
        Ok(())
    }

    /// Makes those again that somebody has deleted although their parents are there. The core is
    /// told what has become of them, not that they were gone.
    pub(super) async fn remake_virtual_links(&mut self) {
        let is_gone = |link: &VirtualLink| {
            self.actual.link(&link.name).is_none() && self.actual.link(&link.parent).is_some()
        };
        if self.declared.virtual_links.iter().any(is_gone) && self.make_virtual_links().await {
            // Whether they have a carrier.
            if let Err(error) = self.take_stock_of_links().await {
                debug!(%error, "cannot read links and addresses");
            }
        }
    }

    /// Makes those that are missing and sets them up, but for what is put off after a refusal;
    /// whether anything was done.
    async fn make_virtual_links(&mut self) -> bool {
        let names: BTreeSet<String> =
            self.declared.virtual_links.iter().map(|link| link.name.clone()).collect();
        let mut any = false;
        for _ in 0..ROUNDS {
            let now = Instant::now();
            let mut changes = plan_kind(self.desired(), &self.actual, Kind::Links);
            changes.retain(|change| match change {
                Change::AddVirtualLink { .. } | Change::RemoveLink { .. } => true,
                Change::SetLink { name, .. } => names.contains(name),
                _ => false,
            });
            changes.retain(|change| self.refusals.is_due(&change.object(), now));
            any |= !self.carry_out(&changes).await.is_empty();
        }
        any
    }

    /// Those whose router is not master hear and say nothing.
    pub(super) fn keep_virtual_links_silent(&mut self) {
        if !self.declared.virtual_links.is_empty() {
            let silent = self.desired().silent_links();
            self.table.keep_silent(&silent);
        }
    }

    /// Leaves nothing behind. Whose alias says that lockstep has not made it, stays.
    pub(super) async fn remove_virtual_links(&mut self) {
        let links = match self.network.links().await {
            Ok(links) => links,
            Err(error) => return warn!(%error, "interfaces of our own may stay"),
        };
        let removals: Vec<_> = links
            .values()
            .filter(|link| link.is_own_virtual_link())
            .map(|link| Change::RemoveLink { index: link.index, name: link.name.clone() })
            .collect();
        self.carry_out(&removals).await;
        self.network.restore_settings();
    }
}
