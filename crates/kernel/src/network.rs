//! Links, addresses, routes and rules over rtnetlink.
//!
//! [`Network`] dumps what the kernel has as a [`lockstep_routes::Actual`] and carries out
//! [`lockstep_routes::Change`]s; [`Monitor`] says when it is worth looking again. The messages
//! are netlink-packet-route's; the conversation is our own, because a full table of somebody
//! else's must be filtered while it streams, many changes go in one system call, and the kernel's
//! own words about a refusal are wanted.

mod conversation;
mod decode;
mod encode;
mod monitor;
mod shadowed;
#[cfg(test)]
mod tests;
mod virtual_link;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use lockstep_routes::{
    Actual, ActualAddress, ActualLink, ActualRoute, ActualRule, Change, Interest,
    PROTOCOL_LOCKSTEP, TableId, VirtualLink,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use thiserror::Error;

use conversation::{BATCH, Conversation, Refusal};

pub use monitor::{Hints, Monitor};

/// Routes and rules are dumped for one family at a time.
const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Attempts to get a dump during which nothing changed. After the last one the dump is taken as
/// it is: whatever changed is announced, and looked at then.
const DUMP_ATTEMPTS: usize = 3;

/// Reads and changes links, addresses, routes and rules of the network namespace in which it was
/// made. To be used within a tokio runtime.
#[derive(Debug)]
pub struct Network {
    changes: Conversation,
    below: virtual_link::Below,
}

/// A change that was not carried out.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("cannot {what}: {words}")]
pub struct ChangeError {
    /// The change.
    pub what: String,
    /// The error number; 0 when there is none.
    pub errno: i32,
    /// What the kernel says about it, with its explanation when it gives one.
    pub words: String,
}

impl Network {
    /// Opens the conversation in the calling thread's network namespace.
    ///
    /// # Errors
    /// When no netlink socket can be had. Reading needs no privilege, changing does.
    pub fn connect() -> io::Result<Self> {
        Ok(Self { changes: Conversation::open()?, below: virtual_link::Below::default() })
    }

    /// Everything the kernel has, of the routes what `interest` asks for. May be dropped half
    /// way, like the other dumps.
    pub async fn dump(&self, interest: &Interest) -> io::Result<Actual> {
        Ok(Actual {
            links: self.links().await?,
            addresses: self.addresses().await?,
            routes: self.routes(interest).await?,
            rules: self.rules().await?,
        })
    }

    /// The routes that `interest` asks for.
    pub async fn routes(&self, interest: &Interest) -> io::Result<Vec<ActualRoute>> {
        routes_of(interest).await
    }

    /// Every rule.
    pub async fn rules(&self) -> io::Result<Vec<ActualRule>> {
        all_rules().await
    }

    /// The routes that `interest` asks for, and every rule. Borrows nothing: changes can be
    /// carried out while it waits, and it sees some of them. To be awaited by a thread in the
    /// network namespace in question.
    pub async fn routes_and_rules(
        interest: Arc<Interest>,
    ) -> io::Result<(Vec<ActualRoute>, Vec<ActualRule>)> {
        Ok((routes_of(&interest).await?, all_rules().await?))
    }

    /// The routes that bear our protocol number in every table, for finding what an earlier run
    /// has left in tables that are not declared any more.
    pub async fn own_routes(&self) -> io::Result<Vec<ActualRoute>> {
        let mut conversation = Conversation::open()?;
        let mut own = Vec::new();
        let everywhere = Interest::of(&lockstep_routes::Declared::default());
        for family in FAMILIES {
            let request = encode::own_routes_of(family);
            let routes = whole_dump(&mut conversation, &request, |kind, payload| {
                decode::route(kind, payload, &everywhere)
                    .filter(|route| route.protocol == PROTOCOL_LOCKSTEP)
            });
            own.extend(routes.await?);
        }
        Ok(own)
    }

    /// Every link by index.
    pub async fn links(&self) -> io::Result<BTreeMap<u32, ActualLink>> {
        let links = single_dump(&encode::links(), decode::link).await?;
        Ok(links.into_iter().map(|link| (link.index, link)).collect())
    }

    /// Every address.
    pub async fn addresses(&self) -> io::Result<Vec<ActualAddress>> {
        single_dump(&encode::addresses(), decode::address).await
    }

    /// Carries the changes out in order, many in one system call, and answers for each. One that
    /// fails does not keep the others. Having been done already counts as done: an object of ours
    /// that is there is not added again, one that is gone is not missed.
    pub async fn apply(&mut self, changes: &[Change]) -> Vec<Result<(), ChangeError>> {
        let mut answers = Vec::with_capacity(changes.len());
        let is_removal = |change: &Change| matches!(change, Change::RemoveLink { .. });
        let shadowed = self.shadowed_removals(changes).await;
        let alone = |change: &Change| is_new_link(change) || is_one_of(&shadowed, change);
        for alike in changes.chunk_by(|one, next| {
            !(alone(one) || alone(next)) && is_removal(one) == is_removal(next)
        }) {
            match alike {
                [Change::RemoveLink { .. }, _, ..] => {
                    self.remove_together(alike).await;
                    // Each is answered for by its own removal: of one that is gone already, mostly.
                    self.apply_plain(alike, &mut answers).await;
                }
                [change @ Change::AddVirtualLink { link, parent }] => {
                    answers.push(self.add_virtual_link(change, link, *parent).await);
                }
                [change @ Change::RemoveRule { rule }] if is_one_of(&shadowed, change) => {
                    answers.push(self.remove_shadowed(change, rule).await);
                }
                others => self.apply_plain(others, &mut answers).await,
            }
        }
        answers
    }

    /// Takes over a link that an earlier run has made: sets it, and the interface below, as if it
    /// were made now.
    pub fn adopt(&mut self, link: &VirtualLink, there: &ActualLink) {
        let Some(macvlan) = there.macvlan else { return };
        self.below.learn(link, there, macvlan.parent);
        self.below.prepare(link, macvlan.parent);
        virtual_link::set_up(link);
    }

    /// Puts back what the interfaces below virtual links were set to before those were made. To be
    /// called when they are removed for good.
    pub fn restore_settings(&mut self) {
        self.below.restore();
    }

    async fn add_virtual_link(
        &mut self,
        change: &Change,
        link: &VirtualLink,
        parent: u32,
    ) -> Result<(), ChangeError> {
        let alias = self.below.prepare(link, parent);
        let messages = [virtual_link::creation(link, parent), virtual_link::marking(link, alias)];
        let results = self.changes.request(messages).await.map_err(|error| lost(change, &error))?;
        for result in results {
            judge(change, result.unwrap_or_else(|| Err(Refusal::lost())))?;
        }
        virtual_link::set_up(link);
        Ok(())
    }

    /// Removes links together: one by one the kernel waits some 20 ms after each. Those that are
    /// left over are removed one by one all the same.
    async fn remove_together(&mut self, removals: &[Change]) {
        let taken = single_dump(&encode::links(), decode::link_group).await.unwrap_or_default();
        let free = (1..=u32::MAX).rev().find(|group| !taken.contains(group));
        let Some(group) = free.filter(|_| !taken.is_empty()) else { return };
        for batch in removals.chunks(BATCH) {
            let messages = batch.iter().filter_map(|change| match change {
                Change::RemoveLink { index, .. } => Some(encode::into_group(*index, group)),
                _ => None,
            });
            if let Err(error) = self.changes.request(messages).await {
                return tracing::debug!(%error, "links are removed one by one");
            }
        }
        match self.changes.request([encode::group_removal(group)]).await {
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "links are removed one by one"),
        }
    }

    async fn apply_plain(
        &mut self,
        changes: &[Change],
        answers: &mut Vec<Result<(), ChangeError>>,
    ) {
        for batch in changes.chunks(BATCH) {
            for change in batch {
                keep_other_addresses(change);
            }
            match self.changes.request(batch.iter().map(encode::change)).await {
                Ok(results) => {
                    for (change, result) in batch.iter().zip(results) {
                        answers.push(match result {
                            Some(result) => self.judge_addition(change, result).await,
                            None => self.ask_again(change).await,
                        });
                    }
                }
                Err(error) => {
                    answers.extend(batch.iter().map(|change| Err(lost(change, &error))));
                }
            }
        }
    }

    /// The rules to be removed in whose place the kernel may take another one.
    async fn shadowed_removals(&self, changes: &[Change]) -> Vec<ActualRule> {
        let removed = changes.iter().filter_map(|change| match change {
            Change::RemoveRule { rule } => Some(rule),
            _ => None,
        });
        let mut removed = removed.peekable();
        if removed.peek().is_none() {
            return Vec::new();
        }
        let mut by_place: BTreeMap<_, Vec<ActualRule>> = BTreeMap::new();
        let place = |rule: &ActualRule| (rule.key.ipv6, rule.key.priority);
        let added = changes.iter().filter_map(|change| match change {
            Change::AddRule { rule } => {
                Some(ActualRule { key: rule.key(), protocol: rule.protocol, special: false })
            }
            _ => None,
        });
        // What cannot be read now cannot be looked out for.
        for rule in self.rules().await.unwrap_or_default().into_iter().chain(added) {
            let others = by_place.entry(place(&rule)).or_default();
            if !others.contains(&rule) {
                others.push(rule);
            }
        }
        let is_shadowed = |rule: &&ActualRule| {
            let others = by_place.get(&place(rule));
            others.is_some_and(|others| others.iter().any(|o| shadowed::is_taken_for(o, rule)))
        };
        removed.filter(is_shadowed).cloned().collect()
    }

    /// Removes a rule although the kernel would take others first: those are added once more,
    /// behind it, so that the kernel can take the first ones and none is missing meanwhile.
    async fn remove_shadowed(
        &mut self,
        change: &Change,
        rule: &ActualRule,
    ) -> Result<(), ChangeError> {
        let rules = self.rules().await.map_err(|error| lost(change, &error))?;
        if !rules.contains(rule) {
            return Ok(());
        }
        let others = shadowed::before(&rules, rule);
        if let Some(special) = others.iter().find(|other| other.special) {
            let words = format!("the kernel would remove another rule, {}", special.key);
            return Err(ChangeError { what: change.to_string(), errno: 0, words });
        }
        let removals = std::iter::repeat_with(|| encode::change(change)).take(others.len() + 1);
        let requests: Vec<_> =
            others.iter().map(|other| encode::another(other)).chain(removals).collect();
        for batch in requests.chunks(BATCH) {
            let results = self.changes.request(batch.iter().cloned()).await;
            for result in results.map_err(|error| lost(change, &error))? {
                judge(change, result.unwrap_or_else(|| Err(Refusal::lost())))?;
            }
        }
        Ok(())
    }

    /// Repeats a change whose answer was lost. Done twice it does no harm; but of what bears a
    /// number that others use too nobody can say then who has made it.
    async fn ask_again(&mut self, change: &Change) -> Result<(), ChangeError> {
        let request = self.changes.request([encode::change(change)]);
        let results = request.await.map_err(|error| lost(change, &error))?;
        match results.into_iter().next().flatten() {
            Some(Err(refusal))
                if refusal.errno == libc::EEXIST && !done_already(change, &refusal) =>
            {
                judge(change, Err(Refusal::lost()))
            }
            Some(result) => self.judge_addition(change, result).await,
            None => judge(change, Err(Refusal::lost())),
        }
    }

    /// [`judge`]; a rule that the kernel has taken for another one is added beside that. Asked not
    /// to add a rule twice, it compares no `from`, `to` or `tos` that is not given.
    async fn judge_addition(
        &mut self,
        change: &Change,
        result: Result<(), Refusal>,
    ) -> Result<(), ChangeError> {
        let (Change::AddRule { rule }, Err(Refusal { errno: libc::EEXIST, .. })) =
            (change, &result)
        else {
            return judge(change, result);
        };
        let wanted = ActualRule { key: rule.key(), protocol: rule.protocol, special: false };
        let there = self.rules().await.map_err(|error| lost(change, &error))?;
        if there.contains(&wanted) {
            return judge(change, result);
        }
        let request = self.changes.request([encode::another(&wanted)]);
        let answer = request.await.map_err(|error| lost(change, &error))?.into_iter().next();
        judge(change, answer.flatten().unwrap_or_else(|| Err(Refusal::lost())))
    }
}

/// Whether it takes more than one message.
fn is_new_link(change: &Change) -> bool {
    matches!(change, Change::AddVirtualLink { .. })
}

fn is_one_of(shadowed: &[ActualRule], change: &Change) -> bool {
    matches!(change, Change::RemoveRule { rule } if shadowed.contains(rule))
}

/// Table by table, as the kernel filters them: what is in the tables of others costs nothing.
async fn routes_of(interest: &Interest) -> io::Result<Vec<ActualRoute>> {
    let mut conversation = Conversation::open()?;
    let mut kept = Vec::new();
    for family in FAMILIES {
        for table in interest.tables() {
            let request = encode::routes_of(family, table);
            let routes = whole_dump(&mut conversation, &request, |kind, payload| {
                decode::route(kind, payload, interest)
                    // A kernel that does not filter sends every table each time.
                    .filter(|route| route.table == table)
            });
            kept.append(&mut routes.await?);
        }
    }
    Ok(kept)
}

async fn all_rules() -> io::Result<Vec<ActualRule>> {
    let mut conversation = Conversation::open()?;
    let mut rules = Vec::new();
    for family in FAMILIES {
        let request = encode::rules_of(family);
        rules.append(&mut whole_dump(&mut conversation, &request, decode::rule).await?);
    }
    Ok(rules)
}

async fn single_dump<T>(
    request: &RouteNetlinkMessage,
    decode: impl Fn(u16, &[u8]) -> Option<T>,
) -> io::Result<Vec<T>> {
    whole_dump(&mut Conversation::open()?, request, decode).await
}

/// Dumps on a socket that is used for nothing but dumps and dropped when one fails, so that a dump
/// given up half way leaves nothing behind.
async fn whole_dump<T>(
    conversation: &mut Conversation,
    request: &RouteNetlinkMessage,
    decode: impl Fn(u16, &[u8]) -> Option<T>,
) -> io::Result<Vec<T>> {
    let mut kept = Vec::new();
    for _ in 0..DUMP_ATTEMPTS {
        kept.clear();
        let consistent =
            conversation.dump(request, |kind, payload| kept.extend(decode(kind, payload))).await?;
        if consistent {
            break;
        }
    }
    Ok(kept)
}

/// The kernel removes the other addresses of a network together with the first one, unless told
/// to promote one of them: they may be somebody else's.
fn keep_other_addresses(change: &Change) {
    let Change::RemoveAddress { name, address, .. } = change else { return };
    if address.addr().is_ipv6() || address.prefix_len() == address.max_prefix_len() {
        return;
    }
    let setting = format!("net/ipv4/conf/{name}/promote_secondaries");
    if crate::sysctl::read(&setting).is_ok_and(|value| value == "0")
        && let Err(error) = crate::sysctl::write(&setting, "1")
    {
        tracing::debug!(setting, %error, "cannot ask for secondary addresses to be kept");
    }
}

fn judge(change: &Change, result: Result<(), Refusal>) -> Result<(), ChangeError> {
    match result {
        Err(refusal) if !done_already(change, &refusal) => Err(ChangeError {
            what: change.to_string(),
            errno: refusal.errno,
            words: refusal.to_string(),
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether the refusal says that there is nothing left to do.
fn done_already(change: &Change, refusal: &Refusal) -> bool {
    let done_already: &[i32] = match change {
        // What bears a number that others use too may be somebody else's, and stays that.
        Change::AddRoute { route, .. } if route.protocol != PROTOCOL_LOCKSTEP => &[],
        Change::AddRule { rule } if rule.protocol != PROTOCOL_LOCKSTEP => &[],
        Change::AddAddress { .. } | Change::AddRoute { .. } | Change::AddRule { .. } => {
            &[libc::EEXIST]
        }
        Change::RemoveAddress { .. } => &[libc::EADDRNOTAVAIL, libc::ENODEV],
        Change::RemoveRoute { .. } | Change::RemoveRule { .. } => {
            &[libc::ESRCH, libc::ENOENT, libc::ENODEV]
        }
        Change::SetLink { up: false, .. } | Change::RemoveLink { .. } => &[libc::ENODEV],
        Change::AddVirtualLink { .. }
        | Change::SetLink { up: true, .. }
        | Change::ReplaceRoute { .. } => &[],
    };
    done_already.contains(&refusal.errno)
}

fn lost(change: &Change, error: &io::Error) -> ChangeError {
    ChangeError {
        what: change.to_string(),
        errno: error.raw_os_error().unwrap_or(0),
        words: error.to_string(),
    }
}

/// The table number as the fixed part of a message holds it; a larger one is an attribute.
fn short_table(table: TableId) -> u8 {
    u8::try_from(table.0).unwrap_or(0)
}
