//! A namespace with links in it, and the loop of planning and carrying out.

use lockstep_kernel::namespace::Namespace;
use lockstep_kernel::network::Network;
use lockstep_routes::{
    Actual, Assessment, Change, Declared, Desired, Interest, Owned, Phases, Refusals, assess, plan,
};
use rtnetlink::{LinkUnspec, LinkVeth};

/// Rounds of planning after which nothing may be left to do.
const ROUNDS: usize = 5;

pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) others: rtnetlink::Handle,
    /// What was made under other protocol numbers than ours.
    pub(crate) owned: Owned,
}

/// Runs a test in a fresh network namespace; where none may be made it says so and passes.
pub(crate) fn in_namespace(test: impl AsyncFnOnce(&mut World) + Send) {
    let namespace = match Namespace::new() {
        Ok(namespace) => namespace,
        Err(error) => {
            eprintln!("skipped: no network namespace can be made: {error}");
            return;
        }
    };
    namespace.run(|| World::enter(test)).unwrap();
}

impl World {
    /// In the calling thread's namespace.
    pub(crate) fn enter<T>(work: impl AsyncFnOnce(&mut Self) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (connection, others, _) = rtnetlink::new_connection().unwrap();
            let connection = tokio::spawn(connection);
            let network = Network::connect().unwrap();
            let result = work(&mut Self { network, others, owned: Owned::default() }).await;
            connection.abort();
            result
        })
    }

    pub(crate) async fn veth(&self, one: &str, other: &str) {
        self.others.link().add(LinkVeth::new(one, other).build()).execute().await.unwrap();
    }

    pub(crate) async fn delete_link(&self, name: &str) {
        let index = self.index(name).await;
        self.others.link().del(index).execute().await.unwrap();
    }

    pub(crate) async fn set_link(&self, name: &str, up: bool) {
        let link = LinkUnspec::new_with_name(name);
        let link = if up { link.up() } else { link.down() };
        self.others.link().set(link.build()).execute().await.unwrap();
    }

    /// As an administrator would: without our protocol number.
    pub(crate) async fn add_address(&self, name: &str, address: &str) {
        let (ip, length) = address.split_once('/').unwrap();
        let index = self.index(name).await;
        let request =
            self.others.address().add(index, ip.parse().unwrap(), length.parse().unwrap());
        request.execute().await.unwrap();
    }

    pub(crate) async fn index(&self, name: &str) -> u32 {
        let links = self.network.links().await.unwrap();
        links.values().find(|link| link.name == name).expect("the link is there").index
    }

    pub(crate) async fn dump(&self, declared: &Declared) -> Actual {
        self.network.dump(&Interest::of(declared)).await.unwrap()
    }

    pub(crate) async fn plan(&self, declared: &Declared, phases: &Phases) -> Vec<Change> {
        plan(Desired { declared, phases, owned: &self.owned }, &self.dump(declared).await)
    }

    pub(crate) async fn assess(&self, declared: &Declared, phases: &Phases) -> Assessment {
        let actual = self.dump(declared).await;
        assess(Desired { declared, phases, owned: &self.owned }, &actual, &Refusals::default())
    }

    /// Every change must be taken by the kernel. What bears another protocol number than ours is
    /// somebody else's afterwards.
    pub(crate) async fn carry_out(&mut self, changes: &[Change]) {
        for answer in self.network.apply(changes).await {
            answer.unwrap();
        }
    }

    /// Plans and carries out until nothing is left to do.
    pub(crate) async fn settle(&mut self, declared: &Declared, phases: &Phases) {
        for _ in 0..ROUNDS {
            let changes = self.plan(declared, phases).await;
            if changes.is_empty() {
                return;
            }
            for change in &changes {
                self.owned.note(change);
            }
            self.carry_out(&changes).await;
            for change in &changes {
                self.owned.forget(change);
            }
        }
        panic!("still not settled: {:?}", self.plan(declared, phases).await);
    }
}
