//! A client of the simulation: it writes and reads as its dice say, and notes what it saw.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use skypipe_core::{
    BrokerPipe, Caller, Code, EndKind, Env, Error, Event as Told, KeyPair, Notice, Pipe, PipeName, Reader,
    ReaderOptions, RemoteBroker, Take, Until, Writer, WriterOptions,
};
use tokio::time::timeout;

use crate::clock::SimClock;
use crate::dice::Dice;
use crate::history::{Event, History, ItemId, ReadKind, ReaderId, RecordId, body, identify};
use crate::net::{Host, Net};
use crate::trace::Trace;

/// What all clients share.
pub struct Common {
    /// Chance comes from here.
    pub seed: u64,
    /// The network.
    pub net: Net,
    /// Clocks, and where work is done; the randomness of each client is its own.
    pub env: Env,
    /// What they note.
    pub history: History,
    /// What is to be seen.
    pub trace: Arc<Trace>,
    /// Item and reader numbers.
    next: AtomicU32,
}

/// Longest time that a writer waits for its end: longer than any fault, shorter than what is counted as lost for ever.
const END_WITHIN: Duration = Duration::from_secs(2 * 60 * 60);
/// Calls of a client before it counts as stuck would last longer than this in all.
const ATTACH_WITHIN: Duration = Duration::from_secs(30 * 60);

impl Common {
    /// Nothing happened yet.
    pub fn new(seed: u64, net: Net, env: Env, trace: Arc<Trace>) -> Self {
        Self { seed, net, env, history: History::default(), trace, next: AtomicU32::new(0) }
    }

    fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes an event, in the trace as well.
    pub fn note(&self, who: Host, event: Event) {
        self.trace.say(format_args!("{who:?}"), format_args!("{event:?}"));
        self.history.note(event);
    }
}

/// One client.
pub struct Client {
    common: Arc<Common>,
    host: Host,
    dice: Dice,
    pipes: Vec<String>,
    broker: Arc<RemoteBroker>,
    /// Calls left.
    calls: u32,
}

/// How a reader behaves.
struct Whims {
    /// It leaves after so many records, with what it has.
    most: u32,
    /// Longest pause after a record, in milliseconds.
    slow: u64,
    /// It stops after a record, so many times of a hundred.
    stops: u64,
    /// It stops when nothing comes for so long.
    patience: Duration,
}

/// The key of a client.
fn key(host: Host) -> KeyPair {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&host.0.to_le_bytes());
    KeyPair::from_seed(&seed)
}

impl Client {
    /// A client at this host that makes so many calls, on these pipes.
    pub fn new(common: &Arc<Common>, host: Host, pipes: &[String], calls: u32) -> Self {
        let dice = Dice::new(common.seed, &format!("client {}", host.0));
        let broker = broker(common, host);
        Self { common: common.clone(), host, dice, pipes: pipes.to_vec(), broker, calls }
    }

    /// Writes and reads until its calls are used up and the time is over, with such pauses between.
    pub async fn run(mut self, lull: RangeInclusive<u64>, clock: Arc<SimClock>, lasts: Duration) {
        while self.calls > 0 || clock.elapsed() < lasts {
            self.pause(lull.clone()).await;
            if self.dice.chance(60) { self.write().await } else { self.read().await }
        }
    }

    /// Reads all that is left of a pipe, for the end of a simulation.
    pub async fn drain(&mut self, pipe: usize) {
        let mut options = ReaderOptions::default();
        (options.no_wait, options.keep) = (true, true);
        let Some(reader) = self.reader(pipe, ReadKind::NoWait, options).await else { return };
        let whims = Whims { most: u32::MAX, slow: 0, stops: 0, patience: END_WITHIN };
        self.take(reader, whims).await;
    }

    /// Whether the pipe is gone: nothing is stored, nobody is attached.
    pub async fn is_gone(&self, pipe: usize) -> Result<(), String> {
        match self.pipe(pipe).stat().await {
            Err(error) if error.code() == Code::Access => Ok(()),
            Err(error) => Err(format!("{} cannot be asked for: {error}", self.pipes[pipe])),
            Ok(stat) => Err(format!("{} is still there: {stat:?}", self.pipes[pipe])),
        }
    }

    fn note(&self, event: Event) {
        self.common.note(self.host, event);
    }

    fn call(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    async fn pause(&mut self, millis: RangeInclusive<u64>) {
        let pause = self.dice.millis(millis);
        tokio::time::sleep(pause).await;
    }

    fn pipe(&self, pipe: usize) -> BrokerPipe {
        #[expect(clippy::expect_used, reason = "the simulation's own names")]
        let name = PipeName::new(&self.pipes[pipe]).expect("a name");
        BrokerPipe::new(self.broker.clone(), Caller::in_process(), name).with_env(env(&self.common, self.host))
    }

    /// The process dies: nothing more leaves it. Another one starts at its place.
    fn die(&mut self) {
        self.common.net.client_dies(self.host);
        self.broker = broker(&self.common, self.host);
    }

    async fn write(&mut self) {
        let item = ItemId(self.common.number());
        let (common, host) = (self.common.clone(), self.host);
        let options = WriterOptions::default().on_event(move |told| {
            if let Told::NewItem { session, .. } = told {
                common.note(host, Event::Session(item, session));
            }
        });
        self.call();
        let at = self.dice.below(self.pipes.len() as u64) as usize;
        let writer = match timeout(ATTACH_WITHIN, self.pipe(at).writer_with(options)).await {
            Ok(Ok(writer)) => writer,
            Ok(Err(error)) => return self.note(Event::WriteFailed(item, error.code())),
            Err(_) => return self.note(Event::Fault(format!("{item:?}: an attach hangs"))),
        };
        self.note(Event::Session(item, writer.session()));
        if let Err(error) = self.write_item(item, writer).await {
            self.note(Event::WriteFailed(item, error.code()));
        }
    }

    async fn write_item(&mut self, item: ItemId, mut writer: Writer) -> Result<(), Error> {
        for n in 0..self.dice.within(0..=12) as u32 {
            let len = self.length();
            let record = RecordId { item, n };
            self.note(Event::Sends(record, len));
            self.call();
            writer.send(&body(record, len)).await?;
            match self.dice.below(10) {
                0 | 1 => {
                    self.call();
                    timeout(END_WITHIN, writer.settled()).await.unwrap_or(Ok(()))?;
                }
                2 => {
                    self.call();
                    timeout(Duration::from_secs(5), writer.delivered()).await.unwrap_or(Ok(()))?;
                }
                3..=5 => self.pause(1..=4000).await,
                _ => {}
            }
            self.note_progress(item, &writer);
        }
        self.call();
        match self.dice.below(100) {
            0..=69 => self.end(item, writer, Until::Stored).await,
            70..=79 => self.end(item, writer, Until::Delivered).await,
            80..=87 => {
                self.note(Event::Ends(item, EndKind::Interrupted));
                writer.interrupt(Duration::from_secs(5)).await?;
                self.note(Event::Ended(item));
                Ok(())
            }
            88..=93 => {
                self.note(Event::GivesUp(item));
                drop(writer);
                Ok(())
            }
            _ => {
                self.note(Event::GivesUp(item));
                self.die();
                drop(writer);
                Ok(())
            }
        }
    }

    async fn end(&mut self, item: ItemId, writer: Writer, until: Until) -> Result<(), Error> {
        self.note(Event::Ends(item, EndKind::Finished));
        let patience = if until == Until::Stored { END_WITHIN } else { Duration::from_secs(60) };
        match timeout(patience, writer.end(until)).await {
            Ok(receipt) => {
                let progress = receipt?.progress;
                self.note(Event::Settled(item, progress.settled));
                self.note(Event::Delivered(item, progress.delivered));
                self.note(Event::Ended(item));
            }
            Err(_) if until == Until::Stored => self.note(Event::Fault(format!("{item:?} does not end"))),
            Err(_) => {}
        }
        Ok(())
    }

    fn note_progress(&self, item: ItemId, writer: &Writer) {
        let progress = writer.progress();
        self.note(Event::Settled(item, progress.settled));
        self.note(Event::Delivered(item, progress.delivered));
    }

    /// Mostly lines; some that fill a batch; a few that take several pieces.
    fn length(&mut self) -> usize {
        let range = match self.dice.below(100) {
            0..=89 => 10..=2000,
            90..=97 => 10_000..=80_000,
            _ => 250_000..=600_000,
        };
        self.dice.within(range) as usize
    }

    async fn read(&mut self) {
        let mut options = ReaderOptions::default();
        let kind = match self.dice.below(100) {
            0..=49 => ReadKind::Any,
            50..=64 => ReadKind::Keep,
            65..=74 => ReadKind::Item,
            75..=89 => ReadKind::NoWait,
            _ => ReadKind::Part,
        };
        options.keep = kind == ReadKind::Keep;
        options.no_wait = kind == ReadKind::NoWait;
        options.take = if kind == ReadKind::Item { Take::Item } else { Take::Any };
        let at = self.dice.below(self.pipes.len() as u64) as usize;
        let whims = Whims {
            most: if kind == ReadKind::Part { self.dice.within(1..=5) as u32 } else { u32::MAX },
            slow: if self.dice.chance(30) { 1500 } else { 0 },
            stops: if kind == ReadKind::Part { 0 } else { 2 },
            patience: self.dice.millis(2_000..=60_000),
        };
        if let Some(reader) = self.reader(at, kind, options).await {
            self.take(reader, whims).await;
        }
    }

    async fn reader(&mut self, pipe: usize, kind: ReadKind, options: ReaderOptions) -> Option<(ReaderId, Reader)> {
        let id = ReaderId(self.common.number());
        let (common, host) = (self.common.clone(), self.host);
        let options = options.on_event(move |told| {
            let event = match told {
                Told::ItemEnded { writer, kind, alone } => Event::ItemEnd(id, writer, kind, alone),
                Told::Gap { writer, from, to } => Event::Gap(id, writer, from, to),
                Told::Notice(Notice::Middle { writer, from }) => Event::Middle(id, writer, from),
                Told::NewReader => Event::NewReader(id),
                _ => return,
            };
            common.note(host, event);
        });
        self.call();
        self.note(Event::Reads(id, kind));
        match timeout(ATTACH_WITHIN, self.pipe(pipe).reader_with(options)).await {
            Ok(Ok(reader)) => return Some((id, reader)),
            Ok(Err(error)) => self.note(Event::ReadFailed(id, error.code())),
            Err(_) => self.note(Event::Fault(format!("{id:?}: an attach hangs"))),
        }
        None
    }

    /// Takes records until the end, or as its whims are.
    async fn take(&mut self, (id, mut reader): (ReaderId, Reader), whims: Whims) {
        let Whims { most, slow, stops, patience } = whims;
        let mut count = 0;
        loop {
            self.call();
            // To ask for the next is to acknowledge the one before.
            self.note(Event::Acks(id));
            match timeout(patience, reader.next()).await {
                Ok(Ok(Some(record))) => {
                    let (known, len) = (identify(&record.body), record.body.len());
                    let tail = if known.is_none() { self.common.history.tail_of(&record.body) } else { None };
                    self.note(match tail {
                        Some(of) => Event::Tail(id, record.writer, record.seq, of, len),
                        None => Event::Got(id, record.writer, record.seq, known, len),
                    });
                    count += 1;
                }
                Ok(Ok(None)) => {
                    let outcome = reader.outcome();
                    return self.note(Event::Finished(id, !outcome.incomplete && !outcome.gap));
                }
                Ok(Err(error)) => return self.note(Event::ReadFailed(id, error.code())),
                Err(_) => return self.stop(id, reader).await,
            }
            if count == most {
                self.note(Event::Acks(id));
                reader.ack();
                return self.leave(id, reader, true).await;
            }
            if slow > 0 {
                self.pause(0..=slow).await;
            }
            if self.dice.chance(stops) {
                return self.stop(id, reader).await;
            }
        }
    }

    async fn stop(&mut self, id: ReaderId, reader: Reader) {
        match self.dice.below(10) {
            0..=5 => self.leave(id, reader, false).await,
            6 | 7 => {
                self.note(Event::Stops(id));
                drop(reader);
            }
            _ => {
                self.note(Event::Stops(id));
                self.die();
                drop(reader);
            }
        }
    }

    async fn leave(&mut self, id: ReaderId, reader: Reader, part: bool) {
        self.note(Event::Leaves(id, part));
        match timeout(END_WITHIN, reader.leave(part)).await {
            Ok(Ok(_)) if part => self.note(Event::Left(id)),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.note(Event::ReadFailed(id, error.code())),
            Err(_) => self.note(Event::Fault(format!("{id:?} cannot leave"))),
        }
    }
}

/// The clocks of all, and the randomness of one.
pub(crate) fn env(common: &Common, host: Host) -> Env {
    let mut env = common.env.clone();
    let process = common.net.process(host).started;
    let serial = common.number();
    env.random = Arc::new(crate::dice::SharedDice::new(common.seed, &format!("session {serial} {} {process}", host.0)));
    env
}

pub(crate) fn broker(common: &Common, host: Host) -> Arc<RemoteBroker> {
    let broker = RemoteBroker::new(common.net.transport(host), "sim:");
    Arc::new(broker.with_env(env(common, host)).with_signer(Arc::new(key(host))))
}
