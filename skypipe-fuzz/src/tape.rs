//! A queue or a broadcast among strangers: writers and readers that say anything, a log that syncs when it syncs, crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use skypipe_core::delivery::limits::TAPE;
use skypipe_core::delivery::{Effect, Extent, Fact, Next, Ranges, Room, TapePipe};
use skypipe_core::{
    Batch, BatchBuilder, EndKind, Epoch, Holder, ItemDigest, ItemNo, LeaseId, Mark, Mode, OnTape, PipeName, PipeRef,
    Position, Presence, ReaderAttach, ReaderDown, ReaderUp, Retain, Seq, SessionId, Settings, Start, Take, Time,
    Verdict, WallTime, WriterResume,
};

use crate::session::{Number, session};

/// More steps show nothing new.
const STEPS_MAX: usize = 300;
/// Most messages that one step takes for a reader or writer: who takes them all and gets more never comes to an end.
const MESSAGES_MAX: usize = 10_000;
/// Sessions of readers have numbers of their own: 128 and up.
const READER: u8 = 128;

#[derive(Arbitrary, Debug)]
enum Step {
    Set {
        deliveries: Option<u8>,
        lease: Option<u8>,
        age: Option<u8>,
        bytes: Option<u16>,
        records: Option<u8>,
    },
    AttachWriter {
        writer: u8,
        epoch: u8,
        resume: Option<(Number, Number)>,
    },
    /// The next batch, as an honest writer would send it.
    Send {
        writer: u8,
        epoch: u8,
        records: u8,
        delay: u8,
        end: bool,
    },
    Batch {
        writer: u8,
        as_writer: u8,
        epoch: u8,
        first: Number,
        count: u8,
        end: Option<bool>,
    },
    Abort {
        writer: u8,
        epoch: u8,
    },
    WriterAway {
        writer: u8,
        epoch: u8,
    },
    Hear {
        writer: u8,
        epoch: u8,
    },
    Reader(u8, u8, ReaderStep),
    Tick(u32),
    Stored(u8),
    Lost(u8),
    Quota(bool),
    Full(bool),
    Room(bool),
    WritersMay(Number),
    /// What goes to the dead letters is there.
    Buried,
    Remove,
    Flush,
    Snapshot,
    Crash,
}

#[derive(Arbitrary, Debug)]
enum ReaderStep {
    Attach {
        how: u8,
        credit: Number,
        prefetch: u8,
        resumes: bool,
        start: Number,
        has: Option<(Number, u8)>,
    },
    Receive {
        damaged: bool,
    },
    Credit(Number),
    AckAll,
    AckTo(Number, Number),
    /// Of something that it was handed.
    Settle {
        which: u8,
        verdict: u8,
        delay: u8,
    },
    SettleAny {
        place: Number,
        attempt: u8,
        verdict: u8,
    },
    Acknowledge(u8, Number),
    Leave(bool),
    Away,
}

pub(crate) fn run(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let mut input = Unstructured::new(rest);
    let mut run = Run::new(if first & 1 == 0 { Mode::Queue } else { Mode::Broadcast });
    for _ in 0..STEPS_MAX {
        let Ok(step) = Step::arbitrary(&mut input) else { break };
        run.step(step);
        run.effects();
        run.check();
    }
    run.everybody_is_lost();
}

/// What the log has.
enum Logged {
    Fact(Fact),
    Tape(Seq, Batch),
    Part(ItemNo, Batch),
}

struct Run {
    mode: Mode,
    pipe: TapePipe,
    now: Time,
    log: Vec<Logged>,
    synced: usize,
    /// What an honest writer sent last.
    sent: BTreeMap<SessionId, (Seq, ItemDigest)>,
    /// Behind which numbers of it a record in parts goes on.
    open: BTreeSet<(SessionId, Seq)>,
    /// Parts that the log was told to forget.
    forgotten: BTreeSet<ItemNo>,
    /// On their way to the dead letters.
    dying: Vec<Seq>,
    /// Which record stands where: the same for every reader, for ever.
    tape: BTreeMap<Seq, (SessionId, Seq)>,
    /// Behind what each attach of a reader has.
    received: BTreeMap<(SessionId, Epoch), Point>,
    /// The record that each reader was handed in part, and the number of its next part.
    parts: BTreeMap<SessionId, (LeaseId, Seq)>,
    /// Who was handed a record last, and at which attempt.
    handed: BTreeMap<Seq, (u32, SessionId)>,
    /// What each reader was handed.
    leases: BTreeMap<SessionId, Vec<LeaseId>>,
    /// Said to be done, and not answered.
    said: BTreeSet<(SessionId, LeaseId)>,
    /// Confirmed to be done.
    done: BTreeSet<Seq>,
}

fn new_pipe(mode: Mode) -> TapePipe {
    TapePipe::new(PipeRef::from(&PipeName::default()), mode, WallTime(1_000_000))
}

fn reader_session(reader: u8) -> SessionId {
    SessionId([READER + reader % 4; 16])
}

fn epoch(number: u8) -> Epoch {
    Epoch(u32::from(number % 5))
}

impl Run {
    fn new(mode: Mode) -> Self {
        Self {
            mode,
            pipe: new_pipe(mode),
            now: Time(1),
            log: Vec::new(),
            synced: 0,
            sent: BTreeMap::new(),
            open: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            dying: Vec::new(),
            tape: BTreeMap::new(),
            received: BTreeMap::new(),
            parts: BTreeMap::new(),
            handed: BTreeMap::new(),
            leases: BTreeMap::new(),
            said: BTreeSet::new(),
            done: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Set { deliveries, lease, age, bytes, records } => {
                let retain = Retain {
                    age: age.map(|seconds| Duration::from_secs(seconds.into())),
                    bytes: bytes.map(u64::from),
                    records: records.map(u64::from),
                };
                let lease = lease.map(|seconds| Duration::from_secs(seconds.into()));
                self.pipe.set(Settings { max_deliveries: deliveries.map(u32::from), lease, retain });
            }
            Step::Reader(reader, number, step) => self.reader_step(reader_session(reader), epoch(number), step),
            Step::Tick(milliseconds) => {
                self.now = Time(self.now.0 + u64::from(milliseconds) * 1000);
                self.pipe.tick(self.now);
            }
            Step::Stored(count) => self.sync(usize::from(count)),
            Step::Lost(number) => {
                let lost = if number & 1 == 0 { session(number) } else { reader_session(number) };
                self.pipe.lost(lost, self.now);
            }
            Step::Quota(is_full) => self.pipe.quota(is_full.then_some(Room::Pipe), self.now),
            Step::Full(disk) => self.pipe.waits_for_room(if disk { Room::Disk } else { Room::Owner }, self.now),
            Step::Room(disk) => self.pipe.has_room(if disk { Room::Disk } else { Room::Owner }),
            Step::WritersMay(bytes) => self.pipe.writers_may(bytes.get()),
            Step::Buried => std::mem::take(&mut self.dying).into_iter().for_each(|place| self.pipe.buried(place)),
            Step::Remove => self.pipe.remove(),
            Step::Flush => self.pipe.flush(),
            Step::Snapshot => self.pipe.log_snapshot(),
            Step::Crash => self.crash(),
            step => self.writer_step(step),
        }
    }

    fn writer_step(&mut self, step: Step) {
        match step {
            Step::AttachWriter { writer, epoch: number, resume } => {
                let (session, epoch) = (session(writer), epoch(number));
                let resume =
                    resume.map(|(settled, stored)| WriterResume { settled: settled.seq(), stored: stored.seq() });
                if self.pipe.attach_writer(session, epoch, resume, Holder::Unknown).is_ok()
                    && let Some(Ok(welcome)) = self.pipe.writer_welcome(session, epoch)
                {
                    self.sent.entry(session).or_default().0 = welcome.next;
                }
            }
            Step::Send { writer, epoch, records, delay, end } => self.send(writer, epoch, records, delay, end),
            Step::Batch { writer, as_writer, epoch: number, first, count, end } => {
                let batch = forged(as_writer, first.seq(), count % 8, end);
                // A batch that cannot be decoded never comes so far.
                if let Ok(batch) = Batch::decode(batch.encoded().clone()) {
                    let _ = self.pipe.batch(session(writer), epoch(number), batch, self.now);
                }
            }
            Step::Abort { writer, epoch: number } => {
                let _ = self.pipe.abort(session(writer), epoch(number), self.now);
            }
            Step::WriterAway { writer, epoch: number } => {
                self.pipe.writer_away(session(writer), epoch(number), self.now);
            }
            Step::Hear { writer, epoch: number } => {
                for heard in 0.. {
                    assert!(heard < MESSAGES_MAX, "a writer is told things for ever");
                    let Next::Message(_) = self.pipe.next_for_writer(session(writer), epoch(number)) else { return };
                    self.effects();
                }
            }
            _ => {}
        }
    }

    fn send(&mut self, writer: u8, number: u8, records: u8, delay: u8, end: bool) {
        let (first, mut digest) = self.sent.get(&session(writer)).copied().unwrap_or_default();
        let is_open = self.open.contains(&(session(writer), first));
        // A record in parts, or more of it, and perhaps its end.
        let (is_part, ends) = (is_open || records & 0x80 != 0, records & 0x40 != 0 || end);
        let records = if is_part || self.mode == Mode::Queue { 1 } else { records % 8 };
        let moment = WallTime(1_000_000 + self.now.0 / 1000 + u64::from(delay) * 1000);
        let mut builder = BatchBuilder::new(session(writer), epoch(number), first);
        builder = builder.not_before((delay > 200).then_some(moment));
        for _ in 0..records {
            let _ = builder.push(b"a record", !is_open, !is_part || ends);
        }
        let batch = builder.build(end.then(|| digest.end(EndKind::Finished, u64::from(records) * 8)));
        // The numbers may have come to their end.
        if Batch::decode(batch.encoded().clone()).is_err() {
            return;
        }
        if self.pipe.batch(session(writer), epoch(number), batch.clone(), self.now).is_ok() {
            digest.add(&batch);
            self.sent.insert(session(writer), (batch.next(), digest));
            let behind = (session(writer), batch.next());
            if batch.is_open() {
                self.open.insert(behind);
            } else {
                self.open.remove(&behind);
            }
        }
    }

    fn reader_step(&mut self, session: SessionId, epoch: Epoch, step: ReaderStep) {
        let up = match step {
            ReaderStep::Attach { how, credit, prefetch, resumes, start, has } => {
                let has = has.map(|(place, attempt)| lease(place.seq(), attempt.into()));
                return self.attach(session, epoch, (how, resumes), (credit.get(), prefetch), start, has);
            }
            ReaderStep::Receive { damaged } => return self.receive(session, epoch, damaged),
            ReaderStep::Away => return self.pipe.reader_away(session, epoch, self.now),
            ReaderStep::Credit(bytes) => ReaderUp::Credit(bytes.get()),
            ReaderStep::AckAll => {
                let Some(upto) = self.received.get(&(session, epoch)) else { return };
                ReaderUp::AckTo(Mark { position: upto.position(), records: 0 })
            }
            ReaderStep::AckTo(place, records) => {
                ReaderUp::AckTo(Mark { position: Position::from(place.seq()), records: records.get() as u32 })
            }
            ReaderStep::Settle { which, verdict, delay } => {
                let known = self.leases.get(&session).map(Vec::as_slice).unwrap_or_default();
                let Some(lease) = known.get(usize::from(which) % known.len().max(1)).cloned() else { return };
                ReaderUp::Settle { lease, verdict: said(verdict, delay) }
            }
            ReaderStep::SettleAny { place, attempt, verdict } => {
                ReaderUp::Settle { lease: lease(place.seq(), attempt.into()), verdict: said(verdict, attempt) }
            }
            ReaderStep::Acknowledge(writer, next) => {
                ReaderUp::Ack(skypipe_core::ReaderCursor { writer: crate::session::session(writer), next: next.seq() })
            }
            ReaderStep::Leave(part) => ReaderUp::Leave { part },
        };
        let settles = match &up {
            ReaderUp::Settle { lease, verdict: Verdict::Done } => Some(lease.clone()),
            _ => None,
        };
        if self.pipe.reader_up(session, epoch, up, self.now).is_ok() {
            self.said.extend(settles.map(|lease| (session, lease)));
        }
    }

    fn attach(
        &mut self,
        session: SessionId,
        epoch: Epoch,
        (how, resumes): (u8, bool),
        (credit, prefetch): (u64, u8),
        start: Number,
        has: Option<LeaseId>,
    ) {
        let at = || Mark { position: Position::from(start.seq()), records: u32::from(how >> 6) };
        let tape = OnTape {
            settings: Settings::default(),
            start: match how % 6 {
                0 => Start::Now,
                1 => Start::Beginning,
                2 => Start::Last(start.get()),
                3 => Start::Ago(Duration::from_millis(start.get())),
                4 => Start::Since(WallTime(start.get())),
                _ => Start::At(at()),
            },
            cursor: (how & 8 != 0).then(|| format!("cursor {}", how >> 7)),
            resume_at: (resumes && how & 16 != 0).then(at),
            prefetch: prefetch.into(),
            has: has.into_iter().chain(self.leases.get(&session).cloned().unwrap_or_default()).collect(),
        };
        let attach = ReaderAttach {
            session,
            epoch,
            mode: None,
            take: Take::from_number(prefetch % 3).unwrap_or_default(),
            keep: false,
            no_wait: how & 32 != 0,
            credit,
            mid_record: false,
            resume: resumes.then(Vec::new),
            tape,
        };
        if self.pipe.attach_reader(&attach, Holder::Unknown, self.now).is_ok() {
            self.received.remove(&(session, epoch));
        }
        let _ = self.pipe.reader_welcome(session, epoch);
    }

    /// Takes what there is for a reader.
    fn receive(&mut self, session: SessionId, epoch: Epoch, damaged: bool) {
        for received in 0.. {
            assert!(received < MESSAGES_MAX, "a reader is told things for ever");
            let message = match self.pipe.next_for_reader(session, epoch) {
                Next::Message(message) => message,
                Next::FromLog { item, from, .. } => match self.read_log(session, epoch, item, from, damaged) {
                    Some(message) => message,
                    None => return,
                },
                Next::Wait | Next::End(_) => return,
            };
            self.effects();
            match message {
                ReaderDown::Batch { from, position, batch } => self.broadcast(session, epoch, from, &position, &batch),
                ReaderDown::Leased { lease, batch, .. } => self.leased(session, lease, &batch),
                ReaderDown::Settled { lease, error } => self.settled(session, &lease, error.is_some()),
                ReaderDown::Missing { from, to, records } => {
                    let (from, to) = (place(&from), place(&to));
                    assert!(from < to && records == to.0 - from.0, "{from:?} to {to:?} are not {records}");
                    self.received.insert((session, epoch), Point(to, 0));
                }
                ReaderDown::Finished => return,
                _ => {}
            }
        }
    }

    /// Records of a broadcast: they stand where they stood for everybody, and come in order.
    fn broadcast(&mut self, session: SessionId, epoch: Epoch, from: Seq, position: &Position, batch: &Batch) {
        let (end, count) = (batch.first().plus(u64::from(batch.count())), u64::from(batch.count()));
        assert!(batch.first() <= from && from < end, "{from:?} is not in {batch:?}");
        let (skipped, part) = (from.0 - batch.first().0, Point::of_part(position));
        let (begins, behind) = match part {
            Some(Point(at, parts)) if batch.is_open() => (Point(at, parts + skipped), Point(at, parts + count)),
            Some(Point(at, parts)) => (Point(at, parts + skipped), Point(at.plus(1), 0)),
            None => (Point(place(position).plus(skipped), 0), Point(place(position).plus(count), 0)),
        };
        let before = self.received.insert((session, epoch), behind);
        // A look into a queue passes over what is done with.
        let follows = |before| before == begins || (self.mode == Mode::Queue && before < begins);
        assert!(before.is_none_or(follows), "{begins:?} came behind {before:?}");
        if let Some(Point(at, parts)) = part {
            return self.stands(at, (batch.session(), Seq(batch.first().0 - parts)));
        }
        for n in 0..count {
            self.stands(place(position).plus(n), (batch.session(), batch.first().plus(n)));
        }
    }

    /// A record of a queue: nobody else has it, and nobody had it at this attempt.
    fn leased(&mut self, session: SessionId, lease: LeaseId, batch: &Batch) {
        let at = place(&lease.position);
        assert_eq!(batch.count(), 1, "a record travels alone");
        let had = self.parts.remove(&session);
        if batch.is_open() {
            self.parts.insert(session, (lease.clone(), batch.next()));
        }
        if batch.first_start().is_none() {
            return assert_eq!(had, Some((lease, batch.first())), "a part that does not follow on the one before");
        }
        self.stands(at, (batch.session(), batch.first()));
        assert!(!self.done.contains(&at), "{at:?} was done with");
        let before = self.handed.insert(at, (lease.attempt, session));
        if let Some((attempt, holder)) = before {
            let again = attempt == lease.attempt && holder == session;
            assert!(
                again || attempt < lease.attempt,
                "{at:?} came at {} to {session:?} behind {before:?}",
                lease.attempt
            );
        }
        self.leases.entry(session).or_default().push(lease);
    }

    fn settled(&mut self, session: SessionId, lease: &LeaseId, is_refused: bool) {
        if self.said.remove(&(session, lease.clone())) && !is_refused {
            let at = place(&lease.position);
            let holder = self.handed.get(&at);
            assert_eq!(holder, Some(&(lease.attempt, session)), "who had not the last attempt settled {at:?}");
            self.done.insert(at);
        }
    }

    fn stands(&mut self, at: Seq, record: (SessionId, Seq)) {
        let known = self.tape.entry(at).or_insert(record);
        assert_eq!(*known, record, "another record at {at:?}");
    }

    fn read_log(
        &mut self,
        session: SessionId,
        epoch: Epoch,
        item: ItemNo,
        from: Seq,
        damaged: bool,
    ) -> Option<ReaderDown> {
        assert!(!self.forgotten.contains(&item), "{item:?} was forgotten");
        let holds = |at: Seq, batch: &Batch| at <= from && from < at.plus(u64::from(batch.count()));
        let found = self.log[..self.synced].iter().find_map(|logged| match logged {
            Logged::Tape(at, batch) if item == TAPE && holds(*at, batch) => Some((*at, batch.clone())),
            Logged::Part(of, batch) if item == *of && holds(batch.first(), batch) => {
                Some((batch.first(), batch.clone()))
            }
            _ => None,
        });
        assert!(item == TAPE || found.is_some(), "{from:?} of {item:?} is not there");
        match found.filter(|_| !damaged) {
            Some((at, batch)) => self.pipe.from_log(session, epoch, (item, at), &batch, self.now),
            None => self.pipe.missing(session, epoch, item, from, from.plus(1)),
        }
    }

    fn effects(&mut self) {
        for effect in self.pipe.take_effects() {
            match effect {
                Effect::Fact(fact) => self.log.push(Logged::Fact(fact)),
                Effect::Tape(at, batch) => self.log.push(Logged::Tape(at, batch)),
                Effect::Bury(place) => self.dying.push(place),
                Effect::Gone => {
                    let (now, sent) = (self.now, std::mem::take(&mut self.sent));
                    *self = Self { now, sent, ..Self::new(self.mode) };
                    return;
                }
                Effect::Batch(item, batch) => self.log.push(Logged::Part(item, batch)),
                Effect::Forget(item, _) if item != TAPE => drop(self.forgotten.insert(item)),
                Effect::Forget(..) | Effect::Wake(_) | Effect::Closed { .. } => {}
            }
        }
    }

    fn sync(&mut self, most: usize) {
        let count = most.min(self.log.len() - self.synced);
        if count > 0 {
            self.synced += count;
            self.pipe.stored(count as u64, self.now);
        }
    }

    fn crash(&mut self) {
        self.log.truncate(self.synced);
        self.dying.clear();
        self.said.clear();
        self.received.clear();
        self.parts.clear();
        self.forgotten.clear();
        self.pipe = new_pipe(self.mode);
        for logged in &self.log {
            if let Logged::Fact(fact) = logged {
                let Ok(fact) = Fact::decode(fact.encode()) else { panic!("a fact survives the log") };
                self.pipe.replay(fact);
            }
        }
        let (unread, mut there) = (self.pipe.unread_from(), Ranges::default());
        for logged in &self.log {
            if let Logged::Tape(at, batch) = logged {
                let behind = at.plus(u64::from(batch.count()));
                there.insert(*at..behind);
                if behind > unread {
                    self.pipe.replay_batch(*at, batch);
                }
            }
        }
        let tape: Extent = there.iter().collect();
        let parts = |wanted: ItemNo| {
            self.log.iter().filter_map(move |logged| match logged {
                Logged::Part(item, batch) if *item == wanted => Some(batch),
                _ => None,
            })
        };
        for item in self.pipe.open_items() {
            if let Some(last) = parts(item).last() {
                self.pipe.replay_part(item, last, 1);
            }
        }
        self.pipe.recovered(self.now, |item| match (parts(item).next(), parts(item).last()) {
            _ if item == TAPE => tape.clone(),
            (Some(first), Some(last)) => {
                std::iter::once(first.first()..last.first().plus(u64::from(last.count()))).collect()
            }
            _ => Vec::new(),
        });
    }

    /// The figures for people add up.
    fn check(&self) {
        let (counts, readers) = (self.pipe.counts(), self.pipe.reader_stats());
        assert!(counts.ready + counts.leased + counts.delayed <= counts.items, "{counts:?}");
        let held: u64 = readers.iter().map(|reader| reader.holds).sum();
        assert_eq!(held, counts.leased, "{readers:?}");
        assert!(readers.iter().all(|reader| reader.lag.records <= counts.items), "{readers:?} of {counts:?}");
        let _ = self.pipe.next_tick();
    }

    fn everybody_is_lost(&mut self) {
        for number in 0..4 {
            self.pipe.lost(session(number), self.now);
            self.pipe.lost(reader_session(number), self.now);
            self.effects();
        }
        self.sync(usize::MAX);
        self.effects();
        let counts = self.pipe.counts();
        assert_eq!((counts.writers, counts.readers, counts.leased), (0, 0, 0), "who is lost has nothing: {counts:?}");
        let readers = self.pipe.reader_stats();
        assert!(readers.iter().all(|reader| reader.presence == Presence::Nobody), "{readers:?}");
        assert!(self.pipe.away().is_empty());
    }
}

fn place(position: &Position) -> Seq {
    Seq::try_from(position).expect("places of a tape are numbers")
}

/// A place, and how many parts of the record there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point(Seq, u64);

impl Point {
    /// Where a part stands; none for what is no part.
    fn of_part(position: &Position) -> Option<Self> {
        let bytes = <[u8; 16]>::try_from(&position.0[..]).ok()?;
        let both = u128::from_be_bytes(bytes);
        Some(Self(Seq((both >> 64) as u64), both as u64))
    }

    fn position(self) -> Position {
        match self {
            Self(place, 0) => Position::from(place),
            Self(place, parts) => Position([place.0.to_be_bytes(), parts.to_be_bytes()].concat().into()),
        }
    }
}

fn lease(place: Seq, attempt: u32) -> LeaseId {
    LeaseId { position: Position::from(place), attempt }
}

fn said(verdict: u8, delay: u8) -> Verdict {
    match verdict % 4 {
        0 | 1 => Verdict::Done,
        2 => Verdict::Refused { delay: Duration::from_secs(delay.into()) },
        _ => Verdict::Extend,
    }
}

/// A batch that claims anything.
fn forged(writer: u8, first: Seq, count: u8, end: Option<bool>) -> Batch {
    let mut builder = BatchBuilder::new(session(writer), Epoch(1), first);
    for number in 0..count {
        let _ = builder.push(b"forged", number & 4 == 0, number & 2 == 0 || end.is_some());
    }
    builder.build(end.map(|whole| {
        let kind = if whole { EndKind::Finished } else { EndKind::Interrupted };
        ItemDigest::default().end(kind, u64::from(count) * 6)
    }))
}
