//! A relay somewhere else, as a broker.

mod standing;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::time::Instant;

use crate::broker::{
    Broker, Features, ListPage, ListQuery, ReaderAttach, ReaderHalves, WriterAttach, WriterHalves, no_patterns,
};
use crate::caller::Caller;
use crate::env::Env;
use crate::error::{Code, Error};
use crate::gatekeeper::Invite;
use crate::identity::Signer;
use crate::name::{PatternRef, PipeRef};
use crate::proof::{CHALLENGE_BYTES, ClientProof};
use crate::registry;
use crate::stat::PipeStat;
use crate::transport::{Link, LinkStream, Transport};
use crate::wire::{
    Admitted, Answer, FrameSink, FrameSource, Hello, Invited, Message, MessageSink, MessageStream, Request,
    SoftwareVersion, carry, next_hello,
};
use standing::{Asked, Standing};

/// How long a link between machines may take to come about, proof of the key included. It is more than a transport takes to find out
/// that nobody answers, and as long as a session waits for an attach.
pub const LINK_WITHIN: Duration = Duration::from_secs(10);
/// How long an attach over a link between machines waits for its answer: the path may have died since the link was made. Half of what
/// a command has for its first link, so that it has a second try; a round trip and a sync of a slow disk take less.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The pipes of a relay, reached over any [`Transport`]. Each call is a stream of one shared link, which is opened when it is
/// first needed and again after it broke.
///
/// An attach carries its frames on its stream directly: no task stands between. An attach to another machine waits [`ANSWER_WITHIN`];
/// any other call waits for its answer without an end, who calls sets the deadline. A link on which a call went unanswered is given
/// up: what runs on it goes on, the next call opens another.
///
/// A link to another machine begins with proof of a key, on its first stream: see [`proof`](crate::proof).
pub struct RemoteBroker {
    transport: Arc<dyn Transport>,
    url: String,
    software: SoftwareVersion,
    signer: Option<Arc<dyn Signer>>,
    ticket: Bytes,
    env: Env,
    link: tokio::sync::Mutex<Option<Arc<Standing>>>,
    /// What the last proof brought.
    admitted: Mutex<Option<Admitted>>,
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
            signer: None,
            ticket: Bytes::new(),
            env: Env::system(),
            admitted: Mutex::default(),
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

    /// The same, proving this key to relays on other machines. Without it, the one that is
    /// [installed](crate::registry::install_signer) does.
    #[must_use]
    pub fn with_signer(mut self, signer: Arc<dyn Signer>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// The same, showing a ticket's token with each proof.
    #[must_use]
    pub fn with_ticket(mut self, token: Bytes) -> Self {
        self.ticket = token;
        self
    }

    /// The same with other randomness.
    #[must_use]
    pub fn with_env(mut self, env: Env) -> Self {
        self.env = env;
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
                Ok(Pong { round_trip, software: exchange.software, path: link.link.path() })
            }
            Answer::Pong(_) => Err(Error::new(Code::Integrity, "a ping came back with other bytes")),
            other => Err(unexpected(&other)),
        }
    }

    /// Connects, where that was not done yet, and gives what this side's key is admitted to; none on this machine, where no
    /// key is asked for.
    ///
    /// # Errors
    /// As [`Transport::connect`]; `E_PIN` when it is another relay, `E_ACCESS` when the key is not known there or the ticket is no
    /// good, `E_KEY` when there is no key to prove.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind, or a key that is admitted.
    pub async fn admitted(&self) -> Result<Option<Admitted>, Error> {
        self.link().await?;
        Ok(*self.admitted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the relay for a ticket.
    ///
    /// # Errors
    /// `E_ACCESS` for a key that may not invite, `E_UNSUPPORTED` from a relay that no other machine can reach, or a broken link.
    ///
    /// # Cancel safety
    /// A dropped call may have made a ticket that nobody has.
    pub async fn invite(&self, invite: Invite) -> Result<Invited, Error> {
        match self.ask(Request::Invite(invite)).await?.answer {
            Answer::Invited(invited) => Ok(invited),
            other => Err(unexpected(&other)),
        }
    }

    /// The keys that the relay knows, a line of `authorized_keys` each.
    ///
    /// # Errors
    /// As [`RemoteBroker::invite`].
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    pub async fn keys(&self) -> Result<Vec<String>, Error> {
        match self.ask(Request::Keys).await?.answer {
            Answer::Keys(lines) => Ok(lines),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a key known to the relay, by its line of `authorized_keys`.
    ///
    /// # Errors
    /// As [`RemoteBroker::invite`], and `E_KEY` when the line is none.
    ///
    /// # Cancel safety
    /// A dropped call may have added the key.
    pub async fn add_key(&self, line: &str) -> Result<(), Error> {
        match self.ask(Request::AddKey(line.to_owned())).await?.answer {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes the relay forget the keys of this text, fingerprint or comment; gives how many.
    ///
    /// # Errors
    /// As [`RemoteBroker::invite`], and `E_ACCESS` when there is none.
    ///
    /// # Cancel safety
    /// A dropped call may have revoked them.
    pub async fn revoke_key(&self, who: &str) -> Result<u32, Error> {
        match self.ask(Request::RevokeKey(who.to_owned())).await?.answer {
            Answer::Count(count) => Ok(count),
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
        let asked = Asked::on(&link);
        let (mut sink, mut source) = carry(stream);
        let within = answer_within(&*link.link, &request);
        let answer = tokio::select! {
            biased;
            answer = tokio::time::timeout(within, self.ask_on(&mut sink, &mut source, request)) => answer,
            silent = link.link.silent(), if !link.has_answered() => return Err(silent),
        };
        let Ok(answer) = answer else {
            return Err(Error::new(Code::Unreachable, format!("the relay did not answer within {within:?}")));
        };
        asked.answered();
        // A relay that heard nothing in time: the link carries nothing in that direction.
        if answer.as_ref().is_err_and(|e| matches!(e.code(), Code::Disconnected | Code::Timeout)) {
            link.give_up();
        }
        let (software, answer) = answer?;
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
            return Err(no_answer());
        };
        self.heard(&hello);
        hello.shared_version()?;
        source.trust();
        let answer = next::<Answer>(source).await?;
        Ok((hello.software, answer.ok_or_else(no_answer)?))
    }

    fn heard(&self, hello: &Hello) {
        let mut relay = self.relay.lock().unwrap_or_else(PoisonError::into_inner);
        *relay = Some((hello.software, hello.features));
    }

    /// A stream of the link. A link that turns out to be broken is replaced once.
    pub(crate) async fn stream(&self) -> Result<(Arc<Standing>, LinkStream), Error> {
        let link = self.link().await?;
        if let Ok(stream) = link.link.open().await {
            return Ok((link, stream));
        }
        link.give_up();
        let link = self.link().await?;
        let stream = link.link.open().await?;
        Ok((link, stream))
    }

    async fn link(&self) -> Result<Arc<Standing>, Error> {
        let mut shared = self.link.lock().await;
        if let Some(link) = shared.as_ref().filter(|link| !link.is_given_up()) {
            return Ok(link.clone());
        }
        *shared = None;
        let link = Arc::new(Standing::new(self.connect().await?));
        *shared = Some(link.clone());
        Ok(link)
    }

    async fn connect(&self) -> Result<Box<dyn Link>, Error> {
        let connecting = async {
            let link = self.transport.connect(&self.url).await?;
            if link.is_network() {
                let admitted = self.prove(&*link).await?;
                *self.admitted.lock().unwrap_or_else(PoisonError::into_inner) = Some(admitted);
            }
            Ok(link)
        };
        match tokio::time::timeout(LINK_WITHIN, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(Error::new(Code::Unreachable, format!("no link to {} within {LINK_WITHIN:?}", self.url))),
        }
    }

    /// Proves this side's key on a stream of its own, and hears the relay's proof first.
    async fn prove(&self, link: &dyn Link) -> Result<Admitted, Error> {
        let signer = self.signer.clone().or_else(registry::signer).ok_or_else(no_key)?;
        let mut challenge = [0; CHALLENGE_BYTES];
        self.env.random.fill(&mut challenge);
        let hello = Hello::new(self.software, Features::default());
        let (proof, hello) = ClientProof::begin(hello, signer.key(), challenge, link.relay(), link.exporter());
        let (mut sink, mut source) = carry(link.open().await?);
        sink.send(hello.into_frame()).await?;
        let (payload, hello) = next_hello(&mut source).await?.ok_or_else(no_answer)?;
        hello.shared_version()?;
        let (message, mut prove) = proof.relay_said(&payload, &hello, self.ticket.clone())?;
        prove.signature = signer.sign(&message).await?;
        sink.send(prove.into_frame()).await?;
        next::<Admitted>(&mut source).await?.ok_or_else(no_answer)
    }
}

/// One stream after its answer.
struct Exchange {
    software: SoftwareVersion,
    answer: Answer,
    sink: FrameSink,
    source: FrameSource,
}

impl Exchange {
    fn into_reader(self) -> Result<ReaderHalves, Error> {
        match self.answer {
            Answer::ReaderWelcome(welcome) => Ok(ReaderHalves {
                welcome,
                up: Box::pin(MessageSink::new(self.sink)),
                down: Box::pin(MessageStream::new(self.source)),
            }),
            other => Err(unexpected(&other)),
        }
    }
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
        self.ask(Request::AttachReader(pipe.clone(), attach)).await?.into_reader()
    }

    async fn attach_pattern_reader(
        &self,
        _: &Caller,
        pattern: &PatternRef,
        attach: ReaderAttach,
    ) -> Result<ReaderHalves, Error> {
        let asked = self.ask(Request::AttachPatternReader(pattern.clone(), attach)).await;
        // An older relay does not know the request, and says so in its own way.
        let asked = asked.map_err(|error| match error.code() {
            Code::Protocol if !self.features().patterns => no_patterns().because(error),
            _ => error,
        });
        asked?.into_reader()
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

fn answer_within(link: &dyn Link, request: &Request) -> Duration {
    let attaches =
        matches!(request, Request::AttachWriter(..) | Request::AttachReader(..) | Request::AttachPatternReader(..));
    if attaches && link.is_network() { ANSWER_WITHIN } else { Duration::MAX }
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

fn no_answer() -> Error {
    Error::new(Code::Disconnected, "the relay closed the link without an answer")
}

fn no_key() -> Error {
    Error::new(Code::Key, "a relay on another machine asks for a key: skypipe_keys::install() adds this user's")
}

fn unexpected(answer: &Answer) -> Error {
    Error::new(Code::Protocol, format!("the relay answered another question: {answer:?}"))
}
