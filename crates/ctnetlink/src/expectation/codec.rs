//! Expectations from attributes, and to requests.
//!
//! What the kernel makes of a request decides what is said:
//! - It needs the expected tuple, its mask and the tuple of a master that is there and has a
//!   helper; without one of them nothing is made (`EINVAL`, `ENOENT`, `EOPNOTSUPP`).
//! - The helper that it *tells* is the master's. The helper that it is *given* is attached to the
//!   connection that comes, which would have an FTP transfer read as if it were FTP's commands.
//!   So none is given, except with a class other than 0, which the kernel only takes together
//!   with a helper.
//! - The timeout it uses is its helper's policy's; ours is only heeded for an expectation that is
//!   there already, see [`update_expectation`].
//! - The translation is stored with its direction and the function that applies it; without the
//!   function it has no effect.

use crate::attribute::{Attribute, Attributes, Writer};
use crate::decode::tuple;
use crate::encode::{address_family, family_of, message, write_tuple};
use crate::message::{EXP_DELETE, EXP_GET, EXP_NEW, flags};
use crate::{
    DecodeError, Expectation, ExpectedTranslation, Family, FunctionName, HelperName, Tuple,
};

/// `CTA_EXPECT_*`.
mod expect {
    pub(super) const MASTER: u16 = 1;
    pub(super) const TUPLE: u16 = 2;
    pub(super) const MASK: u16 = 3;
    pub(super) const TIMEOUT: u16 = 4;
    pub(super) const ID: u16 = 5;
    pub(super) const HELP_NAME: u16 = 6;
    pub(super) const ZONE: u16 = 7;
    pub(super) const FLAGS: u16 = 8;
    pub(super) const CLASS: u16 = 9;
    pub(super) const NAT: u16 = 10;
    pub(super) const FN: u16 = 11;

    pub(super) const NAT_DIR: u16 = 1;
    pub(super) const NAT_TUPLE: u16 = 2;
}

/// What names an expectation to the kernel.
///
/// The kernel finds an expectation by a tuple that falls under its mask, so two that overlap can
/// only be told apart by the identifier.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ExpectationKey {
    /// What is expected.
    pub tuple: Tuple,
    /// Zone of the master.
    pub zone: u16,
}

impl Expectation {
    /// What names the expectation to the kernel.
    pub fn key(&self) -> ExpectationKey {
        ExpectationKey { tuple: self.tuple, zone: self.zone }
    }
}

/// Appends a request for all expectations of a family; the answer is a dump.
pub fn dump_expectations(buffer: &mut Vec<u8>, family: Family, sequence: u32) {
    message(buffer, EXP_GET, flags::DUMP, address_family(family), sequence, |_| {});
}

/// Appends a request for one expectation; the answer is of
/// [`Kind::ExpectationEntry`](crate::Kind::ExpectationEntry), or `ENOENT`.
pub fn get_expectation(buffer: &mut Vec<u8>, key: &ExpectationKey, sequence: u32) {
    message(buffer, EXP_GET, 0, family_of(&key.tuple), sequence, |writer| write_key(writer, key));
}

/// Appends the removal of one expectation; with `id`, only if the kernel's identifier is that one.
pub fn delete_expectation(
    buffer: &mut Vec<u8>,
    key: &ExpectationKey,
    id: Option<u32>,
    sequence: u32,
) {
    message(buffer, EXP_DELETE, 0, family_of(&key.tuple), sequence, |writer| {
        write_key(writer, key);
        if let Some(id) = id {
            writer.be32(expect::ID, id);
        }
    });
}

/// Appends the making of an expectation.
///
/// The kernel answers `ENOENT` when its master is not there, `EOPNOTSUPP` when the master has no
/// helper, `EEXIST` when the same is expected already, `EBUSY` when it overlaps another one, and
/// `EMFILE` when the helper or the table allows no more.
pub fn create_expectation(buffer: &mut Vec<u8>, expectation: &Expectation, sequence: u32) {
    const FLAGS: u16 = flags::CREATE | flags::EXCLUSIVE;
    write_expectation(buffer, FLAGS, expectation, sequence);
}

/// Appends the change of an expectation's timeout, which is all that can be changed; `ENOENT` when
/// there is none.
pub fn update_expectation(buffer: &mut Vec<u8>, expectation: &Expectation, sequence: u32) {
    write_expectation(buffer, 0, expectation, sequence);
}

fn write_expectation(
    buffer: &mut Vec<u8>,
    extra_flags: u16,
    expectation: &Expectation,
    sequence: u32,
) {
    let Expectation { master, tuple, mask, timeout_s, flags, class, translation, .. } = expectation;
    message(buffer, EXP_NEW, extra_flags, family_of(tuple), sequence, |writer| {
        writer.nest(expect::MASTER, |writer| write_tuple(writer, master, None));
        writer.nest(expect::TUPLE, |writer| write_tuple(writer, tuple, None));
        writer.nest(expect::MASK, |writer| write_tuple(writer, mask, None));
        if expectation.zone != 0 {
            writer.be16(expect::ZONE, expectation.zone);
        }
        if let Some(timeout_s) = timeout_s {
            writer.be32(expect::TIMEOUT, *timeout_s);
        }
        writer.be32(expect::FLAGS, *flags);
        if *class != 0 {
            writer.be32(expect::CLASS, *class);
            if let Some(helper) = &expectation.helper {
                writer.text(expect::HELP_NAME, helper.as_str());
            }
        }
        if let Some(ExpectedTranslation { tuple, direction }) = translation {
            writer.nest(expect::NAT, |writer| {
                writer.be32(expect::NAT_DIR, *direction);
                writer.nest(expect::NAT_TUPLE, |writer| write_tuple(writer, tuple, None));
            });
        }
        if let Some(function) = &expectation.function {
            writer.text(expect::FN, function.as_str());
        }
    });
}

fn write_key(writer: &mut Writer<'_>, key: &ExpectationKey) {
    writer.nest(expect::TUPLE, |writer| write_tuple(writer, &key.tuple, None));
    if key.zone != 0 {
        writer.be16(expect::ZONE, key.zone);
    }
}

pub(crate) fn expectation(attributes: Attributes<'_>) -> Result<Expectation, DecodeError> {
    let [mut master, mut expected, mut mask] = [None; 3];
    let mut rest = Rest::default();
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            expect::MASTER => master = Some(tuple(attribute.nest())?.0),
            expect::TUPLE => expected = Some(tuple(attribute.nest())?.0),
            expect::MASK => mask = Some(tuple(attribute.nest())?.0),
            _ => rest.take(attribute)?,
        }
    }
    Ok(Expectation {
        master: master.ok_or(DecodeError::Missing("tuple of the master"))?,
        tuple: expected.ok_or(DecodeError::Missing("expected tuple"))?,
        mask: mask.ok_or(DecodeError::Missing("mask of the expected tuple"))?,
        zone: rest.zone,
        timeout_s: rest.timeout_s,
        flags: rest.flags,
        class: rest.class,
        translation: rest.translation,
        helper: rest.helper,
        function: rest.function,
        id: rest.id,
    })
}

/// What is known of an expectation besides its tuples, while its attributes are walked.
#[derive(Default)]
struct Rest {
    zone: u16,
    timeout_s: Option<u32>,
    flags: u32,
    class: u32,
    translation: Option<ExpectedTranslation>,
    helper: Option<HelperName>,
    function: Option<FunctionName>,
    id: Option<u32>,
}

impl Rest {
    fn take(&mut self, attribute: Attribute<'_>) -> Result<(), DecodeError> {
        match attribute.kind {
            expect::ZONE => self.zone = attribute.be16()?,
            expect::TIMEOUT => self.timeout_s = Some(attribute.be32()?),
            expect::FLAGS => self.flags = attribute.be32()?,
            expect::CLASS => self.class = attribute.be32()?,
            expect::NAT => self.translation = translation(attribute.nest())?,
            expect::HELP_NAME => self.helper = HelperName::new(attribute.text()),
            expect::FN => self.function = FunctionName::new(attribute.text()),
            expect::ID => self.id = Some(attribute.be32()?),
            _ => {}
        }
        Ok(())
    }
}

fn translation(attributes: Attributes<'_>) -> Result<Option<ExpectedTranslation>, DecodeError> {
    let (mut direction, mut saved) = (0, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            expect::NAT_DIR => direction = attribute.be32()?,
            expect::NAT_TUPLE => saved = Some(tuple(attribute.nest())?.0),
            _ => {}
        }
    }
    Ok(saved.map(|tuple| ExpectedTranslation { tuple, direction }))
}
