//! Who replies.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::broker::Mode;
use crate::env::Env;
use crate::error::{Code, Error};
use crate::event::Events;
use crate::headers::Headers;
use crate::pipe::{BrokerPipe, PREFETCH, Pipe, ReaderOptions, WriterOptions};
use crate::reader::{Lease, Reader};
use crate::time::WallTime;
use crate::writer::Writer;

use super::{DEADLINE, REPLIES_KEPT, REPLY, REQUEST, replies};

/// A request so far past its deadline is passed over: clocks of machines differ by less.
const CLOCKS_DIFFER: Duration = Duration::from_secs(300);
/// Replies on their way to the task that writes them; who replies waits for room.
const REPLIES_MAX: usize = 64;

/// Takes requests, one after the other or many at once. Keep it until all that it took are replied to: with it go their leases.
///
/// ```no_run
/// # async fn serve(pipe: skypipe_core::BrokerPipe) -> Result<(), skypipe_core::Error> {
/// let mut replier = pipe.replier().await?;
/// while let Some(request) = replier.next().await? {
///     let reply = request.body().to_ascii_uppercase();
///     request.reply(&reply).await?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Replier {
    reader: Reader,
    replies: mpsc::Sender<Reply>,
    env: Env,
}

/// How a replier behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct ReplierOptions {
    /// Requests that it has at a time.
    pub prefetch: u32,
    /// Called with what people may want to know.
    pub events: Option<Events>,
}

impl Default for ReplierOptions {
    fn default() -> Self {
        Self { prefetch: PREFETCH, events: None }
    }
}

/// One request. Dropped without a reply it goes to another replier at once; taken too often, to the dead letters.
pub struct Request {
    lease: Lease,
    replies: mpsc::Sender<Reply>,
}

/// A reply on its way.
struct Reply {
    to: Option<String>,
    body: Bytes,
    /// The request, done with once the reply is stored.
    lease: Lease,
    stored: oneshot::Sender<Result<(), Error>>,
}

impl Replier {
    pub(crate) async fn attach(pipe: &BrokerPipe, options: ReplierOptions) -> Result<Self, Error> {
        let mut writes = WriterOptions::default().with_mode(Mode::Broadcast);
        writes.settings.retain.age = Some(REPLIES_KEPT);
        writes.events.clone_from(&options.events);
        let writer = replies(pipe)?.writer_with(writes).await?;
        let mut reads = ReaderOptions::default().with_mode(Mode::Queue);
        (reads.prefetch, reads.events) = (options.prefetch, options.events);
        let reader = pipe.reader_with(reads).await?;
        let (replies, to_write) = mpsc::channel(REPLIES_MAX);
        tokio::spawn(Replies { writer, under_way: VecDeque::new(), sent: 0 }.write(to_write));
        Ok(Self { reader, replies, env: pipe.env().clone() })
    }

    /// The next request. `None` when there will be no more, because it was told to stop.
    ///
    /// # Errors
    /// As [`Reader::next_lease`].
    ///
    /// # Cancel safety
    /// As [`Reader::next_lease`].
    pub async fn next(&mut self) -> Result<Option<Request>, Error> {
        while let Some(lease) = self.reader.next_lease().await? {
            if deadline(&lease).is_some_and(|deadline| self.is_past(deadline)) {
                lease.done();
                continue;
            }
            return Ok(Some(Request { lease, replies: self.replies.clone() }));
        }
        Ok(None)
    }

    /// Waits until the broker knows of all replies so far; see [`Reader::settled`].
    ///
    /// # Errors
    /// As [`Reader::settled`].
    ///
    /// # Cancel safety
    /// As [`Reader::settled`].
    pub async fn settled(&mut self) -> Result<(), Error> {
        self.reader.settled().await
    }

    fn is_past(&self, deadline: WallTime) -> bool {
        let past = self.env.clock.wall().0.saturating_sub(deadline.0);
        u128::from(past) > CLOCKS_DIFFER.as_millis()
    }
}

impl Request {
    /// What is asked.
    pub fn body(&self) -> &Bytes {
        self.lease.body()
    }

    /// What the requester says beside it.
    pub fn headers(&self) -> &Headers {
        self.lease.headers()
    }

    /// When nobody waits for a reply any more, by the requester's clock.
    pub fn deadline(&self) -> Option<WallTime> {
        deadline(&self.lease)
    }

    /// The lease beneath: to extend it when the reply takes long.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Replies, and waits until that is stored: then the request is done with. A request that wants no reply is just done with.
    ///
    /// # Errors
    /// As [`Writer::send`](crate::Writer::send); the request goes to another replier then.
    ///
    /// # Cancel safety
    /// A dropped call has replied, or not.
    pub async fn reply(self, body: &[u8]) -> Result<(), Error> {
        let gone = || Error::new(Code::Disconnected, "replies cannot be written any more");
        let (stored, is_stored) = oneshot::channel();
        let to = self.lease.headers().get(REQUEST).map(str::to_owned);
        let reply = Reply { to, body: Bytes::copy_from_slice(body), lease: self.lease, stored };
        self.replies.send(reply).await.map_err(|_| gone())?;
        is_stored.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn deadline(lease: &Lease) -> Option<WallTime> {
    lease.headers().get(DEADLINE)?.parse().ok().map(WallTime)
}

/// Writes replies as they come, many under way at once, and tells who replied when each is stored.
struct Replies {
    writer: Writer,
    /// Each with its number among all that were sent.
    under_way: VecDeque<(u64, Reply)>,
    sent: u64,
}

impl Replies {
    async fn write(mut self, mut replies: mpsc::Receiver<Reply>) {
        let error = loop {
            match self.step(&mut replies).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => break error,
            }
        };
        self.under_way.into_iter().for_each(|(_, reply)| reply.fail(&error));
    }

    /// One more is stored, or sent. False when none is left and none will come.
    async fn step(&mut self, replies: &mut mpsc::Receiver<Reply>) -> Result<bool, Error> {
        let oldest = self.under_way.front().map(|(number, _)| *number);
        let came = tokio::select! {
            biased;
            stored = self.writer.settled_to(oldest.unwrap_or(0)), if oldest.is_some() => stored.map(|()| None)?,
            reply = replies.recv() => reply,
        };
        match (came, oldest) {
            (Some(reply), _) => self.send(reply).await?,
            (None, None) => return Ok(false),
            (None, Some(number)) => {
                self.writer.settled_to(number).await?;
                self.under_way.pop_front().into_iter().for_each(|(_, reply)| reply.finish());
            }
        }
        Ok(true)
    }

    async fn send(&mut self, reply: Reply) -> Result<(), Error> {
        let Some(to) = reply.to.clone() else {
            reply.finish();
            return Ok(());
        };
        self.sent += 1;
        let body = reply.body.clone();
        self.under_way.push_back((self.sent, reply));
        self.writer.headers(Headers::new().with(REPLY, &to)?);
        self.writer.send(&body).await
    }
}

impl Reply {
    fn finish(self) {
        self.lease.done();
        let _ = self.stored.send(Ok(()));
    }

    fn fail(self, error: &Error) {
        let _ = self.stored.send(Err(Error::new(error.code(), error.text())));
    }
}
