//! Which of the kernel's routes concern us: a full table of somebody else's is never copied.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::{ActualRoute, Declared, Owned, PROTOCOL_LOCKSTEP, RouteKey, TableId};

/// What to keep of a dump of the routes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interest {
    tables: BTreeSet<TableId>,
    /// In order.
    keys: Vec<RouteKey>,
    /// Address family (true: IPv6) and prefix length of every declared route.
    lengths: BTreeSet<(bool, u8)>,
}

impl Interest {
    /// What the declared objects need: their tables, and the main table, by which next hops are
    /// found.
    pub fn of(declared: &Declared) -> Self {
        let mut interest = Self { tables: BTreeSet::from([TableId::MAIN]), ..Self::default() };
        interest.add(declared.routes.iter().map(|route| route.key()));
        interest
    }

    /// Also the places that earlier routes of ours had.
    #[must_use]
    pub fn and_owned(mut self, owned: &Owned) -> Self {
        self.add(owned.routes.keys().copied());
        self
    }

    /// Also these tables, for what bears our number in them.
    #[must_use]
    pub fn and_tables(mut self, tables: impl IntoIterator<Item = TableId>) -> Self {
        self.tables.extend(tables);
        self
    }

    fn add(&mut self, keys: impl Iterator<Item = RouteKey>) {
        for key in keys {
            self.tables.insert(key.table);
            self.lengths.insert((matches!(key.to, IpNet::V6(_)), key.to.prefix_len()));
            self.keys.push(key);
        }
        self.keys.sort_unstable();
        self.keys.dedup();
        self.keys.shrink_to_fit();
    }

    /// The tables to dump, ascending.
    pub fn tables(&self) -> impl Iterator<Item = TableId> + '_ {
        self.tables.iter().copied()
    }

    /// Whether a change in that table can matter.
    pub fn covers(&self, table: TableId) -> bool {
        self.tables.contains(&table)
    }

    /// A cheap check on a route's fixed part, before the rest of it is decoded: `false` only when
    /// [`Interest::wants`] would be.
    pub fn may_want(&self, ipv6: bool, prefix_len: u8, scope: u8, protocol: u8) -> bool {
        const SCOPE_LINK: u8 = 253;
        ipv6 || scope >= SCOPE_LINK
            || protocol == PROTOCOL_LOCKSTEP
            || self.lengths.contains(&(ipv6, prefix_len))
    }

    /// Whether to keep the route: ours, in the place of a declared one, or a connected network.
    pub fn wants(&self, route: &ActualRoute) -> bool {
        route.protocol == PROTOCOL_LOCKSTEP
            || route.is_connected()
            || self.keys.binary_search(&route.key()).is_ok()
    }
}
