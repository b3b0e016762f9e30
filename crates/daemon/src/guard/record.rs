//! The record: what a worker was master of, in memory that outlives it.
//!
//! The guard holds the memory open; the worker writes with calls that wait for nobody and whose
//! single words no kill can tear.
//!
//! ```text
//!   0  magic │ body │ configuration │ beat, limit of the core │ of the replicator  (8 bytes each)
//!
//!   body           length of the description │ how many routers │ groups
//!                  for each virtual router: when its last advertisement left, its last number
//!                  for each group: whether it serves
//!                  description (JSON)
//!   configuration  length │ text (TOML)
//! ```
//!
//! A new body or configuration is written where the one in force is not, and put in force with one
//! word: it is there as a whole or not at all.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lockstep_config::Config;
use nix::fcntl::{FallocateFlags, FcntlArg, FdFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

const MAGIC: u64 = u64::from_be_bytes(*b"lockstp1");
/// The places of the words at the beginning.
const BODY: u64 = 8;
const CONFIGURATION: u64 = 16;
const BEATS: u64 = 24;
/// Most bytes of a body or a configuration; both have two places of that size.
const LIMIT: u64 = 1 << 27;
/// The words before the virtual routers of a body.
const HEAD: u64 = 3 * 8;
/// What there is of each virtual router.
const ROUTER: u64 = 2 * 8;

/// A thread that has to show that it lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Thread {
    /// Elections and groups.
    Core,
    /// Flows.
    Replicator,
}

impl Thread {
    pub(super) const ALL: [Self; 2] = [Self::Core, Self::Replicator];

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Replicator => "replicator",
        }
    }

    fn place(self) -> u64 {
        BEATS + 16 * self as u64
    }
}

/// The memory.
#[derive(Debug)]
pub(crate) struct Record {
    file: File,
}

/// Names and settings, in the order of the dynamic part.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Description {
    /// Each group with its members' places.
    groups: Vec<(String, Vec<usize>)>,
    routers: Vec<Described>,
}

#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Described {
    name: String,
    /// Everything by which neighbours know it: another one is another router.
    identity: String,
    /// The advertisement interval in nanoseconds.
    interval: u64,
}

/// What a worker has left.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// The groups that served when it died.
    pub(crate) groups: Vec<PastGroup>,
    /// The configuration that was in force.
    pub(crate) configuration: String,
}

/// A group that served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PastGroup {
    /// Its name.
    pub(crate) name: String,
    /// Its virtual routers.
    pub(crate) members: Vec<PastMember>,
}

/// A virtual router of a group that served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PastMember {
    /// Its name.
    pub(crate) name: String,
    identity: String,
    /// When its last advertisement left, by [`since_boot`].
    pub(crate) left: Duration,
    /// The number of that advertisement in an authentication header.
    pub(crate) sequence: u32,
    /// Its advertisement interval.
    pub(crate) interval: Duration,
}

impl PastGroup {
    /// Until when none of its neighbours can have given it up; `None` where that cannot be told.
    pub(crate) fn until(&self, moment: impl Fn(Duration) -> Option<Instant>) -> Option<Instant> {
        let untils = self.members.iter().map(|one| Some(moment(one.left)? + 3 * one.interval));
        untils.min_by_key(|until| until.map_or((false, None), |until| (true, Some(until))))?
    }
}

impl Record {
    /// An empty one.
    ///
    /// # Errors
    /// Without memory.
    pub(crate) fn new() -> io::Result<Self> {
        let file = File::from(memfd_create(c"lockstep-record", MFdFlags::MFD_CLOEXEC)?);
        let record = Self { file };
        record.set(0, MAGIC)?;
        record.forget()?;
        for thread in Thread::ALL {
            record.set(thread.place(), 0)?;
            record.set(thread.place() + 8, 0)?;
        }
        Ok(record)
    }

    /// The guard's, which this process has inherited under a number that nothing it starts is to
    /// inherit.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn inherited(number: RawFd) -> anyhow::Result<Self> {
        ensure!(number > 2, "{number} is not the number of a record");
        let path = format!("/proc/self/fd/{number}");
        let mut options = File::options();
        let file = options.read(true).write(true).open(&path).context("cannot open the record")?;
        let record = Self { file };
        ensure!(record.get(0).ok() == Some(MAGIC), "{path} is not a record");
        nix::unistd::close(number).context("cannot close the record")?;
        Ok(record)
    }

    /// Lets the next process that is started inherit it, or no more; under which number.
    pub(super) fn let_inherit(&self, inherit: bool) -> io::Result<RawFd> {
        let flags = if inherit { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
        fcntl(&self.file, FcntlArg::F_SETFD(flags))?;
        Ok(self.file.as_raw_fd())
    }

    /// Nothing of a worker is left.
    ///
    /// # Errors
    /// Without memory.
    pub(crate) fn forget(&self) -> io::Result<()> {
        self.set(BODY, 0)?;
        self.set(CONFIGURATION, 0)
    }

    /// A worker that is not there does not beat.
    pub(super) fn forget_beats(&self) -> io::Result<()> {
        Thread::ALL.into_iter().try_for_each(|thread| self.set(thread.place(), 0))
    }

    /// A thread lives; its silence for longer than `limit` means that it does no more.
    pub(crate) fn beat(&self, thread: Thread, limit: Duration) -> io::Result<()> {
        self.set(thread.place() + 8, nanoseconds(limit))?;
        self.set(thread.place(), nanoseconds(since_boot()))
    }

    /// The first thread that has been silent for longer than it may, and for how long; none that has
    /// never beaten.
    pub(crate) fn silent(&self, now: Duration) -> Option<(Thread, Duration)> {
        Thread::ALL.into_iter().find_map(|thread| {
            let beat = self.get(thread.place()).ok().filter(|beat| *beat != 0)?;
            let limit = self.get(thread.place() + 8).ok()?;
            let silent = now.saturating_sub(Duration::from_nanos(beat));
            (silent > Duration::from_nanos(limit)).then_some((thread, silent))
        })
    }

    /// Whether a thread has beaten yet.
    pub(super) fn has_beaten(&self, thread: Thread) -> bool {
        self.get(thread.place()).is_ok_and(|beat| beat != 0)
    }

    /// A worker begins with a configuration. What the one before it was master of is kept, as far as
    /// it is still the same: this worker may be killed before it has resumed it.
    ///
    /// # Errors
    /// Without memory.
    pub(crate) fn begin(&self, config: &Config, text: &str) -> anyhow::Result<()> {
        let body = self.described(config)?;
        self.configure(text)?;
        self.put(BODY, &body)
    }

    /// The virtual routers and groups are described as this configuration has them, and what is
    /// known of each of them stays. Only for whoever writes what they do: what is written
    /// meanwhile is lost.
    ///
    /// # Errors
    /// When the record cannot be read, or without memory.
    pub(crate) fn describe(&self, config: &Config) -> anyhow::Result<()> {
        let body = self.described(config)?;
        self.put(BODY, &body)
    }

    /// A body for this configuration, with what is known of its virtual routers and groups.
    fn described(&self, config: &Config) -> anyhow::Result<Vec<u8>> {
        let past = self.past()?;
        let description = Description::of(config);
        let mut body = Vec::new();
        let json = serde_json::to_vec(&description)?;
        let lengths = [json.len(), description.routers.len(), description.groups.len()];
        for length in lengths {
            body.extend((length as u64).to_ne_bytes());
        }
        let kept = past.groups.iter().flat_map(|group| &group.members);
        for router in &description.routers {
            let kept = kept.clone().find(|member| router.is(member));
            body.extend(kept.map_or(0, |member| nanoseconds(member.left)).to_ne_bytes());
            body.extend(kept.map_or(0, |member| u64::from(member.sequence)).to_ne_bytes());
        }
        let is_same = |(name, members): &(String, Vec<usize>)| {
            past.groups.iter().any(|group| {
                let are_same = |(place, member): (&usize, &PastMember)| {
                    description.routers.get(*place).is_some_and(|router| router.is(member))
                };
                group.name == *name
                    && members.len() == group.members.len()
                    && members.iter().zip(&group.members).all(are_same)
            })
        };
        body.extend(description.groups.iter().map(|group| u8::from(is_same(group))));
        body.extend(json);
        Ok(body)
    }

    /// Another configuration is in force, of the same virtual routers and groups.
    ///
    /// # Errors
    /// Without memory.
    pub(crate) fn configure(&self, text: &str) -> anyhow::Result<()> {
        let length = (text.len() as u64).to_ne_bytes();
        self.put(CONFIGURATION, &[&length, text.as_bytes()].concat())
    }

    /// Writes where what is in force is not, and puts it in force.
    fn put(&self, word: u64, bytes: &[u8]) -> anyhow::Result<()> {
        ensure!(bytes.len() as u64 <= LIMIT, "the configuration is too large for the record");
        let places = [word * LIMIT, word * LIMIT + LIMIT];
        let before = self.get(word)?;
        let place = if before == places[0] { places[1] } else { places[0] };
        self.file.write_all_at(bytes, place)?;
        self.set(word, place)?;
        if before != 0 {
            let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            // Without the hole there is more memory in use and nothing else.
            let _ = fallocate(&self.file, hole, before as i64, LIMIT as i64);
        }
        Ok(())
    }

    /// The last advertisements of virtual routers, the first of them at this place, have left at
    /// this time and with these numbers.
    pub(crate) fn left(&self, first: usize, left: &[(Duration, u32)]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(left.len() * ROUTER as usize);
        for (at, sequence) in left {
            bytes.extend(nanoseconds(*at).to_ne_bytes());
            bytes.extend(u64::from(*sequence).to_ne_bytes());
        }
        let body = self.get(BODY)?;
        self.file.write_all_at(&bytes, body + HEAD + first as u64 * ROUTER)
    }

    /// Whether a group serves.
    pub(crate) fn serves(&self, group: usize, serves: bool) -> io::Result<()> {
        let body = self.get(BODY)?;
        let routers = self.get(body + 8)?;
        let place = body + HEAD + routers * ROUTER + group as u64;
        self.file.write_all_at(&[u8::from(serves)], place)
    }

    /// What the last worker has left; nothing before the first.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub(crate) fn past(&self) -> anyhow::Result<Past> {
        let body = self.get(BODY)?;
        if body == 0 {
            return Ok(Past::default());
        }
        let word = |index: u64| self.get(body + 8 * index);
        let (json, routers, groups) = (word(0)?, word(1)?, word(2)?);
        let parts = [json, routers.saturating_mul(ROUTER), groups];
        let contents = self.read(body, parts.into_iter().fold(HEAD, u64::saturating_add))?;
        let (head, rest) = contents.split_at((HEAD + routers * ROUTER) as usize);
        let (serving, json) = rest.split_at(groups as usize);
        let description: Description = serde_json::from_slice(json)?;
        let states: Vec<(u64, u64)> = head[HEAD as usize..]
            .chunks_exact(ROUTER as usize)
            .map(|state| (number(&state[..8]), number(&state[8..])))
            .collect();
        let groups = description.groups.iter().zip(serving).filter(|(_, serves)| **serves == 1);
        let member = |place: &usize| {
            let (described, (left, sequence)) =
                (description.routers.get(*place)?, *states.get(*place)?);
            Some(PastMember {
                name: described.name.clone(),
                identity: described.identity.clone(),
                left: Duration::from_nanos(left),
                sequence: sequence as u32,
                interval: Duration::from_nanos(described.interval),
            })
        };
        let group = |(name, members): &(String, Vec<usize>)| {
            let members: Option<Vec<PastMember>> = members.iter().map(member).collect();
            Some(PastGroup { name: name.clone(), members: members? })
        };
        Ok(Past {
            groups: groups.filter_map(|(described, _)| group(described)).collect(),
            configuration: self.configuration()?,
        })
    }

    fn configuration(&self) -> anyhow::Result<String> {
        let place = self.get(CONFIGURATION)?;
        if place == 0 {
            return Ok(String::new());
        }
        let length = self.get(place)?;
        Ok(String::from_utf8(self.read(place + 8, length)?)?)
    }

    fn read(&self, place: u64, length: u64) -> anyhow::Result<Vec<u8>> {
        ensure!(length <= LIMIT, "the record is damaged");
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, place)?;
        Ok(bytes)
    }

    fn get(&self, place: u64) -> io::Result<u64> {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, place)?;
        Ok(u64::from_ne_bytes(word))
    }

    fn set(&self, place: u64, word: u64) -> io::Result<()> {
        self.file.write_all_at(&word.to_ne_bytes(), place)
    }
}

impl Description {
    fn of(config: &Config) -> Self {
        let routers = config.virtual_routers.iter().map(|router| Described {
            name: router.name.clone(),
            identity: format!(
                "{} {:?} {:?} {:?} {}",
                router.interface,
                router.vrrp.family,
                router.vrrp.version,
                router.vrrp.vrid,
                router.virtual_link.as_deref().unwrap_or_default(),
            ),
            interval: nanoseconds(router.vrrp.advertisement_interval),
        });
        let places = |group: &lockstep_failover::Group| {
            let member = |member: &lockstep_failover::VirtualRouter| {
                config.virtual_routers.iter().position(|router| router.name == member.name)
            };
            group.virtual_routers.iter().filter_map(member).collect()
        };
        let groups = config.failover.groups.iter();
        let groups = groups.map(|group| (group.name.clone(), places(group)));
        Self { groups: groups.collect(), routers: routers.collect() }
    }
}

impl Described {
    fn is(&self, member: &PastMember) -> bool {
        self.name == member.name && self.identity == member.identity
    }
}

/// The time since the machine was started, its sleep included: the neighbours have not slept.
pub(crate) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME);
    now.map_or(Duration::ZERO, Duration::from)
}

/// A moment of [`since_boot`] as the moment of this process.
pub(crate) fn moment(since_boot_then: Duration) -> Option<Instant> {
    Instant::now().checked_sub(since_boot().saturating_sub(since_boot_then))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"
[vrrp.inside]
interface = "eth0"
vrid = 51
addresses = ["10.1.1.1/24"]
[vrrp.outside]
interface = "eth1"
vrid = 52
addresses = ["10.2.1.1/24"]
[vrrp.alone]
interface = "eth2"
vrid = 53
addresses = ["10.3.1.1/24"]
[group.gateway]
virtual-routers = ["inside", "outside"]
"#;

    fn config(text: &str) -> Config {
        let surroundings = lockstep_config::Surroundings::default();
        lockstep_config::parse("test", text, &surroundings).expect("a good configuration").config
    }

    fn place_of(config: &Config, group: &str) -> usize {
        config.failover.groups.iter().position(|one| one.name == group).unwrap()
    }

    /// A record of a worker whose group `gateway` serves.
    fn serving() -> Record {
        let (record, config) = (Record::new().unwrap(), config(TWO));
        record.begin(&config, TWO).unwrap();
        assert!(record.past().unwrap().groups.is_empty(), "nothing serves at the beginning");
        let at = |seconds| Duration::from_secs(seconds);
        let left: Vec<_> = config
            .virtual_routers
            .iter()
            .map(|router| match router.name.as_str() {
                "inside" => (at(100), 7),
                "outside" => (at(101), 8),
                _ => (at(102), 0),
            })
            .collect();
        record.left(0, &left).unwrap();
        record.serves(place_of(&config, "gateway"), true).unwrap();
        record
    }

    #[test]
    fn what_a_worker_was_master_of_can_be_read_after_it() {
        let past = serving().past().unwrap();
        assert_eq!(past.configuration, TWO);
        let [group] = &past.groups[..] else { panic!("{past:?}") };
        assert_eq!(group.name, "gateway");
        let read: Vec<_> = group
            .members
            .iter()
            .map(|one| (one.name.as_str(), one.left.as_secs(), one.sequence, one.interval))
            .collect();
        let second = Duration::from_secs(1);
        assert_eq!(read, [("inside", 100, 7, second), ("outside", 101, 8, second)]);
    }

    #[test]
    fn a_worker_that_is_killed_before_it_has_resumed_loses_nothing() {
        let record = serving();
        let before = record.past().unwrap();
        for _ in 0..3 {
            record.begin(&config(TWO), TWO).unwrap();
            assert_eq!(record.past().unwrap().groups, before.groups);
        }
    }

    #[test]
    fn a_group_that_is_another_now_is_not_resumed() {
        for other in [
            TWO.replace("vrid = 52", "vrid = 54"),
            TWO.replace("\"inside\", \"outside\"", "\"inside\", \"alone\""),
            TWO.replace("[group.gateway]", "[group.other]"),
            TWO.replace("interface = \"eth1\"", "interface = \"eth3\""),
        ] {
            let record = serving();
            record.begin(&config(&other), &other).unwrap();
            assert!(record.past().unwrap().groups.is_empty(), "{other}");
        }
        let record = serving();
        let more = TWO.replace("[\"10.3.1.1/24\"]", "[\"10.3.1.1/24\", \"10.3.1.2/24\"]");
        record.begin(&config(&more), &more).unwrap();
        assert_eq!(record.past().unwrap().groups.len(), 1);
    }

    #[test]
    fn another_interval_of_a_group_that_serves_leaves_what_is_known_of_it() {
        let record = serving();
        let before = record.past().unwrap().groups;
        let slower = TWO.replace("vrid = 52", "vrid = 52\nadvertisement-interval = \"3s\"");
        record.describe(&config(&slower)).unwrap();
        let past = record.past().unwrap();
        assert_eq!(past.configuration, TWO, "the text is told by itself");
        let [group] = &past.groups[..] else { panic!("{past:?}") };
        let intervals: Vec<_> = group.members.iter().map(|one| one.interval.as_secs()).collect();
        assert_eq!(intervals, [1, 3]);
        let known = |group: &PastGroup| -> Vec<_> {
            group.members.iter().map(|one| (one.name.clone(), one.left, one.sequence)).collect()
        };
        assert_eq!(known(group), known(&before[0]));
    }

    #[test]
    fn a_group_that_serves_no_more_is_gone_from_the_record() {
        let record = serving();
        record.serves(place_of(&config(TWO), "gateway"), false).unwrap();
        assert!(record.past().unwrap().groups.is_empty());
        let record = serving();
        record.forget().unwrap();
        assert!(record.past().unwrap().groups.is_empty());
    }

    #[test]
    fn a_thread_is_silent_when_its_last_beat_is_older_than_its_limit() {
        let record = Record::new().unwrap();
        assert_eq!(record.silent(since_boot()), None, "none has beaten yet");
        let limit = Duration::from_secs(2);
        record.beat(Thread::Core, limit).unwrap();
        record.beat(Thread::Replicator, 5 * limit).unwrap();
        let now = since_boot();
        assert_eq!(record.silent(now + limit / 2), None);
        assert_eq!(record.silent(now + 2 * limit).map(|(thread, _)| thread), Some(Thread::Core));
        record.forget_beats().unwrap();
        assert_eq!(record.silent(now + 2 * limit), None);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(Record::inherited(file.as_raw_fd()).is_err());
        assert!(Record::inherited(0).is_err());
    }
}
