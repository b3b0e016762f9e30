//! What the thread knows, for others to judge: with a hundred thousand routes that takes a while,
//! and must not hold up a step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use lockstep_routes::{
    Actual, Assessment, Change, Condition, Declared, Desired, NextHop, Owned, Phases, Refusals,
    Route, Rule, RuleAction, State, TableId, VirtualLink, When, assess, plan, protocol_name,
};

use super::Actor;
use crate::control::protocol::{Selection, StateWord};
use crate::status::{self, Counts, PlannedChange, Standing, Wanted};

/// Most plans made one after another: as many as one look carries out.
const ROUNDS: usize = 4;

/// What is wanted and what is there, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    declared: Arc<Declared>,
    phases: Phases,
    owned: Arc<Owned>,
    actual: Arc<Actual>,
    refusals: Arc<Refusals>,
    not_kept: Option<String>,
    taken: Instant,
}

/// How everything declared stands.
#[derive(Debug)]
pub(crate) struct Assessed {
    declared: Arc<Declared>,
    phases: Phases,
    states: Assessment,
    not_kept: Option<String>,
    taken: Instant,
}

impl Actor {
    /// What is known now.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            declared: Arc::clone(&self.declared),
            phases: self.phases.clone(),
            owned: Arc::clone(self.ownership.owned()),
            actual: Arc::clone(&self.actual),
            refusals: Arc::clone(&self.refusals),
            not_kept: self.ownership.trouble().map(str::to_owned),
            taken: Instant::now(),
        }
    }
}

impl Snapshot {
    /// At the start of a router that has this declared and that in its kernel.
    #[cfg(test)]
    pub(crate) fn of(declared: Declared, actual: Actual) -> Self {
        Self {
            declared: Arc::new(declared),
            phases: Phases::default(),
            owned: Arc::default(),
            actual: Arc::new(actual),
            refusals: Arc::default(),
            not_kept: None,
            taken: Instant::now(),
        }
    }

    fn desired(&self) -> Desired<'_> {
        Desired { declared: &self.declared, phases: &self.phases, owned: &self.owned }
    }

    /// Judges everything.
    pub(crate) fn assess(&self) -> Assessed {
        Assessed {
            declared: Arc::clone(&self.declared),
            phases: self.phases.clone(),
            states: assess(self.desired(), &self.actual, &self.refusals),
            not_kept: self.not_kept.clone(),
            taken: self.taken,
        }
    }

    /// What would be done now, in order; what the kernel has refused stands where it would be
    /// tried again.
    pub(crate) fn plan(&self) -> Vec<PlannedChange> {
        let mut actual = Actual::clone(&self.actual);
        let mut planned = Vec::new();
        let mut refused = BTreeSet::new();
        for _ in 0..ROUNDS {
            let changes = plan(self.desired(), &actual);
            let mut carried_out = Vec::new();
            for change in changes {
                let object = change.object();
                let refusal = self.refusals.of(&object);
                if refusal.is_none() || refused.insert(object) {
                    planned.push(PlannedChange {
                        command: change.command(&actual),
                        refused: refusal.map(|refusal| refusal.words.clone()),
                        next_try_ms: refusal.map(|refusal| self.millis_to(refusal.next_try)),
                    });
                }
                if refusal.is_none() {
                    carried_out.push(change);
                }
            }
            if carried_out.is_empty() {
                break;
            }
            let is_new_link = |change: &Change| matches!(change, Change::AddVirtualLink { .. });
            // What number it will have, nobody knows: it would be added again.
            let is_end = carried_out.iter().any(is_new_link);
            actual.record_all(&carried_out);
            if is_end {
                break;
            }
        }
        planned
    }

    fn millis_to(&self, moment: Instant) -> u64 {
        millis(self.taken, moment)
    }
}

fn millis(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX)
}

/// What of it all is asked for.
struct Filter<'a> {
    states: &'a [StateWord],
    tables: Option<BTreeSet<TableId>>,
    interfaces: &'a [String],
}

impl<'a> Filter<'a> {
    fn of(selection: &'a Selection, declared: &Declared) -> anyhow::Result<Self> {
        let mut tables = BTreeSet::new();
        for name in &selection.tables {
            tables.insert(table_of(name, declared)?);
        }
        let tables = (!selection.tables.is_empty()).then_some(tables);
        Ok(Self { states: &selection.states, tables, interfaces: &selection.interfaces })
    }

    fn takes<'b>(
        &self,
        state: &State,
        table: Option<TableId>,
        interfaces: impl IntoIterator<Item = &'b str>,
    ) -> bool {
        (self.states.is_empty() || self.states.iter().any(|word| word.as_str() == state.as_str()))
            && self
                .tables
                .as_ref()
                .is_none_or(|tables| table.is_some_and(|table| tables.contains(&table)))
            && (self.interfaces.is_empty()
                || interfaces.into_iter().any(|name| self.interfaces.iter().any(|one| one == name)))
    }
}

/// A table by its declared name, by a name that everybody knows, or by number.
fn table_of(name: &str, declared: &Declared) -> anyhow::Result<TableId> {
    if let Some(table) = declared.tables.number(name) {
        return Ok(table);
    }
    let well_known = [TableId::MAIN, TableId::LOCAL, TableId(253)];
    if let Some(table) = well_known.into_iter().find(|table| table.to_string() == name) {
        return Ok(table);
    }
    match name.parse() {
        Ok(number) => Ok(TableId(number)),
        Err(_) => bail!("there is no table {name}"),
    }
}

/// The part of everything that is shown, while everything is gone through.
struct Part {
    /// Where what is gone through now is.
    position: u64,
    /// Where the part begins.
    from: u64,
    /// How many are still to be shown.
    room: usize,
    counts: Counts,
    /// Where the rest begins.
    next: Option<u64>,
}

impl Part {
    /// Whether the next object is shown; `taken`: whether it was asked for.
    fn shows(&mut self, taken: bool, state: &State) -> bool {
        let position = self.position;
        self.position += 1;
        if !taken {
            return false;
        }
        let count = match state {
            State::Installed | State::WithoutCarrier(_) => &mut self.counts.installed,
            State::Unwanted { .. } | State::Pending(_) => &mut self.counts.pending,
            State::Conflicting { .. } => &mut self.counts.conflicting,
            State::Failed { .. } => &mut self.counts.failed,
        };
        *count += 1;
        if position < self.from {
            return false;
        }
        if self.room == 0 {
            self.next.get_or_insert(position);
            return false;
        }
        self.room -= 1;
        true
    }
}

impl Assessed {
    /// At most `limit` of the objects asked for, from [`status::Network::next`] of an earlier part
    /// on. Their order is that of the configuration.
    ///
    /// # Errors
    /// When a table is asked for that has no such name.
    pub(crate) fn part(
        &self,
        selection: &Selection,
        from: u64,
        limit: usize,
    ) -> anyhow::Result<status::Network> {
        let filter = Filter::of(selection, &self.declared)?;
        let counts = Counts::default();
        let mut part = Part { position: 0, from, room: limit, counts, next: None };
        let mut network = status::Network::default();
        let (declared, states) = (&*self.declared, &self.states);
        for (link, state) in declared.links.iter().zip(&states.links) {
            if part.shows(filter.takes(state, None, [&*link.interface]), state) {
                network.links.push(self.link(link, state));
            }
        }
        for (link, state) in declared.virtual_links.iter().zip(&states.virtual_links) {
            let taken = filter.takes(state, None, [&*link.name, &*link.parent]);
            if part.shows(taken, state) {
                network.links.push(self.virtual_link(link, state));
            }
        }
        for (address, state) in declared.addresses.iter().zip(&states.addresses) {
            if part.shows(filter.takes(state, None, [&*address.interface]), state) {
                network.addresses.push(self.address(address, state));
            }
        }
        for (route, state) in declared.routes.iter().zip(&states.routes) {
            let interfaces = route.next_hops.iter().filter_map(|hop| hop.dev.as_deref());
            if part.shows(filter.takes(state, Some(route.table), interfaces), state) {
                network.routes.push(self.route(route, state));
            }
        }
        for (rule, state) in declared.rules.iter().zip(&states.rules) {
            let interfaces = [&rule.key.iif, &rule.key.oif].into_iter().flatten();
            let interfaces = interfaces.map(String::as_str);
            if part.shows(filter.takes(state, rule.key.table(), interfaces), state) {
                network.rules.push(self.rule(rule, state));
            }
        }
        network.counts = part.counts;
        network.next = part.next;
        network.not_kept.clone_from(&self.not_kept);
        Ok(network)
    }

    /// What `status` shows: everything, or, where that is more than `limit`, at most so much of
    /// what is not installed.
    pub(crate) fn summary(&self, limit: usize) -> status::Network {
        let everything = Selection::default();
        let states = [StateWord::Pending, StateWord::Conflicting, StateWord::Failed];
        let missing = Selection { states: states.into(), ..Selection::default() };
        // Without a table's name nothing can fail.
        let all = self.part(&everything, 0, limit).unwrap_or_default();
        if all.next.is_none() {
            return all;
        }
        let missing = self.part(&missing, 0, limit).unwrap_or_default();
        status::Network { counts: all.counts, next: None, ..missing }
    }

    fn standing(&self, state: &State) -> Standing {
        let next_try_ms = match state {
            State::Failed { next_try, .. } => Some(millis(self.taken, *next_try)),
            _ => None,
        };
        Standing { state: state.as_str().to_owned(), reason: state.reason(), next_try_ms }
    }

    fn link(&self, link: &lockstep_routes::Link, state: &State) -> status::Link {
        let up = self.phases.wants_link(&link.up);
        let object = match up {
            Some(true) => format!("{} up", link.interface),
            Some(false) => format!("{} down", link.interface),
            None => link.interface.clone(),
        };
        status::Link {
            object,
            interface: link.interface.clone(),
            up,
            mac: None,
            parent: None,
            wanted: wanted(&link.up),
            standing: self.standing(state),
        }
    }

    fn virtual_link(&self, link: &VirtualLink, state: &State) -> status::Link {
        let mac = link.mac.map(|byte| format!("{byte:02x}")).join(":");
        status::Link {
            object: format!("{} {mac} on {}", link.name, link.parent),
            interface: link.name.clone(),
            up: Some(true),
            mac: Some(mac),
            parent: Some(link.parent.clone()),
            wanted: wanted(&Condition::ALWAYS),
            standing: self.standing(state),
        }
    }

    fn address(&self, address: &lockstep_routes::Address, state: &State) -> status::Address {
        status::Address {
            object: address.to_string(),
            address: address.address.to_string(),
            interface: address.interface.clone(),
            broadcast: address.broadcast.map(|broadcast| broadcast.to_string()),
            label: address.label.clone(),
            scope: address.scope.as_str().to_owned(),
            wanted: wanted(&address.condition),
            standing: self.standing(state),
        }
    }

    fn route(&self, route: &Route, state: &State) -> status::Route {
        let next_hop = |hop: &NextHop| status::NextHop {
            via: hop.via.map(|via| via.to_string()),
            interface: hop.dev.clone(),
            weight: hop.weight,
            onlink: hop.onlink,
        };
        let next_hops: Vec<_> = route.next_hops.iter().map(next_hop).collect();
        let first = next_hops.first();
        status::Route {
            table: self.declared.table_name(route.table),
            kind: route.kind.as_str().to_owned(),
            destination: route.destination(),
            via: first.and_then(|hop| hop.via.clone()),
            interface: first.and_then(|hop| hop.interface.clone()),
            next_hops,
            source: route.source.map(|source| source.to_string()),
            metric: route.metric,
            mtu: route.mtu,
            scope: route.scope.map(|scope| scope.as_str().to_owned()),
            protocol: protocol_name(route.protocol),
            wanted: wanted(&route.condition),
            standing: self.standing(state),
        }
    }

    fn rule(&self, rule: &Rule, state: &State) -> status::Rule {
        let key = rule.key();
        let action = match key.action {
            RuleAction::Lookup(_) => "lookup",
            RuleAction::Blackhole => "blackhole",
            RuleAction::Unreachable => "unreachable",
            RuleAction::Prohibit => "prohibit",
        };
        status::Rule {
            object: key.describe(&self.declared),
            family: if key.ipv6 { "ipv6" } else { "ipv4" }.to_owned(),
            priority: key.priority,
            from: key.from.map(|net| net.to_string()),
            to: key.to.map(|net| net.to_string()),
            fwmark: key.fwmark.map(|mark| mark.value),
            fwmark_mask: key.fwmark.map(|mark| mark.mask),
            tos: key.tos,
            ipproto: key.ip_protocol,
            sport: key.source_port.map(|ports| ports.to_string()),
            dport: key.destination_port.map(|ports| ports.to_string()),
            suppress_prefixlength: key.suppress_prefix_length,
            action: action.to_owned(),
            table: key.table().map(|table| self.declared.table_name(table)),
            iif: key.iif,
            oif: key.oif,
            protocol: protocol_name(rule.protocol),
            wanted: wanted(&rule.condition),
            standing: self.standing(state),
        }
    }
}

fn wanted(condition: &Condition) -> Wanted {
    let when = match condition.when {
        When::Always => "always",
        When::Master => "master",
        When::Backup => "backup",
    };
    Wanted { when: when.to_owned(), group: condition.followed().map(str::to_owned) }
}
