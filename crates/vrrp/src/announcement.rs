//! Telling the link where the virtual addresses are now: gratuitous ARP and unsolicited
//! neighbour advertisements (RFC 9568 §6.4.2, RFC 5227 §3, RFC 4861 §7.2.6); and understanding
//! when another router does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet::packet::arp::{ArpHardwareTypes, ArpOperations, MutableArpPacket};
use pnet::packet::ethernet::{EtherType, EtherTypes, MutableEthernetPacket};
use pnet::packet::icmpv6::ndp::{
    MutableNeighborAdvertPacket, NdpOption, NdpOptionTypes, NeighborAdvertFlags,
};
use pnet::packet::icmpv6::{self, Icmpv6Packet, Icmpv6Types};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::util::MacAddr;

use crate::packet::ipv6_header;

/// The Ethernet frame that says: `address` is at `mac`.
///
/// `router` is said in IPv6 only; set it when the interface forwards, or hosts would drop this
/// router from their default routes (RFC 4861 §7.2.5).
pub fn announcement(address: IpAddr, mac: [u8; 6], router: bool) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => gratuitous_arp(address, mac),
        IpAddr::V6(address) => neighbour_advertisement(address, mac, router),
    }
}

/// What an Ethernet frame announces: an address, and where it is. `None` when it is no announcement.
/// The address is in both places of an ARP packet that is gratuitous, request or answer.
pub fn announced(frame: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    let (header, packet) = frame.split_at_checked(ETHERNET_HEADER)?;
    let mac: [u8; 6] = header.get(6..12)?.try_into().ok()?;
    let address = match header.get(12..)? {
        [0x08, 0x06] => {
            let sender: [u8; 4] = packet.get(14..18)?.try_into().ok()?;
            let for_ipv4 = packet.starts_with(&[0, 1, 0x08, 0x00, 6, 4]);
            let gratuitous = for_ipv4 && packet.get(24..28)? == sender;
            IpAddr::from(gratuitous.then_some(sender)?)
        }
        [0x86, 0xdd] => {
            let (ip, message) = packet.split_at_checked(IPV6_HEADER)?;
            let to_all = ip.get(24..)? == ALL_NODES.octets();
            let is_advert = ip.get(6..8)? == [ICMPV6, 255] && message.starts_with(&[136, 0]);
            let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
            IpAddr::from((to_all && is_advert).then_some(target)?)
        }
        _ => return None,
    };
    Some((address, mac))
}

/// An ARP request for `address` from `address`, to everybody.
///
/// The target hardware address, which has no meaning in a request, is the broadcast address, as
/// keepalived sets it: some switches and hosts take no other for gratuitous. The frame is not
/// padded; the driver does that.
pub fn gratuitous_arp(address: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut payload = [0; MutableArpPacket::minimum_packet_size()];
    let mut arp = MutableArpPacket::new(&mut payload).expect("the buffer holds an ARP packet");
    arp.set_hardware_type(ArpHardwareTypes::Ethernet);
    arp.set_protocol_type(EtherTypes::Ipv4);
    arp.set_hw_addr_len(6);
    arp.set_proto_addr_len(4);
    arp.set_operation(ArpOperations::Request);
    arp.set_sender_hw_addr(mac.into());
    arp.set_sender_proto_addr(address.octets().into());
    arp.set_target_hw_addr(MacAddr::broadcast());
    arp.set_target_proto_addr(address.octets().into());
    ethernet_frame(MacAddr::broadcast(), mac.into(), EtherTypes::Arp, &payload)
}

/// A neighbour advertisement for `address` to all nodes, overriding what they knew.
pub fn neighbour_advertisement(address: Ipv6Addr, mac: [u8; 6], router: bool) -> Vec<u8> {
    let mut message = [0; MutableNeighborAdvertPacket::minimum_packet_size() + LINK_LAYER_OPTION];
    let mut advert =
        MutableNeighborAdvertPacket::new(&mut message).expect("the buffer holds the message");
    advert.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
    let router = if router { NeighborAdvertFlags::Router } else { 0 };
    advert.set_flags(NeighborAdvertFlags::Override | router);
    advert.set_target_addr(address.octets().into());
    advert.set_options(&[NdpOption {
        option_type: NdpOptionTypes::TargetLLAddr,
        length: 1,
        data: mac.to_vec(),
    }]);
    let whole = Icmpv6Packet::new(&message).expect("the buffer holds the message");
    let checksum = icmpv6::checksum(&whole, &address.octets().into(), &ALL_NODES.octets().into());
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let packet = ipv6_header(0, IpNextHeaderProtocols::Icmpv6, address, ALL_NODES, &message);
    ethernet_frame(ALL_NODES_MAC, mac.into(), EtherTypes::Ipv6, &packet)
}

fn ethernet_frame(
    destination: MacAddr,
    source: MacAddr,
    ethertype: EtherType,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0; MutableEthernetPacket::minimum_packet_size() + payload.len()];
    let mut frame = MutableEthernetPacket::new(&mut bytes).expect("the buffer holds a header");
    frame.set_destination(destination);
    frame.set_source(source);
    frame.set_ethertype(ethertype);
    frame.set_payload(payload);
    bytes
}

const ETHERNET_HEADER: usize = 14;
const IPV6_HEADER: usize = 40;
const ICMPV6: u8 = 58;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: MacAddr = MacAddr(0x33, 0x33, 0, 0, 0, 1);
/// Bytes of the option that carries an Ethernet address.
const LINK_LAYER_OPTION: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn what_is_announced_is_understood() {
        for address in ["10.1.1.1", "2001:db8::1", "fe80::1"] {
            let address = address.parse().unwrap();
            assert_eq!(announced(&announcement(address, MAC, true)), Some((address, MAC)));
        }
    }

    #[test]
    fn a_question_and_an_answer_are_no_announcements() {
        let mut question = gratuitous_arp("10.1.1.1".parse().unwrap(), MAC);
        question[41] = 2;
        assert_eq!(announced(&question), None, "it asks for another address");
        let mut answer = neighbour_advertisement("2001:db8::1".parse().unwrap(), MAC, true);
        answer[24 + 14..54].copy_from_slice(&"fe80::9".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(announced(&answer), None, "it is for one host");
    }

    #[test]
    fn no_bytes_break_it() {
        for address in ["10.1.1.1", "2001:db8::1"] {
            let frame = announcement(address.parse().unwrap(), MAC, false);
            for length in 0..frame.len() {
                let _ = announced(&frame[..length]);
            }
            for (place, bit) in
                (0..frame.len()).flat_map(|place| (0..8).map(move |bit| (place, bit)))
            {
                let mut changed = frame.clone();
                changed[place] ^= 1 << bit;
                let _ = announced(&changed);
            }
        }
    }
}
