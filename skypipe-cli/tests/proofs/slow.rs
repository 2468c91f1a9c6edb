//! P6: what is slow or stuck hurts only itself.

use std::time::{Duration, Instant};

use skypipe_core::{Error, Pipe as _, Until};
use skypipe_test::proof::{self, Length, Proof};
use tokio::time::{interval, sleep};

use crate::harness::{Data, Home, In, Out, Running};
use crate::traced::{Relay, inject, pipe};

/// What 99 of 100 records may take at most from one end of a pipe to the other.
const P99_MAX: Duration = Duration::from_millis(50);
/// The same in the quick form, which runs unoptimised and beside other tests: only what stands still is seen there.
const P99_MAX_QUICK: Duration = Duration::from_secs(1);
/// Pipes whose records are timed in the second proof, and those that are stuck beside them.
const PIPES: u64 = 90;
const STUCK: u64 = 10;
/// A stuck pipe holds so much that its reader does not take.
const STUCK_BYTES: u64 = 64 << 20;

#[test]
fn proof_a_stalled_disk_delays_only_what_waits_for_it() {
    let records = proof::cases(100, 1_000, 6_000);
    let stall = Duration::from_millis(if Length::asked() == Length::Quick { 200 } else { 2_000 });
    let proof = Proof::begin("P6", "live records beside a stalled disk");
    let home = Home::new();
    let delay = inject("fdatasync", &format!("delay_enter={}", stall.as_micros()));
    let mut relay = Relay::under_strace(&home, "fdatasync", &delay);
    assert!(relay.serves(), "{}", relay.errors());
    let (times, stored) = run(async {
        tokio::select! {
            times = timed(&home, 0, records, Duration::from_millis(10)) => (times.unwrap(), Vec::new()),
            stored = stored_over_and_over(&home) => (Vec::new(), vec![stored.unwrap_err().to_string()]),
        }
    });
    assert!(stored.is_empty(), "{stored:?}");
    let slowest = run(async {
        let mut writer = pipe(&home, "stored").writer().await.unwrap();
        let start = Instant::now();
        writer.send(b"waits\n").await.unwrap();
        writer.settled().await.unwrap();
        start.elapsed()
    });
    assert!(slowest >= stall, "the disk does not stall: stored after {slowest:?}");
    relay.stop(&home);
    end(proof, times);
}

#[test]
fn proof_stuck_pipes_delay_no_other() {
    let records = proof::cases(10, 100, 600);
    let proof = Proof::begin("P6", "90 pipes beside 10 stuck ones");
    let home = Home::new();
    let readers: Vec<Running> =
        (0..STUCK).map(|n| home.skypipe(["read", &format!("stuck/{n}")]).stdout(Out::Unread).start()).collect();
    for n in 0..STUCK {
        home.until_stat(&format!("stuck/{n}"), |stat| stat.readers == 1);
    }
    let data = Data::random(proof::seed(), STUCK_BYTES);
    let writers: Vec<Running> = (0..STUCK)
        .map(|n| home.skypipe(["write", &format!("stuck/{n}")]).stdin(In::Data(data.clone())).start())
        .collect();
    let times = run(async {
        let all = (0..PIPES).map(|n| timed(&home, n, records, Duration::from_millis(100)));
        futures::future::try_join_all(all).await.unwrap().concat()
    });
    for mut reader in readers {
        assert!(reader.is_running() && reader.unread() > 0, "it is stuck: {}", reader.errors());
    }
    drop(writers);
    end(proof, times);
}

/// Prints and judges the times that records took.
fn end(proof: Proof, mut times: Vec<Duration>) {
    times.sort_unstable();
    let part = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!(
        "{} records: half within {:?}, 99 % within {:?}, all within {:?}",
        times.len(),
        part(50),
        part(99),
        part(100)
    );
    let most = if Length::asked() == Length::Quick { P99_MAX_QUICK } else { P99_MAX };
    let late = (part(99) > most).then(|| format!("99 % within {:?}, not {most:?}", part(99)));
    proof.end(times.len() as u64, &Vec::from_iter(late));
}

/// Sends so many records through a pipe to a live reader, one each `pause`: how long each was under way.
async fn timed(home: &Home, number: u64, records: u64, pause: Duration) -> Result<Vec<Duration>, Error> {
    let pipe = pipe(home, &format!("live/{number}"));
    let mut reader = pipe.reader().await?;
    let mut writer = pipe.writer().await?;
    // Not all at the same moment.
    sleep(pause * (number % 100) as u32 / 100).await;
    let start = Instant::now();
    let write = async {
        let mut ticks = interval(pause);
        for _ in 0..records {
            ticks.tick().await;
            writer.send(&(start.elapsed().as_nanos() as u64).to_le_bytes()).await?;
        }
        writer.end(Until::Stored).await
    };
    let read = async {
        let mut times = Vec::new();
        while let Some(record) = reader.next().await? {
            let sent = Duration::from_nanos(u64::from_le_bytes(record.body[..].try_into().unwrap()));
            times.push(start.elapsed() - sent);
        }
        Ok(times)
    };
    let (written, times) = tokio::join!(write, read);
    written.and(times)
}

/// Writers that keep the disk busy, until one fails.
async fn stored_over_and_over(home: &Home) -> Result<(), Error> {
    let one = async |number: u64| -> Result<(), Error> {
        let mut writer = pipe(home, &format!("stored/{number}")).writer().await?;
        loop {
            writer.send(b"this waits for the disk\n").await?;
            writer.settled().await?;
        }
    };
    futures::future::try_join_all((0..5).map(one)).await.map(drop)
}

fn run<R>(work: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
