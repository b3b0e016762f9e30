//! Another configuration while the thread is at work.

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
        self.declared = Arc::new(wanted.declared);
        self.told.retain(|name, _| wanted.interfaces.contains(name));
        self.interfaces = wanted.interfaces;
        self.schedule.routes_changed(Instant::now());
        let own = self.network.own_routes().await?;
        let interest = Interest::of(&self.declared)
            .and_owned(self.ownership.owned())
            .and_tables(own.iter().map(|route| route.table));
        self.interest = Arc::new(interest);
        self.listener = Listener::connect(Arc::clone(&self.interest))?;
        if self.take_stock(Turn::Orders(requests)).await? {
            self.settle(Some(requests)).await;
        }
        Ok(())
    }
}
