//! `lockstep conntrack`: the kernel's flows, expectations and their events, without the daemon.

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use lockstep_ctnetlink::{
    Details, Flow, Kind, Message, Messages, event_line, event_value, expectation_event_line,
    expectation_event_value, expectation_line, expectation_value, list_line, list_value,
};
use lockstep_kernel::conntrack::{EventSocket, Events, TableSocket};
use tracing::{debug, warn};

use crate::cli::output::Lines;

mod filter;
mod form;

use filter::Filter;
use form::Extra;

/// Bytes of events that may wait in the kernel while the output is slow.
const EVENT_BUFFER: usize = 4 * 1024 * 1024;

const UNREADABLE: &str = "cannot read the kernel's table";

/// What of the kernel's connection tracking is shown.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the flows or expectations that the kernel has, one a line (conntrack -L)
    List(Options),
    /// Show each flow or expectation as it is made, changed and removed, one event a line
    /// (conntrack -E)
    Events {
        #[command(flatten)]
        options: Options,
        /// Only these events
        #[arg(short = 'e', long, value_enum, value_delimiter = ',', value_name = "EVENTS")]
        event_mask: Vec<Event>,
    },
}

/// What is shown, of it which, and how.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Flows, or what helpers expect
    #[arg(value_enum, default_value_t = Table::Conntrack)]
    table: Table,
    #[command(flatten)]
    filter: Filter,
    /// What else stands on each line
    #[arg(
        short,
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "EXTRA",
        conflicts_with = "json"
    )]
    output: Vec<Extra>,
    /// Print JSON: a list, or one event a line
    #[arg(long)]
    json: bool,
}

/// The kernel's tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Table {
    Conntrack,
    Expect,
}

/// Kinds of events, in `conntrack`'s words.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum Event {
    All,
    New,
    Updates,
    Destroy,
}

impl Command {
    /// Why nothing can be what is asked for.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let (Self::List(options) | Self::Events { options, .. }) = self;
        options.filter.contradiction(options.table == Table::Conntrack)
    }
}

/// Shows what is asked for.
pub(crate) fn perform(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::List(options) => list(options),
        Command::Events { options, event_mask } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(events(options, event_mask))
        }
    }
}

fn list(options: &Options) -> anyhow::Result<()> {
    let mut table = TableSocket::open()?;
    let mut lines = Lines::new();
    let mut separator = "[";
    let mut part = Vec::new();
    let family = options.filter.family();
    match options.table {
        Table::Conntrack => table.begin_dump(family),
        Table::Expect => table.begin_expectation_dump(family),
    }
    .context(UNREADABLE)?;
    while table.read_part(&mut part).context(UNREADABLE)? {
        for message in Messages::new(&part) {
            let message = message.context("the kernel's answer is not understood")?;
            let Some(entry) = entry(&message, options)? else { continue };
            if options.json {
                lines.write(&format!("{separator}\n{entry}"))?;
                separator = ",";
            } else {
                lines.write(&entry)?;
                lines.write("\n")?;
            }
        }
    }
    if table.dump_interrupted() {
        warn!("the table changed while it was read: flows may be missing or told twice");
    }
    match (options.json, separator) {
        (false, _) => {}
        (true, "[") => lines.write("[]\n")?,
        (true, _) => lines.write("\n]\n")?,
    }
    lines.flush()
}

/// A dumped entry as it is shown, unless it is none that is asked for.
fn entry(message: &Message<'_>, options: &Options) -> anyhow::Result<Option<String>> {
    match message.kind() {
        Ok(Kind::Entry) => {
            let Some((flow, details)) = decoded(message) else { return Ok(None) };
            if !options.filter.takes(&flow) {
                return Ok(None);
            }
            Ok(Some(if options.json {
                serde_json::to_string(&list_value(&flow, &details))?
            } else {
                form::listed(list_line(&flow, &details), &flow, &options.output)
            }))
        }
        Ok(Kind::ExpectationEntry) => {
            let Some(expectation) = decoded_expectation(message) else { return Ok(None) };
            if !options.filter.takes_expectation(&expectation) {
                return Ok(None);
            }
            Ok(Some(if options.json {
                serde_json::to_string(&expectation_value(&expectation))?
            } else {
                expectation_line(&expectation)
            }))
        }
        _ => Ok(None),
    }
}

async fn events(options: &Options, mask: &[Event]) -> anyhow::Result<()> {
    let mut socket = EventSocket::open(EVENT_BUFFER)?;
    if options.table == Table::Expect {
        socket.hear_expectations(true).context("cannot hear of expectations")?;
    }
    let mut buffer = Vec::new();
    let mut lines = Lines::new();
    loop {
        let events = socket.receive(&mut buffer).await.context("cannot receive events")?;
        for message in Messages::new(&buffer) {
            let message = message.context("an event is not understood")?;
            if let Some(line) = event(&message, options, mask)? {
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

/// The event's line, unless it is none that is asked for.
fn event(
    message: &Message<'_>,
    options: &Options,
    mask: &[Event],
) -> anyhow::Result<Option<String>> {
    let Ok(kind) = message.kind() else { return Ok(None) };
    let (name, of_flow) = match kind {
        Kind::New => (Event::New, true),
        Kind::Update => (Event::Updates, true),
        Kind::Destroy => (Event::Destroy, true),
        Kind::ExpectationNew => (Event::New, false),
        Kind::ExpectationUpdate => (Event::Updates, false),
        Kind::ExpectationDestroy => (Event::Destroy, false),
        _ => return Ok(None),
    };
    if of_flow != (options.table == Table::Conntrack) {
        return Ok(None);
    }
    if !mask.is_empty() && !mask.contains(&Event::All) && !mask.contains(&name) {
        return Ok(None);
    }
    let port_id = message.header().port_id;
    if !of_flow {
        let Some(expectation) = decoded_expectation(message) else { return Ok(None) };
        if !options.filter.takes_expectation(&expectation) {
            return Ok(None);
        }
        return Ok(Some(if options.json {
            serde_json::to_string(&expectation_event_value(&kind, &expectation, port_id))?
        } else {
            form::stamped(expectation_event_line(&kind, &expectation), &options.output)
        }));
    }
    let Some((flow, details)) = decoded(message) else { return Ok(None) };
    if !options.filter.takes(&flow) {
        return Ok(None);
    }
    Ok(Some(if options.json {
        serde_json::to_string(&event_value(&kind, &flow, &details, port_id))?
    } else {
        form::happened(event_line(&kind, &flow, &details, port_id), &flow, &options.output)
    }))
}

fn decoded(message: &Message<'_>) -> Option<(Flow, Details)> {
    match message.flow().and_then(|flow| Ok((flow, message.details()?))) {
        Ok(decoded) => Some(decoded),
        Err(error) => {
            debug!(%error, "a flow is not understood");
            None
        }
    }
}

fn decoded_expectation(message: &Message<'_>) -> Option<lockstep_ctnetlink::Expectation> {
    message
        .expectation()
        .inspect_err(|error| debug!(%error, "an expectation is not understood"))
        .ok()
}
