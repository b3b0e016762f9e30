//! The connection tracking socket: events, dumps, batches of changes.
