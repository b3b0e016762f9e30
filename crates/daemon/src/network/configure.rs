//! Another configuration while the thread is at work.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use lockstep_routes::Interest;

use super::Actor;
use super::look::Turn;
use super::requests::Requests;
use crate::messages::Wanted;
use crate::network::listener::Listener;

impl Actor {
    /// Wants something else from now on. Groups stay on the side where they are, so what is the same
    /// in both stays as it is; what is only in the old one and ours goes.
    ///
    /// # Errors
    /// When the kernel cannot be asked. What is wanted is another all the same, and the next look
    /// sees to it.
    pub(super) async fn configure(
        &mut self,
        wanted: Wanted,
        requests: &mut Requests,
    ) -> io::Result<()> {
        self.is_being_configured = true;
        let result = self.exchange(wanted, requests).await;
        self.is_being_configured = false;
        result
    }

    /// Wants the addresses of these virtual routers too.
    pub(super) async fn admit(&mut self, names: &[String]) {
        let withheld = &mut self.withheld;
        let addresses: Vec<_> =
            names.iter().filter_map(|name| withheld.remove(name)).flatten().collect();
        if addresses.is_empty() {
            return;
        }
        Arc::make_mut(&mut self.declared).addresses.extend(addresses);
        self.schedule.routes_changed(Instant::now());
        self.keep_virtual_links_silent();
        self.is_being_configured = true;
        self.settle_links().await;
        self.is_being_configured = false;
    }

    async fn exchange(&mut self, wanted: Wanted, requests: &mut Requests) -> io::Result<()> {
        let Wanted { mut declared, mut addresses, arriving, .. } = wanted;
        let interest = Interest::of(&declared);
        let before = std::mem::take(&mut self.withheld).into_keys();
        let withheld: BTreeSet<String> = before.chain(arriving).collect();
        let withheld = withheld.into_iter();
        self.withheld = withheld.filter_map(|name| addresses.remove_entry(&name)).collect();
        let are_withheld: BTreeSet<_> = self.withheld.values().flatten().collect();
        declared.addresses.retain(|address| !are_withheld.contains(address));
        self.declared = Arc::new(declared);
        self.phases.retain(|group| wanted.groups.contains(group));
        self.told.retain(|name, _| wanted.interfaces.contains(name));
        self.interfaces = wanted.interfaces;
        self.schedule.routes_changed(Instant::now());
        let own = self.network.own_routes().await?;
        let interest = interest
            .and_owned(self.ownership.owned())
            .and_tables(own.iter().map(|route| route.table));
        self.interest = Arc::new(interest);
        self.listener = Listener::connect(Arc::clone(&self.interest))?;
        // An interface of a virtual router that comes is silent before it is there.
        self.table.configure(wanted.rules, &self.desired().silent_links());
        self.change_virtual_links().await?;
        if self.take_stock(Turn::Orders(requests)).await? {
            self.settle(Some(requests)).await;
        }
        Ok(())
    }
}
