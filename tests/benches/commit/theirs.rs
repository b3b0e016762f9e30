//! conntrackd's own commit of the same flows.

use std::fs;
use std::time::Duration;

use lockstep_ctnetlink::{Batch, Flow};
use lockstep_kernel::conntrack::TableSocket;
use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::conntrackd::Conntrackd;
use lockstep_tests::wait;

use crate::{Clock, Took, empty_table, table_count};

/// More flows than its configuration in the tests has room for are not measured.
pub(crate) const MOST: usize = 131_072;

/// Has one conntrackd tell another one the flows, and that one commit them several times.
pub(crate) fn commits(flows: &[Flow], rounds: usize) -> Vec<Took> {
    let link = Lan::new().unwrap();
    let [active, backup] = [1, 2].map(|host| {
        let node = Node::new("router").unwrap();
        let address = format!("172.31.255.{host}/30").parse().unwrap();
        node.attach(&link, &Interface::new("eth2").address(address)).unwrap();
        node
    });
    active.run(|| create(flows)).unwrap();
    let _telling = Conntrackd::start(&active, false);
    let committing = Conntrackd::start(&backup, true);
    wait::until("conntrackd has been told every flow", || {
        let told = external(&committing.command(&["-s"]));
        if told == flows.len() {
            return true;
        }
        // Of a large copy some are lost at times.
        committing.command(&["-n"]);
        false
    });
    (0..rounds)
        .map(|_| {
            let clock = Clock::start(|| processor_time(committing.id()));
            committing.command(&["-c"]);
            let took = clock.stop();
            backup
                .run(|| {
                    assert_eq!(table_count(), flows.len(), "{}", committing.log());
                    empty_table();
                })
                .unwrap();
            took
        })
        .collect()
}

fn create(flows: &[Flow]) {
    let mut table = TableSocket::open().unwrap();
    let mut batch = Batch::new();
    for chunk in flows.chunks(Batch::CAPACITY) {
        batch.clear();
        assert!(chunk.iter().all(|flow| batch.create(flow)));
        assert_eq!(table.execute(&mut batch).unwrap(), []);
    }
}

/// The flows of the external cache, as `conntrackd -s` tells them.
fn external(statistics: &str) -> usize {
    let (_, external) = statistics.split_once("cache external:").expect("it has such a cache");
    let count = external.split_whitespace().find_map(|word| word.parse().ok());
    count.expect("it counts its flows")
}

/// Of a whole process, in the hundredths of a second that `/proc/PID/stat` counts in.
fn processor_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name, in parentheses, may hold anything; user and system time are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}
