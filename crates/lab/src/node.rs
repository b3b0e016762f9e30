//! A host: a network namespace with interfaces, addresses, routes, threads and processes.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use futures_util::TryStreamExt;
use ipnet::IpNet;
use lockstep_kernel::namespace::Namespace;
use lockstep_kernel::sysctl;
use lockstep_kernel::vrrp::Announcer;
use lockstep_vrrp::announcement;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};

use crate::lan::{Lan, Port};
use crate::netlink;
use crate::process::Process;

/// A host of the lab. Dropped, it loses its interfaces, addresses and flows; what still runs in it
/// keeps only an empty network.
#[derive(Debug)]
pub struct Node {
    name: String,
    namespace: Arc<Namespace>,
    keeper: Keeper,
    cables: Mutex<BTreeMap<String, Port>>,
}

/// An interface to be: its name, and what it starts with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    name: String,
    mac: Option<[u8; 6]>,
    addresses: Vec<IpNet>,
}

impl Interface {
    /// An interface without addresses and with a MAC of the kernel's choice.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), mac: None, addresses: Vec::new() }
    }

    /// With this Ethernet address.
    #[must_use]
    pub fn mac(mut self, mac: [u8; 6]) -> Self {
        self.mac = Some(mac);
        self
    }

    /// With one more address.
    #[must_use]
    pub fn address(mut self, address: IpNet) -> Self {
        self.addresses.push(address);
        self
    }
}

impl Node {
    /// Makes a host with a loopback interface and nothing else. IPv6 addresses are used without
    /// duplicate address detection, so that a host is ready when it is made.
    pub fn new(name: &str) -> Result<Self> {
        let namespace = Arc::new(Namespace::new().context("failed to make a network namespace")?);
        let keeper = Keeper::new(name, Arc::clone(&namespace))?;
        let node = Self { name: name.to_owned(), namespace, keeper, cables: Mutex::default() };
        for which in ["all", "default"] {
            // A kernel without IPv6 has no such setting, and then needs none.
            let _ = node.set(&format!("net/ipv6/conf/{which}/accept_dad"), "0");
        }
        node.set_link("lo", true)?;
        Ok(node)
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// A path to its namespace, for `nsenter --net=PATH`, while this process lives.
    pub fn path(&self) -> PathBuf {
        let descriptor = self.namespace.as_fd().as_raw_fd();
        PathBuf::from(format!("/proc/{}/fd/{descriptor}", std::process::id()))
    }

    /// Puts a cable between a new interface and `lan`, brings the interface up, waits until packets pass, and gives it its
    /// addresses.
    pub fn attach(&self, lan: &Lan, interface: &Interface) -> Result<()> {
        let port = lan.connect(&self.namespace, &interface.name, interface.mac)?;
        self.set_link(&interface.name, true)?;
        netlink::wait_until_up(&self.namespace, &interface.name)?;
        port.wait_until_up()?;
        self.cables().insert(interface.name.clone(), port);
        interface
            .addresses
            .iter()
            .try_for_each(|address| self.add_address(&interface.name, *address))
    }

    /// Pulls the cable of an interface: it stays up and loses its carrier.
    pub fn unplug(&self, interface: &str) -> Result<()> {
        self.set_carrier(interface, false)
    }

    /// Puts the cable back.
    pub fn plug(&self, interface: &str) -> Result<()> {
        self.set_carrier(interface, true)
    }

    /// Switches an interface up or down, as an administrator does.
    pub fn set_link(&self, interface: &str, up: bool) -> Result<()> {
        netlink::within(&self.namespace, async |handle| {
            let link = LinkUnspec::new_with_name(interface);
            let link = if up { link.up() } else { link.down() };
            Ok(handle.link().set(link.build()).execute().await?)
        })
        .with_context(|| format!("failed to switch {interface} of {}", self.name))
    }

    /// Adds an address to an interface.
    pub fn add_address(&self, interface: &str, address: IpNet) -> Result<()> {
        netlink::within(&self.namespace, async |handle| {
            let index = netlink::index_of(interface)?;
            let request = handle.address().add(index, address.addr(), address.prefix_len());
            Ok(request.execute().await?)
        })
        .with_context(|| format!("failed to add {address} to {interface} of {}", self.name))
    }

    /// Removes an address from an interface.
    pub fn remove_address(&self, interface: &str, address: IpNet) -> Result<()> {
        netlink::within(&self.namespace, async |handle| {
            let index = netlink::index_of(interface)?;
            let found = handle
                .address()
                .get()
                .set_link_index_filter(index)
                .set_address_filter(address.addr())
                .execute()
                .try_next()
                .await?;
            let Some(message) = found else { bail!("it has no such address") };
            Ok(handle.address().del(message).execute().await?)
        })
        .with_context(|| format!("failed to remove {address} from {interface} of {}", self.name))
    }

    /// The addresses an interface has now.
    pub fn addresses(&self, interface: &str) -> Result<Vec<IpNet>> {
        netlink::within(&self.namespace, async |handle| {
            let index = netlink::index_of(interface)?;
            let messages: Vec<AddressMessage> =
                handle.address().get().set_link_index_filter(index).execute().try_collect().await?;
            Ok(messages.iter().filter_map(address_of).collect())
        })
        .with_context(|| format!("failed to read the addresses of {interface} of {}", self.name))
    }

    /// Tells the neighbours on an interface that an address is here now: a gratuitous ARP or an
    /// unsolicited neighbour advertisement.
    pub fn announce(&self, interface: &str, address: IpAddr) -> Result<()> {
        netlink::within(&self.namespace, async |handle| {
            let index = netlink::index_of(interface)?;
            let link = handle.link().get().match_index(index).execute().try_next().await?;
            let mac = link.and_then(|link| mac_of(&link)).context("it has no Ethernet address")?;
            Ok(Announcer::open(index)?.send(&announcement(address, mac, true))?)
        })
        .with_context(|| format!("failed to announce {address} on {interface} of {}", self.name))
    }

    /// Adds a route to the main table.
    pub fn add_route(&self, destination: IpNet, via: IpAddr) -> Result<()> {
        netlink::within(&self.namespace, async |handle| {
            let route = RouteMessageBuilder::<IpAddr>::new()
                .destination_prefix(destination.addr(), destination.prefix_len())?
                .gateway(via)?;
            Ok(handle.route().add(route.build()).execute().await?)
        })
        .with_context(|| format!("failed to add {destination} via {via} to {}", self.name))
    }

    /// Writes a kernel setting of this host, for example `net/ipv4/ip_forward`.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.run(|| sysctl::write(name, value))?
            .with_context(|| format!("failed to set {name} to {value} on {}", self.name))
    }

    /// Reads a kernel setting of this host.
    pub fn setting(&self, name: &str) -> Result<String> {
        self.run(|| sysctl::read(name))?
            .with_context(|| format!("failed to read {name} on {}", self.name))
    }

    /// Runs `work` on a thread inside this host and waits for it. Sockets made there stay here.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespace.run(work).with_context(|| format!("failed to enter {}", self.name))
    }

    /// Starts `work` on a thread inside this host. The thread ends when `work` does, or at once with
    /// the error when it cannot enter.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<io::Result<T>>> {
        let namespace = Arc::clone(&self.namespace);
        Ok(thread::Builder::new().name(name.to_owned()).spawn(move || {
            namespace.enter()?;
            drop(namespace);
            Ok(work())
        })?)
    }

    /// Starts a process inside this host. Its parent is a thread that lives as long as this host,
    /// so a parent-death signal of the process arrives no later than the host's end.
    pub fn start(&self, mut command: Command) -> Result<Process> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.keeper
            .run(move || command.spawn())?
            .map(Process::new)
            .with_context(|| format!("failed to start {program} on {}", self.name))
    }

    /// Runs a process inside this host to its end.
    pub fn output(&self, mut command: Command) -> Result<Output> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.run(|| command.output())?
            .with_context(|| format!("failed to run {program} on {}", self.name))
    }

    fn set_carrier(&self, interface: &str, on: bool) -> Result<()> {
        match self.cables().get(interface) {
            Some(port) => port.set_carrier(on),
            None => bail!("{} has no cable named {interface}", self.name),
        }
    }

    fn cables(&self) -> MutexGuard<'_, BTreeMap<String, Port>> {
        self.cables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The links go first. The kernel clears a namespace away in an order of its own, and a host
        // without its firewall and flows would answer what is still coming in with resets.
        self.cables().clear();
    }
}

/// A thread inside a host that starts its processes.
struct Keeper {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Keeper {
    fn new(name: &str, namespace: Arc<Namespace>) -> Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (entered, wait) = mpsc::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ = entered.send(namespace.enter());
            drop(namespace);
            for job in inbox {
                job();
            }
        })?;
        wait.recv().context("the host's thread ended at once")??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (answer, wait) = mpsc::channel();
        let jobs = self.jobs.as_ref().context("the host has ended")?;
        jobs.send(Box::new(move || {
            let _ = answer.send(work());
        }))
        .map_err(|_| anyhow::anyhow!("the host's thread has ended"))?;
        wait.recv().context("the host's thread has ended")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeper")
    }
}

fn mac_of(message: &LinkMessage) -> Option<[u8; 6]> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    })
}

fn address_of(message: &AddressMessage) -> Option<IpNet> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = address.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    IpNet::new(address, message.header.prefix_len).ok()
}
