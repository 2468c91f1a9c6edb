//! Readers of many pipes, as applications have them: over a relay, by the thousand, and within what a caller may read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use skypipe_core::mem::{MemListener, MemTransport};
use skypipe_core::{
    Access, Admission, Broker, BrokerPipe, Caller, Client, Code, Env, Error, Gatekeeper, Grant, Invite, KeyPair,
    LocalBroker, Mode, Owner, Pattern, Pipe, PipeName, PipePattern, PublicKey, Reader, ReaderOptions, Relay, Rights,
    Start, Until, WriterOptions,
};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(60);
/// The pipes of the issue.
const MANY: usize = 10_000;

fn from_start() -> ReaderOptions {
    let mut options = ReaderOptions::default();
    options.start = Start::Beginning;
    options
}

async fn write(pipe: &BrokerPipe, mode: Mode, texts: &[&str]) {
    let mut writer = pipe.writer_with(WriterOptions::default().with_mode(mode)).await.unwrap();
    for text in texts {
        writer.send(text.as_bytes()).await.unwrap();
    }
    writer.end(Until::Stored).await.unwrap();
}

async fn next(reader: &mut Reader) -> (String, String) {
    let record = timeout(SOON, reader.next()).await.expect("in time").unwrap().expect("it stays");
    (record.pipe.display(), String::from_utf8_lossy(&record.body).into_owned())
}

/// A relay in this process, and a client of it.
async fn relayed(name: &str) -> (Client, tokio::task::JoinHandle<()>) {
    let listener = MemListener::bind(name).unwrap();
    let relay = Relay::new(LocalBroker::in_memory(Env::system()).unwrap()).listen(Box::new(listener));
    let serving = tokio::spawn(async move { drop(relay.serve().await) });
    (Client::new(Arc::new(MemTransport), &format!("mem:{name}")), serving)
}

#[tokio::test]
async fn ten_thousand_pipes_are_read_over_one_stream_each_record_once() {
    let (client, relay) = relayed("patterns-many").await;
    let name = |n: usize| format!("many/{n}");
    let client_of = &client;
    let writing = stream::iter(0..MANY).for_each_concurrent(64, |n| async move {
        let pipe = client_of.pipe(&name(n)).unwrap();
        write(&pipe, Mode::Broadcast, &[&n.to_string()]).await;
    });
    timeout(SOON, writing).await.expect("in time");
    let mut reader = client.pattern("many/*").unwrap().reader_with(from_start()).await.unwrap();
    let mut got = BTreeSet::new();
    for _ in 0..MANY {
        let (pipe, text) = next(&mut reader).await;
        assert!(pipe == format!("many/{text}") && got.insert(text), "{pipe}");
    }
    for n in [7, MANY - 1, MANY, 0] {
        write(&client.pipe(&name(n)).unwrap(), Mode::Broadcast, &["live"]).await;
        assert_eq!(next(&mut reader).await, (name(n), "live".to_owned()));
    }
    drop(reader);
    relay.abort();
}

#[tokio::test]
async fn many_queues_share_what_one_reader_has_in_its_hands() {
    let (client, relay) = relayed("patterns-queues").await;
    for n in 0..50 {
        write(&client.pipe(&format!("jobs/{n}")).unwrap(), Mode::Queue, &["1", "2", "3"]).await;
    }
    let mut options = ReaderOptions::default().with_mode(Mode::Queue);
    (options.prefetch, options.no_wait) = (8, true);
    let mut reader = client.pattern("jobs/*").unwrap().reader_with(options).await.unwrap();
    let mut done: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(lease) = timeout(SOON, reader.next_lease()).await.expect("in time").unwrap() {
        assert_eq!(lease.attempt(), 1);
        *done.entry(lease.pipe().display()).or_default() += 1;
        lease.done();
    }
    assert!(done.len() == 50 && done.values().all(|count| *count == 3), "{done:?}");
    relay.abort();
}

#[tokio::test]
async fn two_readers_of_one_queue_are_served_in_turn_also_when_one_reads_others_too() {
    let client = Client::over(LocalBroker::in_memory(Env::system()).unwrap());
    let pipe = client.pipe("jobs/a").unwrap();
    let options = || ReaderOptions::default().with_mode(Mode::Queue);
    let mut plain = pipe.reader_with(options()).await.unwrap();
    let mut of_many = client.pattern("jobs/*").unwrap().reader_with(options()).await.unwrap();
    write(&pipe, Mode::Queue, &["1", "2", "3", "4"]).await;
    for _ in 0..2 {
        assert!(timeout(SOON, plain.next()).await.unwrap().unwrap().is_some());
        assert!(timeout(SOON, of_many.next()).await.unwrap().unwrap().is_some());
    }
}

/// Knows nobody: who calls is told by the test.
struct Nobody(KeyPair);

#[async_trait]
impl Gatekeeper for Nobody {
    fn relay_key(&self) -> &KeyPair {
        &self.0
    }
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
    fn owner(&self, key: PublicKey) -> Owner {
        Owner(Some(key.0))
    }
    async fn admit(&self, _: PublicKey, _: Option<Bytes>) -> Result<Admission, Error> {
        Err(Error::new(Code::Access, "nobody"))
    }
    async fn invite(&self, _: &Caller, _: Invite) -> Result<Bytes, Error> {
        Err(Error::new(Code::Access, "nobody"))
    }
    async fn keys(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
    async fn add(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }
    async fn revoke(&self, _: &str) -> Result<u32, Error> {
        Ok(0)
    }
}

#[tokio::test]
async fn a_caller_gets_only_what_it_may_read_also_of_what_begins_later() {
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let access: Arc<dyn Broker> = Arc::new(Access::new(broker.clone(), Arc::new(Nobody(KeyPair::from_seed(&[1; 32])))));
    let owner = Owner(Some([7; 32]));
    let grant = |pattern: &str, rights| Grant { owner, pattern: Pattern::parse(pattern).unwrap(), rights };
    let (read, write_only) = (Rights { read: true, ..Rights::NONE }, Rights { write: true, ..Rights::NONE });
    let own = Caller::in_process();
    let mut guest = own.clone();
    guest.grants = Some(vec![grant("logs/open/**", read), grant("logs/**", write_only)].into());
    let mut stranger = own.clone();
    stranger.grants = Some(Vec::new().into());
    let pipe = |name: &str| {
        let caller = own.clone();
        BrokerPipe::new(broker.clone(), caller, PipeName::new(name).unwrap()).owned_by(owner)
    };
    let wanted = |text: &str| skypipe_core::TargetPattern { owner, pattern: Pattern::parse(text).unwrap() };
    write(&pipe("logs/shut/a"), Mode::Broadcast, &["no"]).await;
    write(&pipe("logs/open/a"), Mode::Broadcast, &["1"]).await;
    let as_guest = |text: &str| PipePattern::new(access.clone(), guest.clone(), wanted(text));
    let mut reader = as_guest("**").reader_with(from_start()).await.unwrap();
    assert_eq!(next(&mut reader).await, ("logs/open/a".to_owned(), "1".to_owned()));
    write(&pipe("logs/shut/b"), Mode::Broadcast, &["no"]).await;
    write(&pipe("logs/open/b/c"), Mode::Broadcast, &["2"]).await;
    assert_eq!(next(&mut reader).await, ("logs/open/b/c".to_owned(), "2".to_owned()));
    // What is forbidden is as if there were nothing, whether there is or not.
    let nothing = |reader: Result<Reader, Error>| reader.err().map(|error| (error.code(), error.text().to_owned()));
    let no_wait = || {
        let mut options = from_start();
        options.no_wait = true;
        options
    };
    let forbidden = nothing(as_guest("logs/shut/*").reader_with(no_wait()).await);
    assert_eq!(forbidden, nothing(as_guest("none/*").reader_with(no_wait()).await));
    assert_eq!(forbidden.unwrap().0, Code::Empty);
    let as_stranger = PipePattern::new(access.clone(), stranger, wanted("**"));
    assert_eq!(nothing(as_stranger.reader_with(no_wait()).await).unwrap().0, Code::Empty);
    // Without grants there are the pipes of one's own namespace, which these are not.
    let as_own = PipePattern::new(access, own.clone(), wanted("**"));
    assert_eq!(nothing(as_own.reader_with(no_wait()).await).unwrap().0, Code::Empty);
}
