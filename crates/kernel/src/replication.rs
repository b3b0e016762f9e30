//! The datagram socket of a dedicated link.
