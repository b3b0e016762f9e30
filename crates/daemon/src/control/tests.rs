//! A real control thread; clients that misbehave; other threads that do not answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lockstep_config::{Surroundings, parse};
use lockstep_routes::{
    Actual, Condition, Declared, Link, PROTOCOL_LOCKSTEP, Route, RouteKind, TableId,
};
use tempfile::TempDir;

use super::client::Client;
use super::protocol::{Answer, PART_LIMIT, Pong, REQUEST_LIMIT, Request, Selection, StateWord};
use super::*;
use crate::guard::record::Record;
use crate::journal::{Journal, News};
use crate::network::Snapshot;
use crate::reload;
use crate::status::{self, Status};

fn transition(number: u64) -> status::Transition {
    status::Transition {
        number,
        at: String::new(),
        group: "a".to_owned(),
        from: "init".to_owned(),
        to: "backup".to_owned(),
        reason: String::new(),
        view: Vec::new(),
        is_over: true,
        steps: Vec::new(),
    }
}

/// A control thread whose other threads are ends of channels held here.
struct Bench {
    _directory: TempDir,
    path: PathBuf,
    _news: watch::Sender<News>,
    requests: Option<mpsc::Sender<ControlRequest>>,
    core: Option<mpsc::Receiver<CoreEvent>>,
    network: Option<mpsc::Receiver<NetworkRequest>>,
    thread: Option<JoinHandle<()>>,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lockstep.sock");
        let (core, core_receiver) = mpsc::channel(4);
        let (network, network_receiver) = mpsc::channel(4);
        let (requests, receiver) = mpsc::channel(4);
        let file = directory.path().join("lockstep.toml");
        let running = parse("lockstep.toml", "", &Surroundings::default()).unwrap().config;
        let state_directory = directory.path().join("state");
        let config = Config { router_id: "r1".to_owned(), state_directory, ..running.clone() };
        let record = Arc::new(Record::new().unwrap());
        let reloading = reload::Actors {
            core: core.clone(),
            network: network.clone(),
            control: mpsc::channel(1).0,
            watches: mpsc::channel(1).0,
            replicator: None,
        };
        let reloader = Arc::new(Reloader::new(file, running, reloading, record));
        let state = directory.path().join("state");
        Journal::open(&state).add_for_tests(&[transition(1), transition(2)]);
        let maintenance = Maintenance::load(&state).unwrap();
        let (news_sender, news) = watch::channel(News::default());
        let journal = (Journal::open(&state), news);
        let actors = Actors {
            core,
            network,
            replicator: None,
            maintenance,
            reloader,
            journal,
            watches: mpsc::channel(1).1,
        };
        let thread = spawn(&config, &path, actors, receiver).unwrap();
        Self {
            _directory: directory,
            path,
            _news: news_sender,
            requests: Some(requests),
            core: Some(core_receiver),
            network: Some(network_receiver),
            thread: Some(thread),
        }
    }

    fn client(&self) -> Client {
        Client::connect(&self.path).unwrap()
    }

    fn ping(&self) -> Pong {
        self.client().ask(&Request::Ping {}).unwrap()
    }

    /// Sends bytes as they are; the lines that come back.
    fn raw(&self, bytes: &[u8]) -> Vec<Answer> {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The daemon may have hung up before all of it is written.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
    }

    /// Answers the network thread's questions until the channel closes: many routes are declared,
    /// and the kernel has none. Returns how often it was asked.
    fn answer_network(&mut self) -> Arc<AtomicUsize> {
        let mut network = self.network.take().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            while let Some(request) = network.blocking_recv() {
                if let NetworkRequest::Status(answer) | NetworkRequest::Look(answer) = request {
                    count.fetch_add(1, Ordering::Relaxed);
                    let _ = answer.send(Snapshot::of(declared(), Actual::default()));
                }
            }
        });
        asked
    }
}

const ROUTES: u32 = 2_500;

fn declared() -> Declared {
    let route = |number: u32| {
        let to = std::net::Ipv4Addr::from(0x0a00_0000 + (number << 8));
        Arc::new(Route {
            kind: RouteKind::Throw,
            to: ipnet::Ipv4Net::new(to, 24).unwrap().into(),
            next_hops: Vec::new(),
            source: None,
            table: TableId(100 + number % 2),
            metric: None,
            mtu: None,
            scope: None,
            protocol: PROTOCOL_LOCKSTEP,
            condition: Condition::ALWAYS,
        })
    };
    Declared {
        links: vec![Link { interface: "eth2".to_owned(), up: Condition::ALWAYS }],
        routes: (0..ROUTES).map(route).collect(),
        tables: vec![("odd".to_owned(), TableId(101))].into(),
        ..Declared::default()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.requests = None;
        let thread = self.thread.take().unwrap();
        assert!(thread.join().is_ok() || thread::panicking(), "the control thread panicked");
    }
}

fn is_error(answer: &Answer, start: &str) -> bool {
    matches!(answer, Answer::Error(text) if text.starts_with(start))
}

#[test]
fn whoever_asks_hears_who_listens() {
    assert_eq!(Bench::new().ping().pid, std::process::id());
}

#[test]
fn one_connection_may_ask_again_and_again() {
    let bench = Bench::new();
    let mut client = bench.client();
    for _ in 0..3 {
        client.ask::<Pong>(&Request::Ping {}).unwrap();
    }
}

#[test]
fn garbage_is_answered_with_an_error_and_the_next_request_is_heard() {
    let bench = Bench::new();
    let answers =
        bench.raw(b"\x00\xff garbage\n{\"request\":\"reboot\"}\n\n{\"request\":\"ping\"}\n");
    assert_eq!(answers.len(), 4);
    assert!(answers[..3].iter().all(|answer| is_error(answer, "not a request: ")), "{answers:?}");
    assert!(matches!(answers[3], Answer::Ok(_)), "{answers:?}");
}

#[test]
fn a_request_without_a_newline_at_the_end_is_heard() {
    let answers = Bench::new().raw(b"{\"request\":\"ping\"}");
    assert!(matches!(answers[..], [Answer::Ok(_)]), "{answers:?}");
}

#[test]
fn a_request_without_end_is_refused_and_others_are_served() {
    let bench = Bench::new();
    let answers = bench.raw(&vec![b'{'; REQUEST_LIMIT * 2]);
    assert_eq!(answers.len(), 1);
    assert!(is_error(&answers[0], "a request has at most 65536 bytes"), "{answers:?}");
    bench.ping();
}

#[test]
fn a_request_of_the_full_length_is_heard() {
    let mut request = b"{\"request\":\"ping\"}".to_vec();
    request.resize(REQUEST_LIMIT - 1, b' ');
    request.push(b'\n');
    let answers = Bench::new().raw(&request);
    assert!(matches!(answers[..], [Answer::Ok(_)]), "{answers:?}");
}

#[test]
fn clients_that_say_nothing_hurt_nobody_until_there_are_too_many() {
    let bench = Bench::new();
    let mut silent: Vec<UnixStream> =
        (1..server::CONNECTIONS).map(|_| UnixStream::connect(&bench.path).unwrap()).collect();
    bench.ping();
    // The place of the client above may not be free yet, so one or two more fill the house.
    silent.extend((0..2).map(|_| UnixStream::connect(&bench.path).unwrap()));
    let mut one_too_many = UnixStream::connect(&bench.path).unwrap();
    let mut answer = String::new();
    one_too_many.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "{\"error\":\"more than 32 connections\"}\n");
    drop(silent);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while bench.client().ask::<Pong>(&Request::Ping {}).is_err() {
        assert!(std::time::Instant::now() < deadline, "places are not given back");
    }
}

#[test]
fn status_names_the_threads_that_do_not_answer() {
    let mut bench = Bench::new();
    bench.answer_network();
    // The core's receiver is held and never read: its thread is stuck.
    let status: Status = bench.client().ask(&Request::Status {}).unwrap();
    assert_eq!(status.router, "r1");
    assert_eq!(status.no_answer, ["core"]);
    assert_eq!(status.network.links[0].object, "eth2 up");
    assert!(status.replication.is_none());
}

#[test]
fn a_thread_that_has_ended_is_an_error_and_not_a_hang() {
    let mut bench = Bench::new();
    bench.core = None;
    bench.network = None;
    let error = |request: &Request| {
        let answer = bench.client().ask::<serde_json::Value>(request);
        format!("{:#}", answer.unwrap_err())
    };
    assert_eq!(error(&Request::Journal { after: 0 }), "no answer from the core thread");
    assert_eq!(error(&routes(Selection::default(), None)), "no answer from the network thread");
    assert_eq!(error(&Request::Replication {}), "replication is not configured");
}

fn routes(of: Selection, after: Option<u64>) -> Request {
    Request::Routes { of, after, limit: PART_LIMIT }
}

#[test]
fn status_shows_of_many_objects_those_that_are_missing_and_counts_the_rest() {
    let mut bench = Bench::new();
    bench.answer_network();
    let status: Status = bench.client().ask(&Request::Status {}).unwrap();
    let shown = status.network.links.len() + status.network.routes.len();
    assert_eq!(shown, PART_LIMIT as usize);
    assert_eq!(status.network.counts.pending, u64::from(ROUTES) + 1);
    assert!(status.network.next.is_none(), "status is one answer");
}

#[test]
fn many_objects_come_in_parts_that_are_of_one_look() {
    let mut bench = Bench::new();
    let asked = bench.answer_network();
    let mut client = bench.client();
    let (mut parts, mut shown, mut after) = (0, Vec::new(), None);
    loop {
        let part: status::Network = client.ask(&routes(Selection::default(), after)).unwrap();
        let objects = part.links.len() + part.routes.len();
        assert!(objects <= PART_LIMIT as usize, "{objects}");
        assert_eq!(part.counts.pending, u64::from(ROUTES) + 1);
        shown.extend(part.routes.into_iter().map(|route| route.destination));
        parts += 1;
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((parts, asked.load(Ordering::Relaxed)), (3, 1));
    assert_eq!(shown.len(), ROUTES as usize);
    shown.sort();
    shown.dedup();
    assert_eq!(shown.len(), ROUTES as usize, "each is shown once");
}

#[test]
fn only_what_is_asked_for_is_shown() {
    let mut bench = Bench::new();
    bench.answer_network();
    let mut client = bench.client();
    let mut ask = |of: Selection| client.ask::<status::Network>(&routes(of, None));
    let mut count = |of: Selection| {
        let network = ask(of).unwrap();
        network.counts.installed + network.counts.pending
    };
    let tables = |name: &str| Selection { tables: vec![name.to_owned()], ..Selection::default() };
    assert_eq!(count(tables("odd")), u64::from(ROUTES / 2));
    assert_eq!(count(tables("100")), u64::from(ROUTES / 2));
    assert_eq!(count(tables("main")), 0);
    let interfaces = vec!["eth2".to_owned()];
    assert_eq!(count(Selection { interfaces, ..Selection::default() }), 1);
    let states = vec![StateWord::Installed];
    assert_eq!(count(Selection { states, ..Selection::default() }), 0);
    let error = ask(tables("even")).unwrap_err();
    assert_eq!(format!("{error:#}"), "there is no table even");
}

#[test]
fn what_would_be_done_comes_in_parts_too() {
    let mut bench = Bench::new();
    let asked = bench.answer_network();
    let mut client = bench.client();
    let (mut commands, mut after) = (Vec::new(), None);
    loop {
        let request = Request::RoutesDiff { after, limit: PART_LIMIT };
        let part: status::Difference = client.ask(&request).unwrap();
        assert!(part.changes.len() <= PART_LIMIT as usize);
        commands.extend(part.changes.into_iter().map(|change| change.command));
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(commands.len(), ROUTES as usize);
    assert!(commands[0].contains("throw 10.0.0.0/24"), "{}", commands[0]);
}

#[test]
fn the_journal_can_be_asked_from_a_number_on_and_begins_with_earlier_runs() {
    let mut bench = Bench::new();
    let mut core = bench.core.take().unwrap();
    thread::spawn(move || {
        while let Some(event) = core.blocking_recv() {
            if let CoreEvent::Journal(answer) = event {
                let _ = answer.send((3..=4).map(transition).collect());
            }
        }
    });
    let answer: Vec<status::Transition> =
        bench.client().ask(&Request::Journal { after: 1 }).unwrap();
    assert_eq!(answer.iter().map(|transition| transition.number).collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn the_socket_is_gone_when_the_thread_has_ended() {
    let bench = Bench::new();
    let path = bench.path.clone();
    drop(bench);
    assert!(!path.exists());
}

#[test]
fn a_client_hears_that_the_daemon_has_ended() {
    let bench = Bench::new();
    let mut client = bench.client();
    client.ask::<Pong>(&Request::Ping {}).unwrap();
    drop(bench);
    let error = client.ask::<Pong>(&Request::Ping {}).unwrap_err();
    assert_eq!(format!("{error:#}"), "the daemon has ended");
}

#[test]
fn without_a_daemon_the_client_says_so_in_one_line() {
    let error = Client::connect(Path::new("/nonexistent/s")).map(drop).unwrap_err();
    let expected =
        "no lockstep daemon listens at /nonexistent/s: No such file or directory (os error 2)";
    assert_eq!(format!("{error:#}"), expected);
}
