//! A session against a broker that says anything at any time.

use std::collections::{HashMap, HashSet};

use arbitrary::{Arbitrary, Unstructured};
use skypipe_core::session::{Draw, ReaderSession, ReaderWants, WriterSession, WriterWants};
use skypipe_core::{
    Ack, Batch, BatchBuilder, Code, EndKind, Epoch, Error, Event, ItemDigest, Mode, Notice, Position, ReaderDown,
    ReaderUp, ReaderWelcome, Seq, SessionId, Take, Time, Until, WriterDown, WriterUp, WriterWelcome,
};

/// More steps show nothing new.
const STEPS_MAX: usize = 200;
/// How often one step lets a session speak: a session that never falls silent would keep its driver busy for ever.
const SAYS_MAX: usize = 1000;

/// A number near the start, near the end, or anywhere.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Number {
    Small(u8),
    Large(u8),
    Any(u64),
}

impl Number {
    pub(crate) fn get(self) -> u64 {
        match self {
            Self::Small(n) => n.into(),
            Self::Large(n) => u64::MAX - u64::from(n),
            Self::Any(n) => n,
        }
    }

    pub(crate) fn seq(self) -> Seq {
        Seq(self.get())
    }
}

#[derive(Arbitrary, Debug)]
enum WriterStep {
    Push(u8, bool, bool),
    PushWhole(u32),
    End(bool),
    Abort,
    Close,
    Begin,
    Attached { next: Number, ack: [Number; 3], credit: Number },
    Ack([Number; 3]),
    Credit(Number),
    Notice(u8),
    Lost(u8, Option<Number>),
    Tick(u32),
    Say,
    Flushed,
}

fn ack(numbers: [Number; 3]) -> Ack {
    let [settled, stored, delivered] = numbers.map(Number::seq);
    Ack { settled, stored, delivered }
}

fn notice(number: u8) -> Notice {
    match number % 6 {
        0 => Notice::Middle { writer: session(number >> 3), from: Seq(u64::from(number)) },
        1 => Notice::SecondWriter,
        2 => Notice::WaitsForRoom { code: Code::from_number(u16::from(number)), text: "full".to_owned() },
        3 => Notice::HasRoom,
        4 => Notice::SessionLost,
        _ => Notice::Other("anything".to_owned()),
    }
}

fn error(number: u8, stored: Option<Number>) -> Error {
    let code = Code::ALL.get(usize::from(number)).copied().unwrap_or(Code::Disconnected);
    let error = Error::new(code, "why");
    match stored {
        Some(stored) => error.with_stored(stored.seq()),
        None => error,
    }
}

pub(crate) fn session(number: u8) -> SessionId {
    SessionId([number % 4; 16])
}

/// A new session id each time, as chance would bring.
fn draw(drawn: &mut u8) -> Draw {
    *drawn = drawn.wrapping_add(1);
    Draw { jitter: u64::from(*drawn), session: SessionId([100 + *drawn % 100; 16]) }
}

pub(crate) fn writer(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(small) = bool::arbitrary(&mut input) else { return };
    let window_bytes = if small { 1000 } else { WriterWants::default().window_bytes };
    let wants = WriterWants { window_bytes, ..WriterWants::default() };
    let mut run = WriterRun {
        session: WriterSession::new(session(1), wants, Time(0)),
        now: Time(0),
        drawn: 0,
        next: None,
        records: 0,
    };
    for _ in 0..STEPS_MAX {
        let Ok(step) = WriterStep::arbitrary(&mut input) else { break };
        run.step(step);
        run.check();
    }
}

struct WriterRun {
    session: WriterSession,
    now: Time,
    drawn: u8,
    /// The number that the next batch over this link must have.
    next: Option<Seq>,
    records: u64,
}

impl WriterRun {
    fn step(&mut self, step: WriterStep) {
        let attached = self.session.connection().is_attached();
        match step {
            WriterStep::Push(length, first, last) => {
                let had_room = self.session.has_room();
                assert!(self.session.push(&vec![length; length.into()], first, last) == had_room);
            }
            WriterStep::PushWhole(length) => drop(self.session.push_whole(&vec![1; (length % 600_000) as usize])),
            WriterStep::End(whole) => {
                self.session.end(if whole { EndKind::Finished } else { EndKind::Interrupted });
            }
            WriterStep::Abort => self.session.abort(),
            WriterStep::Close => self.session.close(),
            WriterStep::Begin if self.session.connection().is_due(self.now) => drop(self.session.begin(self.now)),
            WriterStep::Attached { next, ack: numbers, credit } if self.session.connection().is_attaching() => {
                let welcome = WriterWelcome {
                    next: next.seq(),
                    ack: ack(numbers),
                    credit: credit.get(),
                    readers: 0,
                    mode: Mode::Default,
                };
                self.session.attached(&welcome, self.now);
                self.next = None;
            }
            WriterStep::Ack(numbers) if attached => self.session.down(WriterDown::Ack(ack(numbers))),
            WriterStep::Credit(bytes) if attached => self.session.down(WriterDown::Credit(bytes.get())),
            WriterStep::Notice(number) if attached => self.session.down(WriterDown::Notice(notice(number))),
            WriterStep::Lost(number, stored) => {
                let draw = draw(&mut self.drawn);
                self.session.lost(error(number, stored), self.now, draw);
                self.next = None;
            }
            WriterStep::Tick(milliseconds) => {
                self.now = Time(self.now.0 + u64::from(milliseconds) * 1000);
                let draw = draw(&mut self.drawn);
                self.session.tick(self.now, draw);
            }
            WriterStep::Say => self.say(),
            WriterStep::Flushed => self.session.flushed(),
            _ => {}
        }
    }

    /// What goes over one link is one run of numbers of one session.
    fn say(&mut self) {
        for said in 0.. {
            assert!(said < SAYS_MAX, "it never falls silent");
            let Some(up) = self.session.next_up() else { return };
            let WriterUp::Batch(batch) = up else { continue };
            assert_eq!(batch.session(), self.session.session());
            assert!(self.next.is_none_or(|next| next == batch.first()), "a hole within a link");
            assert_eq!(Batch::decode(batch.encoded().clone()).as_ref(), Ok(&batch));
            self.next = Some(batch.next());
        }
    }

    fn check(&mut self) {
        let progress = self.session.progress();
        let known = [progress.settled, progress.stored, progress.delivered];
        assert!(known.iter().all(|n| *n <= progress.records), "more is known than was written: {progress:?}");
        assert!(progress.records >= self.records, "records are not unwritten");
        self.records = progress.records;
        assert!(self.session.failure().is_none() || self.session.connection().is_over(), "a failed session goes on");
        let stored = self.session.reached(Until::Stored);
        assert!(!stored || self.session.reached(Until::Received), "stored, and not received");
        self.session.take_events();
    }
}

#[derive(Arbitrary, Debug)]
enum ReaderStep {
    Begin,
    Attached,
    Batch {
        writer: u8,
        first: Number,
        from: Option<Number>,
        lengths: [u8; 3],
        count: u8,
        end: Option<bool>,
        sum: bool,
    },
    /// The next batch of a writer, as an honest broker would send it.
    Next {
        writer: u8,
        length: u8,
        end: bool,
    },
    ItemEnd {
        writer: u8,
        kind: u8,
        next: Number,
        alone: bool,
    },
    Gap {
        writer: u8,
        from: Number,
        to: Number,
    },
    Taken(u8),
    Notice(u8),
    Finished,
    Take,
    Ack(u8, Number),
    Leave(bool),
    Close,
    Lost(u8, Option<Number>),
    Tick(u32),
    Say,
    Flushed,
}

pub(crate) fn reader(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok((keep, take)) = <(bool, u8)>::arbitrary(&mut input) else { return };
    let take = Take::from_number(take % 3).unwrap_or_default();
    let wants = ReaderWants { keep, take, ..ReaderWants::default() };
    let mut run = ReaderRun {
        session: ReaderSession::new(session(1), wants, Time(0)),
        now: Time(0),
        drawn: 0,
        handed: HashMap::new(),
        went_back: HashMap::new(),
        given_up: 0,
        taken: HashSet::new(),
        sent: HashMap::new(),
    };
    for _ in 0..STEPS_MAX {
        let Ok(step) = ReaderStep::arbitrary(&mut input) else { break };
        run.step(step);
        run.check();
    }
}

struct ReaderRun {
    session: ReaderSession,
    now: Time,
    drawn: u8,
    /// The number behind the last one handed over, by writer.
    handed: HashMap<SessionId, Seq>,
    /// How often one handed over after that was of a smaller number, by writer.
    went_back: HashMap<SessionId, u32>,
    /// How often the broker gave this reader up. Each time it may be given again what stands further in front, as others that had it left; what
    /// came before still waits here and is handed over first.
    given_up: u32,
    /// Writers whose items the broker says to be taken.
    taken: HashSet<SessionId>,
    /// What an honest broker sent last of each writer.
    sent: HashMap<SessionId, (Seq, ItemDigest)>,
}

impl ReaderRun {
    fn step(&mut self, step: ReaderStep) {
        let attached = self.session.connection().is_attached();
        match step {
            ReaderStep::Begin if self.session.connection().is_due(self.now) => drop(self.session.begin(self.now)),
            ReaderStep::Attached if self.session.connection().is_attaching() => {
                self.session.attached(ReaderWelcome::default(), self.now)
            }
            ReaderStep::Take => self.take(),
            ReaderStep::Ack(writer, next) => self.session.ack(session(writer), next.seq()),
            ReaderStep::Leave(part) => self.session.leave(part),
            ReaderStep::Close => self.session.close(),
            ReaderStep::Lost(number, stored) => {
                let draw = draw(&mut self.drawn);
                self.session.lost(error(number, stored), self.now, draw);
            }
            ReaderStep::Tick(milliseconds) => {
                self.now = Time(self.now.0 + u64::from(milliseconds) * 1000);
                let draw = draw(&mut self.drawn);
                self.session.tick(self.now, draw);
            }
            ReaderStep::Say => self.say(),
            ReaderStep::Flushed => self.session.flushed(),
            down if attached => self.down(down),
            _ => {}
        }
    }

    fn down(&mut self, step: ReaderStep) {
        let message = match step {
            ReaderStep::Batch { writer, first, from, lengths, count, end, sum } => {
                let batch = batch(writer, first.seq(), &lengths[..usize::from(count % 4)], end, sum);
                // A batch that cannot be decoded never comes so far.
                let Ok(batch) = Batch::decode(batch.encoded().clone()) else { return };
                let from = from.map_or(batch.first(), Number::seq);
                ReaderDown::Batch { from, position: Position::default(), batch }
            }
            ReaderStep::Next { writer, length, end } => self.honest(writer, length, end),
            ReaderStep::ItemEnd { writer, kind, next, alone } => {
                let kind = EndKind::from_number(kind % 3).unwrap_or(EndKind::Aborted);
                ReaderDown::ItemEnd { writer: session(writer), kind, next: next.seq(), alone }
            }
            ReaderStep::Gap { writer, from, to } => {
                ReaderDown::Gap { writer: session(writer), from: from.seq(), to: to.seq() }
            }
            ReaderStep::Taken(writer) => {
                // From here on the same numbers may come again: the broker took the writer's session for another. What came before may still wait
                // here, since this broker says so before it heard of an end.
                self.taken.insert(session(writer));
                ReaderDown::Taken { writer: session(writer) }
            }
            ReaderStep::Notice(number) => ReaderDown::Notice(notice(number)),
            ReaderStep::Finished => ReaderDown::Finished,
            _ => return,
        };
        self.session.down(message);
    }

    fn honest(&mut self, writer: u8, length: u8, end: bool) -> ReaderDown {
        let (first, mut digest) = self.sent.remove(&session(writer)).unwrap_or_default();
        let mut builder = BatchBuilder::new(session(writer), Epoch(1), first);
        let _ = builder.push(&vec![b'x'; length.into()], true, true);
        let batch = builder.build(end.then(|| digest.end(EndKind::Finished, length.into())));
        if !end {
            digest.add(&batch);
        }
        self.sent.insert(session(writer), (batch.next(), digest));
        ReaderDown::Batch { from: first, position: Position::default(), batch }
    }

    /// A writer's records come in order, whatever the broker sends; from further in front at most once each time that the reader was given up.
    fn take(&mut self) {
        let Some(chunk) = self.session.next_chunk() else { return };
        assert!(chunk.from < chunk.next(), "an empty run of records");
        let before = self.handed.insert(chunk.writer, chunk.next());
        if before.is_some_and(|before| chunk.from < before) && !self.taken.contains(&chunk.writer) {
            let went_back = self.went_back.entry(chunk.writer).or_default();
            *went_back += 1;
            assert!(*went_back <= self.given_up, "{before:?} was handed over before {:?}", chunk.from);
        }
        assert_eq!(chunk.records().map(|piece| piece.body.len()).sum::<usize>(), chunk.bodies().len());
    }

    fn say(&mut self) {
        for said in 0.. {
            assert!(said < SAYS_MAX, "it never falls silent");
            match self.session.next_up() {
                None => return,
                Some(ReaderUp::Credit(bytes)) => assert!(bytes > 0, "credit for nothing"),
                Some(_) => {}
            }
        }
    }

    fn check(&mut self) {
        assert!(self.session.failure().is_none() || self.session.connection().is_over(), "a failed session goes on");
        let outcome = self.session.outcome();
        for event in self.session.take_events() {
            match event {
                Event::Gap { from, to, .. } => assert!(from < to && outcome.gap, "a gap of nothing, or not counted"),
                Event::NewReader => self.given_up += 1,
                _ => {}
            }
        }
    }
}

/// A batch of these bodies; its end mark is right when `sum` says so and it is alone in its item.
fn batch(writer: u8, first: Seq, lengths: &[u8], end: Option<bool>, sum: bool) -> Batch {
    let mut builder = BatchBuilder::new(session(writer), Epoch(1), first);
    let mut bytes = 0;
    for &length in lengths {
        let _ = builder.push(&vec![length; length.into()], length & 1 == 0, length & 2 == 0);
        bytes += u64::from(length);
    }
    let kind = |whole| if whole { EndKind::Finished } else { EndKind::Interrupted };
    let mark = |whole| ItemDigest::default().end(kind(whole), bytes + u64::from(!sum));
    builder.build(end.map(mark))
}
