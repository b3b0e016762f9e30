//! Interfaces that go and come.

use lockstep_kernel::vrrp::{Announcer, Sender, VridSet};
use lockstep_vrrp::{Family, judge};

use crate::cable::{A, B, SOON, with_cable};
use crate::made::{advertise, password, to_peer};

#[test]
fn after_the_interface_was_deleted_and_made_again_new_sockets_serve() {
    with_cable(async |cable| {
        let packet = advertise(&password(), A);
        let mut sender = cable.a.sender("va");
        let mut announcer = cable.a.announcer("va");
        let mut unicast = cable.a.unicast(Some("va"), Family::Ipv4);
        cable.cut("va").await;
        let failures = sender.send(&[packet.clone(), packet.clone(), packet.clone()]);
        let told: Vec<_> =
            failures.iter().map(|it| (it.position, it.error.raw_os_error())).collect();
        let gone = Some(libc::ENXIO);
        assert_eq!(told, [(0, gone), (1, gone), (2, gone)], "told of each, not swallowed");
        assert_eq!(announcer.send_all(&[vec![0; 60], vec![0; 60]]).len(), 2);
        assert_eq!(unicast.send(&[to_peer(B, packet.clone())]).len(), 1);

        cable.lay("va", "vb").await;
        let mut again = cable.a.sender("va");
        assert_ne!(again.index(), sender.index(), "another interface of the same name");
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[51]);
        let heard = ears.until_heard(|| drop(again.send(std::slice::from_ref(&packet)))).await;
        assert!(judge(&password(), &heard).is_ok());
        assert_eq!(sender.send(std::slice::from_ref(&packet)).len(), 1, "the old one stays silent");
    });
}

#[test]
fn a_link_that_goes_down_is_told_and_when_it_is_up_needs_no_new_socket() {
    with_cable(async |cable| {
        let packet = advertise(&password(), A);
        let packets = std::slice::from_ref(&packet);
        let mut sender = cable.a.sender("va");
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[51]);
        ears.link_is_up(&mut sender, &packet).await;

        cable.a.set("va", false).await;
        let failures = sender.send(&[packet.clone(), packet.clone()]);
        let told: Vec<_> =
            failures.iter().map(|it| (it.position, it.error.raw_os_error())).collect();
        assert_eq!(told, [(0, Some(libc::ENETDOWN)), (1, Some(libc::ENETDOWN))]);
        cable.a.set("va", true).await;
        let heard = ears.until_heard(|| drop(sender.send(packets))).await;
        assert!(judge(&password(), &heard).is_ok());

        cable.b.set("vb", false).await;
        cable.b.set("vb", true).await;
        ears.waiting();
        let heard = ears.until_heard(|| drop(sender.send(packets))).await;
        assert!(judge(&password(), &heard).is_ok(), "the receiver is still a member of the group");
    });
}

#[test]
fn a_lost_carrier_needs_no_new_socket() {
    with_cable(async |cable| {
        let packet = advertise(&password(), B);
        let packets = std::slice::from_ref(&packet);
        // The other end of the cable is what gives a veth its carrier.
        let mut sender = cable.b.sender("vb");
        let mut ears = cable.a.receiver("va", Family::Ipv4, &[51]);
        ears.link_is_up(&mut sender, &packet).await;
        cable.b.set("vb", false).await;
        cable.a.until_carrier("va", false).await;
        let mut deaf = cable.a.sender("va");
        let _ = deaf.send(packets);
        cable.b.set("vb", true).await;
        let heard = ears.until_heard(|| drop(sender.send(packets))).await;
        assert!(judge(&password(), &heard).is_ok());
        cable.a.until_carrier("va", true).await;
        assert!(deaf.send(packets).is_empty());
    });
}

#[test]
fn a_missing_interface_is_named() {
    with_cable(async |cable| {
        let nothing = VridSet::new();
        let error = cable.a.open_receiver("nowhere", 4711, Family::Ipv4, &nothing).unwrap_err();
        assert_eq!(error.to_string(), "failed to bind the VRRP socket on nowhere");
        assert_eq!(error.source.raw_os_error(), Some(libc::ENODEV));
        let error = cable.a.run(|| Sender::open(4711)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        assert!(cable.a.run(|| Announcer::open(4711)).is_err());
    });
}

/// Whether a thread of this process has that name.
fn has_thread(name: &str) -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.any(|comm| comm.trim_end() == name)
}

#[test]
fn packet_sockets_are_closed_by_a_thread_of_its_own() {
    with_cable(async |cable| {
        let descriptors = cable.a.run(|| std::fs::read_to_string("/proc/thread-self/net/packet"));
        let before = descriptors.unwrap().lines().count();
        let count = || {
            let list = cable.a.run(|| std::fs::read_to_string("/proc/thread-self/net/packet"));
            list.unwrap().lines().count() - before
        };
        let sockets = [cable.a.announcer("va"), cable.a.announcer("va")];
        let sender = cable.a.sender("va");
        assert_eq!(count(), 3);
        drop((sockets, sender));
        assert!(has_thread("closer"));
        let deadline = std::time::Instant::now() + SOON;
        while count() > 0 {
            assert!(std::time::Instant::now() < deadline, "they stay open");
            std::thread::yield_now();
        }
    });
}
