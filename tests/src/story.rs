//! What was seen on a LAN, told so that two runs can be compared: by router, not by time.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::frames::{Advertisement, Announcement, Content, Frame};
use crate::segment::{index_of, letter, mac};

/// One thing that happened on the wire. Repeats of it are not told.
#[derive(Clone, Eq, PartialEq)]
pub enum Step {
    /// A router that was not the last to advertise does so.
    Claims(char, u8),
    /// It announces addresses that it has not announced since it claimed.
    Announces(char, BTreeSet<IpAddr>),
    /// It says that it stops.
    Resigns(char),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claims(router, priority) => write!(f, "{router} claims with {priority}"),
            Self::Announces(router, addresses) => write!(f, "{router} announces {addresses:?}"),
            Self::Resigns(router) => write!(f, "{router} resigns"),
        }
    }
}

/// Tells the story of these frames. A last word of a master that was on its way already when its successor claimed, at most
/// `settled` before it, is none.
pub fn tell(frames: &[Frame], settled: Duration) -> Vec<Step> {
    let mut teller =
        Teller { steps: Vec::new(), master: None, previous: None, since: Duration::ZERO };
    for frame in frames {
        match &frame.content {
            Content::Advertisement(seen) => teller.advertisement(seen, frame.at, settled),
            Content::Announcement(seen) => teller.announcement(seen, frame.source),
        }
    }
    teller.steps
}

/// The routers of a story that claimed to be master, in turn: `aba`.
pub fn masters(story: &[Step]) -> String {
    let mut masters: Vec<char> = story
        .iter()
        .filter_map(|step| match step {
            Step::Claims(router, _) => Some(*router),
            Step::Announces(..) | Step::Resigns(_) => None,
        })
        .collect();
    masters.dedup();
    masters.into_iter().collect()
}

struct Teller {
    steps: Vec<Step>,
    master: Option<char>,
    /// The one before, until it has resigned.
    previous: Option<char>,
    since: Duration,
}

impl Teller {
    fn advertisement(&mut self, seen: &Advertisement, at: Duration, settled: Duration) {
        let Some(router) = index_of(seen.source).map(letter) else { return };
        if seen.priority == 0 {
            // keepalived says it twice when it falls into fault.
            if self.steps.last() != Some(&Step::Resigns(router)) {
                self.steps.push(Step::Resigns(router));
            }
            if self.master == Some(router) {
                (self.previous, self.master) = (None, None);
            }
        } else if self.master != Some(router) {
            if self.previous == Some(router) && at.saturating_sub(self.since) < settled {
                return;
            }
            self.steps.push(Step::Claims(router, seen.priority));
            self.previous = self.master.replace(router);
            self.since = at;
        }
    }

    fn announcement(&mut self, seen: &Announcement, source: [u8; 6]) {
        // With the virtual MAC all have the same; it is the master's then.
        let own = (0..8).find(|index| mac(*index) == source).map(letter);
        let Some(router) = own.or(self.master) else { return };
        if index_of(seen.address).is_some()
            || announced(&self.steps, router).contains(&seen.address)
        {
            return;
        }
        if let Some(Step::Announces(last, addresses)) = self.steps.last_mut()
            && *last == router
        {
            addresses.insert(seen.address);
        } else {
            self.steps.push(Step::Announces(router, BTreeSet::from([seen.address])));
        }
    }
}

/// What `router` has announced since it last claimed.
pub fn announced(story: &[Step], router: char) -> BTreeSet<IpAddr> {
    let claim = |step: &Step| matches!(step, Step::Claims(by, _) if *by == router);
    let from = story.iter().rposition(claim).unwrap_or(0);
    let announces = story[from..].iter().filter_map(|step| match step {
        Step::Announces(by, addresses) if *by == router => Some(addresses.clone()),
        Step::Announces(..) | Step::Claims(..) | Step::Resigns(_) => None,
    });
    announces.flatten().collect()
}

/// How a router writes: every form of its advertisements and announcements once, without what changes from one to the next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Words {
    /// Its advertisements.
    pub advertisements: BTreeSet<String>,
    /// Its announcements.
    pub announcements: BTreeSet<String>,
}

impl Words {
    /// Those of router `index`.
    pub fn of(frames: &[Frame], index: usize) -> Self {
        let mut words = Self { advertisements: BTreeSet::new(), announcements: BTreeSet::new() };
        // With the virtual MAC all routers announce from the same.
        let mut sources = BTreeSet::from([mac(index)]);
        for frame in frames {
            match &frame.content {
                Content::Advertisement(seen) if index_of(seen.source) == Some(index) => {
                    sources.insert(frame.source);
                    words.advertisements.insert(advertised(frame, seen));
                }
                Content::Announcement(seen)
                    if sources.contains(&frame.source) && index_of(seen.address).is_none() =>
                {
                    let (at, to) = (hardware(seen.mac), hardware(frame.destination));
                    words.announcements.insert(format!("at {at} to {to}: {:?}", seen.form));
                }
                Content::Advertisement(_) | Content::Announcement(_) => {}
            }
        }
        words
    }
}

/// An advertisement without its numbers and without its priority, but for whether that is 0.
fn advertised(frame: &Frame, seen: &Advertisement) -> String {
    let router = |address| match index_of(address) {
        Some(index) => letter(index).to_string(),
        None => address.to_string(),
    };
    let (from, to) = (hardware(frame.source), hardware(frame.destination));
    let header = seen.header.map(|header| header.index.to_be_bytes());
    format!(
        "from {from} to {to}, to {}, ttl {}, class {:#x}, header {header:?}, version {}, vrid {}, last {}, \
         authentication {}, every {:?}, sum {:?}, {:?}, trailer {:02x?}",
        router(seen.destination),
        seen.ttl,
        seen.traffic_class,
        seen.version,
        seen.vrid,
        seen.priority == 0,
        seen.authentication,
        seen.interval,
        seen.checksum,
        seen.addresses,
        seen.trailer,
    )
}

/// Whose hardware address this is.
fn hardware(address: [u8; 6]) -> String {
    match (0..8).find(|index| mac(*index) == address) {
        Some(index) => letter(index).to_string(),
        None => format!("{address:02x?}"),
    }
}
