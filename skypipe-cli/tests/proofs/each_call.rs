//! P1b: the relay is killed at each of its calls that change a file or answer a client.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use skypipe_test::proof::{self, Proof};

use crate::harness::Home;
use crate::traced::{Relay, inject};
use crate::workload::{Known, Workload, clients};

/// What the relay asks of the kernel about files and clients. The log's thread makes most of them, and `strace` counts for each thread.
const CALLS: &str = "pwritev,pwrite64,write,writev,fdatasync,fsync,ftruncate,fallocate,rename,openat,unlink";
/// Cases at a time: each waits for the disk now and then.
const AT_A_TIME: usize = 3;
/// Rounds of the workload; each makes about so many of these calls.
const CALLS_A_ROUND: u64 = 28;
/// More segments than a proof fills.
const SEGMENTS_MAX: u64 = 99;

#[test]
fn proof_kill_at_each_call() {
    let wanted = proof::cases(6, 500, 20_000);
    let proof = Proof::begin("P1b", "kill at each call");
    let rounds = (wanted / CALLS_A_ROUND).max(4);
    // A run has some calls fewer than another: those relays live.
    let plan = plan(rounds, wanted + wanted / 10);
    let (killed, acknowledged, failures) = in_threads(AT_A_TIME, &plan, |(call, nth)| killed_at(call, *nth, rounds));
    println!("{killed} of {} relays were killed, {acknowledged} records had been acknowledged by then", plan.len());
    proof.end(killed, &failures);
}

/// Which call of which kind: spread over all that a run which nobody disturbs makes.
fn plan(rounds: u64, wanted: u64) -> Vec<(String, u64)> {
    let home = Home::new();
    let mut relay = Relay::under_strace(&home, CALLS, &[]);
    assert!(relay.serves(), "{}", relay.errors());
    let workload = Workload::new(&home, rounds);
    let errors = clients(workload.run()).expect("it ends");
    assert!(errors.is_empty(), "{errors:?}");
    let (_, trace) = relay.stop(&home);
    let most = most_of_one_thread(&trace);
    println!("calls of one thread: {most:?}");
    let all: Vec<(String, u64)> =
        most.into_iter().flat_map(|(call, n)| (1..=n).map(move |nth| (call.clone(), nth))).collect();
    let wanted = (wanted as usize).min(all.len());
    (0..wanted).map(|n| all[n * all.len() / wanted].clone()).collect()
}

/// How many calls of each kind the thread makes that makes most.
pub fn most_of_one_thread(trace: &str) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for line in trace.lines().filter(|line| !line.contains("<... ")) {
        let mut words = line.split_whitespace();
        let (Some(thread), Some(call)) = (words.next(), words.next()) else { continue };
        let call = call.split('(').next().unwrap_or_default();
        if CALLS.split(',').any(|known| known == call) && (call != "openat" || line.contains("/sky/data")) {
            *counts.entry((thread, call)).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, call), count) in counts {
        let known: &mut u64 = most.entry(call.to_owned()).or_default();
        *known = count.max(*known);
    }
    most
}

/// One relay that is killed at this call. Gives how many records were acknowledged by then, if it was.
fn killed_at(call: &str, nth: u64, rounds: u64) -> Result<Option<u64>, String> {
    let home = Home::new();
    let mut relay = Relay::under_strace(&home, call, &at(&home, call, &format!("signal=SIGKILL:when={nth}")));
    let workload = Workload::new(&home, rounds);
    let known = workload.known();
    let ended = clients(async {
        let next = next_when_gone(&mut relay, &home, &known);
        // Its last calls may come as late as what was kept is read.
        let work = async {
            let mut errors = workload.run().await;
            errors.extend(workload.read_what_was_kept().await.err());
            errors
        };
        tokio::pin!(next, work);
        tokio::select! {
            next = &mut next => (Some(next), work.await),
            errors = &mut work => (None, errors),
        }
    });
    let Some((next, errors)) = ended else { return Err(format!("{call} {nth}: it hangs")) };
    let acknowledged = next.map(|(relay, acknowledged)| {
        relay.stop(&home).0.exits(0);
        acknowledged
    });
    relay.stop(&home);
    let wrong: Vec<String> = errors.iter().map(ToString::to_string).chain(known.all_wrong()).collect();
    if wrong.is_empty() { Ok(acknowledged) } else { Err(format!("{call} {nth}: {}", wrong.join("; "))) }
}

/// The next relay as soon as this one is gone, and what was acknowledged by then.
async fn next_when_gone(relay: &mut Relay, home: &Home, known: &Known) -> (Relay, u64) {
    while relay.is_running() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (Relay::start(home), known.acknowledged())
}

/// What makes `strace` do something at calls of one kind; of files that are opened only at those of the log.
pub fn at(home: &Home, call: &str, what: &str) -> Vec<String> {
    let mut options = inject(call, what).to_vec();
    if call == "openat" {
        let data = home.skypipe_home().join("data");
        let segments = (1..=SEGMENTS_MAX).map(|number| data.join(format!("{number:012}.segment")));
        options.extend(segments.chain([data.clone()]).flat_map(|path| ["-P".to_owned(), path.display().to_string()]));
    }
    options
}

/// Tries all cases, a few at a time: how many did what they were for, the sum of what they gave, and what failed.
pub fn in_threads<C: Sync>(
    at_a_time: usize,
    cases: &[C],
    try_one: impl Fn(&C) -> Result<Option<u64>, String> + Sync,
) -> (u64, u64, Vec<String>) {
    let next = AtomicUsize::new(0);
    let found = Mutex::new((0, 0, Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| try_one(case)));
                    let mut found = found.lock().unwrap();
                    match result {
                        Ok(Ok(Some(sum))) => (found.0, found.1) = (found.0 + 1, found.1 + sum),
                        Ok(Ok(None)) => {}
                        Ok(Err(failure)) => found.2.push(failure),
                        Err(panic) => found.2.push(
                            panic
                                .downcast_ref::<String>()
                                .cloned()
                                .unwrap_or_else(|| "a panic without words".to_owned()),
                        ),
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}
