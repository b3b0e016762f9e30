//! The attributes of an expectation message ⇄ [`Expectation`].
//!
//! Three tuples: that of the flow that expects, the expected one, and a mask of its bits that
//! count. The zone is not on the wire, and a translation only for IPv4.

use std::net::IpAddr;

use lockstep_ctnetlink::{Expectation, ExpectedTranslation, FunctionName, HelperName, L4, Tuple};

#[allow(clippy::wildcard_imports, reason = "the frame and the numbers of this format")]
use super::attribute::*;

/// Reads the attributes of an expectation message, in whatever order they come.
///
/// # Errors
/// See [`PayloadError`]; the message is then to be counted as malformed and skipped.
pub fn decode_expectation(body: &[u8]) -> Result<Expectation, PayloadError> {
    let mut read = Attributes::default();
    walk(body, |number, payload| read.take(number, payload))?;
    read.expectation()
}

/// Appends the attributes of `expectation`, in conntrackd's order.
///
/// # Errors
/// When the wire has no way to say this expectation; `out` may then hold a part of it.
pub fn encode_expectation(expectation: &Expectation, out: &mut Vec<u8>) -> Result<(), Unsendable> {
    if expectation.zone != 0 {
        return Err(Unsendable::ExpectationZone);
    }
    // conntrackd asks the master's protocol whether there are ports, in all tuples.
    let ports = has_ports(expectation.master.protocol);
    encode_tuple(MASTER, &expectation.master, ports, out)?;
    encode_tuple(EXPECT, &expectation.tuple, ports, out)?;
    encode_tuple(MASK, &expectation.mask, ports, out)?;
    put_word(TIMEOUT, expectation.timeout_s, out);
    put(FLAGS, &expectation.flags.to_be_bytes(), out);
    put(CLASS, &expectation.class.to_be_bytes(), out);
    if let Some(translation) = &expectation.translation {
        let (IpAddr::V4(source), IpAddr::V4(destination)) =
            (translation.tuple.source, translation.tuple.destination)
        else {
            return Err(Unsendable::ExpectedTranslation);
        };
        put_words(NAT_IPV4, &[source.to_bits(), destination.to_bits()], out);
        put(NAT_L4PROTO, &[translation.tuple.protocol], out);
        if ports {
            let (source, destination) = ports_of(&translation.tuple)?;
            put_ports(NAT_PORT, source, destination, out);
        }
        put(NAT_DIRECTION, &translation.direction.to_be_bytes(), out);
    }
    // Without its helper and function the kernel would expect another thing.
    if let Some(helper) = &expectation.helper
        && !put_name::<HELPER_NAME_MAX>(HELPER_NAME, helper.as_str(), out)
    {
        return Err(Unsendable::HelperName);
    }
    if let Some(function) = &expectation.function {
        put_name::<FUNCTION_NAME_MAX>(FUNCTION, function.as_str(), out);
    }
    Ok(())
}

fn encode_tuple(
    first: u16,
    tuple: &Tuple,
    ports: bool,
    out: &mut Vec<u8>,
) -> Result<(), Unsendable> {
    addresses(first, first + 1, tuple, out)?;
    put(first + 2, &[tuple.protocol], out);
    let (source, destination) = ports_of(tuple)?;
    if ports {
        put_ports(first + 3, source, destination, out);
    } else if (source, destination) != (0, 0) {
        return Err(Unsendable::Ports(tuple.protocol));
    }
    Ok(())
}

fn ports_of(tuple: &Tuple) -> Result<(u16, u16), Unsendable> {
    match tuple.l4 {
        L4::Ports { source, destination } => Ok((source, destination)),
        L4::None => Ok((0, 0)),
        L4::Icmp { .. } => Err(Unsendable::Ports(tuple.protocol)),
    }
}

/// What has been read so far. The last of repeated attributes wins.
#[derive(Default)]
struct Attributes {
    /// Of the master, the expected flow, and the mask.
    tuples: [Part; 3],
    translation: Part,
    direction: Option<u32>,
    timeout_s: Option<u32>,
    flags: u32,
    class: u32,
    helper: Option<HelperName>,
    function: Option<FunctionName>,
}

#[derive(Clone, Copy, Default)]
struct Part {
    addresses: Option<(IpAddr, IpAddr)>,
    protocol: Option<u8>,
    ports: Option<(u16, u16)>,
}

impl Part {
    fn tuple(&self) -> Result<Tuple, PayloadError> {
        let (source, destination) = self.addresses.ok_or(PayloadError::NoAddresses)?;
        let protocol = self.protocol.ok_or(PayloadError::NoProtocol)?;
        let l4 = self.ports.map_or(L4::None, as_l4);
        Ok(Tuple { source, destination, protocol, l4 })
    }
}

impl Attributes {
    fn take(&mut self, number: u16, payload: &[u8]) -> Result<(), PayloadError> {
        let wrong = PayloadError::Size { number, size: payload.len() };
        match number {
            MASTER..TIMEOUT => {
                let part = &mut self.tuples[usize::from(number / 4)];
                match number % 4 {
                    0 => part.addresses = Some(pair4(payload).ok_or(wrong)?),
                    1 => part.addresses = Some(pair6(payload).ok_or(wrong)?),
                    2 => part.protocol = Some(byte(payload).ok_or(wrong)?),
                    _ => part.ports = Some(ports(payload).ok_or(wrong)?),
                }
            }
            TIMEOUT => self.timeout_s = Some(word(payload).ok_or(wrong)?),
            FLAGS => self.flags = word(payload).ok_or(wrong)?,
            CLASS => self.class = word(payload).ok_or(wrong)?,
            NAT_IPV4 => self.translation.addresses = Some(pair4(payload).ok_or(wrong)?),
            NAT_PORT => self.translation.ports = Some(ports(payload).ok_or(wrong)?),
            NAT_L4PROTO => self.translation.protocol = Some(byte(payload).ok_or(wrong)?),
            NAT_DIRECTION => self.direction = Some(word(payload).ok_or(wrong)?),
            HELPER_NAME => self.helper = helper(payload).ok_or(wrong)?,
            FUNCTION => self.function = function(payload).ok_or(wrong)?,
            _ => return Err(PayloadError::Unknown(number)),
        }
        Ok(())
    }

    fn expectation(self) -> Result<Expectation, PayloadError> {
        let [master, tuple, mask] = self.tuples;
        let (master, tuple, mask) = (master.tuple()?, tuple.tuple()?, mask.tuple()?);
        let four = master.source.is_ipv4();
        if tuple.source.is_ipv4() != four || mask.source.is_ipv4() != four {
            return Err(PayloadError::MixedFamilies);
        }
        let mut expectation = Expectation::new(master, tuple, mask);
        expectation.timeout_s = self.timeout_s;
        expectation.flags = self.flags;
        expectation.class = self.class;
        expectation.helper = self.helper;
        expectation.function = self.function;
        if let (Some(direction), Some(_)) = (self.direction, self.translation.addresses) {
            if !four {
                return Err(PayloadError::MixedFamilies);
            }
            let tuple = self.translation.tuple()?;
            expectation.translation = Some(ExpectedTranslation { tuple, direction });
        }
        Ok(expectation)
    }
}

/// The name up to its NUL; empty or unprintable means none.
#[expect(clippy::option_option, reason = "outer: the size is wrong; inner: there is no name")]
fn function(payload: &[u8]) -> Option<Option<FunctionName>> {
    if payload.is_empty() || payload.len() > FUNCTION_NAME_MAX {
        return None;
    }
    let name = payload.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(FunctionName::new(name))
}

const FUNCTION_NAME_MAX: usize = FunctionName::LONGEST + 1;

/// The first of four numbers: addresses (IPv4), addresses (IPv6), protocol, ports.
const MASTER: u16 = 0;
const EXPECT: u16 = 4;
const MASK: u16 = 8;
const TIMEOUT: u16 = 12;
const FLAGS: u16 = 13;
const CLASS: u16 = 14;
const NAT_IPV4: u16 = 15;
const NAT_PORT: u16 = 16;
const NAT_L4PROTO: u16 = 17;
const NAT_DIRECTION: u16 = 18;
const HELPER_NAME: u16 = 19;
const FUNCTION: u16 = 20;
