//! Other routers' announcements are heard, one's own are not.

use std::future::poll_fn;
use std::net::IpAddr;

use lockstep_kernel::vrrp::{AnnouncementListener, Announcer};
use lockstep_vrrp::{Family, announcement};
use tokio::time::timeout;

use crate::cable::{Cable, SOON, with_cable};

const VIRTUAL: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];

/// What comes next.
async fn next(ear: &mut AnnouncementListener) -> (IpAddr, [u8; 6]) {
    let heard = async {
        loop {
            poll_fn(|context| ear.poll_ready(context)).await.unwrap();
            if let Some(first) = ear.receive().unwrap().first() {
                return *first;
            }
        }
    };
    timeout(SOON, heard).await.expect("it is heard")
}

fn voices(cable: &Cable, base: &str) -> (Announcer, Announcer) {
    let at = |side: &crate::sides::Side, name: &str| {
        let index = side.index(name);
        side.run(|| Announcer::open(index).unwrap())
    };
    (at(&cable.a, base), at(&cable.b, "vb"))
}

#[test]
fn only_what_another_router_announces_is_heard() {
    with_cable(async |cable| {
        for (family, ours, theirs) in
            [(Family::Ipv4, "10.51.0.1", "10.51.0.2"), (Family::Ipv6, "2001:db8::1", "2001:db8::2")]
        {
            let [ours, theirs]: [IpAddr; 2] = [ours, theirs].map(|one| one.parse().unwrap());
            let index = cable.a.index("va");
            let mut ear = cable.a.run(|| AnnouncementListener::open(index, family).unwrap());
            let (own, other) = voices(cable, "va");
            // The same virtual MAC on both sides, and what is neither.
            own.send(&announcement(ours, VIRTUAL, true)).unwrap();
            other.send(&[0xff; 60]).unwrap();
            let mut question = announcement(theirs, VIRTUAL, true);
            let last = question.len() - 1;
            question[if family == Family::Ipv4 { last } else { 54 }] ^= 1;
            other.send(&question).unwrap();
            other.send(&announcement(theirs, VIRTUAL, true)).unwrap();
            assert_eq!(next(&mut ear).await, (theirs, VIRTUAL));
        }
    });
}

#[test]
fn a_router_with_a_macvlan_of_the_same_mac_hears_the_other_there() {
    with_cable(async |cable| {
        cable.a.add_macvlan("vrrp4", "va", VIRTUAL).await;
        for (family, theirs) in [(Family::Ipv4, "10.51.0.2"), (Family::Ipv6, "2001:db8::2")] {
            let theirs: IpAddr = theirs.parse().unwrap();
            let index = cable.a.index("vrrp4");
            let mut ear = cable.a.run(|| AnnouncementListener::open(index, family).unwrap());
            let (own, other) = voices(cable, "vrrp4");
            own.send(&announcement(theirs, VIRTUAL, true)).unwrap();
            other.send(&announcement(theirs, VIRTUAL, true)).unwrap();
            assert_eq!(next(&mut ear).await, (theirs, VIRTUAL));
            assert_eq!(ear.receive().unwrap(), [], "its own is not among them");
        }
    });
}
