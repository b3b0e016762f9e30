//! The log: lines on standard error.
//!
//! Under the service manager the journal adds time and unit itself, so time is left out there, and is
//! told the level of each line.
//!
//! The daemon's lines are written by a thread of their own: whoever reads them may stall, and an
//! election must not wait for that. What a stalled reader leaves no room for is lost and counted.

mod priorities;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use priorities::{Prioritised, has_journal};

/// The variable that sets the level when `--log` does not.
const VARIABLE: &str = "LOCKSTEP_LOG";
/// What an operator narrates.
const DEFAULT: &str = "info";

/// Lines that wait while nobody reads; at the usual 150 bytes a line, about 1 MiB.
const WAITING_LINES: usize = 8192;

/// Who may be kept waiting by the reader of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Patience {
    /// Every line is written before its cause goes on; no thread is started, so that the process
    /// may still enter a user namespace. For commands.
    Waits,
    /// Nobody waits; lines are lost when more than [`WAITING_LINES`] wait. For the daemon.
    NeverWaits,
}

/// Writes what waits, for up to about a second, when dropped: to be kept until the end.
#[derive(Debug)]
#[must_use = "lines that wait are lost when the process ends first"]
pub(crate) struct Log {
    _worker: Option<WorkerGuard>,
}

/// Starts logging; `level` is a level or a list of filters (`debug`, `info,lockstep_vrrp=trace`).
///
/// # Errors
/// When `level` or the variable `LOCKSTEP_LOG` cannot be understood, or logging has been started.
pub(crate) fn start(level: Option<&str>, patience: Patience) -> anyhow::Result<Log> {
    let filter = match level {
        Some(level) => filter(level).with_context(|| format!("bad value {level:?} of --log"))?,
        None => match std::env::var(VARIABLE) {
            Ok(level) => {
                filter(&level).with_context(|| format!("bad value {level:?} of {VARIABLE}"))?
            }
            Err(_) => EnvFilter::new(DEFAULT),
        },
    };
    match patience {
        Patience::Waits => {
            subscribe(filter, io::stderr)?;
            Ok(Log { _worker: None })
        }
        Patience::NeverWaits => {
            let (writer, worker) = in_background(io::stderr(), WAITING_LINES);
            subscribe(filter, writer)?;
            Ok(Log { _worker: Some(worker) })
        }
    }
}

fn subscribe<W>(filter: EnvFilter, writer: W) -> anyhow::Result<()>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false);
    let started = if has_journal() {
        builder.without_time().with_writer(Prioritised(writer)).try_init()
    } else {
        builder.with_writer(writer).try_init()
    };
    started.map_err(anyhow::Error::from_boxed).context("cannot start logging")
}

/// A writer that never waits for `output`, with room for `waiting` lines.
fn in_background<W>(output: W, waiting: usize) -> (NonBlocking, WorkerGuard)
where
    W: Write + Send + 'static,
{
    let lost = Arc::new(OnceLock::new());
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(waiting)
        .thread_name("log")
        .finish(Confessing { output, lost: Arc::clone(&lost), told: 0 });
    lost.get_or_init(|| writer.error_counter());
    (writer, worker)
}

/// Says in the log how many of its lines are missing, once there is room again.
struct Confessing<W> {
    output: W,
    /// Set as soon as the queue exists, which is after this.
    lost: Arc<OnceLock<ErrorCounter>>,
    /// How many of the lost lines have been told of.
    told: usize,
}

impl<W: Write> Write for Confessing<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.output.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        let lost = self.lost.get().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.told {
            let now = lost - self.told;
            let line = format!("lockstep: {now} lines of the log were lost: nobody read them\n");
            self.output.write_all(line.as_bytes())?;
            self.told = lost;
        }
        self.output.flush()
    }
}

fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    // The error's text has its cause in it already, which the chain would say again.
    EnvFilter::builder().parse(text).map_err(|error| anyhow::anyhow!("{error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// Takes a line only when it is let to, and hands it to the test.
    struct Stalled {
        permits: Receiver<()>,
        lines: Sender<String>,
    }

    impl Write for Stalled {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(io::Error::other)?;
            self.lines
                .send(String::from_utf8_lossy(line).into_owned())
                .map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_keeps_nobody_waiting_and_is_told_what_it_missed() {
        const WAITING: usize = 4;
        let (permit, permits) = channel();
        let (sender, lines) = channel();
        let (mut log, worker) = in_background(Stalled { permits, lines: sender }, WAITING);
        // Would never come back if it waited: nothing is taken before it has ended.
        for number in 0..100 {
            log.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        let lost = log.error_counter().dropped_lines();
        assert!((100 - WAITING - 1..=100 - WAITING).contains(&lost), "lost {lost} of 100");
        permit.send(()).unwrap();
        let mut seen = vec![lines.recv_timeout(DEADLINE).unwrap()];
        while !seen.concat().contains("were lost: nobody read them\n") {
            permit.send(()).unwrap();
            seen.push(lines.recv_timeout(DEADLINE).unwrap());
        }
        let text = seen.concat();
        assert!(text.starts_with("line 0\nline 1\n"), "{text}");
        assert!(text.contains(&format!("lockstep: {lost} lines")), "{text}");
        drop(permit);
        drop(worker);
    }

    #[test]
    fn what_waits_is_written_at_the_end() {
        let (permit, permits) = channel();
        let (sender, lines) = channel();
        let (mut log, worker) = in_background(Stalled { permits, lines: sender }, WAITING_LINES);
        for number in 0..50 {
            log.write_all(format!("line {number}\n").as_bytes()).unwrap();
            permit.send(()).unwrap();
        }
        drop(worker);
        let text: String = lines.try_iter().collect();
        assert!(text.ends_with("line 49\n"), "{text}");
        assert_eq!(log.error_counter().dropped_lines(), 0);
    }

    #[test]
    fn levels_and_filters_are_understood_and_nonsense_is_refused() {
        assert!(filter("debug").is_ok());
        assert!(filter("info,lockstep_vrrp=trace").is_ok());
        assert!(filter("lockstep=loud").is_err());
    }
}
