//! A log collector: three hosts write their lines into one pipe, one reader gets them all.
//!
//! Lines stay whole, and those of one host stay in order. The reader ends by itself when the last host has ended.

use std::collections::BTreeMap;
use std::error::Error;

use skypipe_core::{Client, Env, LocalBroker, Pipe, Until, Writer};

const HOSTS: [&str; 3] = ["alpha", "beta", "gamma"];
const LINES: usize = 1000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let logs = Client::over(LocalBroker::in_memory(Env::system())?).pipe("logs")?;

    // All three are there before anybody ends: a live reader ends with the last writer it has.
    let mut writers = Vec::new();
    for host in HOSTS {
        writers.push((host, logs.writer().await?));
    }
    let mut reader = logs.reader().await?;
    let hosts: Vec<_> = writers.into_iter().map(|(host, writer)| tokio::spawn(log(host, writer))).collect();

    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(line) = reader.next().await? {
        let line = std::str::from_utf8(&line)?;
        let (host, number) = line.trim_end().split_once(' ').ok_or("a line was torn")?;
        let count = seen.entry(host.to_owned()).or_default();
        assert_eq!(number.parse::<usize>()?, *count, "lines of {host} are in order");
        *count += 1;
    }

    for host in hosts {
        host.await??;
    }
    assert_eq!(seen.len(), HOSTS.len());
    assert!(seen.values().all(|&count| count == LINES));
    println!("{} lines of {} hosts, each whole and in order", LINES * HOSTS.len(), HOSTS.len());
    Ok(())
}

/// One host: writes its lines and ends when all are delivered.
async fn log(host: &str, mut writer: Writer) -> Result<(), skypipe_core::Error> {
    for number in 0..LINES {
        writer.send(format!("{host} {number}\n").as_bytes()).await?;
    }
    writer.end(Until::Delivered).await?;
    Ok(())
}
