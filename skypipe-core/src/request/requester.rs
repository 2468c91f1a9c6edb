//! Who asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::broker::Mode;
use crate::env::Env;
use crate::error::{Code, Error};
use crate::headers::Headers;
use crate::pipe::{BrokerPipe, Pipe, ReaderOptions, WriterOptions};
use crate::reader::Reader;
use crate::record::Record;
use crate::writer::Writer;

use super::{DEADLINE, REPLIES_KEPT, REPLY, REQUEST, late, replies};

/// Asks, and gives each reply to who asked. Many requests may be under way at once.
///
/// ```
/// use std::time::Duration;
/// use skypipe_core::{Client, Env, LocalBroker};
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), skypipe_core::Error> {
///     let shout = Client::over(LocalBroker::in_memory(Env::system())?).pipe("shout")?;
///     let mut replier = shout.replier().await?;
///     tokio::spawn(async move {
///         while let Some(request) = replier.next().await? {
///             let reply = request.body().to_ascii_uppercase();
///             request.reply(&reply).await?;
///         }
///         Ok::<(), skypipe_core::Error>(())
///     });
///
///     let requester = shout.requester().await?;
///     let reply = requester.request(b"hello", Duration::from_secs(5)).await?;
///     assert_eq!(&reply[..], b"HELLO");
///     Ok(())
/// }
/// ```
pub struct Requester {
    writer: tokio::sync::Mutex<Writer>,
    waiting: Arc<Waiting>,
    /// Tells its requests from those of all others.
    id: String,
    next: AtomicU64,
    reading: JoinHandle<()>,
    env: Env,
}

/// Who waits for which reply.
#[derive(Default)]
struct Waiting(Mutex<Replies>);

#[derive(Default)]
struct Replies {
    by_number: BTreeMap<u64, oneshot::Sender<Record>>,
    /// Why none comes any more.
    failure: Option<(Code, String)>,
}

impl Requester {
    pub(crate) async fn attach(pipe: &BrokerPipe) -> Result<Self, Error> {
        // It reads before it asks: a reply to its first request finds it there.
        let mut reads = ReaderOptions::default().with_mode(Mode::Broadcast);
        reads.settings.retain.age = Some(REPLIES_KEPT);
        let reader = replies(pipe)?.reader_with(reads).await?;
        let writer = pipe.writer_with(WriterOptions::default().with_mode(Mode::Queue)).await?;
        let env = pipe.env().clone();
        let id = data_encoding::HEXLOWER.encode(&env.session().0);
        let waiting = Arc::<Waiting>::default();
        let reading = tokio::spawn(read(reader, id.clone(), waiting.clone()));
        Ok(Self { writer: writer.into(), waiting, id, next: AtomicU64::new(0), reading, env })
    }

    /// Asks, and waits for the reply, at most so long. It may be handled more than once, when a replier dies; the first reply counts.
    ///
    /// # Errors
    /// `E_TIMEOUT` without a reply in time: the request may have been handled all the same. Else as [`Writer::send`](crate::Writer::send)
    /// and [`Reader::next`](crate::Reader::next).
    ///
    /// # Cancel safety
    /// A dropped call has asked, or not; its reply is passed over.
    pub async fn request(&self, body: &[u8], within: Duration) -> Result<Record, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let reply = self.waiting.expect(number);
        let _forget = Forget { waiting: &self.waiting, number };
        let asked = async {
            self.send(number, body, within).await?;
            reply.await.map_err(|_| self.waiting.why())
        };
        tokio::time::timeout(within, asked).await.unwrap_or_else(|_| Err(late()))
    }

    async fn send(&self, number: u64, body: &[u8], within: Duration) -> Result<(), Error> {
        let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let deadline = self.env.clock.wall().0.saturating_add(within);
        let headers = Headers::new().with(REQUEST, &format!("{}.{number}", self.id))?;
        let headers = headers.with(DEADLINE, &deadline.to_string())?;
        let mut writer = self.writer.lock().await;
        writer.headers(headers);
        writer.send(body).await
    }
}

impl Drop for Requester {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Waiting {
    fn expect(&self, number: u64) -> oneshot::Receiver<Record> {
        let (reply, waits) = oneshot::channel();
        let mut replies = self.lock();
        // Where no reply can come any more nobody waits for one.
        if replies.failure.is_none() {
            replies.by_number.insert(number, reply);
        }
        waits
    }

    /// Takes out who waits for this reply.
    fn take(&self, number: u64) -> Option<oneshot::Sender<Record>> {
        self.lock().by_number.remove(&number)
    }

    fn why(&self) -> Error {
        let failure = self.lock().failure.clone();
        failure.map_or_else(late, |(code, text)| Error::new(code, text))
    }

    fn fail(&self, error: &Error) {
        let mut replies = self.lock();
        replies.failure = Some((error.code(), error.text().to_owned()));
        replies.by_number.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Replies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that nobody waits for any more.
struct Forget<'a> {
    waiting: &'a Waiting,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.waiting.take(self.number);
    }
}

async fn read(mut replies: Reader, id: String, waiting: Arc<Waiting>) {
    let error = loop {
        match replies.next().await {
            Ok(Some(record)) => {
                let number = number_of(&record, &id);
                if let Some(reply) = number.and_then(|number| waiting.take(number)) {
                    let _ = reply.send(record);
                }
            }
            Ok(None) => break Error::new(Code::Disconnected, "no more replies come"),
            Err(error) => break error,
        }
    };
    waiting.fail(&error);
}

fn number_of(reply: &Record, id: &str) -> Option<u64> {
    reply.headers.get(REPLY)?.strip_prefix(id)?.strip_prefix('.')?.parse().ok()
}
