//! Advertisements that cannot leave, and what they leave behind.

use super::*;

#[test]
fn a_master_whose_advertisements_are_refused_gives_up_and_says_why() {
    let mut segment = beside_keepalived();
    let setting = Setting { unicast: true, ..Setting::version_3() };
    segment.start_master(OURS, &setting.priority(150));
    segment.start_backup(OTHER, &setting);

    segment.nft(
        OURS,
        "add table inet full; add chain inet full out { type filter hook output priority 0; }; \
         add rule inet full out meta l4proto 112 drop",
    );
    segment.wait_for(OURS, Role::Fault);
    wait_for_reason(&mut segment, &["advertise"]);
    segment.wait_for_master(OTHER);
    wait::until("it gives the address up", || segment.has_none(OURS));

    segment.nft(OURS, "delete table inet full");
    segment.wait_for_only_master(OURS);
    segment.wait_for_masters("aba");
}

#[test]
fn the_operators_output_firewall_does_not_silence_multicast() {
    let mut segment = beside_keepalived();
    let setting = Setting::version_3();
    segment.nft(
        OURS,
        "add table inet strict; add chain inet strict out { type filter hook output priority 0; policy drop; }",
    );
    segment.start_master(OURS, &setting.priority(150));
    segment.start_backup(OTHER, &setting);
    wait_for_advertisements(&segment, OURS, 5);
    segment.wait_for_masters("a");
}

#[test]
fn our_advertisements_leave_no_trace_in_connection_tracking() {
    each([false, true], |unicast| {
        let mut segment = beside_keepalived();
        let setting = Setting { unicast, ..Setting::version_3() };
        for router in [OURS, OTHER] {
            // Nothing is tracked before somebody asks for it.
            segment.nft(
                router,
                "add table inet asks; add chain inet asks in { type filter hook input priority 0; }; \
                 add rule inet asks in ct state new counter; \
                 add chain inet asks out { type filter hook output priority 0; }; \
                 add rule inet asks out ct state new counter",
            );
        }
        segment.start_master(OURS, &setting);
        segment.start(OTHER, &setting.priority(150));
        segment.wait_for_only_master(OTHER);
        wait::until("keepalived's are tracked where they leave", || {
            tracked(&segment, OTHER).contains("112")
        });
        let ours = tracked(&segment, OURS);
        assert!(!ours.contains("112"), "unicast {unicast}: {ours}");
    });
}

/// The connections that a router tracks, by protocol.
fn tracked(segment: &Segment, router: usize) -> String {
    let list = segment.run(router, &["conntrack", "-L"]);
    list.lines().filter(|line| line.starts_with("unknown")).collect::<Vec<_>>().join("\n")
}
