//! Planning and changing as the daemon does it, beside `ip -batch`.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lockstep_kernel::network::Network;
use lockstep_lab::{Interface, Lan, Node};
use lockstep_routes::{Actual, Desired, Interest, Owned, Phases, plan};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::ClockId;

use crate::load::{ADDRESS, DEV, Deed, HOPS, Load};

/// How long a deed took, and how much of a processor.
#[derive(Clone, Copy, Debug, Default)]
struct Took {
    elapsed: Duration,
    processor: Duration,
}

/// Prints the table.
pub(crate) fn measure(counts: &[usize], tables: &[usize], rounds: usize) {
    println!("\nroutes a second, and microseconds of a processor for each; planning included");
    println!(
        "{:>8} {:>7} {:<8} {:>12} {:>12} {:>6} {:>10} {:>10} {:>6}",
        "routes", "tables", "", "ip -batch", "lockstep", "ratio", "ip CPU", "our CPU", "ratio"
    );
    for routes in counts {
        for tables in tables.iter().filter(|tables| *tables <= routes) {
            let load = Load { routes: *routes, tables: *tables };
            let mut runs = [Vec::new(), Vec::new()];
            for _ in 0..rounds {
                runs[0].push(by_ip(load));
                runs[1].push(by_us(load));
            }
            for (index, deed) in Deed::ALL.into_iter().enumerate() {
                let median = |runs: &[[Took; 4]], of: fn(&Took) -> Duration| {
                    let mut all: Vec<_> = runs.iter().map(|run| of(&run[index])).collect();
                    all.sort();
                    all[all.len() / 2].as_secs_f64()
                };
                let [ip, ours] = runs.each_ref().map(|runs| {
                    let rate = load.routes as f64 / median(runs, |took| took.elapsed);
                    let each = median(runs, |took| took.processor) / load.routes as f64 * 1e6;
                    (rate, each)
                });
                println!(
                    "{:>8} {:>7} {:<8} {:>12.0} {:>12.0} {:>6.2} {:>10.2} {:>10.2} {:>6.2}",
                    load.routes,
                    load.tables,
                    deed.name(),
                    ip.0,
                    ours.0,
                    ours.0 / ip.0,
                    ip.1,
                    ours.1,
                    ours.1 / ip.1,
                );
            }
        }
    }
}

pub(crate) fn router() -> Node {
    let node = Node::new("router").unwrap();
    let lan = Lan::new().unwrap();
    node.attach(&lan, &Interface::new(DEV).address(ADDRESS.parse().unwrap())).unwrap();
    node
}

fn by_ip(load: Load) -> [Took; 4] {
    let node = router();
    let directory = tempfile::tempdir().unwrap();
    Deed::ALL.map(|deed| {
        let path = directory.path().join(deed.name());
        fs::write(&path, load.batch(deed)).unwrap();
        let mut command = Command::new("ip");
        command.arg("-batch").arg(&path).stdout(Stdio::null());
        let before = children();
        let began = Instant::now();
        let output = node.output(command).unwrap();
        let elapsed = began.elapsed();
        assert!(output.status.success(), "{output:?}");
        Took { elapsed, processor: children().saturating_sub(before) }
    })
}

/// The processor's time of the children that have ended.
fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let time = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// Reads, plans and changes as the daemon's network thread does.
fn by_us(load: Load) -> [Took; 4] {
    let node = router();
    node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut network = Network::connect().unwrap();
            let there = load.declared(Some(HOPS[0]));
            let interest = Interest::of(&there);
            let mut actual = network.dump(&interest).await.unwrap();
            let mut took = [Took::default(); 4];
            for (deed, took) in Deed::ALL.into_iter().zip(&mut took) {
                let declared = match deed {
                    Deed::Install | Deed::Verify => there.clone(),
                    Deed::Replace => load.declared(Some(HOPS[1])),
                    Deed::Remove => load.declared(None),
                };
                let (phases, owned) = (Phases::default(), Owned::default());
                let desired = Desired { declared: &declared, phases: &phases, owned: &owned };
                let began = (Instant::now(), processor());
                if deed == Deed::Verify {
                    actual = network.dump(&interest).await.unwrap();
                }
                let changes = plan(desired, &actual);
                let wanted = if deed == Deed::Verify { 0 } else { load.routes };
                assert_eq!(changes.len(), wanted, "{deed:?}");
                let answers = network.apply(&changes).await;
                assert!(answers.iter().all(Result::is_ok), "{:?}", answers.first());
                actual.record_all(&changes);
                *took = Took {
                    elapsed: began.0.elapsed(),
                    processor: processor().saturating_sub(began.1),
                };
            }
            assert_eq!(left(&network, &interest).await, 0);
            took
        })
    })
    .unwrap()
}

async fn left(network: &Network, interest: &Interest) -> usize {
    let there: Actual = network.dump(interest).await.unwrap();
    there.routes.iter().filter(|route| route.table.0 >= 1_000).count()
}

/// Of the calling thread.
fn processor() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap().into()
}
