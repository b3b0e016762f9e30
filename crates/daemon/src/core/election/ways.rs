//! Where advertisements go out: what one turn has to say leaves each interface with one call.

use std::collections::HashMap;
use std::time::Instant;

use lockstep_kernel::vrrp::{Failure, Sender, UnicastSocket};
use lockstep_vrrp::{Family, Packet};
use nix::errno::Errno;
use tracing::{Level, debug, enabled};

use super::sending::Trouble;
use crate::messages::LinkState;

/// How the packets of a virtual router leave.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Way {
    /// To the group, out of this interface.
    Group {
        /// The interface.
        interface: String,
    },
    /// To peers, where the routes lead.
    Peers {
        /// Their family.
        family: Family,
        /// The interface behind which link-local peers are.
        interface: Option<String>,
    },
}

/// All ways, and what waits to leave by each.
pub(super) struct Ways {
    lines: Vec<Line>,
    places: HashMap<Way, usize>,
    /// The places of the ways by each interface.
    by_interface: HashMap<String, Vec<usize>>,
    /// The ways on which something waits.
    busy: Vec<usize>,
}

struct Line {
    way: Way,
    /// The kernel's number of the interface; `None` while it is not there.
    index: Option<u32>,
    socket: Option<Socket>,
    packets: Vec<Packet>,
    /// The virtual router of each advertisement, and where its packets begin.
    parcels: Vec<(usize, usize)>,
}

enum Socket {
    Group(Box<Sender>),
    Peers(UnicastSocket),
}

/// What became of one advertisement of the virtual router at this place.
pub(super) type Sent = (usize, Result<(), Trouble>);

impl Ways {
    pub(super) fn new() -> Self {
        Self {
            lines: Vec::new(),
            places: HashMap::new(),
            by_interface: HashMap::new(),
            busy: Vec::new(),
        }
    }

    /// The place of a way, which is made when it is new.
    pub(super) fn add(&mut self, way: Way) -> usize {
        *self.places.entry(way.clone()).or_insert_with(|| {
            if let Some(interface) = way.interface() {
                self.by_interface.entry(interface.to_owned()).or_default().push(self.lines.len());
            }
            let (socket, packets, parcels) = (None, Vec::new(), Vec::new());
            self.lines.push(Line { way, index: None, socket, packets, parcels });
            self.lines.len() - 1
        })
    }

    /// Whether the way at this place is this one.
    pub(super) fn is(&self, place: usize, way: &Way) -> bool {
        self.lines.get(place).is_some_and(|line| line.way == *way)
    }

    /// Goes on with the sockets of others where the ways are the same. Nothing may wait there.
    pub(super) fn go_on_from(&mut self, before: &mut Self) {
        for line in &mut self.lines {
            if let Some(place) = before.places.get(&line.way)
                && let Some(before) = before.lines.get_mut(*place)
            {
                (line.index, line.socket) = (before.index, before.socket.take());
            }
        }
    }

    /// Takes what an interface is now: one made anew needs a new socket.
    pub(super) fn interface(&mut self, name: &str, link: Option<&LinkState>) {
        let index = link.map(|link| link.index);
        for &place in self.by_interface.get(name).map_or(&[][..], Vec::as_slice) {
            let line = &mut self.lines[place];
            if line.index != index {
                line.index = index;
                line.socket = None;
            }
        }
    }

    /// Puts one advertisement of the virtual router at `router` into the line.
    pub(super) fn put(&mut self, way: usize, router: usize, packets: Vec<Packet>) {
        let Some(line) = self.lines.get_mut(way) else { return };
        if line.parcels.is_empty() {
            self.busy.push(way);
        }
        line.parcels.push((router, line.packets.len()));
        line.packets.extend(packets);
    }

    /// Whether something waits to leave.
    pub(super) fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Sends everything that waits; what became of each advertisement, in the order of each way.
    pub(super) fn send(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        for way in std::mem::take(&mut self.busy) {
            if let Some(line) = self.lines.get_mut(way) {
                line.send(&mut sent);
            }
        }
        sent
    }
}

impl Way {
    fn interface(&self) -> Option<&str> {
        match self {
            Self::Group { interface } => Some(interface),
            Self::Peers { interface, .. } => interface.as_deref(),
        }
    }
}

impl Line {
    fn send(&mut self, sent: &mut Vec<Sent>) {
        let began = enabled!(Level::DEBUG).then(Instant::now);
        let (packets, parcels) =
            (std::mem::take(&mut self.packets), std::mem::take(&mut self.parcels));
        match self.transmit(&packets) {
            Ok(failures) => sent.extend(outcomes(&parcels, packets.len(), &failures)),
            Err(trouble) => {
                sent.extend(parcels.iter().map(|(router, _)| (*router, Err(trouble.clone()))));
            }
        }
        if let Some(began) = began {
            debug!(packets = packets.len(), took = ?began.elapsed(), "advertised");
        }
        // The memory serves the next turn.
        (self.packets, self.parcels) = (packets, parcels);
        self.packets.clear();
        self.parcels.clear();
    }

    fn transmit(&mut self, packets: &[Packet]) -> Result<Vec<Failure>, Trouble> {
        if self.socket.is_none() {
            self.socket = Some(self.open()?);
        }
        let failures = match &mut self.socket {
            Some(Socket::Group(socket)) => socket.send(packets),
            Some(Socket::Peers(socket)) => socket.send(packets),
            None => Vec::new(),
        };
        let gone = |failure: &Failure| {
            let number = failure.error.raw_os_error();
            number == Some(Errno::ENXIO as i32) || number == Some(Errno::ENODEV as i32)
        };
        // The interface may have been made again; its news are still on their way.
        if failures.iter().any(gone) {
            self.socket = None;
        }
        Ok(failures)
    }

    fn open(&self) -> Result<Socket, Trouble> {
        let missing = |name: &str| Trouble::new(format!("{name} does not exist"), Errno::ENODEV);
        match &self.way {
            Way::Group { interface } => {
                let index = self.index.ok_or_else(|| missing(interface))?;
                let sender = Sender::open(index).map_err(|error| Trouble::of(&error))?;
                Ok(Socket::Group(Box::new(sender)))
            }
            Way::Peers { family, interface } => {
                let place = match (interface, self.index) {
                    (Some(name), Some(index)) => Some((name.as_str(), index)),
                    (Some(name), None) => return Err(missing(name)),
                    (None, _) => None,
                };
                UnicastSocket::open(place, *family)
                    .map(Socket::Peers)
                    .map_err(|error| Trouble::of(&error.source))
            }
        }
    }
}

/// An advertisement has left when one of its packets has: some peer hears it.
fn outcomes(
    parcels: &[(usize, usize)],
    packets: usize,
    failures: &[Failure],
) -> impl Iterator<Item = Sent> {
    let mut failures = failures.iter().peekable();
    let ends = parcels.iter().skip(1).map(|(_, start)| *start).chain([packets]);
    parcels.iter().zip(ends).map(move |((router, start), end)| {
        let (mut failed, mut last) = (0, None);
        while let Some(failure) = failures.next_if(|failure| failure.position < end) {
            failed += 1;
            last = Some(&failure.error);
        }
        let outcome = match last {
            _ if start == &end => {
                Err(Trouble::new("there is nobody to send to", Errno::EDESTADDRREQ))
            }
            Some(error) if failed == end - start => Err(Trouble::of(error)),
            Some(_) | None => Ok(()),
        };
        (*router, outcome)
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn failure(position: usize, errno: Errno) -> Failure {
        Failure { position, error: io::Error::from_raw_os_error(errno as i32) }
    }

    /// What became of the virtual routers 7, 8 and 9, which have one, three and two packets.
    fn told(failures: &[Failure]) -> Vec<(usize, Option<String>)> {
        outcomes(&[(7, 0), (8, 1), (9, 4)], 6, failures)
            .map(|(router, outcome)| (router, outcome.err().map(|trouble| trouble.words)))
            .collect()
    }

    #[test]
    fn each_virtual_router_is_told_of_its_own_failure() {
        let refused = Some("operation not permitted".to_owned());
        let failures = [failure(0, Errno::EPERM), failure(2, Errno::EPERM)];
        assert_eq!(told(&failures), [(7, refused), (8, None), (9, None)]);
    }

    #[test]
    fn an_advertisement_to_several_peers_fails_when_none_has_left() {
        let failures = [1, 2, 3, 5].map(|position| failure(position, Errno::ENETUNREACH));
        let words = Some("network is unreachable".to_owned());
        assert_eq!(told(&failures), [(7, None), (8, words), (9, None)]);
    }

    #[test]
    fn nobody_to_send_to_is_a_failure() {
        let outcomes: Vec<_> = outcomes(&[(3, 0)], 0, &[]).collect();
        assert_eq!(outcomes.len(), 1);
        assert!(outcomes[0].1.is_err());
    }
}
