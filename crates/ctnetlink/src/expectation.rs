//! What a helper expects: a connection that belongs to one already tracked.

mod codec;
mod show;

pub(crate) use codec::expectation as decode;
pub use codec::{
    ExpectationKey, create_expectation, delete_expectation, dump_expectations, get_expectation,
    update_expectation,
};
pub use show::{
    expectation_event_line, expectation_event_value, expectation_line, expectation_value,
};

use crate::flow::{HelperName, Tuple};

/// An expected connection, as the kernel tells it (`IPCTNL_MSG_EXP_*`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expectation {
    /// The original tuple of the flow that expects it.
    pub master: Tuple,
    /// What is expected; a field whose mask is zero may be anything.
    pub tuple: Tuple,
    /// The bits of `tuple` that count. Ports of 0xffff are exact.
    pub mask: Tuple,
    /// Zone of the master. The kernel heeds it in requests and never tells it: what is decoded has
    /// 0, and whoever needs the zone looks for the master.
    pub zone: u16,
    /// Seconds until it is given up. The kernel begins with what the helper's policy says.
    pub timeout_s: Option<u32>,
    /// `NF_CT_EXPECT_*`.
    pub flags: u32,
    /// Class of the helper's policy; 0 for most.
    pub class: u32,
    /// What the connection is translated to.
    pub translation: Option<ExpectedTranslation>,
    /// The helper that expects it.
    pub helper: Option<HelperName>,
    /// The kernel's function for the connection when it comes, like `nat-follow-master`.
    pub function: Option<FunctionName>,
    /// The kernel's number of it.
    pub id: Option<u32>,
}

impl Expectation {
    /// `NF_CT_EXPECT_PERMANENT`: stays after the first connection.
    pub const PERMANENT: u32 = 1;
    /// `NF_CT_EXPECT_INACTIVE`: not in force.
    pub const INACTIVE: u32 = 2;
    /// `NF_CT_EXPECT_USERSPACE`: made by a helper outside the kernel.
    pub const USERSPACE: u32 = 4;

    /// An expectation without timeout, translation or helper.
    pub fn new(master: Tuple, tuple: Tuple, mask: Tuple) -> Self {
        Self {
            master,
            tuple,
            mask,
            zone: 0,
            timeout_s: None,
            flags: 0,
            class: 0,
            translation: None,
            helper: None,
            function: None,
            id: None,
        }
    }
}

/// The address and port an expected connection is translated to (`CTA_EXPECT_NAT`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExpectedTranslation {
    /// The tuple as saved by the helper.
    pub tuple: Tuple,
    /// 0: the direction of the master's original packets; 1: of its replies.
    pub direction: u32,
}

/// Name of a kernel function for expected connections: 1 to 27 visible ASCII characters.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FunctionName {
    bytes: [u8; Self::LONGEST],
    len: u8,
}

impl FunctionName {
    /// Most characters.
    pub const LONGEST: usize = 27;

    /// `None` when the name is empty, too long or not visible ASCII.
    pub fn new(name: &[u8]) -> Option<Self> {
        if name.is_empty() || name.len() > Self::LONGEST || !name.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut bytes = [0; Self::LONGEST];
        bytes[..name.len()].copy_from_slice(name);
        Some(Self { bytes, len: name.len() as u8 })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}
