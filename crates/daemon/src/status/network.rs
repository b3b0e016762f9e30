//! Links, addresses, routes and rules, as shown.

use serde::{Deserialize, Serialize};

/// Links, addresses, routes and rules: all of them, or those that were asked for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Network {
    /// Links whose state is ours, then our own with a virtual MAC address.
    pub links: Vec<Link>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Routes.
    pub routes: Vec<Route>,
    /// Rules.
    pub rules: Vec<Rule>,
    /// How many there are, of those above and of those left out.
    #[serde(default)]
    pub counts: Counts,
    /// Why it is not kept for the next run which routes and rules of other protocol numbers are
    /// ours; `None` when it is, or when there are none.
    #[serde(default)]
    pub not_kept: Option<String>,
    /// To be asked with for the rest; `None` when there is none.
    #[serde(default)]
    pub next: Option<u64>,
}

/// Objects by state.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Counts {
    /// The kernel has them.
    pub installed: u64,
    /// Not wanted now, or waiting for something.
    pub pending: u64,
    /// Somebody else's is in their place.
    pub conflicting: u64,
    /// Refused by the kernel.
    pub failed: u64,
}

/// How a declared object stands.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Standing {
    /// `installed`, `pending`, `conflicting`, `failed`.
    pub state: String,
    /// Why, when it is not installed.
    pub reason: Option<String>,
    /// Milliseconds until it is tried again, when it has failed.
    #[serde(default)]
    pub next_try_ms: Option<u64>,
}

/// When a declared object is wanted.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Wanted {
    /// `always`, `master`, `backup`.
    #[serde(default)]
    pub when: String,
    /// The group whose state that is.
    #[serde(default)]
    pub group: Option<String>,
}

/// A link.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Link {
    /// What is wanted of it, in words.
    pub object: String,
    /// Its name.
    #[serde(default)]
    pub interface: String,
    /// Whether it is to be up or down now; `None` when that is not decided yet.
    #[serde(default)]
    pub up: Option<bool>,
    /// The Ethernet address of one of our own.
    #[serde(default)]
    pub mac: Option<String>,
    /// The link below one of our own.
    #[serde(default)]
    pub parent: Option<String>,
    /// When it is up.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

/// An address.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::struct_field_names, reason = "the field's name is what scripts read")]
pub(crate) struct Address {
    /// In iproute2's words.
    pub object: String,
    /// The address with its prefix length.
    #[serde(default)]
    pub address: String,
    /// The link.
    #[serde(default)]
    pub interface: String,
    /// The broadcast address.
    #[serde(default)]
    pub broadcast: Option<String>,
    /// The label.
    #[serde(default)]
    pub label: Option<String>,
    /// `global`, `link`, `host`.
    #[serde(default)]
    pub scope: String,
    /// When it is wanted.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

/// A declared route.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Route {
    /// Table name or number.
    pub table: String,
    /// `unicast`, `throw`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Prefix or `default`.
    pub destination: String,
    /// The first next hop's router.
    pub via: Option<String>,
    /// The first next hop's interface.
    pub interface: Option<String>,
    /// Every next hop.
    #[serde(default)]
    pub next_hops: Vec<NextHop>,
    /// The preferred source address.
    #[serde(default)]
    pub source: Option<String>,
    /// The metric, when one is declared.
    #[serde(default)]
    pub metric: Option<u32>,
    /// Largest packet in bytes, when one is declared.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// The scope, when one is declared.
    #[serde(default)]
    pub scope: Option<String>,
    /// Name or number of the routing protocol that it bears.
    #[serde(default)]
    pub protocol: String,
    /// When it is wanted.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

/// One of a route's next hops.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NextHop {
    /// The next router.
    pub via: Option<String>,
    /// The outgoing interface, when one is declared.
    pub interface: Option<String>,
    /// Its share among several.
    pub weight: u16,
    /// The next router is taken to be on the link.
    pub onlink: bool,
}

/// A rule.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Rule {
    /// In iproute2's words.
    pub object: String,
    /// `ipv4`, `ipv6`.
    #[serde(default)]
    pub family: String,
    /// Its place among the rules.
    #[serde(default)]
    pub priority: u32,
    /// Source prefix.
    #[serde(default)]
    pub from: Option<String>,
    /// Destination prefix.
    #[serde(default)]
    pub to: Option<String>,
    /// Packet mark.
    #[serde(default)]
    pub fwmark: Option<u32>,
    /// The bits of the mark that are compared.
    #[serde(default)]
    pub fwmark_mask: Option<u32>,
    /// Incoming interface.
    #[serde(default)]
    pub iif: Option<String>,
    /// Outgoing interface.
    #[serde(default)]
    pub oif: Option<String>,
    /// Type of service; 0 for every packet.
    #[serde(default)]
    pub tos: u8,
    /// Number of the protocol above IP.
    #[serde(default)]
    pub ipproto: Option<u8>,
    /// Source port, or the first and last of them: `80`, `1024-2047`.
    #[serde(default)]
    pub sport: Option<String>,
    /// The same of the destination.
    #[serde(default)]
    pub dport: Option<String>,
    /// Routes with a prefix this long or shorter do not count.
    #[serde(default)]
    pub suppress_prefixlength: Option<u8>,
    /// `lookup`, `blackhole`, `unreachable`, `prohibit`.
    #[serde(default)]
    pub action: String,
    /// Name or number of the table that it looks up.
    #[serde(default)]
    pub table: Option<String>,
    /// Name or number of the routing protocol that it bears.
    #[serde(default)]
    pub protocol: String,
    /// When it is wanted.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

/// A change that would be made now.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PlannedChange {
    /// It, as a command of iproute2.
    pub command: String,
    /// The kernel's words, when it has refused the change before.
    pub refused: Option<String>,
    /// Milliseconds until it is tried again then.
    pub next_try_ms: Option<u64>,
}

/// A part of what would be done now, in order.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Difference {
    /// The changes.
    pub changes: Vec<PlannedChange>,
    /// To be asked with for the rest; `None` when there is none.
    pub next: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(value: impl Serialize) -> Vec<String> {
        let value = serde_json::to_value(value).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    }

    fn sorted<const N: usize>(mut keys: [&str; N]) -> Vec<String> {
        keys.sort_unstable();
        keys.map(str::to_owned).into()
    }

    #[test]
    fn scripts_find_the_fields_they_know() {
        let standing = ["state", "reason", "next-try-ms", "when", "group"];
        let with = |more: &[&str]| {
            let mut all: Vec<String> =
                standing.iter().chain(more).map(|key| (*key).to_owned()).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(keys(Link::default()), with(&["object", "interface", "up", "mac", "parent"]));
        assert_eq!(
            keys(Address::default()),
            with(&["object", "address", "interface", "broadcast", "label", "scope"])
        );
        let route = [
            "table",
            "type",
            "destination",
            "via",
            "interface",
            "next-hops",
            "source",
            "metric",
            "mtu",
            "scope",
            "protocol",
        ];
        assert_eq!(keys(Route::default()), with(&route));
        let rule = [
            "object",
            "family",
            "priority",
            "from",
            "to",
            "fwmark",
            "fwmark-mask",
            "iif",
            "oif",
            "tos",
            "ipproto",
            "sport",
            "dport",
            "suppress-prefixlength",
            "action",
            "table",
            "protocol",
        ];
        assert_eq!(keys(Rule::default()), with(&rule));
        let network = ["links", "addresses", "routes", "rules", "counts", "not-kept", "next"];
        assert_eq!(keys(Network::default()), sorted(network));
    }

    #[test]
    fn an_older_daemons_answer_is_understood() {
        let link = r#"{"object":"eth2 up","state":"installed","reason":null}"#;
        let link: Link = serde_json::from_str(link).unwrap();
        assert_eq!((link.standing.state.as_str(), link.up), ("installed", None));
        let network = r#"{"links":[],"addresses":[],"routes":[],"rules":[]}"#;
        let network: Network = serde_json::from_str(network).unwrap();
        assert_eq!((network.counts, network.next), (Counts::default(), None));
    }
}
