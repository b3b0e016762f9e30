//! Netlink sockets: batched receive into one buffer.
