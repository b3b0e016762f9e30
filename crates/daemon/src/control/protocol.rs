//! What is said over the control socket: one JSON object per line in each direction.
//!
//! ```text
//! {"request":"journal","after":3}
//! {"ok":[…]}   or   {"error":"…"}
//! ```

use serde::{Deserialize, Serialize};

/// Longest request in bytes, its newline included.
pub(crate) const REQUEST_LIMIT: usize = 64 * 1024;

/// What can be asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Whether anybody is there. Answered by [`Pong`].
    Ping {},
    /// Answered by [`crate::status::Status`].
    Status {},
    /// Answered by a list of [`crate::status::Transition`], oldest first.
    Journal {
        /// Only transitions with a higher number.
        #[serde(default)]
        after: u64,
    },
    /// Answered by [`crate::status::Network`].
    Routes {},
    /// Answered by [`crate::status::Replication`].
    Replication {},
}

/// Who listens.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Pong {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
}

/// The answer to one request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why there is none, in a sentence.
    Error(String),
}

impl Answer {
    /// Turns a result into what is sent; errors become their chain of causes in one line.
    pub(crate) fn from_result<T: Serialize>(result: anyhow::Result<T>) -> Self {
        match result.and_then(|value| Ok(serde_json::to_value(value)?)) {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::Error(format!("{error:#}")),
        }
    }
}

/// Understands one line.
///
/// # Errors
/// A sentence for the answer when it is not a request.
pub(crate) fn parse(line: &[u8]) -> Result<Request, String> {
    serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        for request in [
            Request::Ping {},
            Request::Status {},
            Request::Journal { after: 7 },
            Request::Routes {},
            Request::Replication {},
        ] {
            let line = serde_json::to_vec(&request).unwrap();
            assert_eq!(parse(&line), Ok(request));
        }
    }

    #[test]
    fn a_journal_is_whole_unless_told_otherwise() {
        assert_eq!(parse(br#"{"request":"journal"}"#), Ok(Request::Journal { after: 0 }));
    }

    #[test]
    fn garbage_is_refused_with_a_reason() {
        for line in [
            &b""[..],
            b"\x00\xff\xfe",
            b"status",
            b"{}",
            br#"{"request":"reboot"}"#,
            br#"{"request":"journal","after":-1}"#,
            br#"{"request":"status","extra":1}"#,
            &[b'['; 4096],
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.starts_with("not a request: "), "{error}");
        }
    }
}
