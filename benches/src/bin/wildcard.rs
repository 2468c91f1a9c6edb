//! What a record costs a reader of a pattern, by how many pipes match and how many do not.
//!
//! `cargo run --release -p skypipe-benches --bin wildcard [RECORDS]` prints a Markdown table. Broker, writers and reader are in this process, over a log in
//! memory, so that no disk is measured: processor time and time of a record, from `send` to `next`, each in a batch of its own. Each figure is the median of five
//! rounds.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use rustix::time::{ClockId, clock_gettime};
use skypipe_core::{
    Client, Env, Error, LocalBroker, Mode, Pipe as _, Reader, ReaderOptions, Until, Writer, WriterOptions,
};

/// Records of each round.
const RECORDS: usize = 20_000;
const ROUNDS: usize = 5;
/// Pipes that are made at once.
const AT_ONCE: usize = 64;
/// Records on their way at once: a window of the smallest writers.
const UNDER_WAY: usize = 64;

/// How many pipes match, and how many others there are.
const CASES: [(usize, usize); 7] = [(10, 0), (10, 100), (10, 1_000), (10, 10_000), (100, 0), (1_000, 0), (10_000, 0)];

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let records = std::env::args().nth(1).map_or(Ok(RECORDS), |count| count.parse())?;
    println!("| pipes that match | others | processor time, µs a record | time, µs a record | attached in |");
    println!("|---:|---:|---:|---:|---:|");
    one_pipe(records).await?;
    for (matching, others) in CASES {
        let client = Client::over(LocalBroker::in_memory(Env::system())?);
        make(&client, "other", others).await?;
        make(&client, "wanted", matching).await?;
        let start = Instant::now();
        let mut reader = client.pattern("wanted/*")?.reader_with(ReaderOptions::default()).await?;
        let attached = start.elapsed();
        let mut writers = Vec::new();
        for n in 0..matching {
            writers.push(writer(&client, &format!("wanted/{n}")).await?);
        }
        let (processor, time) = measure(&mut writers, &mut reader, records).await?;
        println!("| {matching} | {others} | {processor:.1} | {time:.1} | {attached:.1?} |");
    }
    Ok(())
}

/// A plain reader, to compare with.
async fn one_pipe(records: usize) -> Result<(), Failure> {
    let client = Client::over(LocalBroker::in_memory(Env::system())?);
    make(&client, "wanted", 1).await?;
    let mut reader = client.pipe("wanted/0")?.reader_with(ReaderOptions::default()).await?;
    let mut writers = vec![writer(&client, "wanted/0").await?];
    let (processor, time) = measure(&mut writers, &mut reader, records).await?;
    println!("| one, by a plain reader | 0 | {processor:.1} | {time:.1} | |");
    Ok(())
}

/// Broadcasts with a record each.
async fn make(client: &Client, folder: &str, count: usize) -> Result<(), Error> {
    let make_one = |n| async move {
        let mut writer = writer(client, &format!("{folder}/{n}")).await?;
        writer.send(b"old").await?;
        writer.end(Until::Stored).await.map(drop)
    };
    stream::iter(0..count).map(make_one).buffer_unordered(AT_ONCE).try_collect().await
}

async fn writer(client: &Client, name: &str) -> Result<Writer, Error> {
    client.pipe(name)?.writer_with(WriterOptions::default().with_mode(Mode::Broadcast)).await
}

/// Processor time and time of a record in µs, the medians of all rounds.
async fn measure(writers: &mut [Writer], reader: &mut Reader, records: usize) -> Result<(f64, f64), Error> {
    // The first round warms up.
    round(writers, reader, records).await?;
    let (mut processor, mut time) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (cpu, took) = round(writers, reader, records).await?;
        processor.push(cpu.as_secs_f64() * 1e6 / records as f64);
        time.push(took.as_secs_f64() * 1e6 / records as f64);
    }
    Ok((median(processor), median(time)))
}

async fn round(writers: &mut [Writer], reader: &mut Reader, records: usize) -> Result<(Duration, Duration), Error> {
    let (cpu, start) = (processor_time(), Instant::now());
    let pipes = writers.len();
    let (mut sent, mut got) = (0, 0);
    while got < records {
        while sent < records && sent - got < UNDER_WAY {
            let writer = &mut writers[sent % pipes];
            writer.send(&[b'x'; 100]).await?;
            writer.flush().await?;
            sent += 1;
        }
        reader.next().await?;
        got += 1;
    }
    Ok((processor_time() - cpu, start.elapsed()))
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Of all threads.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
