//! One description of a virtual router, and what each program calls it: Lockstep's file and keepalived's.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// What one router is told about the virtual router `gateway`, number 51 on `eth0`.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The protocol version.
    pub version: u8,
    /// 1 to 255.
    pub priority: u8,
    /// Whether it replaces a working master of lower priority.
    pub preempt: bool,
    /// How long it lets such a master be.
    pub preempt_delay: Duration,
    /// Between advertisements.
    pub interval: Duration,
    /// Version 2 only.
    pub authentication: Authentication,
    /// Whether it speaks to each other router by itself.
    pub unicast: bool,
    /// Whether it has the virtual MAC address.
    pub virtual_mac: bool,
    /// The virtual addresses.
    pub addresses: Vec<IpNet>,
    /// How long Lockstep waits at its start when it hears nothing; keepalived never does.
    pub startup_limit: Duration,
    /// Lines of `[vrrp.gateway]` that keepalived has no word for.
    pub ours: Vec<String>,
    /// Sections after `[vrrp.gateway]` that keepalived has no word for.
    pub our_sections: String,
    /// Lines of the `vrrp_instance` that are keepalived's alone.
    pub theirs: Vec<String>,
}

/// How advertisements are authenticated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Authentication {
    /// Not at all.
    None,
    /// A password in clear.
    Pass(&'static str),
    /// An IP authentication header, keyed with the password.
    Header(&'static str),
}

/// The password that routers share which do not differ in it.
pub const PASSWORD: &str = "9YasrrhZ";
/// The virtual router's number.
pub const VRID: u8 = 51;

impl Setting {
    /// Version 2 without authentication: one address, priority 100, an advertisement each second.
    #[must_use]
    pub fn version_2() -> Self {
        Self { version: 2, interval: Duration::from_secs(1), ..Self::version_3() }
    }

    /// Version 3 over IPv4, four times a second: quick enough for many tests, and slow enough for a busy machine.
    #[must_use]
    pub fn version_3() -> Self {
        Self {
            version: 3,
            priority: 100,
            preempt: true,
            preempt_delay: Duration::ZERO,
            interval: Duration::from_millis(250),
            authentication: Authentication::None,
            unicast: false,
            virtual_mac: false,
            addresses: networks(&["10.51.0.1/24"]),
            startup_limit: Duration::ZERO,
            ours: Vec::new(),
            our_sections: String::new(),
            theirs: Vec::new(),
        }
    }

    /// As [`Setting::version_3`], over IPv6.
    #[must_use]
    pub fn version_3_ipv6() -> Self {
        Self { addresses: networks(&["fe80::51:1/64", "2001:db8:51::1/64"]), ..Self::version_3() }
    }

    /// With this priority.
    #[must_use]
    pub fn priority(&self, priority: u8) -> Self {
        Self { priority, ..self.clone() }
    }

    /// With a line of `[vrrp.gateway]` more, in Lockstep's configuration alone.
    #[must_use]
    pub fn ours(&self, line: &str) -> Self {
        let mut changed = self.clone();
        changed.ours.push(line.to_owned());
        changed
    }

    /// With these virtual addresses.
    #[must_use]
    pub fn addresses(&self, addresses: &[&str]) -> Self {
        Self { addresses: networks(addresses), ..self.clone() }
    }

    /// Whether it is for IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.addresses[0].addr().is_ipv6()
    }

    /// A time after which a backup with this priority has taken over from a master that fell silent: the master down
    /// interval, rounded up.
    pub fn master_down(&self) -> Duration {
        self.interval * 4
    }

    /// Lockstep's configuration file. `source` is the router's own address, `peers` those of the others.
    pub fn lockstep(&self, source: IpAddr, peers: &[IpAddr]) -> String {
        let addresses: Vec<String> =
            self.addresses.iter().map(|address| format!("\"{address}\"")).collect();
        let mut text = format!(
            "[router]\nid = \"ours\"\n\n[vrrp.gateway]\ninterface = \"eth0\"\nvrid = {VRID}\nversion = {}\n\
             priority = {}\npreempt = {}\nadvertisement-interval = \"{}ms\"\naddresses = [{}]\n",
            self.version,
            self.priority,
            self.preempt,
            self.interval.as_millis(),
            addresses.join(", "),
        );
        let mut line = |line: String| writeln!(text, "{line}").expect("a string takes text");
        match self.authentication {
            Authentication::None => {}
            Authentication::Pass(password) => {
                line(format!("authentication = {{ type = \"pass\", password = \"{password}\" }}"));
            }
            Authentication::Header(password) => {
                line(format!("authentication = {{ type = \"ah\", password = \"{password}\" }}"));
            }
        }
        if self.priority != 255 {
            line(format!("startup-limit = \"{}ms\"", self.startup_limit.as_millis()));
        }
        if !self.preempt_delay.is_zero() {
            line(format!("preempt-delay = \"{}ms\"", self.preempt_delay.as_millis()));
        }
        if self.unicast {
            let peers: Vec<String> = peers.iter().map(|peer| format!("\"{peer}\"")).collect();
            line(format!("unicast = {{ peers = [{}] }}\nsource = \"{source}\"", peers.join(", ")));
        }
        if self.virtual_mac {
            line("virtual-mac = true".to_owned());
        }
        for own in &self.ours {
            line(own.clone());
        }
        text + &self.our_sections
    }

    /// keepalived's configuration file.
    pub fn keepalived(&self, source: IpAddr, peers: &[IpAddr]) -> String {
        let mut text = format!(
            "global_defs {{\n  script_user root\n  vrrp_garp_master_delay 1\n}}\nvrrp_instance gateway {{\n  \
             interface eth0\n  virtual_router_id {VRID}\n  version {}\n  priority {}\n  advert_int {}\n",
            self.version,
            self.priority,
            self.interval.as_secs_f64(),
        );
        let mut line = |line: &str| writeln!(text, "  {line}").expect("a string takes text");
        line(if self.priority == 255 { "state MASTER" } else { "state BACKUP" });
        if !self.preempt {
            line("nopreempt");
        }
        if !self.preempt_delay.is_zero() {
            line(&format!("preempt_delay {}", self.preempt_delay.as_secs_f64()));
        }
        match self.authentication {
            Authentication::None => {}
            Authentication::Pass(password) => {
                line(&format!(
                    "authentication {{\n    auth_type PASS\n    auth_pass {password}\n  }}"
                ));
            }
            Authentication::Header(password) => {
                line(&format!(
                    "authentication {{\n    auth_type AH\n    auth_pass {password}\n  }}"
                ));
            }
        }
        if self.unicast {
            let peers: Vec<String> = peers.iter().map(|peer| format!("    {peer}\n")).collect();
            line(&format!("unicast_src_ip {source}\n  unicast_peer {{\n{}  }}", peers.concat()));
        }
        if self.virtual_mac {
            line("use_vmac");
        }
        for theirs in &self.theirs {
            line(theirs);
        }
        let device = if self.virtual_mac { "" } else { " dev eth0" };
        let addresses: Vec<String> =
            self.addresses.iter().map(|address| format!("    {address}{device}\n")).collect();
        line(&format!("virtual_ipaddress {{\n{}  }}", addresses.concat()));
        text + "}\n"
    }
}

fn networks(addresses: &[&str]) -> Vec<IpNet> {
    addresses.iter().map(|address| address.parse().expect("an address")).collect()
}
