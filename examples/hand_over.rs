//! Work hand-over: one task stores jobs, others take them one by one and send back results.
//!
//! Each job is an item of its own: a reader takes the oldest one alone. It is gone only when its reader has acknowledged
//! the end of it, so a job survives a worker that fails in the middle.

use std::error::Error;

use skypipe_core::{BrokerPipe, Client, Env, LocalBroker, Pipe, Until};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let client = Client::over(LocalBroker::in_memory(Env::system())?);
    let (jobs, results) = (client.pipe("jobs")?, client.pipe("results")?);

    for number in 1..=3_u64 {
        put(&jobs, &number.to_string()).await?;
    }

    // A worker that begins with the first job and fails: dropped, its reader has acknowledged nothing.
    let mut failing = jobs.reader().await?;
    assert_eq!(failing.next().await?.as_deref(), Some(&b"1"[..]));
    drop(failing);

    let worker = tokio::spawn({
        let (jobs, results) = (jobs.clone(), results.clone());
        async move {
            for _ in 0..3 {
                let number: u64 = take(&jobs).await?.parse()?;
                put(&results, &format!("{number} squared is {}", number * number)).await?;
            }
            Ok::<(), Box<dyn Error + Send + Sync>>(())
        }
    });

    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(take(&results).await?);
    }
    worker.await??;
    answers.sort();
    assert_eq!(answers, ["1 squared is 1", "2 squared is 4", "3 squared is 9"]);
    println!("{}", answers.join("\n"));
    Ok(())
}

/// Stores one item of one record.
async fn put(pipe: &BrokerPipe, text: &str) -> Result<(), skypipe_core::Error> {
    let mut writer = pipe.writer().await?;
    writer.send(text.as_bytes()).await?;
    writer.end(Until::Stored).await?;
    Ok(())
}

/// Takes the oldest item, or waits for one. Read to its end it is taken for good.
async fn take(pipe: &BrokerPipe) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut reader = pipe.reader().await?;
    let mut text = Vec::new();
    while let Some(record) = reader.next().await? {
        text.extend_from_slice(&record);
    }
    Ok(String::from_utf8(text)?)
}
