//! rtnetlink inside a namespace, for hosts and segments alike.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::TryStreamExt;
use lockstep_kernel::namespace::Namespace;
use rtnetlink::Handle;
use rtnetlink::packet_route::link::{LinkAttribute, State};

/// Runs `work` with an rtnetlink socket of `namespace`, on a thread and a runtime of its own.
pub(crate) fn within<T: Send>(
    namespace: &Namespace,
    work: impl AsyncFnOnce(Handle) -> Result<T> + Send,
) -> Result<T> {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (connection, handle, _messages) = rtnetlink::new_connection()?;
            let connection = tokio::spawn(connection);
            let result = work(handle).await;
            connection.abort();
            result
        })
    })?
}

/// The number of an interface of the calling thread's namespace.
pub(crate) fn index_of(interface: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(interface)
        .map_err(|error| anyhow::anyhow!("no interface {interface}: {error}"))
}

/// Waits until the kernel has noticed the carrier of a cable whose ends both are up.
///
/// It looks at most once a second at those that it takes for not urgent, as a cable whose ends have the same number. A
/// bridge passes nothing before that, and addresses begin nothing. Newer kernels look when somebody asks for this one.
pub(crate) fn wait_until_up(namespace: &Namespace, interface: &str) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(10);
    const LOOK_EVERY: Duration = Duration::from_millis(1);
    let up = LinkAttribute::OperState(State::Up);
    within(namespace, async |handle| {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut found = handle.link().get().match_name(interface.to_owned()).execute();
            let link = found.try_next().await?.context("it is gone")?;
            if link.attributes.contains(&up) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("it has no carrier after {LIMIT:?}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .with_context(|| format!("failed to bring {interface} up"))
}
