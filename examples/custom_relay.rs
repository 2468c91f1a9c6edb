//! A relay of one's own: a broker around a broker, served in three lines.
//!
//! Everything that holds pipes is a [`Broker`], and a relay serves any of them over any transport. This one counts the records
//! that go in. A quota, a meter, an access check or an audit log is made in the same way.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::SinkExt;
use skypipe_core::local_socket::{LocalSocketListener, LocalSocketTransport};
use skypipe_core::{
    Broker, Caller, Client, Env, Error, Features, ListPage, ListQuery, LocalBroker, Pipe, PipeRef, PipeStat,
    ReaderAttach, ReaderHalves, Relay, SharedBroker, Until, WriterAttach, WriterHalves, WriterUp,
};

/// Counts the records that writers send to the broker inside.
struct Counting {
    inside: SharedBroker,
    records: Arc<AtomicU64>,
}

#[async_trait]
impl Broker for Counting {
    async fn attach_writer(
        &self,
        caller: &Caller,
        pipe: &PipeRef,
        attach: WriterAttach,
    ) -> Result<WriterHalves, Error> {
        let WriterHalves { welcome, up, down } = self.inside.attach_writer(caller, pipe, attach).await?;
        let records = self.records.clone();
        let counted = up.with(move |message| {
            if let WriterUp::Batch(batch) = &message {
                records.fetch_add(u64::from(batch.count()), Ordering::Relaxed);
            }
            std::future::ready(Ok(message))
        });
        Ok(WriterHalves { welcome, up: Box::pin(counted), down })
    }

    // All the rest is the broker's inside.

    fn features(&self) -> Features {
        self.inside.features()
    }

    async fn attach_reader(
        &self,
        caller: &Caller,
        pipe: &PipeRef,
        attach: ReaderAttach,
    ) -> Result<ReaderHalves, Error> {
        self.inside.attach_reader(caller, pipe, attach).await
    }

    async fn list(&self, caller: &Caller, query: ListQuery) -> Result<ListPage, Error> {
        self.inside.list(caller, query).await
    }

    async fn stat(&self, caller: &Caller, pipe: &PipeRef) -> Result<PipeStat, Error> {
        self.inside.stat(caller, pipe).await
    }

    async fn remove(&self, caller: &Caller, pipe: &PipeRef) -> Result<(), Error> {
        self.inside.remove(caller, pipe).await
    }

    async fn drain(&self) {
        self.inside.drain().await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("relay.sock");
    let records = Arc::new(AtomicU64::new(0));

    // The relay: a broker and three lines.
    let broker = Counting { inside: LocalBroker::in_memory(Env::system())?, records: records.clone() };
    let relay = Arc::new(Relay::new(Arc::new(broker)).listen(Box::new(LocalSocketListener::bind(&socket)?)));
    let url = relay.urls().concat();
    let serving = tokio::spawn({
        let relay = relay.clone();
        async move { relay.serve().await }
    });

    // A client of it, as in another process.
    let pipe = Client::new(Arc::new(LocalSocketTransport), &url).pipe("counted")?;
    let mut writer = pipe.writer().await?;
    for number in 0..100 {
        writer.send(format!("record {number}\n").as_bytes()).await?;
    }
    writer.end(Until::Stored).await?;

    let mut reader = pipe.reader().await?;
    let mut read = 0;
    while reader.next().await?.is_some() {
        read += 1;
    }
    drop(reader);

    relay.drain(Duration::from_secs(1)).await;
    serving.await??;
    assert_eq!((read, records.load(Ordering::Relaxed)), (100, 100));
    println!("{read} records went through the relay, and it counted them");
    Ok(())
}
