//! A pipe among strangers: writers and readers that say anything, a disk that is full, syncs that come when they come.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use skypipe_core::delivery::limits::{LIVE_WINDOW_BYTES, STORED_CREDIT_BYTES};
use skypipe_core::delivery::{DefaultPipe, Effect, Fact, Next, Room};
use skypipe_core::{
    BATCH_BYTES_MAX, Batch, BatchBuilder, EndKind, Epoch, Holder, ItemDigest, ItemNo, Notice, OnTape, PipeName,
    PipeRef, ReaderAttach, ReaderCursor, ReaderDown, Seq, SessionId, Take, Time, WriterResume,
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
    AttachWriter {
        writer: u8,
        epoch: u8,
        resume: Option<(Number, Number)>,
    },
    /// The next batch, as an honest writer would send it.
    Send {
        writer: u8,
        epoch: u8,
        length: u16,
        last: bool,
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
    AttachReader {
        reader: u8,
        epoch: u8,
        take: u8,
        flags: u8,
        credit: Number,
        resume: Option<Vec<(u8, Number)>>,
    },
    Credit {
        reader: u8,
        epoch: u8,
        bytes: Number,
    },
    Acknowledge {
        reader: u8,
        epoch: u8,
        writer: u8,
        next: Number,
    },
    /// What it was sent last.
    AcknowledgeAll {
        reader: u8,
        epoch: u8,
    },
    Leave {
        reader: u8,
        epoch: u8,
        part: bool,
    },
    ReaderAway {
        reader: u8,
        epoch: u8,
    },
    Receive {
        reader: u8,
        epoch: u8,
        damaged: bool,
    },
    Hear {
        writer: u8,
        epoch: u8,
    },
    Tick(u32),
    Stored(u8),
    Lost(u8),
    Uses(Number, Number),
    Full(bool),
    Room(bool),
    Say,
    Remove,
    Flush,
    Snapshot,
    Crash,
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let mut run = Run::new();
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
    Batch(ItemNo, Batch),
}

struct Run {
    pipe: DefaultPipe,
    now: Time,
    log: Vec<Logged>,
    synced: usize,
    /// What an honest writer sent last.
    sent: BTreeMap<SessionId, (Seq, ItemDigest)>,
    /// What each reader's epoch was sent, by writer.
    received: BTreeMap<(SessionId, u8), BTreeMap<SessionId, Seq>>,
}

fn new_pipe() -> DefaultPipe {
    DefaultPipe::new(PipeRef::from(&PipeName::default()))
}

fn reader_session(reader: u8) -> SessionId {
    SessionId([READER + reader % 4; 16])
}

fn epoch(number: u8) -> Epoch {
    Epoch(u32::from(number % 5))
}

impl Run {
    fn new() -> Self {
        let (sent, received) = (BTreeMap::new(), BTreeMap::new());
        Self { pipe: new_pipe(), now: Time(1), log: Vec::new(), synced: 0, sent, received }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::AttachWriter { writer, epoch: number, resume } => {
                let resume =
                    resume.map(|(settled, stored)| WriterResume { settled: settled.seq(), stored: stored.seq() });
                let attached = self.pipe.attach_writer(session(writer), epoch(number), resume, Holder::Unknown);
                if attached.is_ok()
                    && let Some(Ok(welcome)) = self.pipe.writer_welcome(session(writer), epoch(number))
                {
                    self.sent.entry(session(writer)).or_default().0 = welcome.next;
                }
            }
            Step::Send { writer, epoch, length, last, end } => self.send(writer, epoch, length, last, end),
            Step::Batch { writer, as_writer, epoch: number, first, count, end } => {
                let batch = forged(as_writer, first.seq(), count % 8, end);
                // A batch that cannot be decoded never comes so far.
                if let Ok(batch) = Batch::decode(batch.encoded().clone()) {
                    let _ = self.pipe.batch(session(writer), epoch(number), batch, self.now);
                }
            }
            Step::Abort { writer, epoch: number } => drop(self.pipe.abort(session(writer), epoch(number))),
            Step::WriterAway { writer, epoch: number } => {
                self.pipe.writer_away(session(writer), epoch(number), self.now);
            }
            Step::Hear { writer, epoch } => self.hear(writer, epoch),
            Step::Tick(milliseconds) => {
                self.now = Time(self.now.0 + u64::from(milliseconds) * 1000);
                self.pipe.tick(self.now);
            }
            Step::Stored(count) => self.sync(usize::from(count)),
            Step::Lost(number) => {
                self.pipe.lost(if number & 1 == 0 { session(number) } else { reader_session(number) })
            }
            Step::Uses(bytes, most) => {
                self.pipe.quota((bytes.get() >= most.get()).then_some(Room::Pipe), self.now);
            }
            Step::Full(disk) => self.pipe.waits_for_room(if disk { Room::Disk } else { Room::Owner }, self.now),
            Step::Room(disk) => self.pipe.has_room(if disk { Room::Disk } else { Room::Owner }),
            Step::Say => self.pipe.say_to_writers(&Notice::HasRoom),
            Step::Remove => self.pipe.remove(),
            Step::Flush => self.pipe.flush(),
            Step::Snapshot => self.pipe.log_snapshot(),
            Step::Crash => self.crash(),
            step => self.reader_step(step),
        }
    }

    fn reader_step(&mut self, step: Step) {
        match step {
            Step::AttachReader { reader, epoch: number, take, flags, credit, resume } => {
                let cursors = |list: Vec<(u8, Number)>| {
                    list.into_iter().map(|(w, n)| ReaderCursor { writer: session(w), next: n.seq() }).collect()
                };
                let attach = ReaderAttach {
                    session: reader_session(reader),
                    epoch: epoch(number),
                    mode: None,
                    take: Take::from_number(take % 3).unwrap_or_default(),
                    keep: flags & 1 != 0,
                    no_wait: flags & 2 != 0,
                    credit: credit.get(),
                    mid_record: flags & 4 != 0,
                    resume: resume.map(cursors),
                    tape: OnTape::default(),
                };
                if self.pipe.attach_reader(&attach, Holder::Unknown).is_ok() {
                    self.received.remove(&(reader_session(reader), number % 5));
                }
                let _ = self.pipe.reader_welcome(reader_session(reader), epoch(number));
            }
            Step::Credit { reader, epoch: number, bytes } => {
                let _ = self.pipe.credit(reader_session(reader), epoch(number), bytes.get());
            }
            Step::Acknowledge { reader, epoch: number, writer, next } => {
                let ack = ReaderCursor { writer: session(writer), next: next.seq() };
                let _ = self.pipe.acknowledge(reader_session(reader), epoch(number), ack, self.now);
            }
            Step::AcknowledgeAll { reader, epoch: number } => {
                let key = (reader_session(reader), number % 5);
                for (writer, next) in self.received.get(&key).cloned().unwrap_or_default() {
                    let ack = ReaderCursor { writer, next };
                    let _ = self.pipe.acknowledge(key.0, epoch(number), ack, self.now);
                }
            }
            Step::Leave { reader, epoch: number, part } => {
                let _ = self.pipe.leave(reader_session(reader), epoch(number), part);
            }
            Step::ReaderAway { reader, epoch: number } => {
                self.pipe.reader_away(reader_session(reader), epoch(number), self.now);
            }
            Step::Receive { reader, epoch, damaged } => self.receive(reader, epoch, damaged),
            _ => {}
        }
    }

    fn send(&mut self, writer: u8, number: u8, length: u16, last: bool, end: bool) {
        let (first, mut digest) = self.sent.get(&session(writer)).copied().unwrap_or_default();
        let mut builder = BatchBuilder::new(session(writer), epoch(number), first);
        let _ = builder.push(&vec![b'x'; length.into()], true, last || end);
        let batch = builder.build(end.then(|| digest.end(EndKind::Finished, length.into())));
        // The numbers may have come to their end.
        if Batch::decode(batch.encoded().clone()).is_err() {
            return;
        }
        if self.pipe.batch(session(writer), epoch(number), batch.clone(), self.now).is_ok() {
            digest.add(&batch);
            self.sent.insert(session(writer), (batch.next(), digest));
        }
    }

    fn hear(&mut self, writer: u8, number: u8) {
        for heard in 0.. {
            assert!(heard < MESSAGES_MAX, "a writer is told things for ever");
            let Next::Message(_) = self.pipe.next_for_writer(session(writer), epoch(number)) else { return };
            self.effects();
        }
    }

    /// Takes what there is for a reader. Numbers of a writer never come twice within an attach.
    fn receive(&mut self, reader: u8, number: u8, damaged: bool) {
        let session = reader_session(reader);
        for received in 0.. {
            assert!(received < MESSAGES_MAX, "a reader is told things for ever");
            let message = match self.pipe.next_for_reader(session, epoch(number)) {
                Next::Message(message) => message,
                Next::FromLog { item, from, .. } => match self.read_log(session, number, item, from, damaged) {
                    Some(message) => message,
                    None => return,
                },
                Next::Wait | Next::End(_) => return,
            };
            self.effects();
            let known = self.received.entry((session, number % 5)).or_default();
            match message {
                ReaderDown::Batch { from, batch, .. } => {
                    let next = known.insert(batch.session(), batch.next());
                    assert!(batch.first() <= from && from <= batch.next(), "{from:?} is not in {batch:?}");
                    assert!(next.is_none_or(|next| next <= from), "{from:?} of {batch:?} came before, up to {next:?}");
                }
                ReaderDown::Gap { from, to, .. } => assert!(from < to, "a gap of nothing"),
                ReaderDown::Taken { writer } => drop(known.remove(&writer)),
                ReaderDown::Finished => {
                    self.received.remove(&(session, number % 5));
                    return;
                }
                _ => {}
            }
        }
    }

    fn read_log(
        &mut self,
        session: SessionId,
        number: u8,
        item: ItemNo,
        from: Seq,
        damaged: bool,
    ) -> Option<ReaderDown> {
        let batch = self.log.iter().find_map(|logged| match logged {
            Logged::Batch(no, batch) if *no == item && batch.first() <= from && from < batch.next() => {
                Some(batch.clone())
            }
            _ => None,
        });
        match batch.filter(|_| !damaged) {
            Some(batch) => self.pipe.from_log(session, epoch(number), item, &batch),
            None => self.pipe.missing(session, epoch(number), item, from, from.plus(1)),
        }
    }

    fn effects(&mut self) {
        for effect in self.pipe.take_effects() {
            match effect {
                Effect::Fact(fact) => self.log.push(Logged::Fact(fact)),
                Effect::Batch(item, batch) => self.log.push(Logged::Batch(item, batch)),
                Effect::Gone => {
                    self.pipe = new_pipe();
                    self.log.clear();
                    self.synced = 0;
                    return;
                }
                Effect::Tape(..) | Effect::Bury(_) => unreachable!("a default pipe has no tape"),
                Effect::Forget(..) | Effect::Wake(_) | Effect::Closed { .. } => {}
            }
        }
    }

    fn sync(&mut self, most: usize) {
        let count = most.min(self.log.len() - self.synced);
        if count > 0 {
            self.synced += count;
            self.pipe.stored(count as u64);
        }
    }

    fn crash(&mut self) {
        self.log.truncate(self.synced);
        self.pipe = new_pipe();
        for logged in &self.log {
            if let Logged::Fact(fact) = logged {
                let Ok(fact) = Fact::decode(fact.encode()) else { panic!("a fact survives the log") };
                self.pipe.replay(fact);
            }
        }
        let extent = |no: ItemNo| {
            let mut ranges = skypipe_core::delivery::Ranges::default();
            for logged in &self.log {
                if let Logged::Batch(item, batch) = logged
                    && *item == no
                {
                    ranges.insert(batch.first()..batch.next());
                }
            }
            ranges.iter().collect()
        };
        self.pipe.recovered(self.now, extent);
        self.received.clear();
    }

    /// Whatever strangers send, what waits in memory has its bounds.
    fn check(&self) {
        let counts = self.pipe.counts();
        let most = LIVE_WINDOW_BYTES as u64 + 8 * (STORED_CREDIT_BYTES + BATCH_BYTES_MAX as u64);
        assert!(counts.unlogged_bytes <= most, "{counts:?}");
        assert!(counts.ended <= counts.items && u64::from(counts.writers) + counts.ended <= counts.items);
    }

    fn everybody_is_lost(&mut self) {
        for number in 0..4 {
            self.pipe.lost(session(number));
            self.pipe.lost(reader_session(number));
            self.effects();
        }
        self.sync(usize::MAX);
        self.effects();
        let counts = self.pipe.counts();
        assert_eq!(counts.writers, 0, "who is lost writes no more: {counts:?}");
    }
}

/// A batch that claims anything.
fn forged(writer: u8, first: Seq, count: u8, end: Option<bool>) -> Batch {
    let mut builder = BatchBuilder::new(session(writer), Epoch(1), first);
    for number in 0..count {
        let _ = builder.push(b"forged", number & 1 == 0, number & 2 == 0 || end.is_some());
    }
    builder.build(end.map(|whole| {
        let kind = if whole { EndKind::Finished } else { EndKind::Interrupted };
        ItemDigest::default().end(kind, u64::from(count) * 6)
    }))
}
