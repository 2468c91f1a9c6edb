//! A broadcast: kept for who comes later, and a cursor that knows where its reader stopped.

use std::error::Error as StdError;

use skypipe_core::{
    BrokerPipe, Caller, Env, LocalBroker, Mode, Pipe, PipeName, ReaderOptions, Retain, Settings, Start, Until,
    WriterOptions,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let broker = LocalBroker::in_memory(Env::system())?;
    // `connect("news").await?` in life.
    let news = BrokerPipe::new(broker, Caller::in_process(), PipeName::new("news")?);

    write(&news, &["one", "two", "three"]).await?;
    assert_eq!(read(&news, 2).await?, ["one", "two"]);

    // Days later.
    write(&news, &["four"]).await?;
    assert_eq!(read(&news, 2).await?, ["three", "four"]);
    Ok(())
}

async fn write(news: &BrokerPipe, texts: &[&str]) -> Result<(), skypipe_core::Error> {
    let mut options = WriterOptions::default().with_mode(Mode::Broadcast);
    options.settings = Settings { retain: Retain { records: Some(1000), ..Retain::default() }, ..Settings::default() };
    let mut writer = news.writer_with(options).await?;
    for text in texts {
        writer.send(text.as_bytes()).await?;
    }
    writer.end(Until::Stored).await.map(drop)
}

/// The next records that the reader `alice` has not had.
async fn read(news: &BrokerPipe, count: usize) -> Result<Vec<String>, skypipe_core::Error> {
    let mut options = ReaderOptions::default().with_mode(Mode::Broadcast);
    (options.start, options.cursor) = (Start::Beginning, Some("alice".to_owned()));
    let mut reader = news.reader_with(options).await?;
    let mut texts = Vec::new();
    while texts.len() < count
        && let Some(record) = reader.next().await?
    {
        println!("{}", String::from_utf8_lossy(&record));
        texts.push(String::from_utf8_lossy(&record).into_owned());
    }
    reader.ack();
    reader.leave(true).await?;
    Ok(texts)
}
