//! One stream of a relay: hello, request, answer, and the frames of an attach.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use futures::{SinkExt, StreamExt};
use tokio::sync::watch;

use super::Relay;
use super::limits::RelayLimits;
use super::over::OverWatch;
use super::paced::Paced;
use super::pump::{Stopped, pump};
use super::state::{Counted, HalfOpen, Phase, State};
use crate::broker::{
    Broker, DownStream, ReaderAttach, ReaderDown, ReaderHalves, ReaderUp, UpSink, WriterAttach, WriterDown,
    WriterHalves, WriterUp,
};
use crate::caller::{Caller, Peer};
use crate::error::{Code, Error};
use crate::gatekeeper::Gatekeeper;
use crate::name::PipeRef;
use crate::remote::next;
use crate::transport::LinkStream;
use crate::wire::{
    Answer, FrameSink, FrameSource, Hello, Invited, Message, MessageSink, MessageStream, Request, SoftwareVersion,
    carry, error_frame, refused_frame,
};

/// Serves one stream, in one task.
pub(super) struct Stream {
    broker: Arc<dyn Broker>,
    limits: RelayLimits,
    software: SoftwareVersion,
    state: Arc<State>,
    phase: watch::Receiver<Phase>,
    caller: Caller,
    gatekeeper: Option<Arc<dyn Gatekeeper>>,
    public: Arc<Mutex<Vec<String>>>,
    half_open: Option<HalfOpen>,
    /// Says when the caller's key is revoked; none on this machine, where there is none.
    revoked: Option<OverWatch>,
}

impl Stream {
    pub(super) fn new(relay: &Relay, caller: Caller, half_open: HalfOpen, revoked: Option<OverWatch>) -> Self {
        Self {
            broker: relay.broker.clone(),
            limits: relay.limits,
            software: relay.software,
            state: relay.state.clone(),
            phase: relay.state.phase(),
            caller,
            gatekeeper: relay.gatekeeper.clone(),
            public: relay.public.clone(),
            half_open: Some(half_open),
            revoked,
        }
    }

    pub(super) async fn serve(mut self, stream: LinkStream) {
        let counted = self.state.stream();
        let state = self.state.clone();
        let serving = self.converse(stream, counted.is_some());
        select(std::pin::pin!(serving), std::pin::pin!(state.reached(Phase::Gone))).await;
    }

    /// What is needed only until the attach stands is boxed and given back then: an idle stream should cost little.
    async fn converse(&mut self, stream: LinkStream, has_room: bool) {
        let (mut sink, mut source) = carry(stream);
        match Box::pin(self.open(&mut sink, &mut source, has_room)).await {
            None => {}
            Some(Attached::Writer(up, down, _attached)) => self.pass(sink, source, up, down).await,
            Some(Attached::Reader(up, down, _attached)) => self.pass(sink, source, up, down).await,
        }
    }

    /// Hello, request and answer. Gives the attach if that is what was asked for.
    async fn open(&mut self, sink: &mut FrameSink, source: &mut FrameSource, has_room: bool) -> Option<Attached> {
        let asked = tokio::time::timeout(self.limits.handshake, self.asked(source)).await;
        self.half_open = None;
        let asked = asked.unwrap_or_else(|_| Err(Error::new(Code::Timeout, "no request came in time")));
        match asked {
            Ok(Some((hello, request))) => self.answer(sink, source, &hello, request, has_room).await,
            // A link that was closed before it asked for anything is no news to anybody.
            Ok(None) => None,
            Err(error) => {
                // Even who could not be understood hears which versions are spoken here.
                let _ = sink.feed(self.hello().into_frame()).await;
                farewell(sink, error_frame(&error), self.limits.farewell).await;
                None
            }
        }
    }

    async fn asked(&self, source: &mut FrameSource) -> Result<Option<(Hello, Request)>, Error> {
        let Some(hello) = next::<Hello>(source).await? else { return Ok(None) };
        hello.shared_version()?;
        source.trust();
        let request = next::<Request>(source).await?;
        Ok(request.map(|request| (hello, request)))
    }

    fn hello(&self) -> Hello {
        Hello::new(self.software, self.broker.features())
    }

    async fn answer(
        &self,
        sink: &mut FrameSink,
        source: &mut FrameSource,
        hello: &Hello,
        request: Request,
        has_room: bool,
    ) -> Option<Attached> {
        let answered = match request {
            _ if !has_room => Err(Error::new(Code::Busy, "the relay serves as many streams as it may; try later")),
            _ if *self.phase.borrow() >= Phase::Closed => Err(going_away()),
            Request::AttachWriter(pipe, attach) => unless_gone(source, self.writer(&pipe, attach)).await?,
            Request::AttachReader(pipe, attach) => unless_gone(source, self.reader(&pipe, attach)).await?,
            call => unless_gone(source, self.call(&self.caller, hello, call)).await?.map(|answer| (answer, None)),
        };
        let _ = sink.feed(self.hello().into_frame()).await;
        match answered {
            // The first frames of the broker may leave with the welcome.
            Ok((welcome, Some(attached))) => sink.feed(welcome.into_frame()).await.is_ok().then_some(attached),
            Ok((answer, None)) => {
                farewell(sink, answer.into_frame(), self.limits.farewell).await;
                None
            }
            Err(error) => {
                farewell(sink, refused_frame(&error), self.limits.farewell).await;
                None
            }
        }
    }

    async fn call(&self, caller: &Caller, hello: &Hello, request: Request) -> Result<Answer, Error> {
        match request {
            Request::List(query) => self.broker.list(caller, query).await.map(Answer::Page),
            Request::Stat(pipe) => self.broker.stat(caller, &pipe).await.map(Answer::Stat),
            Request::Remove(pipe) => self.broker.remove(caller, &pipe).await.map(|()| Answer::Done),
            Request::Ping(bytes) => Ok(Answer::Pong(bytes)),
            Request::StepDown => self.step_down(caller, hello.software),
            Request::Invite(_) | Request::Keys | Request::AddKey(_) | Request::RevokeKey(_) => {
                self.administer(caller, request).await
            }
            Request::AttachWriter(..) | Request::AttachReader(..) => {
                Err(Error::new(Code::Internal, "an attach is not a call"))
            }
        }
    }

    /// What only those may ask who look after the relay.
    async fn administer(&self, caller: &Caller, request: Request) -> Result<Answer, Error> {
        if !caller.admin {
            return Err(Error::new(Code::Access, "this key may not look after the relay's keys"));
        }
        let Some(gatekeeper) = &self.gatekeeper else {
            let text = "this relay serves its own machine only: it has no keys and no tickets";
            return Err(Error::new(Code::Unsupported, text));
        };
        match request {
            Request::Invite(invite) => {
                let token = gatekeeper.invite(caller, invite).await?;
                let urls = self.public.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Ok(Answer::Invited(Invited { token, urls }))
            }
            Request::AddKey(line) => gatekeeper.add(&line).await.map(|()| Answer::Done),
            Request::RevokeKey(who) => gatekeeper.revoke(&who).await.map(Answer::Count),
            _ => gatekeeper.keys().await.map(Answer::Keys),
        }
    }

    /// A local relay makes way for a newer program of the same user, never for an older.
    fn step_down(&self, caller: &Caller, asks: SoftwareVersion) -> Result<Answer, Error> {
        if matches!(caller.peer, Peer::Network(_)) {
            return Err(Error::new(Code::Access, "only this machine may ask the relay to step down"));
        }
        if asks <= self.software {
            let text = format!("the relay is skypipe {}, and {asks} is not newer", self.software);
            return Err(Error::new(Code::Version, text));
        }
        self.state.ask_step_down();
        Ok(Answer::Done)
    }

    async fn writer(&self, pipe: &PipeRef, attach: WriterAttach) -> Result<(Answer, Option<Attached>), Error> {
        let counted = self.state.attach();
        let WriterHalves { welcome, up, down } = self.broker.attach_writer(&self.caller, pipe, attach).await?;
        Ok((Answer::WriterWelcome(welcome), Some(Attached::Writer(up, down, counted))))
    }

    async fn reader(&self, pipe: &PipeRef, attach: ReaderAttach) -> Result<(Answer, Option<Attached>), Error> {
        let counted = self.state.attach();
        let ReaderHalves { up, down } = self.broker.attach_reader(&self.caller, pipe, attach).await?;
        Ok((Answer::ReaderWelcome, Some(Attached::Reader(up, down, counted))))
    }

    /// Passes frames on in both directions until one side ends. The broker's halves are dropped first: that is the
    /// broken link it hears of, however long the client takes to hear why.
    async fn pass<U: Message, D: Message>(
        &mut self,
        sink: FrameSink,
        source: FrameSource,
        mut up: UpSink<U>,
        mut down: DownStream<D>,
    ) {
        let mut to_client = MessageSink::new(sink);
        let mut from_client = Paced::new(MessageStream::new(source), self.limits.frames_per_second);
        let ended = tokio::select! {
            stopped = pump(&mut from_client, &mut up) => Ended::upward(stopped),
            stopped = pump(&mut down, &mut to_client) => Ended::downward(stopped),
            _ = self.phase.wait_for(|p| *p >= Phase::GoingAway) => Ended::Because(going_away()),
            () = revoked(&self.revoked) => Ended::Because(no_longer_admitted()),
        };
        Box::pin(end(ended, up, down, &mut to_client, self.limits.farewell)).await;
    }
}

/// The broker's halves of an attach, which is counted until they are dropped.
enum Attached {
    Writer(UpSink<WriterUp>, DownStream<WriterDown>, Counted),
    Reader(UpSink<ReaderUp>, DownStream<ReaderDown>, Counted),
}

/// The end of an attach: what the client must still hear.
async fn end<U, D: Message>(
    ended: Ended,
    up: UpSink<U>,
    mut down: DownStream<D>,
    to_client: &mut MessageSink<D>,
    limit: Duration,
) {
    if let Ended::Because(error) = &ended
        && error.code() == Code::GoingAway
    {
        last_words(&mut down, to_client, limit).await;
    }
    drop((up, down));
    match ended {
        Ended::ClientLeft => {}
        Ended::Over => bounded(to_client.frames().close(), limit).await,
        Ended::Because(error) => farewell(to_client.frames(), error_frame(&error), limit).await,
    }
}

/// How an attach ended.
enum Ended {
    /// The client closed, or its link broke.
    ClientLeft,
    /// The broker said all it had to say.
    Over,
    /// The client must be told.
    Because(Error),
}

impl Ended {
    fn upward(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Ended => Self::ClientLeft,
            Stopped::Stream(error) if error.code() == Code::Disconnected => Self::ClientLeft,
            Stopped::Stream(error) | Stopped::Sink(error) => Self::Because(error),
        }
    }

    fn downward(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Ended => Self::Over,
            Stopped::Stream(error) => Self::Because(error),
            Stopped::Sink(error) if error.code() == Code::Disconnected => Self::ClientLeft,
            Stopped::Sink(error) => Self::Because(error),
        }
    }
}

/// The result, or none if the client is gone before.
async fn unless_gone<T>(source: &mut FrameSource, work: impl Future<Output = T>) -> Option<T> {
    match select(std::pin::pin!(work), std::pin::pin!(source.gone())).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

/// Resolves when the caller's key is revoked.
async fn revoked(over: &Option<OverWatch>) {
    match over {
        Some(over) => over.declared().await,
        None => std::future::pending().await,
    }
}

/// Sends a last frame and closes, within a time.
pub(super) async fn farewell(sink: &mut FrameSink, frame: crate::wire::Frame, limit: Duration) {
    let leaving = async {
        sink.feed(frame).await?;
        sink.close().await
    };
    bounded(leaving, limit).await;
}

async fn bounded(leaving: impl Future<Output = Result<(), Error>>, limit: Duration) {
    // A client that does not listen to the last word loses it; its link says the rest.
    let _ = tokio::time::timeout(limit, leaving).await;
}

/// Passes on what the broker had ready when it drained, such as the last acknowledgements.
async fn last_words<D: Message>(down: &mut DownStream<D>, to_client: &mut MessageSink<D>, limit: Duration) {
    let passing = async {
        while let Some(Some(Ok(message))) = futures::FutureExt::now_or_never(down.next()) {
            to_client.feed(message).await?;
        }
        Ok(())
    };
    bounded(passing, limit).await;
}

fn no_longer_admitted() -> Error {
    Error::new(Code::Access, "the key was revoked, or what it may do was changed")
}

fn going_away() -> Error {
    Error::new(Code::GoingAway, "the relay is stopping")
}
