//! Why a virtual router is what it is, in the words of the VRRP YANG model (RFC 8347).

/// Why a router became master (`new-master-reason-type`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum NewMasterReason {
    /// It has never been master.
    NotMaster,
    /// Its priority was the highest: it owns the addresses, or the master gave up with priority 0.
    Priority,
    /// It replaced a working master of lower priority.
    Preempted,
    /// The master before did not respond, or there was none.
    NoResponse,
}

impl NewMasterReason {
    /// The word of RFC 8347.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotMaster => "not-master",
            Self::Priority => "priority",
            Self::Preempted => "preempted",
            Self::NoResponse => "no-response",
        }
    }
}

/// What has last mattered to the state (`vrrp-event-type`). The events of the interface are known
/// to the caller alone, and are not among these.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LastEvent {
    /// Nothing yet.
    None,
    /// It began to take part.
    Startup,
    /// It stopped taking part.
    Shutdown,
    /// A better router was heard by this master.
    HigherPriorityBackup,
    /// The master was not heard for a master down interval, or has stopped.
    MasterTimeout,
    /// The primary address has changed.
    PrimaryIpAddress,
    /// A working master of lower priority was let be for the preempt delay.
    PreemptHoldTimeout,
    /// A working master of lower priority was found.
    LowerPriorityMaster,
    /// The owner of the addresses began to take part, or found another master.
    OwnerPreempt,
}

impl LastEvent {
    /// The word of RFC 8347, without its prefix `vrrp-event-`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Startup => "startup",
            Self::Shutdown => "shutdown",
            Self::HigherPriorityBackup => "higher-priority-backup",
            Self::MasterTimeout => "master-timeout",
            Self::PrimaryIpAddress => "primary-ip-address",
            Self::PreemptHoldTimeout => "preempt-hold-timeout",
            Self::LowerPriorityMaster => "lower-priority-master",
            Self::OwnerPreempt => "owner-preempt",
        }
    }
}
