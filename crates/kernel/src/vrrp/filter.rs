//! The packet filter of a receiving socket: only advertisements for our VRIDs wake us.
//!
//! A classic BPF program, because that is what an unprivileged reader of the code can follow and
//! every kernel runs. It looks at the VRID and at nothing else: a packet that is wrong in any
//! other way must reach the election, which says what is wrong with it.
//!
//! A load beyond the packet's end ends such a program and drops the packet, so what is cut off
//! before its VRID never comes in.

use lockstep_vrrp::{Family, PROTOCOL, PROTOCOL_AH};
use socket2::SockFilter;

use super::vrids::VridSet;
use crate::bpf::{
    ADD, ADD_X, COPY_TO_X, EVERYTHING, JUMP_ANY_BIT, JUMP_EQUAL, LOAD, LOAD_BYTE, LOAD_BYTE_AT_X,
    LOAD_X_IPV4_HEADER_LENGTH, NOTHING, RETURN, SHIFT_LEFT, SHIFT_RIGHT_X, jump, op, place_in_set,
};

/// The program for a raw socket of this family and IP protocol.
///
/// Over IPv4 the kernel shows it the packet from its IP header on, over IPv6 from the header
/// after all IPv6 ones on.
pub(super) fn program(family: Family, protocol: u8, vrids: &VridSet) -> Vec<SockFilter> {
    let mut program = Vec::new();
    match (family, protocol) {
        (Family::Ipv4, PROTOCOL_AH) => {
            program.extend([
                op(LOAD_X_IPV4_HEADER_LENGTH, 0),
                op(LOAD_BYTE_AT_X, AH_NEXT_HEADER),
                jump(JUMP_EQUAL, u32::from(PROTOCOL), 1, 0),
                op(RETURN, NOTHING),
                // The header states its length in words less two (RFC 4302 §2.2).
                op(LOAD_BYTE_AT_X, AH_LENGTH),
                op(ADD, 2),
                op(SHIFT_LEFT, 2),
                op(ADD_X, 0),
                op(COPY_TO_X, 0),
                op(LOAD_BYTE_AT_X, VRID),
            ]);
        }
        (Family::Ipv4, _) => {
            program.extend([op(LOAD_X_IPV4_HEADER_LENGTH, 0), op(LOAD_BYTE_AT_X, VRID)]);
        }
        (Family::Ipv6, _) => program.push(op(LOAD_BYTE, VRID)),
    }
    program.extend(place_in_set());
    let words = vrids.words().iter().zip(0..).filter(|(word, _)| **word != 0);
    for (word, number) in words {
        program.extend([
            jump(JUMP_EQUAL, number, 0, 5),
            op(LOAD, *word),
            op(SHIFT_RIGHT_X, 0),
            jump(JUMP_ANY_BIT, 1, 0, 1),
            op(RETURN, EVERYTHING),
            op(RETURN, NOTHING),
        ]);
    }
    program.push(op(RETURN, NOTHING));
    program
}

/// Where the VRID is in an advertisement.
const VRID: u32 = 1;
/// Where an authentication header says what follows it.
const AH_NEXT_HEADER: u32 = 0;
/// Where it says how long it is.
const AH_LENGTH: u32 = 1;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use lockstep_vrrp::Vrid;
    use socket2::SockRef;

    use super::*;

    #[test]
    fn each_vrid_passes_the_filter_that_has_it_and_no_other() {
        for ours in (1..=u8::MAX).filter_map(Vrid::new) {
            let set = VridSet::from_iter([ours]);
            for (family, protocol) in KINDS {
                let passed = passing(family, protocol, &set, every_vrid(family, protocol));
                assert_eq!(passed, [usize::from(ours.value())], "{family:?} {protocol} {ours:?}");
            }
        }
    }

    #[test]
    fn any_mixture_of_vrids_passes_and_no_other() {
        let every_third = |vrid: &Vrid| vrid.value().is_multiple_of(3);
        let sets: [VridSet; 4] = [
            VridSet::new(),
            vrids().filter(every_third).collect(),
            vrids().filter(|vrid| !every_third(vrid)).collect(),
            vrids().collect(),
        ];
        for set in sets {
            let expected: Vec<_> = set.iter().map(|vrid| usize::from(vrid.value())).collect();
            for (family, protocol) in KINDS {
                let passed = passing(family, protocol, &set, every_vrid(family, protocol));
                assert_eq!(passed, expected, "{family:?} {protocol}");
            }
        }
    }

    #[test]
    fn ip_options_do_not_hide_the_vrid() {
        let set = VridSet::from_iter(Vrid::new(51));
        for words in 5..=15 {
            let mut plain = vec![0x33; words * 4];
            plain[0] = 0x40 | words as u8;
            let mut wrapped = plain.clone();
            plain.extend([0x21, 51, 100, 1]);
            assert_eq!(passing(Family::Ipv4, PROTOCOL, &set, vec![plain]), [0], "{words} words");
            wrapped.extend(authentication_header(4));
            wrapped.extend([0x21, 51, 100, 1]);
            assert_eq!(passing(Family::Ipv4, PROTOCOL_AH, &set, vec![wrapped]), [0], "{words}");
        }
    }

    #[test]
    fn authentication_headers_of_any_length_pass_only_around_vrrp() {
        let set = VridSet::from_iter(Vrid::new(51));
        for words in 1..=255 {
            let mut packet = ipv4_header();
            packet.extend(authentication_header(words));
            packet.extend([0x21, 51]);
            let mut around_tcp = packet.clone();
            around_tcp[20] = 6;
            let packets = vec![around_tcp, packet];
            assert_eq!(passing(Family::Ipv4, PROTOCOL_AH, &set, packets), [1], "{words}");
        }
    }

    #[test]
    fn what_is_cut_off_before_its_vrid_does_not_pass() {
        let all: VridSet = vrids().collect();
        for (family, protocol) in KINDS {
            let whole = every_vrid(family, protocol).remove(1);
            let end_of_vrid = whole.len() - 2;
            let cut: Vec<_> = (1..=whole.len()).map(|length| whole[..length].to_vec()).collect();
            let shortest = passing(family, protocol, &all, cut).first().map(|at| at + 1);
            assert_eq!(shortest, Some(end_of_vrid), "{family:?} {protocol}");
        }
    }

    #[test]
    fn no_bytes_at_all_break_the_filter() {
        let all: VridSet = vrids().collect();
        for (family, protocol) in KINDS {
            for byte in 0..=u8::MAX {
                let packets = (1..64).map(|length| vec![byte; length]).collect();
                let passed = passing(family, protocol, &all, packets);
                assert!(passed.len() < 64, "{family:?} {protocol} {byte}");
            }
        }
    }

    const KINDS: [(Family, u8); 3] =
        [(Family::Ipv4, PROTOCOL), (Family::Ipv4, PROTOCOL_AH), (Family::Ipv6, PROTOCOL)];

    fn vrids() -> impl Iterator<Item = Vrid> {
        (1..=u8::MAX).filter_map(Vrid::new)
    }

    /// What the kernel shows the filter of an advertisement for each number, 0 too.
    fn every_vrid(family: Family, protocol: u8) -> Vec<Vec<u8>> {
        let before = match (family, protocol) {
            (Family::Ipv4, PROTOCOL_AH) => [ipv4_header(), authentication_header(4)].concat(),
            (Family::Ipv4, _) => ipv4_header(),
            (Family::Ipv6, _) => Vec::new(),
        };
        (0..=u8::MAX).map(|vrid| [before.as_slice(), &[0x31, vrid, 100, 1]].concat()).collect()
    }

    fn ipv4_header() -> Vec<u8> {
        let mut header = vec![0xff; 20];
        header[0] = 0x45;
        header
    }

    fn authentication_header(words_less_two: usize) -> Vec<u8> {
        let mut header = vec![0xff; (words_less_two + 2) * 4];
        header[..2].copy_from_slice(&[PROTOCOL, words_less_two as u8]);
        header
    }

    /// The positions of those packets that the kernel lets through: any socket takes a filter, and
    /// this one shows it exactly what is sent.
    fn passing(family: Family, protocol: u8, set: &VridSet, packets: Vec<Vec<u8>>) -> Vec<usize> {
        let (near, far) = UnixDatagram::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        SockRef::from(&far).attach_filter(&program(family, protocol, set)).unwrap();
        let mut passed = Vec::new();
        for (position, packet) in packets.into_iter().enumerate() {
            near.send(&packet).unwrap();
            let mut buffer = [0; 2048];
            if let Ok(length) = far.recv(&mut buffer) {
                assert_eq!(buffer[..length], packet, "nothing is cut off");
                passed.push(position);
            }
        }
        passed
    }
}
