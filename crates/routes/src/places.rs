//! The places in the tables: which routes are declared for each, which are in it, and what is to
//! be done about that.

use std::sync::Arc;

use crate::index::Index;
use crate::{ActualRoute, Desired, Kind, Route, RouteKey, RouteKind, reach};

/// Declared and dumped routes, sorted by place.
pub(crate) struct Places<'a> {
    desired: Desired<'a>,
    /// By place; where there are several, in the order of declaration, with their number in it.
    declared: Vec<(RouteKey, usize, &'a Arc<Route>)>,
    /// By place; where there are several, in the kernel's order.
    there: Vec<(RouteKey, usize, &'a ActualRoute)>,
}

/// One place, which several declared routes may want at different moments.
pub(crate) struct Place<'p, 'a> {
    desired: Desired<'a>,
    /// With their number among the declared.
    pub(crate) candidates: &'p [(RouteKey, usize, &'a Arc<Route>)],
    there: &'p [(RouteKey, usize, &'a ActualRoute)],
}

/// What is to be done about a place.
pub(crate) enum Verdict<'a> {
    /// This one stays: it is wanted.
    Keep(&'a ActualRoute),
    /// A route can be put there, with those of its next hops that can be.
    Put(Arc<Route>),
    /// Nothing can be put there. What is left of a wanted one stays, and somebody else's.
    Clear,
}

impl<'a> Places<'a> {
    pub(crate) fn of(desired: Desired<'a>, routes: &'a [ActualRoute]) -> Self {
        let declared = desired.declared.routes.iter().enumerate();
        let mut declared: Vec<_> =
            declared.map(|(number, route)| (route.key(), number, route)).collect();
        declared.sort_unstable_by_key(|(key, number, _)| (*key, *number));
        let there = routes.iter().enumerate();
        let mut there: Vec<_> = there.map(|(number, route)| (route.key(), number, route)).collect();
        there.sort_unstable_by_key(|(key, number, _)| (*key, *number));
        Self { desired, declared, there }
    }

    /// Every place for which something is declared, or in which something is.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Place<'_, 'a>> {
        let (mut declared, mut there) = (self.declared.as_slice(), self.there.as_slice());
        let desired = self.desired;
        std::iter::from_fn(move || {
            let next = [declared.first().map(|one| one.0), there.first().map(|one| one.0)];
            let key = next.into_iter().flatten().min()?;
            let (candidates, in_place);
            (candidates, declared) = declared.split_at(alike(declared, |one| one.0 == key));
            (in_place, there) = there.split_at(alike(there, |one| one.0 == key));
            Some(Place { desired, candidates, there: in_place })
        })
    }
}

/// How many at the beginning are of the same place.
fn alike<T>(all: &[T], same: impl Fn(&T) -> bool) -> usize {
    all.iter().take_while(|one| same(one)).count()
}

impl<'a> Place<'_, 'a> {
    /// What is in it.
    pub(crate) fn there(&self) -> impl DoubleEndedIterator<Item = &'a ActualRoute> + Clone {
        self.there.iter().map(|(_, _, there)| *there)
    }

    /// Routes that are wanted now.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &'a Arc<Route>> {
        self.candidates
            .iter()
            .map(|(_, _, route)| *route)
            .filter(|route| self.desired.phases.wants(&route.condition, Kind::Routes))
    }

    /// Whether what is there is ours.
    pub(crate) fn is_ours(&self, there: &ActualRoute) -> bool {
        self.desired.owned.owns_route(there)
    }

    /// What holds the place as `route` says. Ours is, when it bears the declared protocol number
    /// too; somebody else's serves as well with another one.
    pub(crate) fn installed(&self, route: &Route, index: &Index<'_>) -> Option<&'a ActualRoute> {
        self.there().find(|there| {
            (there.protocol == route.protocol || !self.is_ours(there))
                && index.is_as_declared(there, route)
        })
    }

    /// Whether a wanted route is what is there.
    pub(crate) fn is_in_use(&self, index: &Index<'_>) -> bool {
        self.wanted().any(|route| self.installed(route, index).is_some())
    }

    pub(crate) fn is_conflicting(&self) -> bool {
        self.there().any(|there| !self.is_ours(there))
    }

    /// What is to be done. A wanted route that the kernel holds is left alone, also where it could
    /// not be added now.
    pub(crate) fn verdict(&self, index: &Index<'_>) -> Verdict<'a> {
        for route in self.wanted() {
            if let Some(there) = self.installed(route, index) {
                return Verdict::Keep(there);
            }
            if self.is_conflicting() {
                continue;
            }
            if let Ok(possible) = reach::possible(route, index) {
                let in_part = Some(&possible).filter(|possible| !Arc::ptr_eq(possible, route));
                return match in_part.and_then(|part| self.installed(part, index)) {
                    Some(there) => Verdict::Keep(there),
                    None => Verdict::Put(possible),
                };
            }
        }
        Verdict::Clear
    }

    /// Whether what is there goes when nothing is put in its place and `kept` stays: it is ours,
    /// and not what is left of a wanted one that cannot be put back whole.
    pub(crate) fn is_superfluous(
        &self,
        there: &ActualRoute,
        kept: Option<&ActualRoute>,
        index: &Index<'_>,
    ) -> bool {
        self.is_ours(there)
            && match kept {
                Some(kept) => !std::ptr::eq(kept, there),
                None => !self.wanted().any(|route| is_left_of(there, route, index)),
            }
    }
}

/// Whether a dumped route is the declared one without some next hops, or without its source: what
/// the kernel leaves of it when an interface or an address is gone.
fn is_left_of(there: &ActualRoute, route: &Route, index: &Index<'_>) -> bool {
    let devs = index.devs(route);
    let declared = |there: &crate::ActualNextHop| {
        route
            .next_hops
            .iter()
            .zip(&devs)
            .any(|(hop, dev)| there.via == hop.via && (hop.dev.is_none() || there.dev == *dev))
    };
    route.kind == RouteKind::Unicast
        && (there.kind, there.protocol) == (Some(route.kind), route.protocol)
        && !there.next_hops.is_empty()
        && there.next_hops.iter().all(declared)
        && (there.source == route.source || there.source.is_none())
}
