//! VRRP and announcement sockets.
