//! A question every millisecond, and when the answers stayed away.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::Node;

/// UDP datagrams from one host to another, which sends them back. Dropped, it ends.
#[derive(Debug)]
pub struct Probe {
    log: Arc<Log>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

/// The longest time without an answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outage {
    /// Microseconds between the last question answered before and the first one after, less the
    /// interval of the questions; 0 when every question was answered.
    pub duration_us: u64,
    /// Questions in between.
    pub lost: u64,
    /// Whether it lasts.
    pub lasting: bool,
}

impl Outage {
    /// Its length.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.duration_us)
    }
}

impl Probe {
    /// Begins to ask `address` of `server` from `client`, every millisecond.
    pub fn start(client: &Node, server: &Node, address: SocketAddr) -> Result<Self> {
        let log = Arc::new(Log::default());
        let stop = Arc::new(AtomicBool::new(false));
        let echo = server
            .run(|| UdpSocket::bind(address))?
            .with_context(|| format!("failed to listen on {address}"))?;
        let local: SocketAddr =
            if address.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
        let asker = client.run(|| UdpSocket::bind(local))??;
        client.run(|| asker.connect(address))?.context("no way to the server")?;
        for socket in [&echo, &asker] {
            socket.set_read_timeout(Some(LOOK_EVERY))?;
        }
        let hearer = asker.try_clone()?;
        let mut threads = Vec::new();
        for (host, name, work) in [
            (server, "udp-echo", Work::Echo(echo)),
            (client, "udp-hear", Work::Hear(hearer)),
            (client, "udp-ask", Work::Ask(asker)),
        ] {
            let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
            threads.push(host.spawn(name, move || work.run(&log, &stop))?);
        }
        Ok(Self { log, stop, threads })
    }

    /// The longest outage among the questions asked since `since`.
    pub fn longest_outage(&self, since: Instant) -> Outage {
        self.log.questions().longest_outage(since, Instant::now())
    }

    /// Waits until questions asked after `since` are answered again, and gives the time of the
    /// first of them; `None` when that has not happened within `limit`.
    pub fn wait_for_answers(&self, since: Instant, limit: Duration) -> Option<Instant> {
        let deadline = Instant::now() + limit;
        loop {
            let first = self.log.questions().first_of_a_row(since);
            if first.is_some() || Instant::now() >= deadline {
                return first;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

enum Work {
    Ask(UdpSocket),
    Hear(UdpSocket),
    Echo(UdpSocket),
}

impl Work {
    fn run(self, log: &Log, stop: &AtomicBool) {
        match self {
            Self::Ask(socket) => ask(&socket, log, stop),
            Self::Hear(socket) => hear(&socket, log, stop),
            Self::Echo(socket) => echo(&socket, stop),
        }
    }
}

fn ask(socket: &UdpSocket, log: &Log, stop: &AtomicBool) {
    let mut due = Instant::now();
    while !stop.load(Ordering::Acquire) {
        let number = log.questions().asked(Instant::now());
        // A question that could not be sent is one without an answer.
        let _ = socket.send(&number.to_be_bytes());
        due = (due + INTERVAL).max(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn hear(socket: &UdpSocket, log: &Log, stop: &AtomicBool) {
    let mut number = [0; 8];
    while !stop.load(Ordering::Acquire) {
        // Errors are time-outs, or what ICMP says about questions that will stay unanswered.
        if matches!(socket.recv(&mut number), Ok(8)) {
            log.questions().answered(u64::from_be_bytes(number));
        }
    }
}

fn echo(socket: &UdpSocket, stop: &AtomicBool) {
    let mut number = [0; 8];
    while !stop.load(Ordering::Acquire) {
        if let Ok((length, from)) = socket.recv_from(&mut number) {
            let _ = socket.send_to(&number[..length], from);
        }
    }
}

#[derive(Debug, Default)]
struct Log {
    questions: Mutex<Questions>,
}

impl Log {
    fn questions(&self) -> MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last [`KEPT`] questions; `first` is the number of the oldest.
#[derive(Debug, Default)]
struct Questions {
    asked: VecDeque<(Instant, bool)>,
    first: u64,
}

impl Questions {
    fn asked(&mut self, now: Instant) -> u64 {
        if self.asked.len() == KEPT {
            self.asked.pop_front();
            self.first += 1;
        }
        self.asked.push_back((now, false));
        self.first + self.asked.len() as u64 - 1
    }

    fn answered(&mut self, number: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some((_, answered)) = index.and_then(|index| self.asked.get_mut(index)) {
            *answered = true;
        }
    }

    fn longest_outage(&self, since: Instant, now: Instant) -> Outage {
        let start = self.asked.partition_point(|(at, _)| *at < since);
        let mut longest = Outage::default();
        let mut last_answered = self.asked.get(start).map(|(at, _)| *at);
        let mut lost = 0;
        for (at, answered) in self.asked.iter().skip(start) {
            if !answered {
                lost += 1;
                continue;
            }
            longest = longer(longest, last_answered, *at, lost, false);
            (last_answered, lost) = (Some(*at), 0);
        }
        let newest_is_due =
            last_answered.is_some_and(|at| now.saturating_duration_since(at) > ANSWER_TIME);
        if newest_is_due { longer(longest, last_answered, now, lost, true) } else { longest }
    }

    /// The first question since `since` after which only answered ones follow for a while.
    fn first_of_a_row(&self, since: Instant) -> Option<Instant> {
        let start = self.asked.partition_point(|(at, _)| *at < since);
        let mut row = 0;
        let mut first = None;
        for (at, answered) in self.asked.iter().skip(start) {
            (row, first) = if *answered { (row + 1, first.or(Some(*at))) } else { (0, None) };
            if row == ROW {
                return first;
            }
        }
        None
    }
}

fn longer(longest: Outage, from: Option<Instant>, to: Instant, lost: u64, lasting: bool) -> Outage {
    let Some(from) = from.filter(|_| lost > 0) else { return longest };
    let duration = to.saturating_duration_since(from).saturating_sub(INTERVAL);
    if duration <= longest.duration() {
        return longest;
    }
    Outage { duration_us: duration.as_micros() as u64, lost, lasting }
}

const INTERVAL: Duration = Duration::from_millis(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A question without an answer for this long has none.
const ANSWER_TIME: Duration = Duration::from_millis(50);
/// Questions kept: ten minutes of them.
const KEPT: usize = 600_000;
/// So many answers in a row are service, not luck.
const ROW: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(answers: &[bool]) -> (Questions, Instant) {
        let start = Instant::now();
        let mut questions = Questions::default();
        for (answer, millisecond) in answers.iter().zip(0..) {
            let number = questions.asked(start + INTERVAL * millisecond);
            if *answer {
                questions.answered(number);
            }
        }
        (questions, start)
    }

    #[test]
    fn an_outage_is_the_longest_run_of_missing_answers() {
        let mut answers = vec![true; 10];
        answers.extend([false; 3]);
        answers.extend([true; 5]);
        answers.extend([false; 7]);
        answers.extend([true; 2]);
        let (questions, start) = asked(&answers);
        let outage = questions.longest_outage(start, start + INTERVAL * 27);
        assert_eq!(outage, Outage { duration_us: 7000, lost: 7, lasting: false });
    }

    #[test]
    fn a_late_question_is_not_an_outage() {
        let start = Instant::now();
        let mut questions = Questions::default();
        for at in [0, 1, 90, 91] {
            let number = questions.asked(start + INTERVAL * at);
            questions.answered(number);
        }
        assert_eq!(questions.longest_outage(start, start + INTERVAL * 92), Outage::default());
    }

    #[test]
    fn an_outage_that_lasts_is_said_to_last() {
        let (questions, start) = asked(&[true, false, false]);
        let outage = questions.longest_outage(start, start + INTERVAL * 100);
        assert!(outage.lasting);
        assert_eq!(outage.duration_us, 99_000);
    }

    #[test]
    fn one_answer_alone_is_not_yet_service() {
        let mut answers = vec![false, true, false];
        answers.extend([true; ROW as usize]);
        let (questions, start) = asked(&answers);
        assert_eq!(questions.first_of_a_row(start), Some(start + INTERVAL * 3));
        assert_eq!(questions.first_of_a_row(start + INTERVAL * 4), None);
    }

    #[test]
    fn an_answer_to_a_question_never_asked_changes_nothing() {
        let (mut questions, start) = asked(&[true, true]);
        questions.answered(u64::MAX);
        assert_eq!(questions.longest_outage(start, start + INTERVAL * 2), Outage::default());
    }
}
