//! One rtnetlink conversation inside a namespace.

use anyhow::Result;
use lockstep_kernel::namespace::Namespace;
use rtnetlink::Handle;

/// Runs `work` with an rtnetlink socket of `namespace`, on a thread and a runtime of its own.
pub(crate) fn within<T: Send>(
    namespace: &Namespace,
    work: impl AsyncFnOnce(Handle) -> Result<T> + Send,
) -> Result<T> {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
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
