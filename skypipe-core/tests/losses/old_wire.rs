//! What travelled in each version of the protocol is understood for ever. `tests/fixtures/wire-1` holds the bytes of a writer and of a reader, both
//! ways; `SKYPIPE_FIXTURES=write` writes them where they are missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skypipe_core::{
    BrokerPipe, Caller, EndKind, Env, Event, Link, LocalBroker, Pipe as _, PipeName, ReaderOptions, Relay,
    RemoteBroker, Until,
};
use skypipe_test::proof::Proof;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::links::{Far, Heard, Links, Recording, Replayed, STREAM_BYTES};

const RECORDS: u64 = 40;
const SOON: Duration = Duration::from_secs(20);

fn record(n: u64) -> Vec<u8> {
    format!("record {n} ").into_bytes().repeat(1 + n as usize % 9)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire-1")
}

fn kept(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

fn pipe(broker: Arc<dyn skypipe_core::Broker>) -> BrokerPipe {
    BrokerPipe::new(broker, Caller::in_process(), PipeName::new("logs/old").unwrap())
}

/// A relay in this process, and where to give it links.
fn relay(broker: Arc<LocalBroker>) -> mpsc::Sender<Box<dyn Link>> {
    let (links, accepted) = mpsc::channel(1);
    let relay = Relay::new(broker).listen(Box::new(Links(tokio::sync::Mutex::new(accepted))));
    tokio::spawn(async move { relay.serve().await });
    links
}

/// A writer and a reader of today, over links that remember.
async fn record_both() -> [(&'static str, Vec<u8>); 3] {
    let links = relay(LocalBroker::in_memory(Env::system()).unwrap());
    let (of_writer, of_reader) = (Heard::default(), Heard::default());
    let remote = |heard: &Heard| {
        let transport = Recording { relay: links.clone(), heard: heard.clone() };
        pipe(Arc::new(RemoteBroker::new(Arc::new(transport), "memory:")))
    };
    let mut writer = remote(&of_writer).writer().await.unwrap();
    for n in 0..RECORDS {
        writer.send(&record(n)).await.unwrap();
        writer.flush().await.unwrap();
    }
    writer.end(Until::Stored).await.unwrap();
    let mut reader = remote(&of_reader).reader().await.unwrap();
    while reader.next().await.unwrap().is_some() {}
    let bytes = |of: &Arc<Mutex<Vec<u8>>>| of.lock().unwrap().clone();
    [("writer-up", bytes(&of_writer.up)), ("reader-up", bytes(&of_reader.up)), ("reader-down", bytes(&of_reader.down))]
}

#[tokio::test]
async fn proof_what_old_clients_and_relays_say_is_understood() {
    if std::env::var("SKYPIPE_FIXTURES").as_deref() == Ok("write") && !folder().exists() {
        fs::create_dir_all(folder()).unwrap();
        record_both().await.into_iter().for_each(|(name, bytes)| fs::write(folder().join(name), bytes).unwrap());
    }
    let proof = Proof::begin("P16", "words of old clients and relays");
    let mut failures = Vec::new();
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let links = relay(broker.clone());
    // An old writer wrote an item: a relay of today has it, whole.
    let writer = say(&links, &kept("writer-up")).await;
    let ended = Arc::new(Mutex::new(None));
    let heard = ended.clone();
    let options = ReaderOptions::default().on_event(move |event| {
        if let Event::ItemEnded { kind, .. } = event {
            *heard.lock().unwrap() = Some(kind);
        }
    });
    let mut reader = timeout(SOON, pipe(broker.clone()).reader_with(options)).await.unwrap().unwrap();
    failures.extend(compare(&mut reader).await);
    if *ended.lock().unwrap() != Some(EndKind::Finished) {
        failures.push("the item of an old writer has not finished".to_owned());
    }
    drop((reader, writer));
    // An old reader takes an item of today: it is gone then.
    let mut writer = pipe(broker.clone()).writer().await.unwrap();
    writer.send(b"one").await.unwrap();
    writer.end(Until::Stored).await.unwrap();
    let reader = say(&links, &kept("reader-up")).await;
    let seen = async {
        while pipe(broker.clone()).stat().await.is_ok_and(|stat| stat.readers == 0) {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, seen).await.expect("an old reader is let in");
    drop(reader);
    // What an old relay said to a reader, a reader of today understands.
    let replayed = Replayed(Mutex::new(Some(kept("reader-down"))));
    let mut reader = pipe(Arc::new(RemoteBroker::new(Arc::new(replayed), "memory:"))).reader().await.unwrap();
    failures.extend(compare(&mut reader).await);
    proof.end(2 * RECORDS + 1, &failures);
}

/// Says these bytes to the relay; the link lives as long as what this gives.
async fn say(links: &mpsc::Sender<Box<dyn Link>>, bytes: &[u8]) -> tokio::io::DuplexStream {
    let (streams, far) = mpsc::channel(1);
    links.send(Box::new(Far(tokio::sync::Mutex::new(far)))).await.unwrap();
    let (mut near, far) = tokio::io::duplex(STREAM_BYTES);
    streams.send(far).await.unwrap();
    near.write_all(bytes).await.unwrap();
    near
}

async fn compare(reader: &mut skypipe_core::Reader) -> Vec<String> {
    let mut failures = Vec::new();
    for n in 0..RECORDS {
        let got = timeout(SOON, reader.next()).await.unwrap().unwrap();
        if got.as_ref().is_none_or(|got| got.body != record(n)) {
            failures.push(format!("record {n} is {got:?}"));
        }
    }
    if timeout(SOON, reader.next()).await.unwrap().unwrap().is_some() {
        failures.push("more came than was written".to_owned());
    }
    failures
}
