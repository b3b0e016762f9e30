//! The bytes of the frames of interest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{Advertisement, Announcement, AuthenticationHeader, Checksum, Content, Form, Frame};

const VRRP: u8 = 112;
const AUTHENTICATION_HEADER: u8 = 51;
const ICMPV6: u8 = 58;

/// `None` for a frame of another kind, and for one that is cut short.
pub(super) fn frame(ethernet: &[u8], at: Duration) -> Option<Frame> {
    let (header, payload) = ethernet.split_at_checked(14)?;
    let content = match [header[12], header[13]] {
        [0x08, 0x00] => Content::Advertisement(ipv4(payload)?),
        [0x86, 0xdd] => ipv6(payload)?,
        // A reply to one host is the kernel's, to an announcement that meets an address left behind.
        [0x08, 0x06] if header[0] & 1 == 1 => Content::Announcement(arp(payload)?),
        _ => return None,
    };
    let mac = |from: usize| header[from..from + 6].try_into().ok();
    Some(Frame { at, destination: mac(0)?, source: mac(6)?, content })
}

fn arp(arp: &[u8]) -> Option<Announcement> {
    let [sender, target] = [v4(arp.get(14..18)?)?, v4(arp.get(24..28)?)?];
    let form = Form::Arp { operation: u16(arp, 6)?, target: arp.get(18..24)?.try_into().ok()? };
    let mac = arp.get(8..14)?.try_into().ok()?;
    (sender == target).then_some(Announcement { address: sender, mac, form })
}

fn ipv4(packet: &[u8]) -> Option<Advertisement> {
    let header = usize::from(*packet.first()? & 0x0f) * 4;
    let payload = packet.get(header..usize::from(u16(packet, 2)?))?;
    let (authentication, vrrp) = match *packet.get(9)? {
        VRRP => (None, payload),
        AUTHENTICATION_HEADER if *payload.first()? == VRRP => {
            let length = (usize::from(*payload.get(1)?) + 2) * 4;
            let numbers =
                AuthenticationHeader { index: u32(payload, 4)?, sequence: u32(payload, 8)? };
            (Some(numbers), payload.get(length..)?)
        }
        _ => return None,
    };
    let (source, destination) = (v4(packet.get(12..16)?)?, v4(packet.get(16..20)?)?);
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend([0, VRRP]);
    pseudo.extend(u16::try_from(vrrp.len()).ok()?.to_be_bytes());
    advertisement(vrrp, &pseudo, 4).map(|seen| Advertisement {
        source,
        destination,
        ttl: packet[8],
        traffic_class: packet[1],
        header: authentication,
        ..seen
    })
}

fn ipv6(packet: &[u8]) -> Option<Content> {
    let payload = packet.get(40..40 + usize::from(u16(packet, 4)?))?;
    let (source, destination) = (v6(packet.get(8..24)?)?, v6(packet.get(24..40)?)?);
    let ttl = packet[7];
    let traffic_class = (packet[0] << 4) | (packet[1] >> 4);
    match packet[6] {
        VRRP => {
            let mut pseudo = packet[8..40].to_vec();
            pseudo.extend(u32::try_from(payload.len()).ok()?.to_be_bytes());
            pseudo.extend([0, 0, 0, VRRP]);
            let seen = advertisement(payload, &pseudo, 16)?;
            let seen = Advertisement { source, destination, ttl, traffic_class, ..seen };
            Some(Content::Advertisement(seen))
        }
        ICMPV6 => neighbour(payload, ttl).map(Content::Announcement),
        _ => None,
    }
}

/// An unsolicited neighbour advertisement with the target's hardware address.
fn neighbour(icmp: &[u8], hop_limit: u8) -> Option<Announcement> {
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    const SOLICITED: u8 = 0x40;
    const TARGET_LINK_LAYER: [u8; 2] = [2, 1];
    let flags = *icmp.get(4)?;
    let unsolicited = icmp[0] == NEIGHBOUR_ADVERTISEMENT && flags & SOLICITED == 0;
    if !unsolicited || *icmp.get(24..26)? != TARGET_LINK_LAYER {
        return None;
    }
    let form = Form::Neighbour { flags: flags & 0xe0, hop_limit };
    Some(Announcement { address: v6(&icmp[8..24])?, mac: icmp.get(26..32)?.try_into().ok()?, form })
}

/// All that the message itself says; who carries it is filled in by the caller.
fn advertisement(vrrp: &[u8], pseudo: &[u8], width: usize) -> Option<Advertisement> {
    let version = *vrrp.first()? >> 4;
    let end = 8 + width * usize::from(*vrrp.get(3)?);
    let addresses = vrrp.get(8..end)?.chunks(width);
    let addresses =
        addresses.map(|bytes| v4(bytes).or_else(|| v6(bytes))).collect::<Option<_>>()?;
    let (authentication, interval) = if version == 2 {
        (vrrp[4], Duration::from_secs(vrrp[5].into()))
    } else {
        (0, Duration::from_millis(u64::from(u16(vrrp, 4)? & 0x0fff) * 10))
    };
    Some(Advertisement {
        source: Ipv4Addr::UNSPECIFIED.into(),
        destination: Ipv4Addr::UNSPECIFIED.into(),
        ttl: 0,
        traffic_class: 0,
        header: None,
        version,
        vrid: vrrp[1],
        priority: vrrp[2],
        authentication,
        interval,
        checksum: checksum(vrrp, pseudo),
        addresses,
        trailer: vrrp[end..].to_vec(),
    })
}

fn checksum(vrrp: &[u8], pseudo: &[u8]) -> Checksum {
    if sum(vrrp) == 0xffff {
        Checksum::Message
    } else if sum(&[pseudo, vrrp].concat()) == 0xffff {
        Checksum::PseudoHeader
    } else {
        Checksum::Wrong
    }
}

/// The ones' complement sum of 16 bit words.
fn sum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let sum: u32 = bytes.chunks(2).map(word).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (folded & 0xffff) + (folded >> 16)
}

fn u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn v4(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into())
}

fn v6(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into())
}
