//! Taking away what a daemon has left that is no more.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use lockstep_kernel::own_table::Rules;
use lockstep_routes::{Change, Declared, Kind, Side, plan_kind};
use tokio::sync::mpsc;

use super::{Actor, Settings};

/// What is to go, besides the interfaces that lockstep has made.
pub(crate) enum Left {
    /// What follows a group: nobody here is master. What is wanted always stays.
    Followers(Declared),
    /// Every address that is marked as ours.
    Addresses,
    /// Everything that is marked or known as ours.
    All,
}

/// Takes it away, in the order in which a master leaves; returns what has been done, and what could
/// not be, each in words. Blocks; not to be called while a daemon is at work in this network
/// namespace.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn release(
    left: Left,
    state_directory: PathBuf,
) -> io::Result<(Vec<String>, Vec<String>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (kinds, declared) = match left {
        Left::Followers(declared) => (&Kind::ALL[..], declared),
        Left::Addresses => (&[Kind::Addresses][..], Declared::default()),
        Left::All => (&Kind::ALL[..], Declared::default()),
    };
    let settings = Settings {
        declared,
        interfaces: BTreeSet::new(),
        rules: Rules::default(),
        state_directory,
        resumed: Vec::new(),
    };
    runtime.block_on(async {
        // Nobody hears of anything.
        let (core, _) = mpsc::channel(1);
        let mut actor = Actor::connect(settings, core).await?;
        actor.release(kinds).await
    })
}

impl Actor {
    async fn release(&mut self, kinds: &[Kind]) -> io::Result<(Vec<String>, Vec<String>)> {
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        for kind in Kind::ALL {
            for group in self.declared.followed(kind) {
                self.phases.settle(group, kind, Side::Backup);
            }
        }
        for kind in [Kind::Addresses, Kind::Routes, Kind::Links] {
            if !kinds.contains(&kind) {
                continue;
            }
            let mut changes = plan_kind(self.desired(), &self.actual, kind);
            let elsewhere = self.added_elsewhere(&changes);
            changes.retain(|change| takes_away(change) && !elsewhere.contains(&change.object()));
            let gone = self.carry_out(&changes).await;
            for change in &changes {
                let words = if gone.contains(&change) { &mut done } else { &mut refused };
                words.push(change.to_string());
            }
            // What the kernel has dropped with it is not there to be removed next.
            self.actual = self.network.dump(&self.interest).await?.into();
        }
        let own = self.actual.links.values().filter(|link| link.is_own_virtual_link());
        done.extend(own.map(|link| format!("remove link {}", link.name)));
        self.remove_virtual_links().await;
        self.ownership.keep();
        Ok((done, refused))
    }
}

fn takes_away(change: &Change) -> bool {
    match change {
        Change::RemoveAddress { .. }
        | Change::RemoveRoute { .. }
        | Change::RemoveRule { .. }
        | Change::SetLink { up: false, .. } => true,
        Change::AddVirtualLink { .. }
        | Change::RemoveLink { .. }
        | Change::SetLink { up: true, .. }
        | Change::AddAddress { .. }
        | Change::AddRoute { .. }
        | Change::ReplaceRoute { .. }
        | Change::AddRule { .. } => false,
    }
}
