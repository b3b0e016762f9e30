//! Settings that hold for the whole machine.

use std::fs;

/// A setting of the machine that is at least as high as asked for, until it is dropped.
pub(crate) struct Raised {
    path: &'static str,
    before: String,
}

impl Raised {
    /// Room for so many flows in connection tracking, and so many buckets to find them in.
    pub(crate) fn for_flows(limit: usize, buckets: usize) -> [Self; 2] {
        [
            Self::new("/proc/sys/net/netfilter/nf_conntrack_max", limit),
            Self::new("/sys/module/nf_conntrack/parameters/hashsize", buckets),
        ]
    }

    fn new(path: &'static str, to: usize) -> Self {
        let before = fs::read_to_string(path).unwrap().trim().to_owned();
        if before.parse::<usize>().unwrap() < to {
            fs::write(path, to.to_string()).unwrap();
        }
        Self { path, before }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.path, &self.before) {
            println!("{} could not be put back to {}: {error}", self.path, self.before);
        }
    }
}
