//! P8: every reader gets every record in the same order, is told what is gone, and a durable cursor never goes back.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use skypipe_test::proof::{Proof, cases};
use skypipe_test::property;

use super::world::World;
use crate::broker::{Mark, Mode, OnTape, ReaderAttach, ReaderDown, ReaderUp, Retain, Settings, Start, Take};
use crate::id::{Epoch, Position, Seq, SessionId};

const READERS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Write {
        writer: usize,
        records: usize,
    },
    /// It begins a record in parts.
    Begin(usize),
    GoOn(usize),
    WriterReturns(usize),
    Read(usize),
    Ack(usize),
    /// It leaves, and comes again under its name.
    Leaves(usize),
    Dies(usize),
    Breaks(usize),
    Pass(u64),
    Sync,
    SyncSome(usize),
    Snapshot,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let reader = 0..READERS;
    prop_oneof![
        5 => (0..3usize, 1..5usize).prop_map(|(writer, records)| Step::Write { writer, records }),
        1 => (0..3usize).prop_map(Step::Begin),
        2 => (0..3usize).prop_map(Step::GoOn),
        2 => (0..3usize).prop_map(Step::WriterReturns),
        6 => reader.clone().prop_map(Step::Read),
        4 => reader.clone().prop_map(Step::Ack),
        1 => reader.clone().prop_map(Step::Leaves),
        1 => reader.clone().prop_map(Step::Dies),
        1 => reader.prop_map(Step::Breaks),
        1 => (1..50u64).prop_map(Step::Pass),
        6 => Just(Step::Sync),
        2 => (1..5usize).prop_map(Step::SyncSome),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Crash),
    ]
}

struct Reader {
    session: SessionId,
    epoch: Epoch,
    name: Option<String>,
    /// Behind what it has.
    has: Mark,
    next: Option<Seq>,
    acked: Option<Seq>,
    attached: bool,
}

struct Run {
    world: World,
    writers: Vec<SessionId>,
    written: u64,
    readers: Vec<Reader>,
    /// What stands where: the same for all.
    tape: BTreeMap<Seq, String>,
    /// All below this was acknowledged by the reader of this name for good.
    saved: BTreeMap<String, Seq>,
}

impl Run {
    fn new(records: Option<u64>) -> Self {
        let mut world = World::new(Mode::Broadcast);
        let writers = (0..3).map(|_| world.writer()).collect();
        let retain = Retain { records, ..Retain::default() };
        world.set(Settings { retain, ..Settings::default() });
        world.sync();
        let names = [Some("one".to_owned()), Some("two".to_owned()), None];
        let readers = names.into_iter().map(|name| reader(&mut world, name)).collect();
        let (tape, saved) = (BTreeMap::new(), BTreeMap::new());
        let mut run = Self { world, writers, written: 0, readers, tape, saved };
        (0..READERS).for_each(|index| run.join(index));
        run
    }

    fn join(&mut self, index: usize) {
        let attach = attach(&self.readers[index], false);
        self.world.attach(&attach).unwrap();
        self.world.sync();
        let reader = &mut self.readers[index];
        let welcome = self.world.pipe.reader_welcome(reader.session, reader.epoch).unwrap().unwrap();
        let from = Seq::try_from(&welcome).unwrap();
        if let Some(name) = &reader.name
            && let Some(saved) = self.saved.get(name)
        {
            assert!(from >= *saved, "the cursor {name} went back from {saved:?} to {from:?}");
        }
        (reader.next, reader.attached) = (Some(from), true);
        reader.has = Mark { position: welcome, records: 0 };
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write { writer, records } => self.write(writer, records),
            Step::Begin(writer) => {
                let body = format!("writer {writer} record {}", self.written);
                self.written += 1;
                self.world.begin_long(self.writers[writer], &body, None);
            }
            Step::GoOn(writer) => self.world.go_on(self.writers[writer]),
            Step::WriterReturns(writer) => {
                if !self.world.is_connected(self.writers[writer]) {
                    self.writers[writer] = self.world.come_back(self.writers[writer]);
                }
            }
            Step::Read(reader) => self.read(reader),
            Step::Ack(reader) => self.ack(reader),
            Step::Leaves(reader) => self.leaves(reader),
            Step::Dies(index) => {
                let session = self.readers[index].session;
                self.world.pipe.lost(session, self.world.now);
                self.world.effects();
                self.replace(index);
            }
            Step::Breaks(index) => {
                let (session, epoch) = (self.readers[index].session, self.readers[index].epoch);
                self.world.pipe.reader_away(session, epoch, self.world.now);
                self.world.effects();
                self.returns(index);
            }
            Step::Pass(seconds) => self.world.pass(Duration::from_secs(seconds)),
            Step::Sync => self.world.sync(),
            Step::SyncSome(count) => self.world.sync_some(count),
            Step::Snapshot => self.world.snapshot(),
            Step::Crash => {
                self.world.crash();
                (0..READERS).for_each(|index| self.returns(index));
            }
        }
    }

    fn write(&mut self, writer: usize, records: usize) {
        let bodies: Vec<String> =
            (0..records as u64).map(|n| format!("writer {writer} record {}", self.written + n)).collect();
        self.written += records as u64;
        self.world.write(self.writers[writer], &bodies, None);
    }

    fn read(&mut self, index: usize) {
        let (session, epoch) = (self.readers[index].session, self.readers[index].epoch);
        while let Some(message) = self.world.next(session, epoch) {
            match message {
                ReaderDown::Batch { from, position, batch } => {
                    let start = Seq::try_from(&position).unwrap();
                    let skipped = from.0 - batch.first().0;
                    let reader = &mut self.readers[index];
                    assert_eq!(reader.next, Some(start.plus(skipped)), "a hole, or a record twice");
                    for piece in batch.pieces() {
                        let place = start.plus(piece.seq.0 - batch.first().0);
                        let body = String::from_utf8(piece.body.to_vec()).unwrap();
                        place_is(&mut self.tape, place, body);
                    }
                    reader.next = Some(start.plus(u64::from(batch.count())));
                    reader.has = Mark { position, records: batch.count() };
                }
                ReaderDown::Missing { from, to, records } => {
                    let (start, end) = (Seq::try_from(&from).unwrap(), Seq::try_from(&to).unwrap());
                    let reader = &mut self.readers[index];
                    assert_eq!(reader.next, Some(start), "a gap over what it has");
                    assert_eq!(end.0 - start.0, records);
                    (reader.next, reader.has) = (Some(end), Mark { position: to, records: 0 });
                }
                ReaderDown::Notice(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn ack(&mut self, index: usize) {
        let reader = &mut self.readers[index];
        reader.acked = reader.next;
        let up = ReaderUp::AckTo(reader.has.clone());
        self.world.pipe.reader_up(reader.session, reader.epoch, up, self.world.now).unwrap();
        self.world.effects();
    }

    fn leaves(&mut self, index: usize) {
        let (session, epoch) = (self.readers[index].session, self.readers[index].epoch);
        self.world.pipe.reader_up(session, epoch, ReaderUp::Leave { part: true }, self.world.now).unwrap();
        for _ in 0..10 {
            self.world.sync();
            if self.world.next(session, epoch) == Some(ReaderDown::Finished) {
                let reader = &self.readers[index];
                if let (Some(name), Some(acked)) = (&reader.name, reader.acked) {
                    let saved = self.saved.entry(name.clone()).or_default();
                    *saved = acked.max(*saved);
                }
                return self.replace(index);
            }
        }
        panic!("it never hears that it may go");
    }

    fn replace(&mut self, index: usize) {
        let name = self.readers[index].name.clone();
        self.readers[index] = reader(&mut self.world, name);
        self.join(index);
    }

    fn returns(&mut self, index: usize) {
        self.readers[index].epoch = Epoch(self.readers[index].epoch.0 + 1);
        let attach = attach(&self.readers[index], true);
        match self.world.attach(&attach) {
            Ok(()) => {
                self.world.sync();
                // What it acknowledged may not have been heard.
                let reader = &self.readers[index];
                if let Some(acked) = reader.acked {
                    let up = ReaderUp::AckTo(Mark { position: acked.into(), records: 0 });
                    self.world.pipe.reader_up(reader.session, reader.epoch, up, self.world.now).unwrap();
                    self.world.effects();
                }
            }
            Err(_) => self.replace(index),
        }
    }

    /// In the end everybody has all that is kept, and everything that was written is on the tape or gone from it.
    fn finish(mut self, records: Option<u64>) {
        for index in 0..self.writers.len() {
            let writer = self.writers[index];
            let writer = if self.world.is_connected(writer) { writer } else { self.world.come_back(writer) };
            self.world.end(writer);
        }
        for _ in 0..5 {
            self.world.sync();
            (0..READERS).for_each(|index| {
                self.read(index);
                self.ack(index);
            });
        }
        assert!(self.world.figures().1.iter().all(|reader| reader.lag.records == 0), "somebody is behind");
        let end = self.readers[0].next.unwrap();
        assert!(self.readers.iter().all(|reader| reader.next == Some(end)), "not all are at the end");
        let written = self.written - self.world.torn.len() as u64;
        assert_eq!(end.0, written, "a record was lost, or came twice");
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for body in self.tape.values() {
            let (writer, number) = body.split_once(" record ").unwrap();
            let number: u64 = number.parse().unwrap();
            let before = last.insert(writer, number);
            assert!(before.is_none_or(|before| before < number), "{writer}: {number} behind {before:?}");
        }
        let kept = self.world.pipe.counts().items;
        assert_eq!(kept, records.map_or(written, |records| records.min(written)), "not what is to be kept");
        for writer in self.world.writers() {
            assert!(self.world.stored(writer) > Seq(0) || self.written == 0, "a writer heard nothing");
        }
    }
}

fn place_is(tape: &mut BTreeMap<Seq, String>, place: Seq, body: String) {
    if let Some(known) = tape.get(&place) {
        return assert_eq!(*known, body, "another record at {place:?}");
    }
    tape.insert(place, body);
}

fn reader(world: &mut World, name: Option<String>) -> Reader {
    let session = world.name();
    Reader { session, epoch: Epoch(1), name, has: Mark::default(), next: None, acked: None, attached: false }
}

fn attach(reader: &Reader, returns: bool) -> ReaderAttach {
    ReaderAttach {
        session: reader.session,
        epoch: reader.epoch,
        mode: None,
        take: Take::Any,
        keep: false,
        no_wait: false,
        credit: 1 << 40,
        mid_record: false,
        resume: returns.then(Vec::new),
        tape: OnTape {
            start: Start::Beginning,
            cursor: reader.name.clone(),
            resume_at: returns.then(|| reader.has.clone()),
            ..OnTape::default()
        },
    }
}

/// Any order of anything. 1,000 cases take a second.
#[test]
fn proof_broadcast_against_its_model() {
    let proof = Proof::begin("P8", "broadcast against its model");
    let wanted = cases(300, 20_000, 1_000_000);
    let failures = property::failures(
        wanted,
        || (proptest::option::of(1..20u64), proptest::collection::vec(step(), 1..200)),
        |(records, steps)| {
            let mut run = Run::new(records);
            steps.into_iter().for_each(|step| run.step(step));
            run.finish(records);
            Ok(())
        },
    );
    proof.end(wanted, &failures);
}

#[test]
fn nothing_is_too_old_in_a_log_that_failed() {
    let mut run = Run::new(None);
    let retain = Retain { age: Some(Duration::from_secs(60)), ..Retain::default() };
    run.world.set(Settings { retain, ..Settings::default() });
    for _ in 0..3 {
        run.write(0, 1);
        run.world.sync();
        run.world.pass(Duration::from_secs(10));
    }
    assert!(run.world.pipe.next_tick().is_some());
    run.world.pipe.turn_read_only(&crate::error::Error::new(crate::error::Code::Storage, "it failed"));
    assert_eq!(run.world.pipe.next_tick(), None);
}

#[test]
fn the_figures_tell_who_is_behind() {
    let mut run = Run::new(Some(8));
    run.write(0, 5);
    run.world.sync();
    run.read(0);
    run.ack(0);
    run.read(1);
    let lags = |run: &Run| -> Vec<(Option<String>, u64)> {
        let mut readers = run.world.figures().1;
        readers.sort_by(|a, b| a.cursor.cmp(&b.cursor));
        readers.into_iter().map(|reader| (reader.cursor, reader.lag.records)).collect()
    };
    let named = |name: &str, lag| (Some(name.to_owned()), lag);
    assert_eq!(lags(&run), [(None, 5), named("one", 0), named("two", 5)], "what is not acknowledged is owed");
    // Nobody reads with the cursor now; what is not kept any more is owed to nobody.
    run.world.pipe.lost(run.readers[1].session, run.world.now);
    run.write(1, 4);
    run.world.sync();
    assert_eq!(lags(&run), [(None, 8), named("one", 4), named("two", 8)]);
}

/// What a reader is told to be gone next.
fn told_missing(world: &mut World, reader: &Reader) -> Option<(u64, u64)> {
    match world.next(reader.session, reader.epoch) {
        Some(ReaderDown::Missing { from, to, .. }) => {
            Some((Seq::try_from(&from).unwrap().0, Seq::try_from(&to).unwrap().0))
        }
        _ => None,
    }
}

#[test]
fn a_gap_whose_telling_was_lost_with_its_link_is_told_again() {
    let mut run = Run::new(Some(3));
    run.write(0, 2);
    run.world.sync();
    run.read(0);
    run.write(0, 6);
    run.world.sync();
    assert_eq!(told_missing(&mut run.world, &run.readers[0]), Some((2, 5)));
    // The link broke before that arrived: it comes back with what it has.
    let (session, epoch) = (run.readers[0].session, run.readers[0].epoch);
    run.world.pipe.reader_away(session, epoch, run.world.now);
    run.readers[0].epoch = Epoch(2);
    run.world.attach(&attach(&run.readers[0], true)).unwrap();
    run.world.sync();
    assert_eq!(told_missing(&mut run.world, &run.readers[0]), Some((2, 5)));
}

#[test]
fn a_cursor_moves_by_what_was_acknowledged_alone() {
    let mut run = Run::new(Some(3));
    run.write(0, 2);
    run.world.sync();
    run.read(0);
    // Given up, it begins anew behind what it has, and its cursor stays where it was.
    let lost = run.readers[0].session;
    run.world.pipe.lost(lost, run.world.now);
    let mut again = reader(&mut run.world, Some("one".to_owned()));
    again.has = run.readers[0].has.clone();
    let mut begins = attach(&again, false);
    begins.tape.resume_at = Some(again.has.clone());
    run.world.attach(&begins).unwrap();
    run.world.sync();
    let welcome = run.world.pipe.reader_welcome(again.session, again.epoch).unwrap().unwrap();
    assert_eq!(Seq::try_from(&welcome).unwrap(), Seq(2), "it is sent nothing twice");
    let ack = |run: &mut Run, again: &Reader, records| {
        let mark = Mark { position: Seq(0).into(), records };
        run.world.pipe.reader_up(again.session, again.epoch, ReaderUp::AckTo(mark), run.world.now).unwrap();
        run.world.effects();
    };
    ack(&mut run, &again, 1);
    // What is gone was sent to it, and nobody knows whether it came.
    run.write(0, 6);
    run.world.sync();
    assert_eq!(told_missing(&mut run.world, &again), Some((2, 5)));
    ack(&mut run, &again, 2);
    run.world.pipe.lost(again.session, run.world.now);
    let next = reader(&mut run.world, Some("one".to_owned()));
    run.world.attach(&attach(&next, false)).unwrap();
    run.world.sync();
    assert_eq!(told_missing(&mut run.world, &next), Some((2, 5)));
}

#[test]
fn a_position_of_another_pipe_is_refused() {
    let mut world = World::new(Mode::Broadcast);
    let mut stranger = attach(&reader(&mut world, None), false);
    stranger.tape.start = Start::At(Mark { position: Position(b"elsewhere"[..].into()), records: 0 });
    assert_eq!(world.attach(&stranger).unwrap_err().code(), crate::error::Code::Usage);
}
