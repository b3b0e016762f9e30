//! Answers requests on the control socket.
//!
//! Whoever may connect is trusted, but may be broken: requests are bounded in size, connections in
//! number, and every wait in time, so a client that says nothing or reads nothing hurts only itself.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::assemble::{PATIENCE, Sources};
use super::entries;
use super::parts::Parts;
use super::protocol::{self, Answer, PART_LIMIT, Pong, REQUEST_LIMIT, Request};
use crate::messages::{Asked, Command};

/// Most clients at the same time; more are told so.
pub(crate) const CONNECTIONS: usize = 32;
/// How long a client may take to write a request or to read the answer.
pub(crate) const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a hand-over may take; less than who asks waits for the answer.
const ORDER_PATIENCE: Duration = Duration::from_secs(110);
/// Pause after the kernel could not give a connection, so that lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves for ever; ends by being dropped, and its connections with the runtime.
pub(crate) async fn serve(listener: UnixListener, sources: Arc<Sources>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a connection to the control socket");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&free).try_acquire_owned() else {
            refuse(&stream);
            continue;
        };
        let sources = Arc::clone(&sources);
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &sources).await {
                debug!("control connection ended: {error:#}");
            }
            drop(place);
        });
    }
}

/// Says so if that can be done without waiting.
fn refuse(stream: &UnixStream) {
    let answer = Answer::Error(format!("more than {CONNECTIONS} connections"));
    if let Ok(line) = line(&answer) {
        let _ = stream.try_write(&line);
    }
}

async fn converse(stream: UnixStream, sources: &Sources) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut parts = Parts::default();
    loop {
        let request = timeout(CLIENT_PATIENCE, read_line(&mut reader)).await;
        let (answer, last) = match request.context("nothing was asked in time")?? {
            Line::End => return Ok(()),
            Line::TooLong => {
                (Answer::Error(format!("a request has at most {REQUEST_LIMIT} bytes")), true)
            }
            Line::Whole(line) => match protocol::parse(&line) {
                Ok(request) => (answer(request, sources, &mut parts).await, false),
                Err(error) => (Answer::Error(error), false),
            },
        };
        timeout(CLIENT_PATIENCE, writer.write_all(&line(&answer)?))
            .await
            .context("the answer was not read in time")??;
        if last {
            return Ok(());
        }
    }
}

async fn answer(request: Request, sources: &Sources, parts: &mut Parts) -> Answer {
    match request {
        Request::Ping {} => Answer::from_result(Ok(Pong {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        })),
        Request::Status {} => Answer::from_result(Ok(sources.status().await)),
        Request::Explain {} => {
            let explanations = sources.explain().await;
            Answer::from_result(explanations.context("no answer from the core thread"))
        }
        Request::Journal { after } => {
            let journal = sources.journal(after).await;
            Answer::from_result(journal.context("no answer from the core thread"))
        }
        Request::Routes { of, after, limit } => {
            Answer::from_result(parts.routes(of, after, limit, sources).await)
        }
        Request::RoutesDiff { after, limit } => {
            Answer::from_result(parts.difference(after, limit, sources).await)
        }
        Request::Compare { file } => Answer::from_result(sources.reloader.compare(file).await),
        Request::Switchover { group, force } => {
            Answer::from_result(sources.switchover(group, force, ORDER_PATIENCE).await)
        }
        Request::Maintenance { on, group } => {
            Answer::from_result(sources.maintain(group, on, ORDER_PATIENCE).await)
        }
        Request::Reload {} => Answer::from_result(sources.reloader.reload().await),
        Request::Replication {}
        | Request::ReplicationCommit { .. }
        | Request::ReplicationFlush { .. }
        | Request::ReplicationResync {}
        | Request::ReplicationBulk {}
        | Request::ReplicationReread { .. }
        | Request::ReplicationPurge {}
        | Request::ReplicationKernelFlush { .. }
        | Request::ReplicationDump { .. }
            if sources.replicator.is_none() =>
        {
            Answer::Error("replication is not configured".to_owned())
        }
        Request::Replication {} => {
            let replication = sources.replication().await;
            Answer::from_result(replication.context("no answer from the replicator thread"))
        }
        Request::ReplicationDump { cache, kind, form, after, limit } => {
            let limit = limit.clamp(1, PART_LIMIT) as usize;
            let entries = sources.entries(Asked { cache, kind, after, limit }).await;
            let entries = entries.context("no answer from the replicator thread");
            Answer::from_result(entries.and_then(|entries| entries::part(&entries, form)))
        }
        Request::ReplicationCommit { what } => {
            command(&request, Command::Commit(what), sources).await
        }
        Request::ReplicationFlush { which } => {
            command(&request, Command::Flush(which), sources).await
        }
        Request::ReplicationResync {} => command(&request, Command::Resync, sources).await,
        Request::ReplicationBulk {} => command(&request, Command::Bulk, sources).await,
        Request::ReplicationReread { what } => {
            command(&request, Command::Reread(what), sources).await
        }
        Request::ReplicationPurge {} => command(&request, Command::Purge, sources).await,
        Request::ReplicationKernelFlush { what } => {
            command(&request, Command::KernelFlush(what), sources).await
        }
    }
}

async fn command(request: &Request, command: Command, sources: &Sources) -> Answer {
    let patience = request.patience().saturating_sub(PATIENCE);
    match sources.command(command, patience).await {
        Some(Ok(done)) => Answer::from_result(Ok(done)),
        Some(Err(reason)) => Answer::Error(reason),
        None => Answer::Error(
            "no answer from the replicator thread; what was asked for may still happen".to_owned(),
        ),
    }
}

fn line(answer: &Answer) -> anyhow::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    Ok(line)
}

#[derive(Debug, Eq, PartialEq)]
enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

/// Reads up to a newline; the last line may lack it.
async fn read_line(reader: &mut BufReader<impl AsyncRead + Unpin>) -> std::io::Result<Line> {
    let mut line = Vec::new();
    let limit = REQUEST_LIMIT as u64;
    let read = reader.take(limit).read_until(b'\n', &mut line).await?;
    Ok(match line.last() {
        None => Line::End,
        Some(b'\n') => {
            line.pop();
            Line::Whole(line)
        }
        Some(_) if read == REQUEST_LIMIT => Line::TooLong,
        Some(_) => Line::Whole(line),
    })
}
