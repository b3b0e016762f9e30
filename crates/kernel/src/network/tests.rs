//! What can only be provoked from inside.

use lockstep_routes::{Condition, Route, RouteKind};

use super::*;
use crate::namespace::Namespace;

fn additions(protocol: u8, table: TableId) -> Vec<Change> {
    (0..3 * BATCH as u32)
        .map(|number| {
            let to = std::net::Ipv4Addr::from(0x0b00_0000 + (number << 8));
            let route = Route {
                kind: RouteKind::Throw,
                to: format!("{to}/24").parse().unwrap(),
                next_hops: Vec::new(),
                source: None,
                table,
                metric: None,
                mtu: None,
                scope: None,
                protocol,
                condition: Condition::ALWAYS,
            };
            Change::AddRoute { route: Arc::new(route), devs: Vec::new() }
        })
        .collect()
}

#[test]
fn a_change_whose_answer_is_lost_is_asked_for_again_and_never_called_somebody_elses() {
    let namespace = match Namespace::new() {
        Ok(namespace) => namespace,
        Err(error) => return eprintln!("skipped: no network namespace can be made: {error}"),
    };
    let test = async || {
        let mut network = Network::connect().unwrap();
        network.changes.shrink().unwrap();
        let ours = additions(PROTOCOL_LOCKSTEP, TableId(2));
        let answers = network.apply(&ours).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(network.own_routes().await.unwrap().len(), ours.len());

        let shared = additions(4, TableId(3));
        let answers = network.apply(&shared).await;
        assert_eq!(answers.len(), shared.len());
        let lost: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        assert!(!lost.is_empty(), "there is not room for every answer");
        for error in lost {
            assert_eq!(error.errno, libc::ENOBUFS, "{error}");
            assert!(error.words.ends_with(": the answer was lost"), "{error}");
        }
    };
    let run = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test());
    };
    namespace.run(run).unwrap();
}
