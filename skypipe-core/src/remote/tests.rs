//! Links that go silent. Time is paused while they are, so nobody waits.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::caller::Peer;
use crate::client::Client;
use crate::frame_channel::FrameChannel;
use crate::local_broker::LocalBroker;
use crate::mem::{MemListener, MemTransport};
use crate::name::PipeName;
use crate::pipe::Pipe;
use crate::relay::Relay;
use crate::session::Patience;
use crate::writer::Writer;
use crate::{Until, WriterOptions};

/// Links whose path dies when they are made, as many as `silent` says.
struct Dying {
    silent: AtomicUsize,
    made: AtomicUsize,
    silent_first: bool,
}

/// A link whose streams nobody answers.
#[derive(Default)]
struct Silent(Mutex<Vec<FrameChannel>>);

#[async_trait]
impl Link for Silent {
    async fn open(&self) -> Result<LinkStream, Error> {
        let (near, far) = FrameChannel::pair();
        self.0.lock().unwrap().push(far);
        Ok(LinkStream::Frames(near))
    }
    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        std::future::pending().await
    }
    fn peer(&self) -> Peer {
        Peer::InProcess
    }
    fn path(&self) -> String {
        "nowhere".to_owned()
    }
}

#[async_trait]
impl Transport for Dying {
    async fn connect(&self, url: &str) -> Result<Box<dyn Link>, Error> {
        self.made.fetch_add(1, Ordering::Relaxed);
        let silent = self.silent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if silent.is_ok() {
            tokio::time::pause();
            return Ok(Box::new(Silent::default()));
        }
        if self.made.load(Ordering::Relaxed) > 1 && self.silent_first {
            tokio::time::resume();
        }
        MemTransport.connect(url).await
    }
}

/// A client of a new relay, whose first links die.
fn client(name: &str, silent: usize) -> (Arc<RemoteBroker>, Arc<Dying>) {
    let listener = MemListener::bind(name).unwrap();
    let url = format!("mem:{name}");
    let relay = Relay::new(LocalBroker::in_memory(Env::system()).unwrap()).listen(Box::new(listener));
    tokio::spawn(async move { relay.serve().await });
    let transport =
        Arc::new(Dying { silent: AtomicUsize::new(silent), made: AtomicUsize::new(0), silent_first: silent > 0 });
    (Arc::new(RemoteBroker::new(transport.clone(), &url)), transport)
}

async fn writer(broker: Arc<RemoteBroker>) -> Result<Writer, Error> {
    let patience = Patience { connect_timeout: Duration::from_secs(60), ..Patience::default() };
    let options = WriterOptions { patience, ..WriterOptions::default() };
    Client::over(broker).pipe("x")?.writer_with(options).await
}

#[tokio::test]
async fn an_attach_that_goes_unanswered_takes_another_link() {
    let (broker, transport) = client("unanswered", 1);
    writer(broker).await.unwrap().end(Until::Stored).await.unwrap();
    assert_eq!(transport.made.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_call_that_was_dropped_soon_says_nothing_about_its_link() {
    let (broker, transport) = client("dropped-soon", 0);
    assert!(broker.ping(Bytes::new()).await.is_ok());
    let pipe = PipeRef::from(&PipeName::new("x").unwrap());
    assert!(futures::FutureExt::now_or_never(broker.stat(&Caller::in_process(), &pipe)).is_none());
    assert!(broker.ping(Bytes::new()).await.is_ok());
    assert_eq!(transport.made.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_runs_on_a_link_that_is_given_up_goes_on() {
    let (broker, transport) = client("goes-on", 0);
    let mut before = writer(broker.clone()).await.unwrap();
    broker.link().await.unwrap().give_up();
    assert!(broker.ping(Bytes::new()).await.is_ok());
    assert_eq!(transport.made.load(Ordering::Relaxed), 2);
    before.send(b"one").await.unwrap();
    before.end(Until::Stored).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_another_call_keeps_the_link() {
    let link = Arc::new(Standing::new(Box::new(Silent::default())));
    let (slow, quick) = (Asked::on(&link), Asked::on(&link));
    tokio::time::advance(ANSWER_WITHIN).await;
    quick.answered();
    drop(slow);
    assert!(!link.is_given_up());
    let silent = Asked::on(&link);
    tokio::time::advance(ANSWER_WITHIN).await;
    drop(silent);
    assert!(link.is_given_up());
}

#[tokio::test(start_paused = true)]
async fn an_attach_to_another_machine_has_a_second_try() {
    let request = Request::AttachWriter(
        PipeRef::from(&PipeName::new("x").unwrap()),
        WriterAttach {
            session: Env::system().session(),
            epoch: crate::id::Epoch(1),
            mode: None,
            resume: None,
            settings: Default::default(),
        },
    );
    struct Afar;
    #[async_trait]
    impl Link for Afar {
        async fn open(&self) -> Result<LinkStream, Error> {
            std::future::pending().await
        }
        async fn accept(&self) -> Result<Option<LinkStream>, Error> {
            std::future::pending().await
        }
        fn peer(&self) -> Peer {
            Peer::Network("192.0.2.1:1".to_owned())
        }
        fn path(&self) -> String {
            "afar".to_owned()
        }
    }
    assert!(answer_within(&Afar, &request) * 2 <= crate::session::CONNECT_TIMEOUT);
    assert_eq!(answer_within(&Afar, &Request::Keys), Duration::MAX);
    assert_eq!(answer_within(&Silent::default(), &request), Duration::MAX);
}

/// A relay of an earlier version: it does not know what it is asked.
struct Older;

#[async_trait]
impl Transport for Older {
    async fn connect(&self, _: &str) -> Result<Box<dyn Link>, Error> {
        Ok(Box::new(Self))
    }
}

#[async_trait]
impl Link for Older {
    async fn open(&self) -> Result<LinkStream, Error> {
        let (near, far) = FrameChannel::pair();
        tokio::spawn(async move {
            let (mut sink, mut source) = carry(LinkStream::Frames(far));
            let _asked = (source.next().await, source.next().await);
            let features = Features { queue: true, broadcast: true, ..Features::default() };
            let refusal = Error::new(Code::Protocol, "a frame of kind 0x1b is not expected here");
            sink.send(Hello::new(SoftwareVersion::CURRENT, features).into_frame()).await.unwrap();
            sink.send(crate::wire::error_frame(&refusal)).await.unwrap();
        });
        Ok(LinkStream::Frames(near))
    }
    async fn accept(&self) -> Result<Option<LinkStream>, Error> {
        std::future::pending().await
    }
    fn peer(&self) -> Peer {
        Peer::InProcess
    }
    fn path(&self) -> String {
        "here".to_owned()
    }
}

#[tokio::test]
async fn a_relay_that_knows_no_patterns_is_said_to() {
    let client = Client::new(Arc::new(Older), "older:");
    let error = client.pattern("logs/*").unwrap().reader().await.err().unwrap();
    assert_eq!(error.code(), Code::Unsupported);
    // So is a broker that reads one pipe at a time.
    let client = Client::over(Arc::new(crate::session::toy::host::ToyBroker::default()));
    assert_eq!(client.pattern("logs/*").unwrap().reader().await.err().unwrap().code(), Code::Unsupported);
}
