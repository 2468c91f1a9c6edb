//! A tape with a log that keeps what was synced when it crashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::batch::{Batch, BatchBuilder, EndKind, ItemDigest};
use crate::broker::{Mode, ReaderAttach, ReaderDown, Settings, WriterResume};
use crate::caller::Holder;
use crate::delivery::limits::TAPE;
use crate::delivery::{Counts, Effect, Fact, Next, TapePipe};
use crate::error::{Code, Error};
use crate::id::{Epoch, ItemNo, Position, Seq, SessionId};
use crate::name::{PipeName, PipeRef};
use crate::stat::{Presence, ReaderStat};
use crate::time::{Time, WallTime};

pub(super) struct World {
    pub(super) pipe: TapePipe,
    mode: Mode,
    log: Vec<Logged>,
    synced: usize,
    /// All below was forgotten in the log, and what is to be once so many entries are on disk.
    forgotten: Seq,
    forgetting: Vec<(usize, Seq)>,
    pub(super) now: Time,
    pub(super) buried: Vec<Seq>,
    writers: BTreeMap<SessionId, Writer>,
    /// The number behind the last of sessions that are over.
    closed: BTreeMap<SessionId, Seq>,
    names: u8,
    /// Parts that the log was told to forget.
    dropped: BTreeSet<ItemNo>,
    /// Records in parts of which a writer that was given up had a part acknowledged: it cannot write them anew.
    pub(super) torn: Vec<String>,
}

#[derive(Clone, Debug)]
enum Logged {
    Fact(Fact),
    Tape(Seq, Batch),
    Part(ItemNo, Batch),
}

#[derive(Default)]
struct Writer {
    epoch: u32,
    /// What is not known to be stored.
    kept: Vec<Batch>,
    next: Seq,
    stored: Seq,
    digest: ItemDigest,
    connected: bool,
    /// What is still to be written of a record in parts.
    rest: VecDeque<String>,
    /// Records in parts, by the number of the first.
    long: BTreeMap<Seq, String>,
}

impl World {
    pub(super) fn new(mode: Mode) -> Self {
        let (log, writers) = (Vec::new(), BTreeMap::new());
        let (pipe, buried) = (new_pipe(mode), Vec::new());
        Self {
            pipe,
            mode,
            log,
            synced: 0,
            forgotten: Seq(0),
            forgetting: Vec::new(),
            now: Time(0),
            buried,
            writers,
            closed: BTreeMap::new(),
            names: 0,
            dropped: BTreeSet::new(),
            torn: Vec::new(),
        }
    }

    pub(super) fn name(&mut self) -> SessionId {
        self.names += 1;
        SessionId([self.names; 16])
    }

    pub(super) fn set(&mut self, settings: Settings) {
        self.pipe.set(settings);
        self.effects();
    }

    /// Time passes.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        while self.pipe.next_tick().is_some_and(|at| at <= self.now) {
            self.pipe.tick(self.now);
            self.effects();
        }
    }

    /// All that was appended is on disk.
    pub(super) fn sync(&mut self) {
        let count = self.log.len() - self.synced;
        self.synced = self.log.len();
        self.pipe.stored(count as u64, self.now);
        self.forget();
        self.effects();
        self.hear();
    }

    /// Only so much of it.
    pub(super) fn sync_some(&mut self, count: usize) {
        let count = count.min(self.log.len() - self.synced);
        self.synced += count;
        self.pipe.stored(count as u64, self.now);
        self.effects();
        self.hear();
    }

    /// The relay is killed and starts again with what was synced.
    pub(super) fn crash(&mut self) {
        self.log.truncate(self.synced);
        self.forget();
        self.forgetting.clear();
        // What is forgotten is gone.
        let forgotten = self.forgotten;
        self.log.retain(|entry| match entry {
            Logged::Tape(at, batch) => at.plus(u64::from(batch.count())) > forgotten,
            Logged::Fact(_) | Logged::Part(..) => true,
        });
        self.synced = self.log.len();
        self.restart();
    }

    /// The log frees its older facts.
    pub(super) fn snapshot(&mut self) {
        let before = self.log.len();
        self.pipe.log_snapshot();
        self.effects();
        let tape = |entry: &Logged| !matches!(entry, Logged::Fact(..));
        let mut kept: Vec<Logged> = self.log[..before].iter().filter(|entry| tape(entry)).cloned().collect();
        // Nothing of it is on disk before the snapshot is.
        let synced = kept.len();
        kept.extend(self.log[before..].iter().cloned());
        if self.synced == before {
            self.sync_count(before, kept, synced);
        }
    }

    fn sync_count(&mut self, before: usize, kept: Vec<Logged>, synced: usize) {
        let count = self.log.len() - before;
        (self.log, self.synced) = (kept, synced + count);
        self.pipe.stored(count as u64, self.now);
        self.effects();
        self.hear();
    }

    /// What was to be forgotten is, once all that was appended before is on disk.
    fn forget(&mut self) {
        let synced = self.synced;
        let due = self.forgetting.iter().filter(|(after, _)| *after <= synced).map(|(_, below)| *below);
        self.forgotten = due.max().unwrap_or_default().max(self.forgotten);
        self.forgetting.retain(|(after, _)| *after > synced);
    }

    fn restart(&mut self) {
        self.pipe = new_pipe(self.mode);
        let log = std::mem::take(&mut self.log);
        log.iter().for_each(|entry| {
            if let Logged::Fact(fact) = entry {
                let bytes = fact.encode();
                self.pipe.replay(Fact::decode(bytes).unwrap());
            }
        });
        let tape = |entry: &Logged| match entry {
            Logged::Tape(at, batch) => Some((*at, batch.clone())),
            Logged::Fact(_) | Logged::Part(..) => None,
        };
        let tape: Vec<(Seq, Batch)> = log.iter().filter_map(tape).collect();
        let from = self.pipe.unread_from();
        let behind = |at: &Seq, batch: &Batch| at.plus(u64::from(batch.count()));
        for (at, batch) in tape.iter().filter(|(at, batch)| behind(at, batch) > from) {
            self.pipe.replay_batch(*at, batch);
        }
        let end = tape.last().map_or(Seq(0), |(at, batch)| at.plus(u64::from(batch.count())));
        let start = tape.first().map_or(Seq(0), |(at, _)| *at).max(self.forgotten).min(end);
        let extent = if start < end { std::iter::once(start..end).collect() } else { Vec::new() };
        let parts = |wanted: ItemNo| {
            log.iter().filter_map(move |entry| match entry {
                Logged::Part(item, batch) if *item == wanted => Some(batch),
                _ => None,
            })
        };
        for item in self.pipe.open_items() {
            if let Some(last) = parts(item).last() {
                self.pipe.replay_part(item, last, parts(item).map(|batch| batch.encoded().len() as u64).sum());
            }
        }
        self.pipe.recovered(self.now, |item| match (item, parts(item).next(), parts(item).last()) {
            (TAPE, ..) => extent.clone(),
            (_, Some(first), Some(last)) => std::iter::once(first.first()..last.next()).collect(),
            _ => Vec::new(),
        });
        self.dropped.clear();
        self.log = log;
        self.synced = self.log.len();
        for writer in self.writers.values_mut() {
            writer.connected = false;
        }
        self.effects();
    }

    pub(super) fn effects(&mut self) {
        for effect in self.pipe.take_effects() {
            match effect {
                Effect::Fact(fact) => self.log.push(Logged::Fact(fact)),
                Effect::Tape(at, batch) => self.log.push(Logged::Tape(at, batch)),
                Effect::Bury(place) => self.buried.push(place),
                Effect::Forget(TAPE, below) => self.forgetting.push((self.log.len(), below)),
                Effect::Forget(item, _) => drop(self.dropped.insert(item)),
                Effect::Closed { session, next, .. } => drop(self.closed.insert(session, next)),
                Effect::Wake(_) | Effect::Gone => {}
                Effect::Batch(item, batch) => self.log.push(Logged::Part(item, batch)),
            }
        }
    }

    /// A writer comes.
    pub(super) fn writer(&mut self) -> SessionId {
        let session = self.name();
        self.pipe.attach_writer(session, Epoch(1), None, Holder::Unknown).unwrap();
        self.writers.insert(session, Writer { epoch: 1, connected: true, ..Writer::default() });
        self.effects();
        session
    }

    /// It writes records with these bodies, one to a batch, or all in one.
    pub(super) fn write(&mut self, session: SessionId, bodies: &[String], not_before: Option<WallTime>) {
        self.write_rest(session);
        let one_each = self.mode == Mode::Queue;
        let groups: Vec<&[String]> = if one_each { bodies.chunks(1).collect() } else { vec![bodies] };
        for group in groups {
            let writer = self.writers.get_mut(&session).unwrap();
            let mut builder = BatchBuilder::new(session, Epoch(1), writer.next).not_before(not_before);
            assert!(group.iter().all(|body| builder.push(body.as_bytes(), true, true)));
            self.send(session, builder.build(None));
        }
    }

    fn send(&mut self, session: SessionId, batch: Batch) {
        let writer = self.writers.get_mut(&session).unwrap();
        writer.next = batch.next();
        writer.digest.add(&batch);
        writer.kept.push(batch.clone());
        if writer.connected {
            let epoch = Epoch(writer.epoch);
            self.pipe.batch(session, epoch, batch, self.now).unwrap();
            self.effects();
        }
    }

    /// It begins a record in parts, one word each.
    pub(super) fn begin_long(&mut self, session: SessionId, body: &str, not_before: Option<WallTime>) {
        self.write_rest(session);
        let writer = self.writers.get_mut(&session).unwrap();
        writer.long.insert(writer.next, body.to_owned());
        writer.rest = body.split_inclusive(' ').map(str::to_owned).collect();
        self.write_part(session, true, not_before);
    }

    /// It writes the next part of its record.
    pub(super) fn go_on(&mut self, session: SessionId) {
        self.write_part(session, false, None);
    }

    fn write_part(&mut self, session: SessionId, first: bool, not_before: Option<WallTime>) {
        let writer = self.writers.get_mut(&session).unwrap();
        let Some(part) = writer.rest.pop_front() else { return };
        let mut builder = BatchBuilder::new(session, Epoch(1), writer.next).not_before(not_before);
        assert!(builder.push(part.as_bytes(), first, writer.rest.is_empty()));
        self.send(session, builder.build(None));
    }

    /// And all that follow.
    pub(super) fn write_rest(&mut self, session: SessionId) {
        while !self.writers[&session].rest.is_empty() {
            self.go_on(session);
        }
    }

    pub(super) fn end(&mut self, session: SessionId) {
        self.write_rest(session);
        let writer = self.writers.get_mut(&session).unwrap();
        let mark = writer.digest.end(EndKind::Finished, 0);
        let batch = BatchBuilder::new(session, Epoch(1), writer.next).build(Some(mark));
        writer.next = batch.next();
        writer.kept.push(batch.clone());
        if writer.connected {
            self.pipe.batch(session, Epoch(writer.epoch), batch, self.now).unwrap();
            self.effects();
        }
    }

    /// A writer whose link broke, or whose relay was killed, comes back and sends what it does not know to be stored. One that was given up
    /// goes on as a new one. Gives its session from now on.
    pub(super) fn come_back(&mut self, session: SessionId) -> SessionId {
        let writer = self.writers.get_mut(&session).unwrap();
        writer.epoch += 1;
        let (epoch, resume) = (Epoch(writer.epoch), WriterResume { settled: writer.stored, stored: writer.stored });
        let attached = self.pipe.attach_writer(session, epoch, Some(resume), Holder::Unknown);
        match attached.map_err(|error| error.code()) {
            Ok(()) => {}
            // How much of it is stored is not known yet.
            Err(Code::Busy) => {
                self.sync();
                return self.come_back(session);
            }
            Err(_) => return self.start_over(session),
        }
        self.effects();
        self.sync();
        let Some(Ok(welcome)) = self.pipe.writer_welcome(session, epoch) else { panic!("no welcome") };
        let writer = self.writers.get_mut(&session).unwrap();
        writer.connected = true;
        assert!(welcome.next >= writer.stored, "it was told {:?} is stored, and {:?} is", writer.stored, welcome.next);
        writer.kept.retain(|batch| batch.next() > welcome.next);
        for batch in writer.kept.clone() {
            self.pipe.batch(session, epoch, batch, self.now).unwrap();
            self.effects();
        }
        session
    }

    fn start_over(&mut self, lost: SessionId) -> SessionId {
        let stored = self.closed.get(&lost).copied().unwrap_or_default();
        let gone = self.writers.remove(&lost).unwrap();
        let (session, mut long) = (self.writer(), None);
        let mut torn = (!gone.rest.is_empty()).then_some(gone.next);
        for batch in gone.kept.iter().filter(|batch| batch.first() >= stored) {
            let bodies: Vec<String> =
                batch.pieces().map(|piece| String::from_utf8(piece.body.to_vec()).unwrap()).collect();
            match (batch.first_start() == Some(batch.first()), batch.is_open()) {
                (true, false) => self.write(session, &bodies, batch.not_before()),
                // Of one in parts all are written anew, if the first was kept.
                (true, true) => long = Some((batch.first(), batch.not_before())),
                (false, _) if long.is_none() => torn = Some(batch.first()),
                (false, true) => {}
                (false, false) => {
                    let (first, not_before) = long.take().unwrap();
                    self.begin_long(session, &gone.long[&first], not_before);
                }
            }
        }
        if let Some((first, not_before)) = long {
            torn.take_if(|torn| *torn == gone.next);
            self.begin_long(session, &gone.long[&first], not_before);
        }
        if let Some(torn) = torn {
            self.torn.push(gone.long.range(..torn).next_back().unwrap().1.clone());
        }
        session
    }

    /// What whoever returns with this session is told to be stored, if it is over.
    pub(super) fn closed_at(&self, session: SessionId) -> Option<Seq> {
        self.closed.get(&session).copied()
    }

    pub(super) fn writers(&self) -> Vec<SessionId> {
        self.writers.keys().copied().collect()
    }

    pub(super) fn is_connected(&self, session: SessionId) -> bool {
        self.writers[&session].connected
    }

    /// The writer was told that all below is stored.
    pub(super) fn stored(&self, session: SessionId) -> Seq {
        self.writers[&session].stored
    }

    /// Writers hear what there is to hear.
    fn hear(&mut self) {
        for (session, writer) in self.writers.iter_mut().filter(|(_, writer)| writer.connected) {
            while let Next::Message(message) = self.pipe.next_for_writer(*session, Epoch(writer.epoch)) {
                if let crate::broker::WriterDown::Ack(ack) = message {
                    writer.stored = writer.stored.max(ack.settled);
                    writer.kept.retain(|batch| batch.next() > ack.settled);
                }
            }
        }
        self.effects();
    }

    /// The figures for people add up.
    pub(super) fn figures(&self) -> (Counts, Vec<ReaderStat>) {
        let (counts, readers) = (self.pipe.counts(), self.pipe.reader_stats());
        assert!(counts.ready + counts.leased + counts.delayed <= counts.items, "{counts:?}");
        let held: u64 = readers.iter().map(|reader| reader.holds).sum();
        assert_eq!(held, counts.leased, "{readers:?}");
        let here = readers.iter().filter(|reader| reader.presence != Presence::Nobody).count();
        assert!(here <= counts.readers as usize, "{readers:?}");
        assert!(readers.iter().all(|reader| reader.lag.records <= counts.items), "{readers:?} of {counts:?}");
        (counts, readers)
    }

    pub(super) fn attach(&mut self, attach: &ReaderAttach) -> Result<(), Error> {
        let attached = self.pipe.attach_reader(attach, Holder::Unknown, self.now);
        self.effects();
        attached
    }

    /// The next message for a reader, from memory or from the log.
    pub(super) fn next(&mut self, session: SessionId, epoch: Epoch) -> Option<ReaderDown> {
        let mut parts = Vec::new();
        loop {
            match self.next_part(session, epoch) {
                Some(ReaderDown::Batch { position, batch, .. }) if position.0.len() == 16 => {
                    parts.extend_from_slice(&batch.bodies());
                    if !batch.is_open() {
                        let batch = joined(&batch, &parts);
                        let position = Position(position.0.slice(..8));
                        return Some(ReaderDown::Batch { from: batch.first(), position, batch });
                    }
                }
                Some(ReaderDown::Leased { lease, time, batch }) => {
                    parts.extend_from_slice(&batch.bodies());
                    if !batch.is_open() {
                        return Some(ReaderDown::Leased { lease, time, batch: joined(&batch, &parts) });
                    }
                }
                message => {
                    assert!(parts.is_empty(), "{message:?} between the parts of a record");
                    return message;
                }
            }
        }
    }

    /// The same, of a record in parts one by one.
    pub(super) fn next_part(&mut self, session: SessionId, epoch: Epoch) -> Option<ReaderDown> {
        loop {
            let next = self.pipe.next_for_reader(session, epoch);
            self.effects();
            match next {
                Next::Message(message) => return Some(message),
                Next::Wait | Next::End(_) => return None,
                Next::FromLog { item, from, .. } => {
                    let holds = |entry: &Logged| {
                        let (of, at, batch) = match entry {
                            Logged::Tape(at, batch) => (TAPE, *at, batch),
                            Logged::Part(item, batch) => (*item, batch.first(), batch),
                            Logged::Fact(_) => return None,
                        };
                        let is_here = of == item && at <= from && from < at.plus(u64::from(batch.count()));
                        is_here.then(|| (at, batch.clone()))
                    };
                    let found = self.log[..self.synced].iter().find_map(holds);
                    let (at, batch) = found.unwrap_or_else(|| panic!("{from:?} of {item:?} is not in the log"));
                    assert!(item != TAPE || from >= self.forgotten, "{from:?} was forgotten");
                    assert!(!self.dropped.contains(&item), "{item:?} was forgotten");
                    let down = self.pipe.from_log(session, epoch, (item, at), &batch, self.now);
                    self.effects();
                    if let Some(down) = down {
                        return Some(down);
                    }
                }
            }
        }
    }
}

fn new_pipe(mode: Mode) -> TapePipe {
    TapePipe::new(PipeRef::from(&PipeName::new("x").unwrap()), mode, WallTime(1_000_000))
}

/// A batch with the record whose last part this is.
fn joined(last: &Batch, body: &[u8]) -> Batch {
    let mut builder = BatchBuilder::new(last.session(), last.epoch(), Seq(last.next().0 - 1));
    assert!(builder.push(body, true, true));
    builder.build(None)
}

pub(super) fn body(batch: &Batch) -> String {
    String::from_utf8(batch.bodies().to_vec()).unwrap()
}
