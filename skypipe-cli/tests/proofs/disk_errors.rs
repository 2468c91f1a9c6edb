//! P10: each call to the disk fails once, in each way. What was acknowledged stays true, nothing hangs, and no sync is tried twice.

use std::time::{Duration, Instant};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use skypipe_core::{Code, Error};
use skypipe_test::proof::{self, Proof};

use crate::each_call::{at, in_threads, most_of_one_thread};
use crate::harness::Home;
use crate::traced::Relay;
use crate::workload::{Workload, clients};

/// What may go wrong with a call. A short write has a test of its own: `strace` can only pretend one.
const ERRORS: [&str; 6] = ["EIO", "ENOSPC", "EDQUOT", "EROFS", "EMFILE", "EINTR"];
/// The calls that the log makes.
const CALLS: &str = "pwritev,fdatasync,fsync,ftruncate,fallocate,rename,openat,unlink";
/// Rounds of the workload: enough for segments to become free.
const ROUNDS: u64 = 6;
/// What nothing may take longer than: 5 s, and as much for a busy machine. A full disk is tried again after a second.
const WITHIN: Duration = Duration::from_secs(10);
/// Cases at a time: most of their time is waiting, for room or for a session to be given up.
const AT_A_TIME: usize = 8;
/// Blocks of 512 bytes after which a file takes no more: one in each place of a segment.
const SHORT_WRITES_MAX: u64 = 48;

#[test]
fn proof_each_call_fails_once() {
    let wanted = proof::cases(12, 240, 1_400) as usize;
    let proof = Proof::begin("P10", "each disk call fails in each way");
    let home = Home::new();
    let mut relay = Relay::under_strace(&home, CALLS, &[]);
    assert!(relay.serves(), "{}", relay.errors());
    assert!(clients(Workload::new(&home, ROUNDS).run()).expect("it ends").is_empty());
    let calls = most_of_one_thread(&relay.stop(&home).1);
    println!("calls of one thread: {calls:?}");
    let all: Vec<Failing> = ERRORS
        .iter()
        .flat_map(|error| calls.iter().map(move |(call, count)| (error, call, *count)))
        .flat_map(|(error, call, count)| (1..=count).map(move |nth| Failing { call: call.clone(), nth, error }))
        .collect();
    // By chance, since the calls of a run come in a rhythm. No case twice.
    let mut random = Xoshiro256PlusPlus::seed_from_u64(proof::seed());
    let mut plan: Vec<&Failing> = all.iter().collect();
    plan.sort_by_cached_key(|_| random.next_u64());
    plan.truncate(wanted);
    let (failed, acknowledged, failures) = in_threads(AT_A_TIME, &plan, |failing| failing.try_it());
    println!("{failed} of {} calls failed, {acknowledged} records were acknowledged", plan.len());
    proof.end(failed, &failures);
}

#[test]
fn proof_each_short_write() {
    let proof = Proof::begin("P10", "short writes");
    let places = proof::cases(4, SHORT_WRITES_MAX, SHORT_WRITES_MAX);
    let plan: Vec<u64> = (1..=places).map(|n| n * SHORT_WRITES_MAX / places).collect();
    let (short, _, failures) = in_threads(AT_A_TIME, &plan, |blocks| short_write(*blocks));
    proof.end(short, &failures);
}

/// A call that fails.
struct Failing {
    call: String,
    nth: u64,
    error: &'static str,
}

impl Failing {
    fn try_it(&self) -> Result<Option<u64>, String> {
        let home = Home::new();
        let options = at(&home, &self.call, &format!("error={}:when={}", self.error, self.nth));
        let relay = Relay::under_strace(&home, CALLS, &options);
        go_on_after(&home, relay, |trace| trace.contains("INJECTED"))
            .map_err(|wrong| format!("{} {} {}: {wrong}", self.call, self.nth, self.error))
    }
}

/// Files take no more than so many blocks: the write that crosses that end is short, the next one fails.
fn short_write(blocks: u64) -> Result<Option<u64>, String> {
    let home = Home::new();
    let relay = Relay::limited(&home, CALLS, &[], &format!("trap '' XFSZ; ulimit -f {blocks}"));
    go_on_after(&home, relay, |trace| trace.contains("EFBIG")).map_err(|wrong| format!("{blocks} blocks: {wrong}"))
}

/// Clients use a relay whose disk fails; another one finds all that was acknowledged. Gives how much that was, if it did fail.
fn go_on_after(home: &Home, mut relay: Relay, has_failed: impl Fn(&str) -> bool) -> Result<Option<u64>, String> {
    let workload = Workload::new(home, ROUNDS);
    let known = workload.known();
    let start = Instant::now();
    if relay.serves() {
        let errors = clients(async {
            tokio::select! {
                errors = workload.run() => errors,
                () = gone(&mut relay) => vec![Error::new(Code::Internal, "the relay ended")],
            }
        });
        match errors {
            None => known.wrong("the clients hang"),
            Some(errors) => errors.iter().filter(|e| !is_honest(e)).for_each(|e| known.wrong(format!("told {e}"))),
        }
    }
    if start.elapsed() > WITHIN {
        known.wrong(format!("it took {:?}", start.elapsed()));
    }
    let said = relay.errors();
    let stopping = Instant::now();
    let (done, trace) = relay.stop(home);
    if stopping.elapsed() > WITHIN {
        known.wrong(format!("it took {:?} to stop", stopping.elapsed()));
    }
    if done.code != Some(0) && !said.lines().chain(done.stderr.lines()).any(|line| line.starts_with("skypipe: ")) {
        known.wrong(format!("it ended without a word: {done:?}"));
    }
    if done.stderr.contains("panicked") {
        known.wrong(format!("it panicked: {}", done.stderr));
    }
    if let Some(line) = sync_after_a_failed_one(&trace) {
        known.wrong(format!("a sync after one that failed: {line}"));
    }
    let mut next = Relay::start(home);
    if !next.serves() {
        return Err(format!("{:?}; the next relay does not start: {}", known.all_wrong(), next.errors()));
    }
    match clients(workload.look_at_what_is_left()) {
        Some(Ok(())) => {}
        other => known.wrong(format!("what is left cannot be looked at: {other:?}")),
    }
    next.stop(home).0.exits(0);
    let wrong = known.all_wrong();
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    Ok(has_failed(&trace).then(|| known.acknowledged()))
}

async fn gone(relay: &mut Relay) {
    while relay.is_running() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What clients may be told of a disk.
fn is_honest(error: &Error) -> bool {
    matches!(error.code(), Code::Storage | Code::NoSpace)
}

/// A call that a signal interrupted has failed at nothing, and may be made again.
fn sync_after_a_failed_one(trace: &str) -> Option<&str> {
    let is_sync = |line: &&str| (line.contains("fdatasync") || line.contains("fsync")) && !line.contains("EINTR");
    let mut syncs = trace.lines().filter(is_sync).skip_while(|line| !line.contains("= -1 "));
    syncs.next()?;
    syncs.next()
}
