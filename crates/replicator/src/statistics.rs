//! What is counted.

use std::collections::BTreeMap;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// Counters since the start; none of them ever goes down.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// What each counts, by its name: the lines of a sentence.
            pub const DESCRIBED: &'static [(&'static str, &'static [&'static str])] =
                &[$(($word, &[$($doc),+]),)+];

            /// The counters by the name under which `status` shows them.
            pub fn by_name(&self) -> BTreeMap<&'static str, u64> {
                BTreeMap::from([$(($word, self.$name),)+])
            }
        }
    };
}

counters! {
    /// Flows that entered the internal cache.
    internal_created = "internal-created",
    /// Changes of flows in the internal cache.
    internal_updated = "internal-updated",
    /// Flows that left the internal cache.
    internal_destroyed = "internal-destroyed",
    /// Flows the internal cache had no room for.
    internal_full = "internal-full",
    /// Flows of the kernel without what tells them apart.
    internal_incomplete = "internal-incomplete",
    /// Kernel events and dumped flows that the filter leaves out.
    internal_filtered = "internal-filtered",
    /// Flows forgotten, and told as ended, because a changed filter leaves them out.
    internal_unwanted = "internal-unwanted",
    /// Looks into the kernel's table for what it tells no event of.
    refreshed = "refreshed",
    /// Of those, flows that had changed.
    refreshed_changed = "refreshed-changed",
    /// Flows that should be looked at again and for which there was no room.
    refresh_overflow = "refresh-overflow",
    /// Flows that entered the external cache.
    external_created = "external-created",
    /// Changes of flows in the external cache.
    external_updated = "external-updated",
    /// Flows that left the external cache because the peer said so.
    external_destroyed = "external-destroyed",
    /// Ends of flows told by a peer that another one has spoken of since; they are ignored.
    external_foreign_destroyed = "external-foreign-destroyed",
    /// Flows the external cache had no room for.
    external_full = "external-full",
    /// Received flows that lack what the kernel needs to tell them apart, so that they could never
    /// be committed (GRE, UDP-Lite, DCCP from conntrackd).
    external_incomplete = "external-incomplete",
    /// Flows dropped from the external cache because a resync did not confirm them.
    external_swept = "external-swept",
    /// Flows dropped from the external cache because nobody told them again (mode ALARM).
    external_expired = "external-expired",
    /// Expectations that entered the internal cache.
    internal_expectations_created = "internal-expectations-created",
    /// Expectations that left the internal cache.
    internal_expectations_destroyed = "internal-expectations-destroyed",
    /// Expectations the internal cache had no room for.
    internal_expectations_full = "internal-expectations-full",
    /// Expectations of the kernel whose helper is not replicated, or whose master is not known.
    internal_expectations_filtered = "internal-expectations-filtered",
    /// Expectations that entered the external cache.
    external_expectations_created = "external-expectations-created",
    /// Expectations that left the external cache because the peer said so.
    external_expectations_destroyed = "external-expectations-destroyed",
    /// Expectations the external cache had no room for.
    external_expectations_full = "external-expectations-full",
    /// Datagrams sent.
    datagrams_sent = "datagrams-sent",
    /// Bytes of those.
    bytes_sent = "bytes-sent",
    /// Messages in those.
    messages_sent = "messages-sent",
    /// Datagrams received from the peer.
    datagrams_received = "datagrams-received",
    /// Bytes of those.
    bytes_received = "bytes-received",
    /// Messages in those.
    messages_received = "messages-received",
    /// Datagrams from an address that is no peer's or this router's own, or to the group from a
    /// router that is spoken to alone.
    datagrams_foreign = "datagrams-foreign",
    /// Routers for which there was no place among the peers.
    peers_refused = "peers-refused",
    /// Changes of the link on which a peer is spoken to.
    link_changes = "link-changes",
    /// Expectation messages about helpers that are not replicated here: acknowledged and not kept.
    expectations_ignored = "expectations-ignored",
    /// Messages or rests of datagrams that were not taken: the sum of the next five.
    malformed = "malformed-messages",
    /// Datagrams that end inside a header.
    malformed_truncated = "malformed-truncated",
    /// Length fields that do not fit.
    malformed_size = "malformed-size",
    /// Messages of another protocol version.
    malformed_version = "malformed-version",
    /// Messages whose type, flags or range are not acceptable.
    malformed_header = "malformed-header",
    /// Messages whose attributes cannot be understood.
    malformed_payload = "malformed-payload",
    /// Messages of the peer that were missing when a later one came.
    lost = "messages-lost",
    /// Late or repeated messages, which are dropped.
    before = "messages-before",
    /// Messages with flags or without objects, which the mode ALARM does not know.
    other_mode = "messages-of-another-mode",
    /// Messages sent again because the peer missed them.
    resent = "messages-resent",
    /// Acknowledgements received.
    acks_received = "acks-received",
    /// Acknowledgements sent.
    acks_sent = "acks-sent",
    /// Requests to resend received.
    nacks_received = "nacks-received",
    /// Requests to resend sent.
    nacks_sent = "nacks-sent",
    /// Requests for everything received.
    resyncs_received = "resyncs-received",
    /// Requests for everything sent.
    resyncs_sent = "resyncs-sent",
    /// Resyncs that ended with the external cache equal to what the peer has.
    resyncs_completed = "resyncs-completed",
    /// Full copies sent to the peer.
    bulks_sent = "bulks-sent",
    /// Sent messages that fell out of the full resend queue; a full copy follows.
    resend_overflow = "resend-queue-overflow",
    /// Messages that the bounded control queue had no room for.
    control_overflow = "control-queue-overflow",
    /// Flows that the wire cannot carry.
    unsendable = "unsendable",
    /// Flows whose message is larger than a datagram may be.
    too_large = "too-large",
    /// Times a peer was heard for the first time or after a silence.
    peer_appeared = "peer-appeared",
    /// Times the peer fell silent.
    peer_silent = "peer-silent",
    /// Times the peer said that it has started.
    peer_restarted = "peer-restarted",
    /// Flows put into the kernel by commits.
    committed = "committed",
    /// Of those, flows that the kernel had and that were brought up to date.
    committed_updated = "committed-updated",
    /// Of those, flows that replaced one with another translation.
    committed_replaced = "committed-replaced",
    /// Flows that commits left alone because the kernel has the same or newer.
    commit_unchanged = "commit-unchanged",
    /// Flows removed from the kernel because the peer told of their end during a commit.
    committed_deleted = "committed-deleted",
    /// Changes that came during a commit after so many others that it did not heed them.
    commit_too_late = "commit-too-late",
    /// Flows that the kernel refused.
    commit_refused = "commit-refused",
    /// Flows removed from the kernel after leaving the active role.
    purged = "purged",
    /// Times a peer that had served beside this router, where only one is to serve, stood by again.
    gave_way = "peers-gave-way",
    /// Flows put into the kernel beside those that this router serves, told by a router that serves
    /// them no more.
    taken_up = "taken-up",
    /// Of those, flows that the kernel refused, or whose place another one has.
    taken_up_refused = "taken-up-refused",
    /// Flows of this router whose windows are not heeded any more because another one had served as well.
    made_liberal = "made-liberal",
    /// Events for the caller that were dropped because nobody took them.
    events_dropped = "events-dropped",
}
