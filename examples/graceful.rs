//! The end of a service, in order: it finishes what it has in hand, what it did not begin goes to others, and nothing is done twice.

use std::error::Error as StdError;
use std::time::Duration;

use skypipe_core::{BrokerPipe, Client, Env, LocalBroker, Mode, Pipe, ReaderOptions, Shutdown, Until, WriterOptions};

const JOBS: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let client = Client::over(LocalBroker::in_memory(Env::system())?);
    let jobs = client.pipe("jobs")?;
    let mut writer = jobs.writer_with(WriterOptions::default().with_mode(Mode::Queue)).await?;
    for job in 0..JOBS {
        writer.send(format!("job {job}").as_bytes()).await?;
    }
    writer.end(Until::Stored).await?;

    let shutdown = Shutdown::new();
    let service = tokio::spawn(work(client.clone().with_shutdown(&shutdown).pipe("jobs")?));
    // In life: `tokio::signal::ctrl_c().await?`.
    while jobs.stat().await?.items > JOBS as u64 / 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    shutdown.begin();
    let done = service.await??;
    assert!(shutdown.ended(Duration::from_secs(10)).await, "its last words are heard");

    let left = jobs.stat().await?.items as usize;
    println!("{done} done, {left} left for others");
    assert_eq!(done + left, JOBS);
    Ok(())
}

async fn work(jobs: BrokerPipe) -> Result<usize, skypipe_core::Error> {
    let mut reader = jobs.reader_with(ReaderOptions::default().with_mode(Mode::Queue)).await?;
    let mut done = 0;
    // `None` once the shutdown has begun.
    while let Some(job) = reader.next_lease().await? {
        // The work.
        tokio::time::sleep(Duration::from_millis(2)).await;
        job.done();
        done += 1;
    }
    reader.settled().await?;
    Ok(done)
}
