//! `lockstep conntrack`: the kernel's flows and their events, without the daemon.

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use lockstep_ctnetlink::{
    Family, Kind, Message, Messages, event_line, event_value, list_line, list_value,
};
use lockstep_kernel::conntrack::{EventSocket, Events, TableSocket};
use tracing::{debug, warn};

use crate::cli::output::Lines;

/// Bytes of events that may wait in the kernel while the output is slow.
const EVENT_BUFFER: usize = 4 * 1024 * 1024;

const UNREADABLE: &str = "cannot read the kernel's flows";

/// What of the kernel's connection tracking is shown.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the flows that the kernel tracks, one a line (conntrack -L)
    List(Options),
    /// Show each flow as it is made, changed and removed, one event a line (conntrack -E)
    Events(Options),
}

/// Which flows, and how.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only flows of this family
    #[arg(short, long, value_enum, default_value_t = Families::Any)]
    family: Families,
    /// Print JSON: a list of flows, or one event a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Families {
    Any,
    Ipv4,
    Ipv6,
}

/// Shows what is asked for.
pub(crate) fn perform(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::List(options) => list(options),
        Command::Events(options) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(events(options))
        }
    }
}

fn list(options: &Options) -> anyhow::Result<()> {
    let family = match options.family {
        Families::Any => Family::Any,
        Families::Ipv4 => Family::Ipv4,
        Families::Ipv6 => Family::Ipv6,
    };
    let mut table = TableSocket::open()?;
    let mut dump = table.dump(family).context(UNREADABLE)?;
    let mut lines = Lines::new();
    let mut separator = "[";
    let mut part = Vec::new();
    while dump.read(&mut part).context(UNREADABLE)? {
        for message in Messages::new(&part) {
            let message = message.context("the kernel's answer is not understood")?;
            if message.kind().ok() != Some(Kind::Entry) {
                continue;
            }
            let Some((flow, details)) = decoded(&message) else { continue };
            if options.json {
                let value = serde_json::to_string(&list_value(&flow, &details))?;
                lines.write(&format!("{separator}\n{value}"))?;
                separator = ",";
            } else {
                lines.write(&list_line(&flow, &details))?;
                lines.write("\n")?;
            }
        }
    }
    if dump.interrupted() {
        warn!("the table changed while it was read: flows may be missing or told twice");
    }
    match (options.json, separator) {
        (false, _) => {}
        (true, "[") => lines.write("[]\n")?,
        (true, _) => lines.write("\n]\n")?,
    }
    lines.flush()
}

async fn events(options: &Options) -> anyhow::Result<()> {
    let mut socket = EventSocket::open(EVENT_BUFFER)?;
    let mut buffer = Vec::new();
    let mut lines = Lines::new();
    loop {
        let events = socket.receive(&mut buffer).await.context("cannot receive events")?;
        for message in Messages::new(&buffer) {
            let message = message.context("an event is not understood")?;
            if let Some(line) = event(&message, options)? {
                lines.write(&line)?;
                lines.write("\n")?;
            }
        }
        lines.flush()?;
        if events == Events::Overrun {
            warn!("events were lost: there are more of them than can be shown");
        }
    }
}

/// The event's line, unless it is no event of a flow asked for.
fn event(message: &Message<'_>, options: &Options) -> anyhow::Result<Option<String>> {
    let Ok(kind @ (Kind::New | Kind::Update | Kind::Destroy)) = message.kind() else {
        return Ok(None);
    };
    let Some((flow, details)) = decoded(message) else { return Ok(None) };
    let wanted = match options.family {
        Families::Any => true,
        Families::Ipv4 => flow.orig.source.is_ipv4(),
        Families::Ipv6 => flow.orig.source.is_ipv6(),
    };
    if !wanted {
        return Ok(None);
    }
    let port_id = message.header().port_id;
    Ok(Some(if options.json {
        serde_json::to_string(&event_value(&kind, &flow, &details, port_id))?
    } else {
        event_line(&kind, &flow, &details, port_id)
    }))
}

fn decoded(
    message: &Message<'_>,
) -> Option<(lockstep_ctnetlink::Flow, lockstep_ctnetlink::Details)> {
    match message.flow().and_then(|flow| Ok((flow, message.details()?))) {
        Ok(decoded) => Some(decoded),
        Err(error) => {
            debug!(%error, "a flow is not understood");
            None
        }
    }
}
