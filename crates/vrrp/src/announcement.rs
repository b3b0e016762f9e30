//! Telling the link where the virtual addresses are now: gratuitous ARP and unsolicited
//! neighbour advertisements (RFC 9568 §6.4.2, RFC 5227 §3, RFC 4861 §7.2.6).

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

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: MacAddr = MacAddr(0x33, 0x33, 0, 0, 0, 1);
/// Bytes of the option that carries an Ethernet address.
const LINK_LAYER_OPTION: usize = 8;
