//! Records per second from one writer to one live reader, through the embedded broker and through a relay on a local socket.
//!
//! `cargo run --release -p skypipe-benches --bin throughput` prints one Markdown table. Writer, relay and reader share one process with two
//! threads, so the figures show the cost of the code and not of processes; every row counts its records, and waited for `delivered`.

use std::sync::Arc;
use std::time::Instant;

use skypipe_core::local_socket::{LocalSocketListener, LocalSocketTransport};
use skypipe_core::{Broker, BrokerPipe, Client, Env, Error, LocalBroker, Pipe, Relay, RemoteBroker, Until};

/// Bytes of each run, unless its records would be too many.
const BYTES: usize = 256 << 20;
const RECORDS_MAX: usize = 5_000_000;
const RUNS: usize = 3;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let listener = LocalSocketListener::bind(folder.path().join("relay.sock"))?;
    let url = format!("unix:{}", listener.path().display());
    let local: Arc<dyn Broker> = LocalBroker::in_memory(Env::system())?;
    let relay = Relay::new(local.clone()).listen(Box::new(listener));
    tokio::spawn(async move { relay.serve().await });
    let remote: Arc<dyn Broker> = Arc::new(RemoteBroker::new(Arc::new(LocalSocketTransport), &url));

    println!(
        "| bytes per record | embedded, records/s | embedded, MiB/s | local socket, records/s | local socket, MiB/s |"
    );
    println!("|---:|---:|---:|---:|---:|");
    for length in [16, 128, 1024, 16 * 1024, 256 * 1024] {
        // The two take turns, so that a machine that slows down slows both.
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            rates[0].push(run(&local, length).await?);
            rates[1].push(run(&remote, length).await?);
        }
        let [embedded, socket] = rates.map(median);
        let mib = |rate: f64| rate * length as f64 / f64::from(1 << 20);
        println!("| {length} | {embedded:.0} | {:.0} | {socket:.0} | {:.0} |", mib(embedded), mib(socket));
    }
    Ok(())
}

/// Records per second of one run.
async fn run(broker: &Arc<dyn Broker>, length: usize) -> Result<f64, Error> {
    let pipe = Client::over(broker.clone()).pipe("bench")?;
    let count = (BYTES / length).min(RECORDS_MAX);
    let mut reader = pipe.reader().await?;
    let start = Instant::now();
    let writing = tokio::spawn(write(pipe.clone(), length, count));
    while reader.next_chunk().await?.is_some() {}
    assert_eq!(reader.outcome().records, count as u64);
    writing.await.map_err(|e| Error::new(skypipe_core::Code::Internal, e.to_string()))??;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

async fn write(pipe: BrokerPipe, length: usize, count: usize) -> Result<(), Error> {
    let record = vec![b'x'; length];
    let mut writer = pipe.writer().await?;
    for _ in 0..count {
        writer.send(&record).await?;
    }
    writer.end(Until::Delivered).await.map(drop)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
