//! A queue: four workers share the work, and what one cannot do another tries.

use std::error::Error as StdError;
use std::time::Duration;

use skypipe_core::{BrokerPipe, Caller, Env, LocalBroker, Mode, Pipe, PipeName, ReaderOptions, Until, WriterOptions};
use tokio::task::JoinSet;

const JOBS: u32 = 20;
const WORKERS: u32 = 4;

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let broker = LocalBroker::in_memory(Env::system())?;
    // `connect("jobs").await?` in life.
    let jobs = BrokerPipe::new(broker, Caller::in_process(), PipeName::new("jobs")?);

    let mut writer = jobs.writer_with(WriterOptions::default().with_mode(Mode::Queue)).await?;
    for job in 1..=JOBS {
        writer.send(job.to_string().as_bytes()).await?;
    }
    writer.end(Until::Stored).await?;

    let mut workers = JoinSet::new();
    for worker in 1..=WORKERS {
        let jobs = jobs.clone();
        workers.spawn(async move { work(worker, &jobs).await.map_err(|e| e.to_string()) });
    }
    let mut done = 0;
    while let Some(worker) = workers.join_next().await {
        done += worker??;
    }
    assert_eq!(done, JOBS);
    Ok(())
}

/// Works until nothing is left; gives how many jobs this one has done.
async fn work(worker: u32, jobs: &BrokerPipe) -> Result<u32, skypipe_core::Error> {
    let mut options = ReaderOptions::default().with_mode(Mode::Queue);
    // One job at a time: what one worker holds no other can have.
    (options.prefetch, options.no_wait) = (1, true);
    let mut reader = match jobs.reader_with(options).await {
        // The others were quicker.
        Err(error) if error.code() == skypipe_core::Code::Empty => return Ok(0),
        reader => reader?,
    };
    let mut done = 0;
    while let Some(job) = reader.next_lease().await? {
        let number: u32 = String::from_utf8_lossy(job.body()).parse().unwrap_or_default();
        if number.is_multiple_of(7) && job.attempt() == 1 {
            // Somebody is to try once more. A worker that panics or is killed need not say so.
            job.refuse(Duration::ZERO);
            continue;
        }
        println!("worker {worker} has done job {number}");
        job.done();
        done += 1;
    }
    reader.settled().await?;
    Ok(done)
}
