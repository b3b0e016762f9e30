//! From an advertisement to the IP packets that carry it.

use std::net::IpAddr;
use std::time::Duration;

use crate::advertisement::{Advertisement, Format, MAX_ADDRESSES, encoded_length};
use crate::authentication_header::{self, Carrier};
use crate::checksum;
use crate::config::{
    Authentication, ChecksumDialect, Config, Family, Password, Trailer, TrailerMode, Transport,
};
use crate::packet::{
    Endpoints, IPV4_HEADER, IPV6_HEADER, PROTOCOL, PROTOCOL_AH, Packet, TTL, ipv4_packet,
    ipv6_packet, renumber,
};
use crate::trailer;

/// Wraps the advertisements of one virtual router, counting them in the IPv4 identification.
#[derive(Clone, Debug)]
pub struct Encoder {
    transport: Transport,
    checksum: ChecksumDialect,
    password: Option<Password>,
    trailer: Option<Trailer>,
    freshness: Duration,
    mtu: usize,
    identification: u16,
    stamp: Option<u64>,
    /// What was said last, unless something in it is never the same again. A master says the same
    /// for as long as it lives.
    last: Option<Box<Said>>,
}

/// An advertisement and its packets.
#[derive(Clone, Debug)]
struct Said {
    advertisement: Advertisement,
    source: IpAddr,
    packets: Vec<Packet>,
}

impl Encoder {
    /// The encoder for a virtual router with these settings.
    pub fn new(config: &Config) -> Self {
        let mut encoder = Self {
            transport: Transport::default(),
            checksum: ChecksumDialect::default(),
            password: None,
            trailer: None,
            freshness: Duration::ZERO,
            mtu: usize::MAX,
            identification: 0,
            stamp: None,
            last: None,
        };
        encoder.configure(config);
        encoder
    }

    /// Other settings from now on; what is counted goes on, and so does the MTU.
    pub fn configure(&mut self, config: &Config) {
        self.last = None;
        self.transport = config.transport.clone();
        self.checksum = config.checksum;
        self.password = match &config.authentication {
            Authentication::Header(password) => Some(password.clone()),
            Authentication::None | Authentication::Pass(_) => None,
        };
        let signing = |trailer: &&Trailer| trailer.mode != TrailerMode::ReceiveOnly;
        self.trailer = config.trailer.as_ref().filter(signing).cloned();
        let freshness = |trailer: &Trailer| trailer.freshness(config.advertisement_interval);
        self.freshness = self.trailer.as_ref().map_or(Duration::ZERO, freshness);
    }

    /// The longest IP packet that the interface takes; until it is told, there is no limit.
    /// Addresses that do not fit are not advertised, because a packet that is too long would not
    /// be sent at all; the routers hold them all the same.
    pub fn set_mtu(&mut self, bytes: usize) {
        self.last = None;
        self.mtu = bytes;
    }

    /// The packets that carry `advertisement` from `source`: one to the group of its family, or
    /// one to each unicast peer of the family, in their order.
    ///
    /// keepalived's header is matched byte for byte, so that an operator who compares captures,
    /// or a switch that filters on them, sees no difference: class CS6, no fragmentation flags,
    /// identification 1, 2, 3 … without 0 (which the kernel would replace). The copies to several
    /// peers are one advertisement: they share identification, sequence number and stamp.
    ///
    /// `utc` is the time of day since 1970; a trailer is stamped with it.
    pub fn packets(
        &mut self,
        advertisement: &Advertisement,
        source: IpAddr,
        utc: Duration,
    ) -> Vec<Packet> {
        let family = Family::of(source);
        if family == Family::Ipv4 {
            self.identification = self.identification.checked_add(1).unwrap_or(1);
        }
        if let Some(packets) = self.said_again(advertisement, source) {
            return packets;
        }
        let packets = self.encode(advertisement, source, utc);
        let lasts = self.trailer.is_none() && self.header(advertisement).is_none();
        self.last = lasts.then(|| {
            let (advertisement, packets) = (advertisement.clone(), packets.clone());
            Box::new(Said { advertisement, source, packets })
        });
        packets
    }

    /// Whether packets are stamped, so that [`Encoder::packets`] needs the time of day.
    pub fn stamps(&self) -> bool {
        self.trailer.is_some()
    }

    /// The packets of last time with the next identification, if they said the same.
    fn said_again(&self, advertisement: &Advertisement, source: IpAddr) -> Option<Vec<Packet>> {
        let same = |last: &&Said| last.source == source && last.advertisement == *advertisement;
        let mut packets = self.last.as_deref().filter(same)?.packets.clone();
        if Family::of(source) == Family::Ipv4 {
            for packet in &mut packets {
                renumber(&mut packet.bytes, self.identification);
            }
        }
        Some(packets)
    }

    fn encode(
        &mut self,
        advertisement: &Advertisement,
        source: IpAddr,
        utc: Duration,
    ) -> Vec<Packet> {
        let family = Family::of(source);
        let mut message = advertisement.unsummed(family, self.room(advertisement, family));
        let length = message.len();
        if let Some(settings) = &self.trailer {
            let stamp = trailer::next_stamp(self.stamp, utc, self.freshness);
            self.stamp = Some(stamp);
            trailer::sign(settings, source, stamp, &mut message);
        }
        self.endpoints(source)
            .into_iter()
            .map(|endpoints| self.packet(advertisement, endpoints, message.clone(), length))
            .collect()
    }

    fn endpoints(&self, source: IpAddr) -> Vec<Endpoints> {
        match &self.transport {
            Transport::Multicast => vec![Endpoints::to_group(source)],
            Transport::Unicast { peers, .. } => {
                peers.iter().filter_map(|peer| Endpoints::between(source, *peer)).collect()
            }
        }
    }

    /// `message` has no checksum yet; it is an advertisement of `length` and a trailer.
    fn packet(
        &self,
        advertisement: &Advertisement,
        endpoints: Endpoints,
        mut message: Vec<u8>,
        length: usize,
    ) -> Packet {
        let covered = match endpoints.family() {
            Family::Ipv4 => length,
            Family::Ipv6 => message.len(),
        };
        let version = advertisement.version();
        checksum::fill_in(version, self.checksum, &mut message[..covered], &endpoints);
        let ttl = self.ttl();
        let bytes = match endpoints {
            Endpoints::Ipv4 { source, destination } => {
                let identification = self.identification;
                let carrier = Carrier { source, destination, identification, ttl };
                match self.header(advertisement) {
                    Some((password, sequence)) => {
                        let wrapped =
                            authentication_header::wrap(password, carrier, sequence, &message);
                        ipv4_packet(carrier, PROTOCOL_AH, &wrapped)
                    }
                    None => ipv4_packet(carrier, PROTOCOL, &message),
                }
            }
            Endpoints::Ipv6 { source, destination } => {
                ipv6_packet(source, destination, ttl, &message)
            }
        };
        Packet { destination: endpoints.destination(), bytes }
    }

    fn ttl(&self) -> u8 {
        match self.transport {
            Transport::Multicast => TTL,
            Transport::Unicast { ttl, .. } => ttl,
        }
    }

    /// Key and number of the authentication header, if there is to be one.
    fn header(&self, advertisement: &Advertisement) -> Option<(&Password, u32)> {
        match (&self.password, advertisement.format) {
            (Some(password), Format::V2(authentication)) => {
                Some((password, authentication.sequence))
            }
            (None, _) | (Some(_), Format::V3) => None,
        }
    }

    /// How many addresses fit.
    fn room(&self, advertisement: &Advertisement, family: Family) -> usize {
        let header = match (family, self.header(advertisement)) {
            (Family::Ipv4, Some(_)) => IPV4_HEADER + authentication_header::LENGTH,
            (Family::Ipv4, None) => IPV4_HEADER,
            (Family::Ipv6, _) => IPV6_HEADER,
        };
        let trailer = self.trailer.as_ref().map_or(0, |_| trailer::LENGTH);
        let length = |count| header + encoded_length(advertisement.version(), family, count);
        let each = length(1) - length(0);
        (self.mtu.saturating_sub(length(0) + trailer) / each).min(MAX_ADDRESSES)
    }
}
