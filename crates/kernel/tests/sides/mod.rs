//! Two network namespaces, and cables between them.

#![allow(dead_code, reason = "each file of tests needs a part of it")]

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use lockstep_kernel::namespace::Namespace;
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use tokio::runtime::{Builder, Handle};

/// A namespace, and rtnetlink inside it.
pub(crate) struct Side {
    namespace: Namespace,
    pub(crate) links: rtnetlink::Handle,
}

/// Runs a test on two fresh namespaces; where none may be made it says so and passes.
pub(crate) fn with_sides(test: impl AsyncFnOnce(Side, Side)) {
    let (a, b) = match (Namespace::new(), Namespace::new()) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("skipped: no network namespace can be made: {error}");
            return;
        }
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { test(Side::new(a), Side::new(b)).await });
}

/// Lays a cable between two sides, with both of its ends up.
pub(crate) async fn lay(a: &Side, b: &Side, name_a: &str, name_b: &str) {
    a.links.link().add(LinkVeth::new(name_a, name_b).build()).execute().await.unwrap();
    let other = b.namespace.as_fd().as_raw_fd();
    a.change(LinkUnspec::new_with_name(name_b).setns_by_fd(other)).await;
    a.set(name_a, true).await;
    b.set(name_b, true).await;
}

impl Side {
    fn new(namespace: Namespace) -> Self {
        let runtime = Handle::current();
        let links = namespace.run(|| {
            let _entered = runtime.enter();
            let (connection, links, _) = rtnetlink::new_connection().unwrap();
            runtime.spawn(connection);
            links
        });
        Self { links: links.unwrap(), namespace }
    }

    /// Runs something in this side's namespace and in the test's runtime.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let runtime = Handle::current();
        let inside = || {
            let _entered = runtime.enter();
            work()
        };
        self.namespace.run(inside).unwrap()
    }

    pub(crate) fn index(&self, name: &str) -> u32 {
        self.run(|| if_nametoindex(name).unwrap())
    }

    /// Turns an interface on or off.
    pub(crate) async fn set(&self, name: &str, up: bool) {
        let link = LinkUnspec::new_with_name(name);
        self.change(if up { link.up() } else { link.down() }).await;
    }

    pub(crate) async fn change(&self, link: LinkMessageBuilder<LinkUnspec>) {
        self.links.link().set(link.build()).execute().await.unwrap();
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.links.link().del(self.index(name)).execute().await.unwrap();
    }

    /// In a network of the usual size.
    pub(crate) async fn add_address(&self, name: &str, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        let length = if address.is_ipv4() { 24 } else { 64 };
        self.links.address().add(self.index(name), address, length).execute().await.unwrap();
    }
}
