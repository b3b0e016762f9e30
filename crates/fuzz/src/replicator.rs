//! The replicator: whatever peers and kernel say in whatever order, it stays within its bounds.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use lockstep_ctnetlink::{Expectation, Flow, L4, ProtocolState, TcpState, Tuple};
use lockstep_replicator::wire::{
    Change, Flags, encode_control, encode_expectation_message, encode_flow_message, encode_ranged,
};
use lockstep_replicator::{
    Config, Direction, ExpectationEvent, Expectations, KernelEvent, Link, LinkState, Mode, Origin,
    Replicator, Retry, Standby, Start, Transport,
};

use crate::input::Input;

/// Most datagrams sent in a row without time passing: anything more would never end.
const MOST_IN_A_ROW: usize = 100_000;
/// Largest payload.
const DATAGRAM: usize = 600;
const CACHE: usize = 50;
const RESEND: usize = 40;

/// The settings, then one happening after the other; `start` is any moment.
pub fn run(bytes: &[u8], start: Instant) {
    let mut input = Input::new(bytes);
    let config = settings(&mut input);
    let begin = Start {
        first_sequence: u32::from(input.number()) << 16 | 0xfff0,
        secret: 1,
        max_datagram: DATAGRAM,
    };
    let mut replicator = Replicator::new(config, begin, start);
    let mut watched = Watched { now: start, sequence: 0 };
    for link in 0..2 {
        replicator.link_changed(link, LinkState::Up { max_datagram: DATAGRAM }, start);
    }
    watched.settle(&mut replicator);
    while !input.is_empty() {
        watched.happen(&mut replicator, &mut input);
        watched.settle(&mut replicator);
    }
}

fn settings(input: &mut Input<'_>) -> Config {
    let flags = input.byte();
    let link = |number: u8| {
        let interface = format!("eth{number}");
        if flags & 1 == 0 {
            return Link::multicast(interface, [225, 0, 0, 50].into());
        }
        let peers = (0..3).map(peer).collect();
        let local = [10, 0, 0, 100].into();
        Link::new(
            interface,
            match flags & 4 {
                0 => Transport::Udp { local, peers },
                _ => Transport::Tcp { local, peers },
            },
        )
    };
    let mut config = Config::new("gateway", vec![link(0), link(1)]);
    config.mode = *input.pick(&[Mode::Ftfw, Mode::Ftfw, Mode::Notrack, Mode::Alarm]);
    config.standby = if flags & 2 == 0 { Standby::Cache } else { Standby::Kernel };
    config.ack_window = u32::from(input.byte() % 20) + 1;
    config.resend_queue = RESEND;
    config.cache_limit = CACHE;
    config.expectations = Expectations::All;
    config
}

fn peer(number: u8) -> IpAddr {
    [10, 0, 0, 1 + number].into()
}

struct Watched {
    now: Instant,
    /// The number of the peers' next sensible message.
    sequence: u32,
}

impl Watched {
    fn happen(&mut self, replicator: &mut Replicator, input: &mut Input<'_>) {
        match input.byte() % 15 {
            0 => self.hear(replicator, input.byte(), input.block()),
            1..5 => {
                let from = input.byte();
                let datagram = self.sensible(input);
                self.hear(replicator, from, &datagram);
            }
            5 => {
                let change = *input.pick(&[Change::New, Change::Update, Change::Delete]);
                let (flow, own) = (flow(input), input.byte().is_multiple_of(4));
                let event = KernelEvent { change, flow: &flow, own };
                replicator.handle_kernel_event(event, self.now);
            }
            6 => {
                replicator.begin_dump();
                for _ in 0..input.byte() % 8 {
                    replicator.dumped(&flow(input), self.now);
                }
                let _again = replicator.end_dump(self.now);
            }
            7 => {
                let mut commit = replicator.begin_commit();
                while let Some(planned) = commit.next(replicator, self.now) {
                    commit.done(&planned);
                }
                replicator.end_commit(commit.report());
                replicator.activate(self.now);
            }
            8 => replicator.deactivate(self.now),
            9 => match input.byte() % 4 {
                0 => replicator.request_resync(self.now),
                1 => replicator.send_everything(),
                2 => replicator.flush_external(),
                _ => replicator.flush_internal(),
            },
            10 => {
                let state = match input.byte() & 1 {
                    0 => LinkState::Up { max_datagram: DATAGRAM },
                    _ => LinkState::Down { reason: "no carrier".to_owned() },
                };
                replicator.link_changed(usize::from(input.byte() & 1), state, self.now);
            }
            11 => {
                let change = *input.pick(&[Change::New, Change::Update, Change::Delete]);
                let (expectation, own) = (expectation(input), input.byte().is_multiple_of(4));
                let event = ExpectationEvent { change, expectation: &expectation, own };
                replicator.handle_expectation_event(event, self.now);
            }
            12 => {
                let origin = origin(input.byte());
                let direction = *input.pick(&[Direction::Outgoing, Direction::Incoming]);
                match input.byte() & 1 {
                    0 => replicator.connection_began(origin, direction, self.now),
                    _ => replicator.connection_ended(origin, direction, self.now),
                }
            }
            13 => {
                let origin = origin(input.byte());
                let cut = usize::from(input.byte());
                let stream = match input.byte() & 3 {
                    0 => input.block().to_vec(),
                    _ => self.sensible(input),
                };
                let (first, rest) = stream.split_at(cut.min(stream.len()));
                for piece in [first, rest] {
                    let _sense = replicator.handle_stream(origin, piece, self.now);
                }
            }
            _ => self.now += input.time().min(Duration::from_mins(10)),
        }
    }

    fn hear(&self, replicator: &mut Replicator, from: u8, datagram: &[u8]) {
        replicator.handle_datagram(origin(from), datagram, self.now);
    }

    /// A datagram of messages in order, but for what the input makes of them.
    fn sensible(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let mut datagram = Vec::new();
        for _ in 0..=input.byte() % 4 {
            let skip = input.byte();
            self.sequence = self.sequence.wrapping_add(match skip {
                0..200 => 1,
                200..250 => u32::from(skip - 198),
                _ => 1_000_000,
            });
            let greeting = Flags(input.byte() & (Flags::HELLO | Flags::HELLO_BACK));
            let control = |flag: u8| Flags(greeting.0 | flag);
            let range = (u32::from(input.number()), u32::from(input.number()));
            let range =
                (range.0.wrapping_sub(0x8000), range.0.wrapping_sub(0x8000).wrapping_add(range.1));
            match input.byte() % 9 {
                0 => encode_control(control(Flags::ALIVE), self.sequence, &mut datagram),
                1 => encode_ranged(control(Flags::ACK), self.sequence, range, &mut datagram),
                2 => encode_ranged(control(Flags::NACK), self.sequence, range, &mut datagram),
                3 => encode_ranged(control(Flags::RESYNC), self.sequence, (0, 0), &mut datagram),
                8 => {
                    let change = *input.pick(&[Change::New, Change::Update, Change::Delete]);
                    let it = expectation(input);
                    encode_expectation_message(change, greeting, self.sequence, &it, &mut datagram)
                        .expect("an expectation that the wire carries");
                }
                kind => {
                    let change =
                        [Change::New, Change::Update, Change::Delete][usize::from(kind % 3)];
                    let flow = flow(input);
                    encode_flow_message(change, greeting, self.sequence, &flow, &mut datagram)
                        .expect("a flow that the wire carries");
                }
            }
        }
        datagram
    }

    /// What stands by goes into a kernel that takes two of three.
    fn inject(&self, replicator: &mut Replicator) {
        let mut row = 0;
        while let Some(mut planned) = replicator.poll_injection(self.now) {
            row += 1;
            assert!(row < MOST_IN_A_ROW, "never done injecting");
            let errnos = [None, None, Some(17), None, None, Some(2), None, None, Some(12)];
            for errno in errnos.into_iter().cycle().skip(row % 9).take(4) {
                let Some(errno) = errno else {
                    replicator.injected(&planned);
                    break;
                };
                match replicator.injection_refused(planned, errno, "no", self.now) {
                    Retry::With(again) => planned = again,
                    Retry::Look(again) => match replicator.compare_injection(again, None) {
                        Some(again) => planned = again,
                        None => break,
                    },
                    Retry::GiveUp => break,
                }
            }
        }
        let state = replicator.injection();
        assert!(state.in_kernel <= CACHE, "{} in the kernel", state.in_kernel);
    }

    /// Takes what there is to take, and checks the bounds.
    fn settle(&self, replicator: &mut Replicator) {
        if replicator.next_deadline().is_some_and(|at| at <= self.now) {
            replicator.handle_timeout(self.now);
        }
        let mut buffer = Vec::new();
        let mut row = 0;
        while let Some(transmit) = replicator.poll_transmit(self.now, &mut buffer) {
            assert!(buffer.len() <= DATAGRAM && !buffer.is_empty(), "{} bytes", buffer.len());
            assert!(transmit.messages > 0 && transmit.link < 2);
            row += 1;
            assert!(row < MOST_IN_A_ROW, "never done sending");
        }
        while replicator.poll_event().is_some() {}
        self.inject(replicator);
        if let Some(mut purge) = replicator.begin_purge() {
            let mut removed = 0;
            while purge.next(replicator).is_some() {
                removed += 1;
            }
            assert!(removed <= CACHE as u64, "no more than there were");
            replicator.end_purge(removed);
        }
        assert!(replicator.internal_len() <= CACHE && replicator.external_len() <= CACHE);
        for peer in replicator.peers(self.now) {
            assert!(peer.unacknowledged <= RESEND, "{} are kept", peer.unacknowledged);
            assert!(peer.waiting <= CACHE + 5_000, "{} wait", peer.waiting);
        }
        assert!(!replicator.sync_state().reason.is_empty());
    }
}

fn origin(byte: u8) -> Origin {
    Origin {
        link: usize::from(byte >> 4 & 1),
        source: peer(byte & 0x0f),
        to_group: byte >> 5 & 1 == 0,
    }
}

fn expectation(input: &mut Input<'_>) -> Expectation {
    let master = flow(input).orig;
    let mut tuple = master;
    tuple.l4 = L4::Ports { source: 0, destination: 2000 + input.number() % 128 };
    let mut mask = master;
    mask.source = [255; 4].into();
    mask.destination = [255; 4].into();
    mask.l4 = L4::Ports { source: 0, destination: 0xffff };
    let mut expectation = Expectation::new(master, tuple, mask);
    expectation.timeout_s = Some(u32::from(input.byte()));
    expectation
}

fn flow(input: &mut Input<'_>) -> Flow {
    let number = input.number() % 128;
    let orig = Tuple {
        source: [192, 0, 2, 1].into(),
        destination: [198, 51, 100, 1].into(),
        protocol: 6,
        l4: L4::Ports { source: 1000 + number, destination: 80 },
    };
    let mut flow = Flow::new(orig, orig.inverse());
    flow.protocol_state =
        ProtocolState::Tcp(TcpState { state: input.byte() % 10, ..TcpState::default() });
    flow.timeout_s = Some(u32::from(input.byte()));
    flow.id = Some(u32::from(number) + 1000 * u32::from(input.byte() & 1));
    flow
}
