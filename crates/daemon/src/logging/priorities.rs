//! Lines for systemd's journal, which takes a number in angle brackets at their beginning for their
//! priority (sd-daemon(3)) and does not show it.

use std::io::{self, Write};

use nix::sys::stat::fstat;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Whether standard error is the journal itself, and not what somebody below the service has put in its
/// place.
pub(super) fn has_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino))
}

/// Writes every line with the priority of its level.
#[derive(Debug)]
pub(super) struct Prioritised<M>(pub(super) M);

/// A line's writer.
#[derive(Debug)]
pub(super) struct Line<W> {
    output: W,
    priority: &'static str,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Prioritised<M> {
    type Writer = Line<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { output: self.0.make_writer(), priority: priority(Level::INFO) }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        Line { output: self.0.make_writer_for(event), priority: priority(*event.level()) }
    }
}

/// As in syslog.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

impl<W: Write> Write for Line<W> {
    /// An event comes in one piece, and goes on in one: what lies below loses all of it or nothing.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.output.write_all(&[self.priority.as_bytes(), line].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn every_line_begins_with_the_priority_of_its_level() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let output = Arc::clone(&written);
        let writer = Prioritised(move || Shared(Arc::clone(&output)));
        let subscriber = tracing_subscriber::fmt()
            .with_writer(writer)
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!("e");
            tracing::warn!(number = 1, "w");
            tracing::info!("i");
            tracing::debug!("d");
            tracing::trace!("t");
        });
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            ["<3>ERROR e", "<4> WARN w number=1", "<6> INFO i", "<7>DEBUG d", "<7>TRACE t"]
        );
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
