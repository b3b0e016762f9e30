//! A cache, part by part: it may be larger than anybody's memory should hold.

use crate::cli::output::Lines;
use crate::control::client::Client;
use crate::control::protocol::{Cache, Form, PART_LIMIT, Part, Request, Stored};

/// Writes a cache to standard output while it is read: a line for each entry, or a JSON list.
///
/// # Errors
/// When the daemon does not answer, or nobody reads the output.
pub(crate) fn dump(
    client: &mut Client,
    cache: Cache,
    kind: Stored,
    form: Form,
) -> anyhow::Result<()> {
    let mut lines = Lines::new();
    let mut separator = "[";
    parts(client, cache, kind, form, |entry| {
        if let (Form::Text, Some(line)) = (form, entry.as_str()) {
            lines.write(line)?;
            return lines.write("\n");
        }
        lines.write(&format!("{separator}\n{}", serde_json::to_string(entry)?))?;
        separator = ",";
        Ok(())
    })?;
    match (form, separator) {
        (Form::Text, _) => {}
        (Form::Json, "[") => lines.write("[]\n")?,
        (Form::Json, _) => lines.write("\n]\n")?,
    }
    lines.flush()
}

/// Gives every entry of a cache to `each`, in the order of the daemon.
///
/// # Errors
/// As `each`, and when the daemon does not answer.
pub(crate) fn parts(
    client: &mut Client,
    cache: Cache,
    kind: Stored,
    form: Form,
    mut each: impl FnMut(&serde_json::Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let request = Request::ReplicationDump { cache, kind, form, after, limit: PART_LIMIT };
        let part: Part = client.ask(&request)?;
        part.entries.iter().try_for_each(&mut each)?;
        match part.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}
