//! Fan-out: one writer, four readers, each gets a copy of everything from the moment it came.

use std::error::Error;

use skypipe_core::{Client, Env, LocalBroker, Pipe, Reader, Until};

const READERS: usize = 4;
const PRICES: u64 = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let prices = Client::over(LocalBroker::in_memory(Env::system())?).pipe("market/prices")?;

    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(tokio::spawn(sum(prices.reader().await?)));
    }

    let mut writer = prices.writer().await?;
    for price in 0..PRICES {
        writer.send(&price.to_le_bytes()).await?;
    }
    let receipt = writer.end(Until::Delivered).await?;
    assert_eq!(receipt.progress.records, PRICES);

    for reader in readers {
        assert_eq!(reader.await??, (0..PRICES).sum::<u64>());
    }
    println!("{PRICES} records reached {READERS} readers each");
    Ok(())
}

/// Adds up what comes until the writer has ended.
async fn sum(mut reader: Reader) -> Result<u64, Box<dyn Error + Send + Sync>> {
    let mut sum = 0;
    while let Some(record) = reader.next().await? {
        sum += u64::from_le_bytes((*record).try_into()?);
    }
    Ok(sum)
}
