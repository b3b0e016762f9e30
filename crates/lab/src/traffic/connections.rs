//! TCP connections between two hosts that never cease to transfer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::MissedTickBehavior;

use super::ledger::{Fate, Ledger, Verdict, Way};
use super::pattern;
use crate::Node;

/// How much a connection transfers each way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// Bytes at a time, at most 64 KB.
    pub chunk: usize,
    /// Time between them.
    pub interval: Duration,
}

impl Default for Pace {
    /// 512 bytes every 20 ms: 50 connections are 5 000 packets a second, which leaves a small
    /// machine room for the routers.
    fn default() -> Self {
        Self { chunk: 512, interval: Duration::from_millis(20) }
    }
}

/// Connections that transfer both ways, each byte checked by its receiver. Dropped, they end.
#[derive(Debug)]
pub struct Connections {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<io::Result<()>>>>,
}

impl Connections {
    /// Opens `count` connections from `client` to `address` of `server`, and waits until all of
    /// them have delivered both ways.
    ///
    /// # Errors
    /// When a connection cannot be opened, or does not transfer within half a minute.
    pub fn open(
        client: &Node,
        server: &Node,
        address: SocketAddr,
        count: usize,
        pace: Pace,
    ) -> Result<Self> {
        let ledger = Arc::new(Ledger::new(count, Instant::now()));
        let stop = Arc::new(AtomicBool::new(false));
        let listener = server
            .run(|| std::net::TcpListener::bind(address))?
            .with_context(|| format!("failed to listen on {address}"))?;
        let serving = {
            let (ledger, stop) = (Arc::clone(&ledger), Arc::clone(&stop));
            server.spawn("tcp-server", move || drive(&stop, serve(listener, ledger, pace)))?
        };
        let asking = {
            let (ledger, stop) = (Arc::clone(&ledger), Arc::clone(&stop));
            client.spawn("tcp-client", move || drive(&stop, ask(address, count, ledger, pace)))?
        };
        let connections = Self { ledger, stop, threads: vec![serving, asking] };
        connections.wait_until_open()?;
        Ok(connections)
    }

    /// Begins to look for the longest gap anew, before the next thing to be measured.
    pub fn forget_gaps(&self) {
        self.ledger.forget_gaps();
    }

    /// What has become of the connections: alive are those that delivered both ways after
    /// `resumed`.
    pub fn verdict(&self, resumed: Instant) -> Verdict {
        self.ledger.verdict(resumed, Instant::now())
    }

    /// Waits until no connection is stalled any more, at most for `limit`. TCP itself waits with
    /// the next attempt about as long as the outage lasted, so give it several times that.
    pub fn settle(&self, resumed: Instant, limit: Duration) -> Verdict {
        let deadline = Instant::now() + limit;
        loop {
            let verdict = self.verdict(resumed);
            if verdict.stalled == 0 || Instant::now() >= deadline {
                return verdict;
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn wait_until_open(&self) -> Result<()> {
        let verdict = self.settle(Instant::now(), OPENING);
        if verdict.all_survived() {
            return Ok(());
        }
        let total = verdict.connections.len();
        match verdict.connections.iter().find_map(|report| report.detail.as_ref()) {
            Some(detail) => bail!("{} of {total} connections opened: {detail}", verdict.alive),
            None => bail!("{} of {total} connections opened: no answer", verdict.alive),
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.ledger.close();
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Runs `work` on the calling thread until `stop`; what it has spawned ends with it.
fn drive(stop: &AtomicBool, work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stopped = async {
            while !stop.load(Ordering::Acquire) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = stopped => Ok(()),
            result = work => result,
        }
    })
}

async fn serve(listener: std::net::TcpListener, ledger: Arc<Ledger>, pace: Pace) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            // A connection that breaks before it has said its number is reported by its client.
            if let Ok(id) = stream.read_u32().await {
                exchange(stream, id as usize, Way::ToClient, &ledger, pace).await;
            }
        });
    }
}

async fn ask(address: SocketAddr, count: usize, ledger: Arc<Ledger>, pace: Pace) -> io::Result<()> {
    for id in 0..count {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            let opened = async {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_u32(id as u32).await?;
                io::Result::Ok(stream)
            };
            match opened.await {
                Ok(stream) => exchange(stream, id, Way::ToServer, &ledger, pace).await,
                Err(error) => ledger.failed(id, Fate::Reset, format!("not opened: {error}")),
            }
        });
    }
    std::future::pending().await
}

/// One end of a connection: sends one way, checks the other, until it fails.
async fn exchange(stream: TcpStream, id: usize, sends: Way, ledger: &Ledger, pace: Pace) {
    let receives = if sends == Way::ToServer { Way::ToClient } else { Way::ToServer };
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let (fate, detail) = tokio::select! {
        error = send(writer, seed(id, sends), pace) => (Fate::Reset, error.to_string()),
        failure = receive(reader, id, receives, ledger) => failure,
    };
    let end = if sends == Way::ToServer { "client" } else { "server" };
    ledger.failed(id, fate, format!("{end}: {detail}"));
}

async fn send(mut writer: impl AsyncWrite + Unpin, seed: u64, pace: Pace) -> io::Error {
    let mut chunk = vec![0; pace.chunk.min(LARGEST_CHUNK)];
    let mut offset = 0;
    let mut ticks = tokio::time::interval(pace.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        pattern::fill(&mut chunk, seed, offset);
        if let Err(error) = writer.write_all(&chunk).await {
            return error;
        }
        offset += chunk.len() as u64;
    }
}

async fn receive(
    mut reader: impl AsyncRead + Unpin,
    id: usize,
    way: Way,
    ledger: &Ledger,
) -> (Fate, String) {
    let mut buffer = vec![0; LARGEST_CHUNK];
    let mut offset = 0;
    loop {
        let length = match reader.read(&mut buffer).await {
            Ok(0) => return (Fate::Reset, "closed by the other end".to_owned()),
            Ok(length) => length,
            Err(error) => return (Fate::Reset, error.to_string()),
        };
        if let Some(at) = pattern::first_difference(&buffer[..length], seed(id, way), offset) {
            return (Fate::Corrupted, format!("byte {at} was never sent"));
        }
        offset += length as u64;
        ledger.delivered(id, way, length, Instant::now());
    }
}

fn seed(id: usize, way: Way) -> u64 {
    id as u64 * 2 + way as u64
}

const LOOK_EVERY: Duration = Duration::from_millis(10);
const OPENING: Duration = Duration::from_secs(30);
const LARGEST_CHUNK: usize = 64 * 1024;
