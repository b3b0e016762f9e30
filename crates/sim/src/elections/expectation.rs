//! What the protocol promises of one router's timer, told from outside.
//!
//! From the advertisements that really arrived at a router, and from nothing the router says of
//! itself, follows the earliest and the latest moment at which it may elect itself, and as master
//! the moment by which it speaks again. The bounds are those of the module documentation of
//! [`crate::elections`].

use std::time::{Duration, Instant};

use lockstep_vrrp::{Config, Version, WhenMisunderstood};

/// What a router may and must do next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expectation {
    /// It takes no part.
    Nothing,
    /// It is backup.
    Listens(Window),
    /// It is master.
    Speaks(Schedule),
}

/// When a backup may and must elect itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    not_before: Instant,
    by: Instant,
    /// The least and the greatest interval it may be counting with.
    shortest: Duration,
    longest: Duration,
    /// Its normal timer, while nothing was heard and the start-up gate is closed.
    gated: Option<Instant>,
    /// Until then a neighbour that it refuses keeps it backup.
    withheld: Option<Instant>,
    /// Since when only masters of lower priority are heard.
    lower_since: Option<Instant>,
    /// Times in a row that it was late and has listened instead.
    naps: u8,
}

/// When a master must speak again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    by: Instant,
    /// It has overslept and listens until then.
    silent_until: Option<Instant>,
    /// Times in a row that it was late and has listened instead.
    naps: u8,
}

/// What a router counts with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    /// Its settings in force.
    pub(super) config: &'a Config,
    /// Its priority in force.
    pub(super) priority: u8,
}

impl Terms<'_> {
    /// RFC 9568 §6.1, RFC 3768 §6.1.
    pub(super) fn skew(&self, interval: Duration) -> Duration {
        let base = match self.config.version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => interval,
        };
        base * (256 - u32::from(self.priority)) / 256
    }

    /// RFC 9568 §6.1: three intervals and the skew.
    pub(super) fn down(&self, interval: Duration) -> Duration {
        3 * interval + self.skew(interval)
    }

    /// Whether it replaces a working master of lower priority.
    pub(super) fn preempts(&self) -> bool {
        self.config.preempt || self.is_owner()
    }

    /// An owner does not wait.
    fn preempt_delay(&self) -> Duration {
        if self.is_owner() { Duration::ZERO } else { self.config.preempt_delay }
    }

    fn is_owner(&self) -> bool {
        self.priority == u8::MAX
    }

    fn own_interval(&self) -> Duration {
        self.config.advertisement_interval
    }

    fn interval_of(&self, heard: Duration) -> Duration {
        match self.config.version {
            Version::V2 => self.own_interval(),
            Version::V3 => heard,
        }
    }
}

impl Expectation {
    /// It begins to take part.
    pub(super) fn started(terms: Terms<'_>, now: Instant) -> Self {
        let interval = terms.own_interval();
        let normal = now + terms.down(interval);
        let at = if terms.is_owner() { now } else { normal.max(now + terms.config.startup_limit) };
        Self::Listens(Window { gated: (at > normal).then_some(normal), ..Window::at(at, interval) })
    }

    /// It was master and listens again; `interval` is that of whom it heard, or its own.
    pub(super) fn stepped_down(terms: Terms<'_>, interval: Duration, now: Instant) -> Self {
        let interval = terms.interval_of(interval);
        Self::Listens(Window::at(now + terms.down(interval), interval))
    }

    /// It has become master.
    pub(super) fn master(terms: Terms<'_>, now: Instant) -> Self {
        Self::Speaks(Schedule { by: now + terms.own_interval(), silent_until: None, naps: 0 })
    }

    /// An advertisement was heeded while it listened.
    pub(super) fn heeded(
        &mut self,
        terms: Terms<'_>,
        priority: u8,
        interval: Duration,
        now: Instant,
    ) {
        let Self::Listens(window) = self else { return };
        window.heard_something(terms, now);
        // It may be the one that was refused before.
        window.withheld = None;
        if priority == 0 {
            // The second of two never puts off what the first has brought forward.
            window.not_before = window.not_before.min(now + terms.skew(window.shortest));
            window.by = now + terms.skew(window.longest);
            return;
        }
        let interval = terms.interval_of(interval);
        let lower = priority < terms.priority;
        let lower_since = lower.then(|| window.lower_since.unwrap_or(now));
        window.lower_since = lower_since;
        let replaces = terms.preempts()
            && lower_since.is_some_and(|since| now >= since + terms.preempt_delay());
        if !replaces {
            let at = now + terms.down(interval);
            *window = Window { lower_since, ..Window::at(at, interval) };
        }
    }

    /// An advertisement for its VRID was refused. Its sender is there for a master down interval by
    /// the `interval` that it states, up to a minute, or by the router's own.
    pub(super) fn refused(
        &mut self,
        terms: Terms<'_>,
        priority: u8,
        interval: Duration,
        now: Instant,
    ) {
        let Self::Listens(window) = self else { return };
        window.heard_something(terms, now);
        if terms.config.misunderstood == WhenMisunderstood::StayBackup {
            let shortest = window.shortest.min(terms.own_interval());
            let stated = terms.down(interval).min(Duration::from_mins(1));
            window.withheld = (priority > 0).then(|| now + terms.down(shortest).max(stated));
        }
    }

    /// It was not scheduled until now, and what was due at `due` is late.
    pub(super) fn woke(&mut self, terms: Terms<'_>, due: Option<Instant>, now: Instant) {
        let late = due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        match self {
            Self::Nothing => {}
            Self::Listens(window) => {
                window.by = window.by.max(now + window.longest);
                window.naps += u8::from(late >= window.shortest);
                if late >= window.longest && window.naps <= MOST_NAPS {
                    window.not_before = window.not_before.max(now + window.shortest);
                }
            }
            Self::Speaks(schedule) => {
                let interval = terms.own_interval();
                let overslept = late >= 3 * interval;
                schedule.naps += u8::from(overslept);
                if overslept && schedule.naps <= MOST_NAPS {
                    schedule.silent_until = Some(now + interval);
                    schedule.by = now + interval;
                }
            }
        }
    }

    /// Its priority or its settings are other ones from now on.
    pub(super) fn retuned(&mut self, before: Terms<'_>, after: Terms<'_>, now: Instant) {
        let longest = before.own_interval().max(after.own_interval());
        match self {
            Self::Nothing => {}
            Self::Listens(window) => {
                window.longest = window.longest.max(longest);
                window.shortest = window.shortest.min(before.own_interval());
                window.shortest = window.shortest.min(after.own_interval());
                window.not_before = window.not_before.min(now);
                window.withheld = None;
                let down = before.down(window.longest).max(after.down(window.longest));
                let longer =
                    after.down(window.longest).saturating_sub(before.down(window.shortest));
                window.by = (window.by + longer).max(now + down);
            }
            Self::Speaks(schedule) => schedule.by = schedule.by.max(now + longest),
        }
    }

    /// It sends an advertisement of a priority other than 0.
    pub(super) fn spoke(&mut self, terms: Terms<'_>, now: Instant) -> Result<(), String> {
        let Self::Speaks(schedule) = self else { return Ok(()) };
        if schedule.silent_until.is_some_and(|until| now < until) {
            return Err("it overslept and speaks before it has listened".to_owned());
        }
        *schedule = Schedule { by: now + terms.own_interval(), silent_until: None, naps: 0 };
        Ok(())
    }

    /// Whether it is a master that listens because it overslept.
    pub(super) fn overslept(&self, now: Instant) -> bool {
        matches!(self, Self::Speaks(schedule) if schedule.silent_until.is_some_and(|until| now < until))
    }

    /// Another master has stopped: whoever overslept may speak.
    pub(super) fn other_resigned(&mut self) {
        if let Self::Speaks(schedule) = self {
            schedule.silent_until = None;
        }
    }

    /// It elects itself.
    pub(super) fn elected(&self, now: Instant) -> Result<(), String> {
        match self {
            Self::Listens(window) if now < window.not_before => {
                let early = window.not_before - now;
                Err(format!("it elects itself {early:?} before it may"))
            }
            Self::Listens(window) if window.withheld.is_some_and(|until| now < until) => {
                Err("it elects itself although it hears somebody it does not understand".to_owned())
            }
            Self::Listens(_) => Ok(()),
            Self::Nothing | Self::Speaks(_) => Err("it elects itself and is no backup".to_owned()),
        }
    }

    /// Whether it has missed what it had to do by now. Until `withheld`, a neighbour that it refuses
    /// may keep it backup.
    pub(super) fn check(&self, withheld: Option<Instant>, now: Instant) -> Result<(), String> {
        match self {
            Self::Listens(window)
                if now > window.by && withheld.is_none_or(|until| now > until) =>
            {
                Err(format!("it hears no master and is none, {:?} too long", now - window.by))
            }
            Self::Speaks(schedule) if now > schedule.by => {
                Err(format!("it is master and silent, {:?} too long", now - schedule.by))
            }
            Self::Nothing | Self::Listens(_) | Self::Speaks(_) => Ok(()),
        }
    }
}

/// Most times in a row that a router which is late listens instead of acting.
const MOST_NAPS: u8 = 3;

impl Window {
    fn at(at: Instant, interval: Duration) -> Self {
        Self {
            not_before: at,
            by: at,
            shortest: interval,
            longest: interval,
            gated: None,
            withheld: None,
            lower_since: None,
            naps: 0,
        }
    }

    /// Whoever hears something follows the normal timer, or starts it anew when it has run out.
    fn heard_something(&mut self, terms: Terms<'_>, now: Instant) {
        if let Some(normal) = self.gated.take() {
            let down = now + terms.down(self.longest);
            self.not_before = self.not_before.min(if normal > now { normal } else { down });
            self.by = self.by.max(down);
        }
    }
}
