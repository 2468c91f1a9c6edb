//! One stream of a relay: hello, request and answer. What an attach passes on is in `passing.rs`.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::SinkExt;
use futures::future::{BoxFuture, Either, select};

use super::Relay;
use super::limits::RelayLimits;
use super::over::OverWatch;
use super::paced::KeyRate;
use super::passing::{Ending, Passing};
use super::state::{Counted, HalfOpen, Phase, State};
use crate::broker::{
    Broker, DownStream, ReaderAttach, ReaderDown, ReaderHalves, ReaderUp, UpSink, WriterAttach, WriterDown,
    WriterHalves, WriterUp,
};
use crate::caller::{Caller, Peer};
use crate::env::Env;
use crate::error::{Code, Error};
use crate::gatekeeper::Gatekeeper;
use crate::memory::{Memory, STREAM_BYTES};
use crate::name::{PatternRef, PipeRef};
use crate::remote::next;
use crate::transport::LinkStream;
use crate::wire::{
    Answer, FrameSink, FrameSource, Hello, Intake, Invited, LOCAL_TAKES_NOTHING, Message, Outflow, Request,
    SoftwareVersion, TAKES_NOTHING, carry, error_frame, refused_frame,
};

/// Serves one stream, in one task.
pub(super) struct Stream {
    broker: Arc<dyn Broker>,
    limits: RelayLimits,
    memory: Memory,
    software: SoftwareVersion,
    state: Arc<State>,
    caller: Caller,
    gatekeeper: Option<Arc<dyn Gatekeeper>>,
    public: Arc<Mutex<Vec<String>>>,
    env: Env,
    half_open: Option<HalfOpen>,
    /// Says when the link is over, and hears when the stream came to nothing; none on this machine, where the link is the stream.
    over: Option<OverWatch>,
}

impl Stream {
    pub(super) fn new(relay: &Relay, caller: Caller, half_open: HalfOpen, over: Option<OverWatch>) -> Self {
        Self {
            broker: relay.broker.clone(),
            limits: relay.limits,
            memory: relay.memory.clone(),
            software: relay.software,
            state: relay.state.clone(),
            caller,
            gatekeeper: relay.gatekeeper.clone(),
            public: relay.public.clone(),
            env: relay.env.clone(),
            half_open: Some(half_open),
            over,
        }
    }

    /// Serves it until it ends. Each of its two parts lies in a box of its own, which has its very size and is given back when the part
    /// is over: an idle stream should cost little.
    pub(super) fn serve(self, stream: LinkStream) -> impl Future<Output = ()> + Send {
        let beginning = Box::pin(self.begin(stream));
        async move {
            if let Some(passing) = beginning.await {
                passing.await;
            }
        }
    }

    /// Up to the attach, if that is what is asked for. Gives what follows.
    async fn begin(mut self, stream: LinkStream) -> Option<BoxFuture<'static, ()>> {
        let counted = self.state.stream();
        let state = self.state.clone();
        let (mut sink, mut source) = self.carry(stream);
        let reserved = self.memory.sessions.take(STREAM_BYTES);
        let opening = self.open(&mut sink, &mut source, counted.is_some() && reserved.is_some());
        let attached = match select(pin!(opening), pin!(state.reached(Phase::Gone))).await {
            Either::Left((attached, _)) => attached?,
            Either::Right(_) => return None,
        };
        let rate = self.rate();
        let Self { state, over, limits, .. } = self;
        let (stream, ends, frames) = (counted?, (sink, source), limits.frames_per_second);
        let ending = Ending { state, over, farewell: limits.farewell, _memory: reserved? };
        Some(match attached {
            Attached::Writer(up, down, attach) => {
                Passing::new((up, down), ends, (frames, rate), ending, [attach, stream]).run()
            }
            Attached::Reader(up, down, attach) => {
                Passing::new((up, down), ends, (frames, None), ending, [attach, stream]).run()
            }
        })
    }

    /// How fast the caller's key may write, if it has a rate.
    fn rate(&self) -> Option<KeyRate> {
        let key = self.caller.key?;
        let bytes_per_second = self.gatekeeper.as_ref()?.rate(key)?;
        let rate = self.state.rates.of(key, bytes_per_second, self.env.now());
        Some(KeyRate { rate, env: self.env.clone() })
    }

    /// Its frames, within bounds.
    fn carry(&self, stream: LinkStream) -> (FrameSink, FrameSource) {
        let is_afar = matches!(self.caller.peer, Peer::Network(_));
        let patience = if is_afar { TAKES_NOTHING } else { LOCAL_TAKES_NOTHING };
        let (sink, source) = carry(stream);
        let intake = Intake::new(self.memory.part_of(self.caller.key), !is_afar);
        (sink.within(Outflow::new(self.memory.clone(), patience)), source.within(intake))
    }

    /// Hello, request and answer. Gives the attach if that is what was asked for.
    async fn open(&mut self, sink: &mut FrameSink, source: &mut FrameSource, has_room: bool) -> Option<Attached> {
        let asked = tokio::time::timeout(self.limits.handshake, self.asked(source)).await;
        self.half_open = None;
        let asked = asked.unwrap_or_else(|_| Err(Error::new(Code::Timeout, "no request came in time")));
        if !matches!(asked, Ok(Some(_))) {
            self.came_to_nothing();
        }
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

    /// Answers what is no attach.
    async fn last_word(&self, sink: &mut FrameSink, frame: crate::wire::Frame) -> Option<Attached> {
        if !farewell(sink, frame, self.limits.farewell).await {
            self.came_to_nothing();
        }
        None
    }

    /// It ended before it was answered, or nobody waited for the answer.
    fn came_to_nothing(&self) {
        if let Some(over) = &self.over {
            over.cut(self.env.now());
        }
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
            _ if !has_room => {
                Some(Err(Error::new(Code::Busy, "the relay serves as many streams as it may; try later")))
            }
            _ if self.state.phase() >= Phase::Closed => Some(Err(going_away())),
            Request::AttachWriter(pipe, attach) => unless_gone(source, self.writer(&pipe, attach)).await,
            Request::AttachReader(pipe, attach) => unless_gone(source, self.reader(&pipe, attach)).await,
            Request::AttachPatternReader(pattern, attach) => {
                unless_gone(source, self.pattern_reader(&pattern, attach)).await
            }
            call => {
                let answered = unless_gone(source, self.call(&self.caller, hello, call)).await;
                answered.map(|answered| answered.map(|answer| (answer, None)))
            }
        };
        let Some(answered) = answered else {
            self.came_to_nothing();
            return None;
        };
        let _ = sink.feed(self.hello().into_frame()).await;
        match answered {
            // The first frames of the broker may leave with the welcome.
            Ok((welcome, Some(attached))) => sink.feed(welcome.into_frame()).await.is_ok().then_some(attached),
            Ok((answer, None)) => self.last_word(sink, answer.into_frame()).await,
            Err(error) => self.last_word(sink, refused_frame(&error)).await,
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
            Request::AttachWriter(..) | Request::AttachReader(..) | Request::AttachPatternReader(..) => {
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
        let ReaderHalves { welcome, up, down } = self.broker.attach_reader(&self.caller, pipe, attach).await?;
        Ok((Answer::ReaderWelcome(welcome), Some(Attached::Reader(up, down, counted))))
    }

    async fn pattern_reader(
        &self,
        pattern: &PatternRef,
        attach: ReaderAttach,
    ) -> Result<(Answer, Option<Attached>), Error> {
        let counted = self.state.attach();
        let ReaderHalves { welcome, up, down } =
            self.broker.attach_pattern_reader(&self.caller, pattern, attach).await?;
        Ok((Answer::ReaderWelcome(welcome), Some(Attached::Reader(up, down, counted))))
    }
}

/// The broker's halves of an attach, which is counted until they are dropped.
enum Attached {
    Writer(UpSink<WriterUp>, DownStream<WriterDown>, Counted),
    Reader(UpSink<ReaderUp>, DownStream<ReaderDown>, Counted),
}

/// The result, or none if the client is gone before.
async fn unless_gone<T>(source: &mut FrameSource, work: impl Future<Output = T>) -> Option<T> {
    match select(pin!(work), pin!(source.gone())).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

/// Sends a last frame and closes, within a time. Tells whether the peer took it.
pub(super) async fn farewell(sink: &mut FrameSink, frame: crate::wire::Frame, limit: Duration) -> bool {
    let leaving = async {
        sink.feed(frame).await?;
        sink.close().await
    };
    bounded(leaving, limit).await
}

pub(super) async fn bounded(leaving: impl Future<Output = Result<(), Error>>, limit: Duration) -> bool {
    // A client that does not listen to the last word loses it; its link says the rest.
    matches!(tokio::time::timeout(limit, leaving).await, Ok(Ok(())))
}

pub(super) fn going_away() -> Error {
    Error::new(Code::GoingAway, "the relay is stopping")
}
