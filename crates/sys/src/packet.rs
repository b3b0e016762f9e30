//! Packet sockets: classic BPF filters, raw frames.
