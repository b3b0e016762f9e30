//! The random cases of the planner's own tests, carried out in the model of the kernel and in the
//! kernel: the two must agree after everything that happens.
//!
//! `SEEDS=FIRST..LAST` runs other cases than the usual ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "network/ip.rs"]
#[expect(dead_code, reason = "shared with tests that need more")]
mod ip;
#[path = "../../routes/tests/model/mod.rs"]
mod model;
#[path = "network/world.rs"]
#[expect(dead_code, reason = "shared with tests that need more")]
mod world;

use std::ops::Range;

use lockstep_kernel::sysctl;
use lockstep_routes::{Actual, Change, Desired, Interest, Owned, Phases, plan};

use ip::ip;
use model::cases::{Case, LINKS, Step, addresses_of};
use model::essence;
use model::kernel::Kernel;
use world::{World, in_namespace};

/// Cases that run when nobody asks for others.
const USUAL: Range<u64> = 0..300;
/// What the model says of a change that it leaves out; no plan has one.
const NOT_MODELLED: &str = "the model does not know what comes of it";
/// Rounds of planning after which nothing may be left to do.
const ROUNDS: usize = 6;

fn seeds() -> Range<u64> {
    let Ok(asked) = std::env::var("SEEDS") else { return USUAL };
    let (first, last) = asked.split_once("..").expect("SEEDS is FIRST..LAST");
    first.parse().unwrap()..last.parse().unwrap()
}

/// The case in both kernels.
struct Run<'a> {
    seed: u64,
    case: &'a Case,
    interest: Interest,
    model: Kernel,
    /// What was made under other numbers than ours, on both sides.
    owned: Owned,
    world: &'a mut World,
    /// What has happened, for the person who reads of a failure.
    story: Vec<String>,
}

impl Run<'_> {
    async fn actual(&self) -> Actual {
        self.world.network.dump(&self.interest).await.unwrap()
    }

    /// What of the model a dump would have shown.
    fn modelled(&self) -> Actual {
        let mut actual = self.model.actual.clone();
        actual
            .routes
            .retain(|route| self.interest.covers(route.table) && self.interest.wants(route));
        actual
    }

    async fn compare(&self) {
        let (model, kernel) = (essence(&self.modelled()), essence(&self.actual().await));
        let only = |one: &[String], other: &[String]| -> Vec<String> {
            one.iter().filter(|line| !other.contains(line)).cloned().collect()
        };
        assert!(
            model == kernel,
            "seed {}: only in the model: {:#?}\nonly in the kernel: {:#?}\nafter {:#?}",
            self.seed,
            only(&model, &kernel),
            only(&kernel, &model),
            self.story
        );
    }

    /// Carries out what both sides are to do, one by one.
    async fn do_both(&mut self, model: Vec<Change>, kernel: Vec<Change>) {
        let (told, wanted) = (told(&model), told(&kernel));
        assert_eq!(told, wanted, "seed {}: they plan the same after {:#?}", self.seed, self.story);
        for kernel in kernel {
            let twin = model.iter().find(|change| {
                change.object() == kernel.object() && change.to_string() == kernel.to_string()
            });
            let modelled = self.model.carry_out(twin.expect("the plans are the same"));
            if modelled == Err(NOT_MODELLED) {
                continue;
            }
            let answer = self.world.network.apply(std::slice::from_ref(&kernel)).await.remove(0);
            // Having been done already counts as done there.
            let alike = modelled.is_ok() == answer.is_ok() || modelled == Err("file exists");
            self.story.push(format!("{kernel}: {modelled:?}, {answer:?}"));
            assert!(alike, "seed {}: they answer the same: {:#?}", self.seed, self.story);
        }
        self.compare().await;
    }

    async fn settle(&mut self, phases: &Phases) {
        for _ in 0..ROUNDS {
            let modelled = self.modelled();
            let actual = self.actual().await;
            let plan_of = |actual| {
                plan(Desired { declared: &self.case.declared, phases, owned: &self.owned }, actual)
            };
            let (model, kernel) = (plan_of(&modelled), plan_of(&actual));
            if model.is_empty() && kernel.is_empty() {
                return;
            }
            for change in &kernel {
                self.owned.note(change);
            }
            self.story.push("a plan".to_owned());
            self.do_both(model, kernel.clone()).await;
            for change in &kernel {
                self.owned.made(change);
                self.owned.forget(change);
            }
        }
        panic!("seed {}: still not settled after {:#?}", self.seed, self.story);
    }
}

impl World {
    /// A link that has this number, and a peer that is up.
    async fn veth_numbered(&self, name: &str, index: u32) {
        let peer = format!("{name}-peer");
        let number = index + 100;
        ip(&format!("link add {name} index {index} type veth peer name {peer} index {number}"));
        self.set_link(&peer, true).await;
    }
}

/// What changes say, in an order of their own.
fn told(changes: &[Change]) -> Vec<String> {
    let mut told: Vec<_> = changes.iter().map(Change::to_string).collect();
    told.sort();
    told
}

/// The links of a case with the numbers that they have in the model, and their addresses.
async fn begin(world: &mut World, case: &Case) {
    for (setting, value) in [
        ("net/ipv6/conf/default/addr_gen_mode", "1"),
        ("net/ipv6/conf/default/accept_dad", "0"),
        ("net/ipv4/conf/default/promote_secondaries", "1"),
    ] {
        sysctl::write(setting, value).unwrap();
    }
    world.set_link("lo", true).await;
    for address in world.network.addresses().await.unwrap() {
        let name = "lo".to_owned();
        let removal = Change::RemoveAddress { index: 1, name, address: address.address };
        world.carry_out(&[removal]).await;
    }
    for (number, (name, up)) in case.links.iter().enumerate().skip(1) {
        assert!(LINKS.contains(name));
        world.veth_numbered(name, number as u32 + 1).await;
        world.set_link(name, *up).await;
        for address in addresses_of(name) {
            if *up || !address.contains(':') {
                let at_once = if address.contains(':') { "nodad" } else { "" };
                ip(&format!("address add {address} dev {name} {at_once}"));
            }
        }
    }
}

async fn replay(seed: u64, world: &mut World) {
    let case = Case::of(seed);
    begin(world, &case).await;
    let interest = Interest::of(&case.declared);
    let (model, owned) = (case.kernel(), case.owned.clone());
    let mut run = Run { seed, case: &case, interest, model, owned, world, story: Vec::new() };
    run.compare().await;
    let left = case.begin(&run.model.actual);
    run.do_both(left.clone(), left).await;
    for step in &case.steps {
        run.story.push(format!("{step:?}"));
        match step {
            Step::Settle(phases) => run.settle(phases).await,
            disturbance => {
                let actual = run.actual().await;
                let modelled = run.modelled();
                run.do_both(disturbance.changes(&modelled), disturbance.changes(&actual)).await;
            }
        }
    }
}

#[test]
fn the_kernel_does_with_random_cases_what_the_model_of_it_does() {
    for seed in seeds() {
        in_namespace(async |world| replay(seed, world).await);
    }
}
