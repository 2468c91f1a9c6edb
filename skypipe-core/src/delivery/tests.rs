//! The default mode against a model: random writers, readers, syncs, losses and crashes, on virtual time.
//!
//! The model knows only what users are promised: a settled record is never lost, nobody gets a record twice or out of order, a
//! reader that finished has each item from where it joined to its end, and a pipe that is read dry does not exist any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use skypipe_test::proof::{Proof, cases};
use skypipe_test::property;

use super::reader::Holds;
use super::*;
use crate::batch::{Batch, BatchBuilder, EndKind, ItemDigest};
use crate::broker::{Notice, ReaderAttach, ReaderCursor, ReaderDown, Take, WriterDown, WriterResume};
use crate::caller::Holder;
use crate::error::Code;
use crate::id::{Epoch, ItemNo, Seq, SessionId};
use crate::name::{PipeName, PipeRef};
use crate::time::Time;

#[derive(Clone, Debug)]
enum Op {
    Join,
    /// So many records in one batch, the last one perhaps with more to come.
    Send(usize, u8, bool),
    End(usize, EndKind),
    KillWriter(usize),
    CutWriter(usize),
    /// What it wants, whether it waits, and whether it starts again.
    Read(Take, bool, bool),
    Receive(usize),
    /// All it has, or about half of it.
    Acknowledge(usize, bool),
    Leave(usize, bool),
    KillReader(usize),
    CutReader(usize),
    Return,
    Sync,
    Wait,
    Snapshot,
    Crash,
}

#[derive(Debug)]
enum Logged {
    Fact(Fact),
    Batch(ItemNo, Batch),
}

#[derive(Debug, Default)]
struct WriterModel {
    epoch: u32,
    attached: bool,
    dead: bool,
    batches: Vec<Batch>,
    /// The last record goes on.
    open: bool,
    ended: bool,
    settled: Seq,
    stored: Seq,
}

#[derive(Debug, Default)]
struct ReaderModel {
    epoch: u32,
    attached: bool,
    /// Finished, left or dead.
    over: bool,
    finished: bool,
    peeks: bool,
    keeps: bool,
    take: Take,
    /// The writer of which it has half a record.
    open: Option<SessionId>,
    /// It asked to leave, perhaps with a part.
    left: Option<bool>,
    alone: BTreeSet<SessionId>,
    /// Per writer: first number, next number received, next number acknowledged.
    numbers: BTreeMap<SessionId, (Seq, Seq, Seq)>,
    /// Numbers it was told others took.
    skipped: BTreeSet<(SessionId, u64)>,
    ended: BTreeSet<SessionId>,
    had_an_end: bool,
    last: Option<SessionId>,
}

struct Sim {
    pipe: DefaultPipe,
    now: Time,
    log: Vec<Logged>,
    synced: usize,
    /// What the log may have let go of, of each item.
    forgotten: BTreeMap<ItemNo, Seq>,
    writers: BTreeMap<SessionId, WriterModel>,
    readers: BTreeMap<SessionId, ReaderModel>,
    closed: BTreeMap<SessionId, bool>,
    /// Numbers of each writer's session that some reader has for good.
    taken: BTreeMap<SessionId, BTreeSet<u64>>,
    names: u8,
}

fn new_pipe() -> DefaultPipe {
    DefaultPipe::new(PipeRef::from(&PipeName::new("p").unwrap()))
}

impl Sim {
    fn new() -> Self {
        Self {
            pipe: new_pipe(),
            now: Time(0),
            log: Vec::new(),
            synced: 0,
            forgotten: BTreeMap::new(),
            writers: BTreeMap::new(),
            readers: BTreeMap::new(),
            closed: BTreeMap::new(),
            taken: BTreeMap::new(),
            names: 0,
        }
    }

    fn name(&mut self) -> SessionId {
        self.names += 1;
        SessionId([self.names; 16])
    }

    fn effects(&mut self) {
        for effect in self.pipe.take_effects() {
            match effect {
                Effect::Fact(fact) => self.log.push(Logged::Fact(fact)),
                Effect::Batch(item, batch) => self.log.push(Logged::Batch(item, batch)),
                Effect::Closed { session, ended, .. } => drop(self.closed.insert(session, ended)),
                Effect::Forget(item, below) => drop(self.forgotten.insert(item, below)),
                Effect::Wake(_) => {}
                Effect::Tape(..) | Effect::Bury(_) => unreachable!("a default pipe has no tape"),
                Effect::Gone => {
                    // Nothing is left: what the log still says is of the past.
                    self.pipe = new_pipe();
                    self.log.clear();
                    self.synced = 0;
                    self.forgotten.clear();
                    return;
                }
            }
        }
    }

    fn sync(&mut self) {
        self.effects();
        let count = self.log.len() - self.synced;
        self.synced = self.log.len();
        self.pipe.stored(count as u64);
        self.effects();
        self.hear();
    }

    /// What a log has that lets go of what it may.
    fn extent(&self, no: ItemNo) -> Extent {
        let below = self.forgotten.get(&no).copied().unwrap_or_default();
        let mut ranges = Ranges::default();
        for entry in &self.log {
            if let Logged::Batch(item, batch) = entry
                && *item == no
                && batch.next() > below
            {
                ranges.insert(batch.first()..batch.next());
            }
        }
        ranges.iter().collect()
    }

    fn crash(&mut self) {
        self.log.truncate(self.synced);
        self.pipe = new_pipe();
        let is_snapshot = |entry: &Logged| matches!(entry, Logged::Fact(Fact::Snapshot(_)));
        // What a snapshot restates may be gone.
        let from = self.log.iter().rposition(is_snapshot).unwrap_or(0);
        for entry in &self.log[from..] {
            if let Logged::Fact(fact) = entry {
                let fact = Fact::decode(fact.encode()).unwrap();
                self.pipe.replay(fact);
            }
        }
        let mut pipe = std::mem::replace(&mut self.pipe, new_pipe());
        pipe.recovered(self.now, |no| self.extent(no));
        self.pipe = pipe;
        for writer in self.writers.values_mut() {
            writer.attached = false;
        }
        for reader in self.readers.values_mut() {
            reader.attached = false;
        }
        self.effects();
        self.sync();
        // Whoever died while the relay was away is found to be dead.
        let dead = |sim: &Sim, s: SessionId| {
            sim.writers.get(&s).is_some_and(|w| w.dead) || sim.readers.get(&s).is_some_and(|r| r.over)
        };
        let lost: Vec<SessionId> = self.pipe.away().into_iter().map(|a| a.0).filter(|s| dead(self, *s)).collect();
        for session in lost {
            self.pipe.lost(session);
            self.effects();
        }
        self.sync();
    }

    /// All attached writers hear what there is to hear.
    fn hear(&mut self) {
        let sessions: Vec<SessionId> = self.writers.keys().copied().collect();
        for session in sessions {
            loop {
                let writer = self.writers.get_mut(&session).unwrap();
                if !writer.attached || writer.dead {
                    break;
                }
                match self.pipe.next_for_writer(session, Epoch(writer.epoch)) {
                    Next::Message(WriterDown::Ack(ack)) => {
                        assert!(ack.settled >= writer.settled && ack.stored >= writer.stored, "acknowledgements grow");
                        (writer.settled, writer.stored) = (ack.settled, ack.stored);
                    }
                    Next::Message(_) => {}
                    Next::Wait => break,
                    Next::End(error) => {
                        assert_eq!(error, None);
                        writer.attached = false;
                        break;
                    }
                    Next::FromLog { .. } => unreachable!(),
                }
                self.effects();
            }
        }
    }

    fn attach_writer(&mut self, session: SessionId) {
        let writer = self.writers.get_mut(&session).unwrap();
        if writer.dead || writer.attached {
            return;
        }
        writer.epoch += 1;
        let resume = (writer.epoch > 1).then_some(WriterResume { settled: writer.settled, stored: writer.stored });
        let epoch = Epoch(writer.epoch);
        match self.pipe.attach_writer(session, epoch, resume, Holder::Unknown) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.code(), Code::SessionExpired);
                let known = self.closed.get(&session).copied();
                // Given up, never heard of by the log, or over: then its last numbers are known.
                let writer = self.writers.get_mut(&session).unwrap();
                if known == Some(true) {
                    writer.settled = Seq(u64::MAX);
                }
                writer.dead = true;
                return self.effects();
            }
        }
        self.effects();
        self.sync();
        let Some(Ok(welcome)) = self.pipe.writer_welcome(session, epoch) else { panic!("no welcome") };
        let writer = self.writers.get_mut(&session).unwrap();
        assert!(welcome.next >= writer.settled || writer.ended, "{welcome:?} {writer:?}");
        writer.attached = true;
        (writer.settled, writer.stored) =
            (writer.settled.max(welcome.ack.settled), writer.stored.max(welcome.ack.stored));
        for batch in writer.batches.clone() {
            if batch.next() > welcome.next {
                self.pipe.batch(session, epoch, batch, self.now).unwrap();
                self.effects();
            }
        }
        self.hear();
    }

    fn send(&mut self, session: SessionId, records: u8, open: bool, end: Option<EndKind>) {
        let writer = self.writers.get_mut(&session).unwrap();
        if writer.dead || writer.ended {
            return;
        }
        let first = writer.batches.last().map(Batch::next).unwrap_or_default();
        let mut builder = BatchBuilder::new(session, Epoch(writer.epoch), first);
        for left in (0..records).rev() {
            let last = left > 0 || !open;
            assert!(builder.push(&first.0.to_le_bytes(), !writer.open, last));
            writer.open = !last;
        }
        if end.is_some() && std::mem::take(&mut writer.open) {
            assert!(builder.push(b"", false, true));
        }
        let batch = builder.build(end.map(|kind| ItemDigest::default().end(kind, 0)));
        writer.ended = end.is_some();
        writer.batches.push(batch.clone());
        if writer.attached {
            self.pipe.batch(session, Epoch(writer.epoch), batch, self.now).unwrap();
            self.effects();
            self.hear();
        }
    }

    fn kill_writer(&mut self, session: SessionId) {
        let writer = self.writers.get_mut(&session).unwrap();
        if std::mem::replace(&mut writer.dead, true) {
            return;
        }
        self.pipe.lost(session);
        self.effects();
    }

    fn attach_reader(&mut self, session: SessionId, take: Take, no_wait: bool, keep: bool) -> Result<(), Code> {
        let reader = self.readers.entry(session).or_default();
        reader.epoch += 1;
        (reader.take, reader.keeps) = (take, keep);
        let mut resume: Vec<ReaderCursor> =
            reader.numbers.iter().map(|(writer, n)| ReaderCursor { writer: *writer, next: n.1 }).collect();
        resume.sort_by_key(|cursor| Some(cursor.writer) != reader.last);
        let attach = ReaderAttach {
            session,
            epoch: Epoch(reader.epoch),
            mode: None,
            take,
            keep,
            no_wait,
            credit: 1 << 40,
            mid_record: reader.open.is_some() && reader.open == reader.last,
            resume: (reader.epoch > 1).then_some(resume),
            tape: Default::default(),
        };
        match self.pipe.attach_reader(&attach, Holder::Unknown) {
            Ok(()) => (reader.attached, reader.peeks) = (true, take == Take::Peek),
            Err(error) => {
                reader.over = true;
                let over = self.closed.get(&session) == Some(&true);
                if error.code() == Code::SessionExpired && over {
                    self.finish(session);
                }
                self.effects();
                return Err(error.code());
            }
        }
        self.effects();
        self.sync();
        self.say_again(session);
        Ok(())
    }

    /// A reader that returned says again what it has, and that it leaves if it was about to.
    fn say_again(&mut self, session: SessionId) {
        let reader = &self.readers[&session];
        let (epoch, left) = (Epoch(reader.epoch), reader.left);
        if epoch == Epoch(1) || reader.peeks {
            return;
        }
        for (writer, numbers) in reader.numbers.clone() {
            if numbers.2 > Seq(0) {
                self.pipe.acknowledge(session, epoch, ReaderCursor { writer, next: numbers.2 }, self.now).unwrap();
            }
        }
        if let Some(part) = left {
            self.pipe.leave(session, epoch, part).unwrap();
        }
        self.effects();
    }

    /// A reader takes one message. Returns whether there was one.
    fn receive(&mut self, session: SessionId) -> bool {
        let reader = self.readers.get_mut(&session).unwrap();
        if reader.over || !reader.attached {
            return false;
        }
        let epoch = Epoch(reader.epoch);
        let message = match self.pipe.next_for_reader(session, epoch) {
            Next::Message(message) => Some(message),
            Next::FromLog { item: no, from, .. } => {
                let found = self.log.iter().find_map(|entry| match entry {
                    Logged::Batch(item, batch) if *item == no && batch.first() <= from && from < batch.next() => {
                        Some(batch.clone())
                    }
                    _ => None,
                });
                match found {
                    Some(batch) => self.pipe.from_log(session, epoch, no, &batch),
                    None if reader.peeks => self.pipe.missing(session, epoch, no, from, from.plus(1)),
                    None => panic!("{no:?} {from:?} is not in the log"),
                }
            }
            Next::Wait => return false,
            Next::End(error) => panic!("{error:?}"),
        };
        self.effects();
        if let Some(message) = message {
            self.take_message(session, message);
        }
        true
    }

    fn take_message(&mut self, session: SessionId, message: ReaderDown) {
        let reader = self.readers.get_mut(&session).unwrap();
        match message {
            ReaderDown::Batch { from, batch, .. } => {
                let writer = batch.session();
                assert!(!reader.ended.contains(&writer), "nothing follows an end");
                let numbers = reader.numbers.entry(writer).or_insert((from, from, from));
                assert_eq!(from, numbers.1, "a hole, or a record twice");
                // A look shows what is there, half a record as well.
                let torn = reader.open.filter(|other| *other != writer && !reader.peeks);
                assert_eq!(torn, None, "{writer} between the pieces of another writer's record");
                reader.open = batch.is_open().then_some(writer);
                numbers.1 = batch.next();
                reader.last = Some(writer);
            }
            ReaderDown::Leased { .. } | ReaderDown::Settled { .. } | ReaderDown::Missing { .. } => {
                unreachable!("a default pipe has no tape")
            }
            ReaderDown::Joins { .. } | ReaderDown::AllJoined | ReaderDown::From(_) | ReaderDown::Gone(_) => {
                unreachable!("a pipe knows of itself alone")
            }
            ReaderDown::ItemEnd { writer, kind, alone, next } => {
                let written = self.writers[&writer].batches.last().and_then(Batch::end).map(|mark| mark.kind);
                let gone = self.writers[&writer].dead && kind == EndKind::Aborted;
                assert!(gone || written == Some(kind), "an end as {kind:?} that was {written:?}");
                reader.open = reader.open.filter(|open| *open != writer);
                let numbers = reader.numbers.entry(writer).or_insert((Seq(next.0 - 1), next, Seq(next.0 - 1)));
                assert!(numbers.1.0 + 1 >= next.0, "an end before its records: {numbers:?} {next:?}");
                // Of an item whose writer died while the relay was away it may have more than the next relay knows.
                numbers.1 = numbers.1.max(next);
                reader.ended.insert(writer);
                reader.had_an_end = true;
                if alone {
                    reader.alone.insert(writer);
                }
            }
            ReaderDown::Gap { .. } => panic!("a gap where nothing was damaged"),
            ReaderDown::Taken { writer } => {
                // A reader that keeps on may get the start of it, which was owed only to somebody who is gone.
                reader.numbers.remove(&writer);
                reader.ended.remove(&writer);
            }
            ReaderDown::Notice(Notice::Middle { writer, from }) => {
                let numbers = reader.numbers.entry(writer).or_insert((from, from, from));
                let others: Vec<u64> = (numbers.1.0..from.0).collect();
                let taken = self.taken.entry(writer).or_default();
                let lost = |n: &u64| self.writers[&writer].dead && Seq(*n) >= self.writers[&writer].settled;
                assert!(
                    others.iter().all(|n| taken.contains(n) || lost(n)),
                    "told to skip {others:?}, which nobody took"
                );
                numbers.1 = from;
                reader.skipped.extend(others.into_iter().map(|n| (writer, n)));
            }
            ReaderDown::Notice(_) => {}
            ReaderDown::Finished => self.finish(session),
        }
    }

    /// What a reader acknowledged live, or took to its end, is taken for good.
    fn acknowledge(&mut self, session: SessionId, half: bool) {
        let reader = self.readers.get_mut(&session).unwrap();
        if reader.over || !reader.attached {
            return;
        }
        let epoch = Epoch(reader.epoch);
        if reader.peeks || reader.left.is_some() {
            return;
        }
        for (writer, numbers) in reader.numbers.clone() {
            let next = if half { numbers.2.plus((numbers.1.0 - numbers.2.0) / 2) } else { numbers.1 };
            if numbers.2 < next {
                self.readers.get_mut(&session).unwrap().numbers.get_mut(&writer).unwrap().2 = next;
                self.taken.entry(writer).or_default().extend(numbers.2.0..next.0);
                self.pipe.acknowledge(session, epoch, ReaderCursor { writer, next }, self.now).unwrap();
                self.effects();
            }
        }
        self.hear();
    }

    fn finish(&mut self, session: SessionId) {
        let reader = self.readers.get_mut(&session).unwrap();
        reader.over = true;
        reader.finished = true;
    }

    fn nth(&self, n: usize, readers: bool) -> Option<SessionId> {
        let keys: Vec<SessionId> =
            if readers { self.readers.keys().copied().collect() } else { self.writers.keys().copied().collect() };
        (!keys.is_empty()).then(|| keys[n % keys.len()])
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Join => {
                let session = self.name();
                self.writers.insert(session, WriterModel::default());
                self.attach_writer(session);
            }
            Op::Send(n, records, open) => drop(self.nth(n, false).map(|s| self.send(s, records, open, None))),
            Op::End(n, kind) => drop(self.nth(n, false).map(|s| self.send(s, n as u8 % 2, false, Some(kind)))),
            Op::KillWriter(n) => drop(self.nth(n, false).map(|s| self.kill_writer(s))),
            Op::CutWriter(n) => {
                let Some(session) = self.nth(n, false) else { return };
                let writer = self.writers.get_mut(&session).unwrap();
                if std::mem::replace(&mut writer.attached, false) {
                    self.pipe.writer_away(session, Epoch(writer.epoch), self.now);
                }
            }
            Op::Read(take, no_wait, keep) => {
                let session = self.name();
                if let Err(code) = self.attach_reader(session, take, no_wait, keep) {
                    assert_eq!(code, Code::Empty);
                }
            }
            Op::Receive(n) => drop(self.nth(n, true).map(|s| self.receive(s))),
            Op::Acknowledge(n, half) => drop(self.nth(n, true).map(|s| self.acknowledge(s, half))),
            Op::Leave(n, part) => {
                let Some(session) = self.nth(n, true) else { return };
                let reader = self.readers.get_mut(&session).unwrap();
                if !reader.over && reader.attached && reader.left.is_none() {
                    reader.left = Some(part);
                    let epoch = Epoch(reader.epoch);
                    self.untake(session, part);
                    self.pipe.leave(session, epoch, part).unwrap();
                }
            }
            Op::KillReader(n) => {
                let Some(session) = self.nth(n, true) else { return };
                if !std::mem::replace(&mut self.readers.get_mut(&session).unwrap().over, true) {
                    self.untake(session, false);
                    self.pipe.lost(session);
                }
            }
            Op::CutReader(n) => {
                let Some(session) = self.nth(n, true) else { return };
                let reader = self.readers.get_mut(&session).unwrap();
                if std::mem::replace(&mut reader.attached, false) && !reader.over {
                    self.pipe.reader_away(session, Epoch(reader.epoch), self.now);
                }
            }
            Op::Return => self.everybody_returns(),
            Op::Sync => self.sync(),
            Op::Wait => {
                self.now = self.now.plus(Duration::from_millis(300));
                self.pipe.tick(self.now);
            }
            Op::Snapshot => self.pipe.log_snapshot(),
            Op::Crash => self.crash(),
        }
        self.effects();
        self.hear();
        let sum = |bytes: fn(&super::item::Item) -> usize| self.pipe.items.values().map(bytes).sum::<usize>();
        assert_eq!(self.pipe.unlogged_bytes, sum(|item| item.unlogged_bytes()));
        assert_eq!(self.pipe.window_bytes, sum(|item| item.window_bytes()));
    }

    /// What a reader did not take to its end goes back: it may come again, and so it does not count as taken.
    fn untake(&mut self, session: SessionId, part: bool) {
        let Some(Holds::Alone(no, _)) = self.pipe.readers.get(&session).map(|reader| &reader.holds) else { return };
        let Some(writer) = self.pipe.items.get(no).map(|item| item.session) else { return };
        let reader = &self.readers[&session];
        if let Some(numbers) = reader.numbers.get(&writer)
            && !(part || reader.ended.contains(&writer) && numbers.2 == numbers.1)
            && let Some(taken) = self.taken.get_mut(&writer)
        {
            taken.retain(|n| *n < numbers.0.0 || *n >= numbers.1.0 || reader.skipped.contains(&(writer, *n)));
        }
    }

    fn everybody_returns(&mut self) {
        let writers: Vec<SessionId> = self.writers.keys().copied().collect();
        writers.into_iter().for_each(|session| self.attach_writer(session));
        let readers: Vec<SessionId> =
            self.readers.iter().filter(|(_, r)| !r.over && !r.attached).map(|(session, _)| *session).collect();
        for session in readers {
            let (take, keep) = (self.readers[&session].take, self.readers[&session].keeps);
            if let Err(code) = self.attach_reader(session, take, false, keep) {
                assert_eq!(code, Code::SessionExpired);
            }
        }
    }

    /// Everybody comes back, all writers end, all readers read, and new readers take what is left.
    fn settle(&mut self) {
        self.sync();
        self.everybody_returns();
        let writers: Vec<SessionId> = self.writers.keys().copied().collect();
        for session in writers {
            self.send(session, 1, false, Some(EndKind::Finished));
        }
        for round in 0.. {
            assert!(round < 2000, "it never ends: {:?}", self.pipe);
            self.now = self.now.plus(Duration::from_millis(300));
            self.pipe.tick(self.now);
            self.effects();
            self.sync();
            let readers: Vec<SessionId> = self.readers.iter().filter(|(_, r)| !r.over).map(|(s, _)| *s).collect();
            for session in &readers {
                while self.receive(*session) {
                    self.acknowledge(*session, false);
                    self.sync();
                }
            }
            let counts = self.pipe.counts();
            if counts.items == 0 {
                break;
            }
            if readers.iter().all(|s| self.readers[s].over) || counts.readers == 0 {
                let session = self.name();
                assert_eq!(self.attach_reader(session, Take::Any, false, false), Ok(()));
            } else {
                // Those who wait for an item of their own, or were never given one, go.
                self.now = self.now.plus(Duration::from_secs(1));
                if round > 20 {
                    readers.into_iter().for_each(|s| drop(self.pipe.leave(s, Epoch(self.readers[&s].epoch), false)));
                }
            }
        }
    }

    /// Nothing is left: readers that had something have finished by themselves, the others do when they leave, and the pipe goes.
    fn everybody_goes(&mut self) {
        self.sync();
        let readers: Vec<SessionId> = self.readers.iter().filter(|(_, r)| !r.over).map(|(s, _)| *s).collect();
        for session in &readers {
            while self.receive(*session) {
                self.sync();
            }
            let reader = &self.readers[session];
            assert!(reader.over || reader.keeps || !reader.had_an_end, "{session} does not finish: {:?}", self.pipe);
        }
        for session in readers.into_iter().filter(|s| !self.readers[s].over).collect::<Vec<_>>() {
            let epoch = Epoch(self.readers[&session].epoch);
            if self.pipe.knows(session) {
                self.pipe.leave(session, epoch, false).unwrap();
                self.sync();
                while self.receive(session) {}
            }
            assert!(self.readers[&session].over, "{session} cannot leave: {:?}", self.pipe);
        }
        self.sync();
        assert!(self.pipe.counts() == Counts::default(), "{:?}", self.pipe);
    }

    fn check(&self) {
        for (session, writer) in &self.writers {
            let taken = self.taken.get(session).cloned().unwrap_or_default();
            let end = writer.batches.last().map(Batch::next).unwrap_or_default();
            let settled = writer.settled.min(end);
            let lost: Vec<u64> = (0..settled.0).filter(|n| !taken.contains(n)).collect();
            assert!(lost.is_empty(), "{session} lost {lost:?} of {settled:?} settled");
        }
        assert!(self.writers.values().filter(|w| !w.dead).all(|w| w.ended));
    }
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0usize..8;
    prop_oneof![
        2 => Just(Op::Join),
        12 => (n.clone(), 1u8..4, prop::bool::weighted(0.2)).prop_map(|(n, records, open)| Op::Send(n, records, open)),
        3 => (n.clone(), prop_oneof![3 => Just(EndKind::Finished), 1 => Just(EndKind::Interrupted)])
            .prop_map(|(n, kind)| Op::End(n, kind)),
        1 => n.clone().prop_map(Op::KillWriter),
        1 => n.clone().prop_map(Op::CutWriter),
        2 => (prop_oneof![4 => Just(Take::Any), 1 => Just(Take::Item), 1 => Just(Take::Peek)], prop::bool::weighted(0.2), prop::bool::weighted(0.2))
            .prop_map(|(take, no_wait, keep)| Op::Read(take, no_wait, keep && !no_wait)),
        14 => n.clone().prop_map(Op::Receive),
        8 => (n.clone(), prop::bool::weighted(0.3)).prop_map(|(n, half)| Op::Acknowledge(n, half)),
        1 => (n.clone(), any::<bool>()).prop_map(|(n, part)| Op::Leave(n, part)),
        1 => n.clone().prop_map(Op::KillReader),
        1 => n.prop_map(Op::CutReader),
        2 => Just(Op::Return),
        6 => Just(Op::Sync),
        3 => Just(Op::Wait),
        1 => Just(Op::Snapshot),
        1 => Just(Op::Crash),
    ]
}

/// Any order of anything: nothing settled is lost, and nothing comes twice. 15,000 cases take a second.
#[test]
fn proof_default_mode_against_its_model() {
    let proof = Proof::begin("P2", "default mode against its model");
    let wanted = cases(2_000, 100_000, 50_000_000);
    let failures = property::failures(
        wanted,
        || proptest::collection::vec(op(), 1..120),
        |ops| {
            let mut sim = Sim::new();
            ops.into_iter().for_each(|op| sim.run(op));
            sim.settle();
            sim.everybody_goes();
            sim.check();
            Ok(())
        },
    );
    proof.end(wanted, &failures);
}
