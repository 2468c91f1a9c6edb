//! A relay somewhere else, as a broker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};

use crate::broker::{
    Broker, Features, ListPage, ListQuery, PipeStat, ReaderAttach, ReaderHalves, WriterAttach, WriterHalves,
};
use crate::caller::Caller;
use crate::error::{Code, Error};
use crate::name::PipeRef;
use crate::transport::{Link, Transport};
use crate::wire::{
    Answer, FrameSink, FrameSource, Hello, Message, MessageSink, MessageStream, Request, SoftwareVersion, carry,
};

/// The pipes of a relay, reached over any [`Transport`]. Each call is a stream of one shared link, which is opened when it is
/// first needed and again after it broke.
///
/// An attach carries its frames on its stream directly: no task stands between. A call here waits for its answer without an
/// end; who calls sets the deadline. (That a silent network link is dead will be found here too, by pings beside the streams,
/// when there are network links.)
pub struct RemoteBroker {
    transport: Arc<dyn Transport>,
    url: String,
    software: SoftwareVersion,
    link: tokio::sync::Mutex<Option<Arc<dyn Link>>>,
    /// What the relay's last hello said.
    relay: Mutex<Option<(SoftwareVersion, Features)>>,
}

/// The answer to a [`RemoteBroker::ping`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pong {
    /// From the request's first byte to the answer's last, with a new stream on a link that stands.
    pub round_trip: Duration,
    /// The version of the relay's program.
    pub software: SoftwareVersion,
    /// How the link runs, in words for people.
    pub path: String,
}

impl RemoteBroker {
    /// The relay at `url`. Nothing is opened yet.
    pub fn new(transport: Arc<dyn Transport>, url: &str) -> Self {
        Self {
            transport,
            url: url.to_owned(),
            software: SoftwareVersion::CURRENT,
            link: tokio::sync::Mutex::default(),
            relay: Mutex::default(),
        }
    }

    /// The same, calling itself a program of this version.
    #[must_use]
    pub fn with_version(mut self, software: SoftwareVersion) -> Self {
        self.software = software;
        self
    }

    /// The relay's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The version of the relay's program, once it said hello.
    pub fn relay_version(&self) -> Option<SoftwareVersion> {
        self.relay.lock().unwrap_or_else(PoisonError::into_inner).map(|(software, _)| software)
    }

    /// Sends bytes there and back, at most [`PING_BYTES_MAX`](crate::wire::constants::PING_BYTES_MAX).
    ///
    /// # Errors
    /// A broken link; `E_INTEGRITY` when other bytes come back.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    pub async fn ping(&self, payload: Bytes) -> Result<Pong, Error> {
        let link = self.link().await?;
        let start = Instant::now();
        let exchange = self.ask(Request::Ping(payload.clone())).await?;
        let round_trip = start.elapsed();
        match exchange.answer {
            Answer::Pong(bytes) if bytes == payload => {
                Ok(Pong { round_trip, software: exchange.software, path: link.path() })
            }
            Answer::Pong(_) => Err(Error::new(Code::Integrity, "a ping came back with other bytes")),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the relay to make way for this newer program. When this returns, it has begun to drain.
    ///
    /// # Errors
    /// `E_VERSION` when this program is not newer than the relay's; a broken link.
    ///
    /// # Cancel safety
    /// A dropped call may have been heard.
    pub async fn step_down(&self) -> Result<(), Error> {
        match self.ask(Request::StepDown).await?.answer {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens a stream, says hello with the request behind it, and reads hello and answer.
    async fn ask(&self, request: Request) -> Result<Exchange, Error> {
        let (link, stream) = self.stream().await?;
        let (mut sink, mut source) = carry(stream);
        let asked = self.ask_on(&mut sink, &mut source, request).await;
        if asked.as_ref().is_err_and(|e| e.code() == Code::Disconnected) {
            self.forget(&link).await;
        }
        let (software, answer) = asked?;
        Ok(Exchange { software, answer, sink, source })
    }

    async fn ask_on(
        &self,
        sink: &mut FrameSink,
        source: &mut FrameSource,
        request: Request,
    ) -> Result<(SoftwareVersion, Answer), Error> {
        let sent = send_both(sink, Hello::new(self.software, Features::default()), request).await;
        // A relay that refuses early has said why before it closed: that counts more than the failed write.
        let Some(hello) = next::<Hello>(source).await.map_err(|read| sent.err().unwrap_or(read))? else {
            return Err(Error::new(Code::Disconnected, "the relay closed the link without an answer"));
        };
        self.heard(&hello);
        hello.shared_version()?;
        source.trust();
        let answer = next::<Answer>(source).await?;
        let closed = || Error::new(Code::Disconnected, "the relay closed the link without an answer");
        Ok((hello.software, answer.ok_or_else(closed)?))
    }

    fn heard(&self, hello: &Hello) {
        let mut relay = self.relay.lock().unwrap_or_else(PoisonError::into_inner);
        *relay = Some((hello.software, hello.features));
    }

    /// A stream of the link. A link that turns out to be broken is replaced once.
    async fn stream(&self) -> Result<(Arc<dyn Link>, crate::transport::LinkStream), Error> {
        let link = self.link().await?;
        if let Ok(stream) = link.open().await {
            return Ok((link, stream));
        }
        self.forget(&link).await;
        let link = self.link().await?;
        let stream = link.open().await?;
        Ok((link, stream))
    }

    async fn link(&self) -> Result<Arc<dyn Link>, Error> {
        let mut shared = self.link.lock().await;
        if let Some(link) = &*shared {
            return Ok(link.clone());
        }
        let link: Arc<dyn Link> = Arc::from(self.transport.connect(&self.url).await?);
        *shared = Some(link.clone());
        Ok(link)
    }

    /// Drops this link, unless another stands in its place already.
    async fn forget(&self, broken: &Arc<dyn Link>) {
        let mut shared = self.link.lock().await;
        if shared.as_ref().is_some_and(|link| Arc::ptr_eq(link, broken)) {
            *shared = None;
        }
    }
}

/// One stream after its answer.
struct Exchange {
    software: SoftwareVersion,
    answer: Answer,
    sink: FrameSink,
    source: FrameSource,
}

#[async_trait]
impl Broker for RemoteBroker {
    /// As the relay's last hello said; nothing before the first one.
    fn features(&self) -> Features {
        self.relay.lock().unwrap_or_else(PoisonError::into_inner).map(|(_, features)| features).unwrap_or_default()
    }

    async fn attach_writer(&self, _: &Caller, pipe: &PipeRef, attach: WriterAttach) -> Result<WriterHalves, Error> {
        let Exchange { answer, sink, source, .. } = self.ask(Request::AttachWriter(pipe.clone(), attach)).await?;
        match answer {
            Answer::WriterWelcome(welcome) => Ok(WriterHalves {
                welcome,
                up: Box::pin(MessageSink::new(sink)),
                down: Box::pin(MessageStream::new(source)),
            }),
            other => Err(unexpected(&other)),
        }
    }

    async fn attach_reader(&self, _: &Caller, pipe: &PipeRef, attach: ReaderAttach) -> Result<ReaderHalves, Error> {
        let Exchange { answer, sink, source, .. } = self.ask(Request::AttachReader(pipe.clone(), attach)).await?;
        match answer {
            Answer::ReaderWelcome => {
                Ok(ReaderHalves { up: Box::pin(MessageSink::new(sink)), down: Box::pin(MessageStream::new(source)) })
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn list(&self, _: &Caller, query: ListQuery) -> Result<ListPage, Error> {
        match self.ask(Request::List(query)).await?.answer {
            Answer::Page(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    async fn stat(&self, _: &Caller, pipe: &PipeRef) -> Result<PipeStat, Error> {
        match self.ask(Request::Stat(pipe.clone())).await?.answer {
            Answer::Stat(stat) => Ok(stat),
            other => Err(unexpected(&other)),
        }
    }

    async fn remove(&self, _: &Caller, pipe: &PipeRef) -> Result<(), Error> {
        match self.ask(Request::Remove(pipe.clone())).await?.answer {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

async fn send_both(sink: &mut FrameSink, hello: Hello, request: Request) -> Result<(), Error> {
    sink.feed(hello.into_frame()).await?;
    sink.feed(request.into_frame()).await?;
    sink.flush().await
}

/// The next message; frames that may be passed over are.
pub(crate) async fn next<M: Message>(source: &mut FrameSource) -> Result<Option<M>, Error> {
    while let Some(frame) = source.next().await {
        if let Some(message) = M::from_frame(frame?)? {
            return Ok(Some(message));
        }
    }
    Ok(None)
}

fn unexpected(answer: &Answer) -> Error {
    Error::new(Code::Protocol, format!("the relay answered another question: {answer:?}"))
}
