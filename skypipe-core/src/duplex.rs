//! Both ways over one pipe.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::broker::{Mode, Start};
use crate::error::Error;
use crate::event::{Event, Events};
use crate::id::SessionId;
use crate::pipe::{Pipe, ReaderOptions, WriterOptions};
use crate::reader::Reader;
use crate::record::Record;
use crate::session::{Outcome, Until};
use crate::writer::{Receipt, Writer};

/// One end of a broadcast where everybody writes and reads: what one end sends, all others get, in the same order.
///
/// ```
/// use skypipe_core::{Client, Env, LocalBroker, Pipe, Until};
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), skypipe_core::Error> {
///     let room = Client::over(LocalBroker::in_memory(Env::system())?).pipe("room")?;
///     let (mut anna, mut ben) = (room.duplex().await?, room.duplex().await?);
///
///     anna.send(b"hello").await?;
///     assert_eq!(ben.next().await?.as_deref(), Some(&b"hello"[..]));
///     ben.send(b"hello yourself").await?;
///     assert_eq!(anna.next().await?.as_deref(), Some(&b"hello yourself"[..]));
///     anna.end(Until::Stored).await?;
///     Ok(())
/// }
/// ```
pub struct Duplex {
    writer: Writer,
    others: Others,
}

/// How an end behaves.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct DuplexOptions {
    /// It gets its own records too.
    pub echo: bool,
    /// Where it begins: with what comes from now on, unless told otherwise.
    pub start: Start,
    /// Called with what people may want to know.
    pub events: Option<Events>,
}

/// What the others send; see [`Duplex::split`].
pub struct Others {
    reader: Reader,
    /// None, when its own records are wanted too.
    own: Option<Arc<Own>>,
}

/// Most sessions that an end remembers as its own. It begins another one only when the broker gave the last one up, after a minute without a link.
const OWN_MAX: usize = 16;

/// The sessions of this end's writer.
#[derive(Default)]
struct Own(Mutex<VecDeque<SessionId>>);

impl Duplex {
    pub(crate) async fn attach<P: Pipe + ?Sized>(pipe: &P, options: DuplexOptions) -> Result<Self, Error> {
        let own = Arc::new(Own::default());
        // It reads before it is heard: an answer to its first record finds it there.
        let mut reads = ReaderOptions::default().with_mode(Mode::Broadcast);
        (reads.start, reads.events) = (options.start, options.events.clone().map(not_of_the_link));
        let reader = pipe.reader_with(reads).await?;
        let mut writes = WriterOptions::default().with_mode(Mode::Broadcast);
        writes.events = Some(noting(own.clone(), options.events));
        let writer = pipe.writer_with(writes).await?;
        own.add(writer.session());
        Ok(Self { writer, others: Others { reader, own: (!options.echo).then_some(own) } })
    }

    /// Sends one record; see [`Writer::send`].
    ///
    /// # Errors
    /// As [`Writer::send`].
    ///
    /// # Cancel safety
    /// As [`Writer::send`].
    pub async fn send(&mut self, record: &[u8]) -> Result<(), Error> {
        self.writer.send(record).await
    }

    /// The next record of another end; see [`Others::next`].
    ///
    /// # Errors
    /// As [`Reader::next`].
    ///
    /// # Cancel safety
    /// As [`Reader::next`].
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        self.others.next().await
    }

    /// Leaves, and waits until all that was sent got as far as `until`.
    ///
    /// # Errors
    /// As [`Writer::end`].
    ///
    /// # Cancel safety
    /// As [`Writer::end`].
    pub async fn end(self, until: Until) -> Result<Receipt, Error> {
        self.writer.end(until).await
    }

    /// Both ways apart, for two tasks.
    pub fn split(self) -> (Writer, Others) {
        (self.writer, self.others)
    }
}

impl Others {
    /// The next record of another end. Acknowledges the one before. `None` where [`Reader::next`] says so.
    ///
    /// # Errors
    /// As [`Reader::next`].
    ///
    /// # Cancel safety
    /// As [`Reader::next`].
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        loop {
            match self.reader.next().await? {
                Some(record) if self.own.as_ref().is_some_and(|own| own.has(record.writer)) => {}
                other => return Ok(other),
            }
        }
    }

    /// Leaves; see [`Reader::leave`].
    ///
    /// # Errors
    /// As [`Reader::leave`].
    ///
    /// # Cancel safety
    /// As [`Reader::leave`].
    pub async fn leave(self) -> Result<Outcome, Error> {
        self.reader.leave(false).await
    }
}

impl Own {
    fn add(&self, session: SessionId) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.push_back(session);
        if sessions.len() > OWN_MAX {
            sessions.pop_front();
        }
    }

    fn has(&self, session: SessionId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&session)
    }
}

/// A new session of the writer is known as its own before anything of it is sent.
fn noting(own: Arc<Own>, events: Option<Events>) -> Events {
    Arc::new(move |event| {
        if let Event::NewItem { session, .. } = event {
            own.add(session);
        }
        if let Some(tell) = &events {
            tell(event);
        }
    })
}

/// Both ways share a link: what becomes of it is told once, by the writer.
fn not_of_the_link(events: Events) -> Events {
    Arc::new(move |event| match event {
        Event::NotConnected { .. } | Event::Connected { .. } => {}
        event => events(event),
    })
}
