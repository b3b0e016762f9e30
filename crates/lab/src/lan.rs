//! An Ethernet segment: a bridge in a namespace of its own, out of everybody's way.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use lockstep_kernel::namespace::Namespace;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::netlink;

/// An Ethernet segment. It lives as long as it or a [`Node`](crate::Node) attached to it does.
#[derive(Clone, Debug)]
pub struct Lan {
    segment: Arc<Segment>,
}

#[derive(Debug)]
struct Segment {
    namespace: Namespace,
    bridge: u32,
    ports: AtomicU32,
}

/// A socket of the segment with a cable in it.
#[derive(Debug)]
pub(crate) struct Port {
    segment: Arc<Segment>,
    name: String,
}

impl Lan {
    /// Makes an empty segment: no spanning tree, and multicast reaches everybody, as on a switch
    /// without IGMP snooping.
    pub fn new() -> Result<Self> {
        Self::with(LinkBridge::new("bridge"))
    }

    /// Makes an empty segment that learns nothing, so that everybody sees every frame, unicast
    /// ones too: for an eye on the segment.
    pub fn hub() -> Result<Self> {
        Self::with(LinkBridge::new("bridge").ageing_time(0))
    }

    fn with(bridge: LinkMessageBuilder<LinkBridge>) -> Result<Self> {
        let namespace = Namespace::new().context("failed to make a network namespace")?;
        let bridge = netlink::within(&namespace, async |handle| {
            let bridge = bridge.mcast_snooping(false).up().build();
            handle.link().add(bridge).execute().await.context("failed to make a bridge")?;
            netlink::index_of("bridge")
        })?;
        Ok(Self { segment: Arc::new(Segment { namespace, bridge, ports: AtomicU32::new(0) }) })
    }

    /// Makes a cable: one end in a new port, the other as `interface` in `target`.
    pub(crate) fn connect(
        &self,
        target: &Namespace,
        interface: &str,
        mac: Option<[u8; 6]>,
    ) -> Result<Port> {
        let name = format!("port{}", self.segment.ports.fetch_add(1, Ordering::Relaxed));
        let mut far_end = LinkMessage::default();
        far_end.attributes.push(LinkAttribute::IfName(interface.to_owned()));
        far_end.attributes.push(LinkAttribute::NetNsFd(target.as_fd().as_raw_fd()));
        if let Some(mac) = mac {
            far_end.attributes.push(LinkAttribute::Address(mac.to_vec()));
        }
        let cable = LinkVeth::new(&name, interface)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far_end)))
            .build();
        netlink::within(&self.segment.namespace, async |handle| {
            handle.link().add(cable).execute().await?;
            let near_end = LinkUnspec::new_with_name(&name).controller(self.segment.bridge).up();
            Ok(handle.link().set(near_end.build()).execute().await?)
        })
        .with_context(|| format!("failed to connect {interface}"))?;
        Ok(Port { segment: Arc::clone(&self.segment), name })
    }
}

impl Port {
    /// Waits until the port passes packets.
    pub(crate) fn wait_until_up(&self) -> Result<()> {
        netlink::wait_until_up(&self.segment.namespace, &self.name)
    }

    /// Gives the far end its carrier, or takes it away, as pulling the cable does.
    pub(crate) fn set_carrier(&self, on: bool) -> Result<()> {
        netlink::within(&self.segment.namespace, async |handle| {
            let port = LinkUnspec::new_with_name(&self.name);
            let port = if on { port.up() } else { port.down() };
            Ok(handle.link().set(port.build()).execute().await?)
        })
        .with_context(|| format!("failed to switch {}", self.name))
    }
}

impl Drop for Port {
    /// Takes the interface away also from what still runs in the host's namespace.
    fn drop(&mut self) {
        let _ = netlink::within(&self.segment.namespace, async |handle| {
            let index = netlink::index_of(&self.name)?;
            Ok(handle.link().del(index).execute().await?)
        });
    }
}
