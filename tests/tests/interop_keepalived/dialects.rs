//! Every dialect through a whole life: election, a stop, a return, a death.

use super::*;
use lockstep_tests::setting::{Authentication, PASSWORD};

/// The better router starts first and becomes master; it stops, and the other takes over; it comes back, and takes over
/// again; it dies, and the other takes over again.
fn life(setting: &Setting, programs: &[Program]) -> Observation {
    let mut segment = Segment::new(programs);
    let mut seen = Observation::default();
    segment.start_master(0, &setting.priority(150));
    segment.wait_for_announcement(0);
    segment.start_backup(1, setting);
    seen.note("holders with a master", segment.holders());

    segment.stop(0);
    segment.wait_for_only_master(1);
    segment.wait_for_masters("ab");
    seen.note("holders after the stop", segment.holders());

    segment.start(0, &setting.priority(150));
    segment.wait_for_only_master(0);
    segment.wait_for_masters("aba");
    seen.note("holders after the return", segment.holders());

    segment.kill(0);
    segment.wait_for_only_master(1);
    segment.wait_for_masters("abab");
    seen.note("holders after the death", segment.holders());

    seen.note("story", segment.story());
    for router in [0, 1] {
        seen.note(&format!("words of {router}"), segment.words(router));
    }
    numbers_only_grow(&segment);
    seen
}

fn authenticated(authentication: Authentication) -> Setting {
    Setting { authentication, ..Setting::version_2() }
}

fn unicast(setting: Setting) -> Setting {
    Setting { unicast: true, ..setting }
}

fn virtual_mac(setting: Setting) -> Setting {
    Setting { virtual_mac: true, ..setting }
}

/// keepalived listens and advertises on `eth0`, below its virtual MAC address.
fn from_below(setting: Setting) -> Setting {
    let mut setting = virtual_mac(setting).ours("advertise-from = \"interface\"");
    setting.theirs.push("vmac_xmit_base".to_owned());
    setting
}

macro_rules! lives {
    ($($name:ident: $setting:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let setting = $setting;
                each_pair(stringify!($name), |programs| life(&setting, programs));
            }
        )*
    };
}

lives! {
    version_2_without_authentication: Setting::version_2();
    version_2_with_a_password: authenticated(Authentication::Pass(PASSWORD));
    version_2_with_an_authentication_header: authenticated(Authentication::Header(PASSWORD));
    version_2_with_a_password_in_unicast: unicast(authenticated(Authentication::Pass(PASSWORD)));
    version_2_with_an_authentication_header_in_unicast: unicast(authenticated(Authentication::Header(PASSWORD)));
    version_2_with_a_virtual_mac: virtual_mac(Setting::version_2());
    version_3_over_ipv4: Setting::version_3();
    version_3_over_ipv6: Setting::version_3_ipv6();
    version_3_over_ipv4_in_unicast: unicast(Setting::version_3());
    version_3_over_ipv6_in_unicast: unicast(Setting::version_3_ipv6());
    version_3_over_ipv4_with_a_virtual_mac: virtual_mac(Setting::version_3());
    version_3_over_ipv6_with_a_virtual_mac: virtual_mac(Setting::version_3_ipv6());
    version_3_over_ipv4_with_a_virtual_mac_from_below: from_below(Setting::version_3());
}
