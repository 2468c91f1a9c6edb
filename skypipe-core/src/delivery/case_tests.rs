//! The default mode in single cases: each was a fault once.

use super::default::expired;
use super::limits::*;
use super::*;
use crate::batch::{Batch, BatchBuilder, EndKind, ItemDigest};
use crate::broker::{Ack, Notice, ReaderAttach, ReaderCursor, ReaderDown, Take, WriterDown, WriterResume};
use crate::caller::{Holder, ProcessId};
use crate::error::Code;
use crate::id::{Epoch, ItemNo, Seq, SessionId};
use crate::identity::PublicKey;
use crate::name::{PipeName, PipeRef};
use crate::time::Time;

const WRITER: SessionId = SessionId([1; 16]);
const READER: SessionId = SessionId([2; 16]);
const NOW: Time = Time(0);

/// A pipe with a log that keeps what was synced.
struct Rig {
    pipe: DefaultPipe,
    facts: Vec<Fact>,
    batches: Vec<(ItemNo, Batch)>,
    unsynced: u64,
}

fn new_pipe() -> DefaultPipe {
    DefaultPipe::new(PipeRef::from(&PipeName::new("p").unwrap()))
}

impl Rig {
    fn new() -> Self {
        Self { pipe: new_pipe(), facts: Vec::new(), batches: Vec::new(), unsynced: 0 }
    }

    fn effects(&mut self) {
        for effect in self.pipe.take_effects() {
            match effect {
                Effect::Fact(fact) => self.facts.push(fact),
                Effect::Batch(item, batch) => self.batches.push((item, batch)),
                // The worst that a log may do: what it may forget is gone at once, and is not there after a crash.
                Effect::Forget(item, below) => {
                    self.batches.retain(|(of, batch)| *of != item || batch.next() > below);
                    continue;
                }
                _ => continue,
            }
            self.unsynced += 1;
        }
    }

    /// All that was appended becomes durable, and what that leads to as well.
    fn sync(&mut self) {
        loop {
            self.effects();
            let count = std::mem::take(&mut self.unsynced);
            if count == 0 {
                return;
            }
            self.pipe.stored(count);
        }
    }

    /// The relay dies; all it synced is there again.
    fn crash(&mut self) {
        self.pipe = new_pipe();
        self.facts.iter().cloned().for_each(|fact| self.pipe.replay(fact));
        let of = |no| self.batches.iter().filter(move |(item, _)| *item == no).map(|(_, b)| b.first()..b.next());
        self.pipe.recovered(NOW, |no| {
            let mut ranges = Ranges::default();
            of(no).for_each(|range| ranges.insert(range));
            ranges.iter().collect()
        });
        self.unsynced = 0;
        self.sync();
    }

    fn write(&mut self, writer: SessionId) {
        self.pipe.attach_writer(writer, Epoch(1), None, Holder::Unknown).unwrap();
        self.sync();
        assert!(self.pipe.writer_welcome(writer, Epoch(1)).unwrap().is_ok());
    }

    fn read(&mut self, epoch: u32, resume: Option<Vec<ReaderCursor>>) {
        let attach = ReaderAttach {
            session: READER,
            epoch: Epoch(epoch),
            mode: None,
            take: Take::Any,
            keep: false,
            no_wait: false,
            credit: 1 << 40,
            mid_record: false,
            resume,
            tape: Default::default(),
        };
        self.pipe.attach_reader(&attach, Holder::Unknown).unwrap();
        self.sync();
    }

    fn next(&mut self, epoch: u32) -> Next<ReaderDown> {
        let mut next = self.pipe.next_for_reader(READER, Epoch(epoch));
        if let Next::FromLog { item: no, from, .. } = next {
            let holds = |(item, b): &&(ItemNo, Batch)| *item == no && b.first() <= from && from < b.next();
            let (_, batch) = self.batches.iter().find(holds).unwrap();
            next = Next::Message(self.pipe.from_log(READER, Epoch(epoch), no, batch).unwrap());
        }
        self.effects();
        next
    }

    fn send(&mut self, writer: SessionId, epoch: u32, batch: Batch) {
        self.pipe.batch(writer, Epoch(epoch), batch, NOW).unwrap();
        self.effects();
    }

    fn acknowledge(&mut self, epoch: u32, next: u64) {
        self.pipe.acknowledge(READER, Epoch(epoch), ReaderCursor { writer: WRITER, next: Seq(next) }, Time(0)).unwrap();
        self.effects();
    }

    /// All credit the writer is given back.
    fn credit(&mut self, writer: SessionId, epoch: u32) -> u64 {
        let mut credit = 0;
        loop {
            match self.pipe.next_for_writer(writer, Epoch(epoch)) {
                Next::Message(WriterDown::Credit(more)) => credit += more,
                Next::Message(_) => {}
                _ => return credit,
            }
        }
    }

    fn finishes(&mut self, epoch: u32) {
        loop {
            self.sync();
            match self.next(epoch) {
                Next::Message(ReaderDown::Finished) => return,
                Next::Message(ReaderDown::ItemEnd { next, .. }) => self.acknowledge(epoch, next.0),
                Next::Message(_) => {}
                other => panic!("the reader does not finish: {other:?}"),
            }
        }
    }
}

fn batch(writer: SessionId, first: u64, bytes: usize, end: bool) -> Batch {
    let mut builder = BatchBuilder::new(writer, Epoch(1), Seq(first));
    assert!(builder.push(&vec![7; bytes], true, true));
    builder.build(end.then(|| ItemDigest::default().end(EndKind::Finished, 0)))
}

/// A live reader that has two records, and acknowledged them, of which the relay knows nothing any more.
fn reader_ahead_of_its_relay() -> Rig {
    let mut rig = Rig::new();
    rig.write(WRITER);
    rig.read(1, None);
    rig.crash();
    rig.read(2, Some(vec![ReaderCursor { writer: WRITER, next: Seq(2) }]));
    rig.acknowledge(2, 2);
    rig.sync();
    rig
}

#[test]
fn a_reader_ahead_of_its_relay_finishes_when_the_writer_is_dead() {
    let mut rig = reader_ahead_of_its_relay();
    rig.pipe.lost(WRITER);
    rig.sync();
    rig.finishes(2);
}

#[test]
fn a_reader_that_acknowledged_an_end_which_the_relay_lost_finishes() {
    let mut rig = reader_ahead_of_its_relay();
    let resume = Some(WriterResume::default());
    rig.pipe.attach_writer(WRITER, Epoch(2), resume, Holder::Unknown).unwrap();
    rig.sync();
    // One record and the end mark: all of which the reader has acknowledged.
    rig.send(WRITER, 2, batch(WRITER, 0, 1, true));
    rig.sync();
    while let Next::Message(_) = rig.pipe.next_for_writer(WRITER, Epoch(2)) {}
    rig.finishes(2);
}

#[test]
fn a_returning_writer_is_not_given_the_credit_of_what_is_under_way_twice() {
    let mut rig = Rig::new();
    rig.write(WRITER);
    let part = WRITER_CREDIT_BYTES as usize / 8;
    (0..8).for_each(|n| rig.send(WRITER, 1, batch(WRITER, n, part, false)));
    // Nothing is synced, neither the records nor that it returned, however often it does.
    for epoch in 2..5 {
        rig.pipe.attach_writer(WRITER, Epoch(epoch), Some(WriterResume::default()), Holder::Unknown).unwrap();
        assert!(rig.pipe.writer_welcome(WRITER, Epoch(epoch)).is_none());
    }
    rig.sync();
    let credit = rig.pipe.writer_welcome(WRITER, Epoch(4)).unwrap().unwrap().credit + rig.credit(WRITER, 4);
    assert_eq!(credit, STORED_CREDIT_BYTES);
}

#[test]
fn a_reader_that_lost_its_link_while_leaving_finishes_only_once_its_taking_is_durable() {
    let mut rig = Rig::new();
    rig.write(WRITER);
    rig.send(WRITER, 1, batch(WRITER, 0, 1, true));
    rig.sync();
    rig.read(1, None);
    while let Next::Message(message) = rig.next(1) {
        if let ReaderDown::ItemEnd { next, .. } = message {
            rig.acknowledge(1, next.0);
        }
    }
    rig.pipe.reader_away(READER, Epoch(1), NOW);
    assert!(rig.pipe.knows(READER), "the driver takes a session it does not find here for one that ended well");
    rig.read_without_sync(2);
    assert_eq!(rig.next(2), Next::Wait);
    rig.finishes(2);
}

#[test]
fn a_reader_that_left_and_never_returns_is_forgotten() {
    let mut rig = Rig::new();
    rig.read(1, None);
    rig.pipe.leave(READER, Epoch(1), false).unwrap();
    rig.pipe.reader_away(READER, Epoch(1), NOW);
    rig.sync();
    assert!(rig.pipe.is_gone());
}

#[test]
fn many_writers_share_one_live_window() {
    let mut rig = Rig::new();
    let writers: Vec<SessionId> = (0..24).map(|n| SessionId([10 + n; 16])).collect();
    rig.read(1, None);
    writers.iter().for_each(|writer| rig.write(*writer));
    // Each is faster than its reader, is logged, and then falls silent.
    for writer in &writers {
        let mut n = 0;
        while rig.pipe.items.values().any(|item| item.session == *writer && item.has_credit()) {
            rig.send(*writer, 1, batch(*writer, n, 256 * 1024, false));
            rig.sync();
            n += 1;
        }
        assert!(n > 0, "a writer has something to begin with");
        let bytes: usize = rig.pipe.items.values().map(|item| item.window_bytes()).sum();
        assert!(bytes <= LIVE_WINDOW_BYTES + WRITER_CREDIT_BYTES as usize, "{bytes} bytes stand in memory");
    }
}

#[test]
fn a_reader_without_credit_is_sent_nothing() {
    let mut rig = Rig::new();
    let attach = ReaderAttach { epoch: Epoch(1), resume: None, credit: 0, ..returning_reader() };
    rig.pipe.attach_reader(&attach, Holder::Unknown).unwrap();
    rig.sync();
    rig.write(WRITER);
    rig.pipe.take_effects();
    for n in 0..4 {
        rig.pipe.batch(WRITER, Epoch(1), batch(WRITER, n, 1000, false), NOW).unwrap();
    }
    let effects = rig.pipe.take_effects();
    assert!(!effects.contains(&Effect::Wake(READER)), "nor is it looked at for each batch: {effects:?}");
    assert_eq!(rig.pipe.next_for_reader(READER, Epoch(1)), Next::Wait);
    rig.pipe.credit(READER, Epoch(1), 1).unwrap();
    assert!(rig.pipe.take_effects().contains(&Effect::Wake(READER)));
    assert!(matches!(rig.next(1), Next::Message(ReaderDown::Batch { .. })), "one may overdraw it");
    assert_eq!(rig.next(1), Next::Wait);
    // Nor from the log.
    rig.pipe.tick(Time::default().plus(PROMPT));
    rig.sync();
    assert_eq!(rig.pipe.next_for_reader(READER, Epoch(1)), Next::Wait);
}

#[test]
fn who_stands_still_does_not_send_others_to_the_log() {
    let mut rig = Rig::new();
    let stands = ReaderAttach { session: SessionId([3; 16]), epoch: Epoch(1), resume: None, ..returning_reader() };
    rig.pipe.attach_reader(&stands, Holder::Unknown).unwrap();
    rig.read(1, None);
    rig.write(WRITER);
    for n in 0..64 {
        rig.send(WRITER, 1, batch(WRITER, n, 256 * 1024, false));
        // It takes each, somewhat later than a prompt reader does.
        rig.pipe.tick(Time::default().plus(PROMPT));
        rig.sync();
        let next = rig.pipe.next_for_reader(READER, Epoch(1));
        assert!(matches!(next, Next::Message(ReaderDown::Batch { .. })), "record {n}: {next:?}");
        rig.acknowledge(1, n + 1);
        rig.credit(WRITER, 1);
        assert!(rig.pipe.window_bytes <= LIVE_WINDOW_BYTES + WRITER_CREDIT_BYTES as usize);
    }
    assert!(rig.pipe.window_bytes > 0);
    rig.pipe.writers_may(WRITER_CREDIT_BYTES_MIN);
    assert_eq!(rig.pipe.window_bytes, 0, "while memory is short the log is enough");
}

#[test]
fn a_writer_sends_no_more_than_it_has_credit_for() {
    let mut rig = Rig::new();
    rig.write(WRITER);
    // Nothing is synced, so nothing is given back.
    let count = WRITER_CREDIT_BYTES / (256 * 1024);
    (0..count).for_each(|n| rig.send(WRITER, 1, batch(WRITER, n, 256 * 1024, false)));
    let more = batch(WRITER, count, 256 * 1024, false);
    let error = rig.pipe.batch(WRITER, Epoch(1), more, NOW).unwrap_err();
    assert_eq!(error.code(), Code::Protocol);
    assert_eq!(rig.pipe.items[&ItemNo(0)].accepted, Seq(count));
}

#[test]
fn a_writer_has_more_under_way_while_its_item_goes_to_the_disk() {
    let mut rig = Rig::new();
    rig.write(WRITER);
    rig.send(WRITER, 1, batch(WRITER, 0, 1000, false));
    assert_eq!(rig.credit(WRITER, 1), 0, "nothing is known of the disk yet");
    rig.sync();
    let sent = batch(WRITER, 0, 1000, false).encoded().len() as u64;
    assert_eq!(rig.credit(WRITER, 1), STORED_CREDIT_BYTES - WRITER_CREDIT_BYTES + sent);
    // A reader that keeps up is given no more than what is kept in memory for it: what is under way already is not asked back.
    rig.read(1, None);
    while let Next::FromLog { .. } | Next::Message(_) = rig.next(1) {
        rig.acknowledge(1, 1);
    }
    for n in 1..9 {
        rig.send(WRITER, 1, batch(WRITER, n, 256 * 1024, false));
        rig.next(1);
        rig.acknowledge(1, n + 1);
        assert_eq!(rig.credit(WRITER, 1), 0);
    }
}

#[test]
fn while_memory_is_short_a_writer_has_little_under_way() {
    let mut rig = Rig::new();
    rig.pipe.writers_may(WRITER_CREDIT_BYTES_MIN);
    assert!(!rig.pipe.is_gone(), "a pipe begins while memory is short");
    rig.pipe.attach_writer(WRITER, Epoch(1), None, Holder::Unknown).unwrap();
    rig.sync();
    let welcome = rig.pipe.writer_welcome(WRITER, Epoch(1)).unwrap().unwrap();
    assert_eq!(welcome.credit, WRITER_CREDIT_BYTES_MIN);
    let mut under_way = 0;
    for n in 0..100 {
        let batch = batch(WRITER, n, 40 * 1024, false);
        under_way += batch.encoded().len() as u64;
        rig.send(WRITER, 1, batch);
        rig.sync();
        under_way = under_way.saturating_sub(rig.credit(WRITER, 1));
        assert!(under_way <= WRITER_CREDIT_BYTES_MIN, "it goes on, within its window: {under_way}");
    }
    // When there is memory again, it hears so without having sent anything.
    rig.pipe.writers_may(WRITER_CREDIT_BYTES);
    assert!(rig.pipe.take_effects().contains(&Effect::Wake(WRITER)));
    assert_eq!(rig.credit(WRITER, 1), STORED_CREDIT_BYTES - WRITER_CREDIT_BYTES_MIN + under_way);
}

#[test]
fn a_refused_attach_leaves_no_pipe() {
    let mut pipe = new_pipe();
    assert!(pipe.attach_writer(WRITER, Epoch(2), Some(WriterResume::default()), Holder::Unknown).is_err());
    assert!(pipe.is_gone());
    let mut rig = Rig::new();
    let attach = returning_reader();
    assert!(rig.pipe.attach_reader(&attach, Holder::Unknown).is_err());
    assert!(rig.pipe.is_gone());
}

#[test]
fn only_its_holder_takes_a_session_up_again() {
    let (mine, other) = (Holder::Key(PublicKey([1; 32])), Holder::Key(PublicKey([2; 32])));
    let mut rig = Rig::new();
    rig.pipe.attach_writer(WRITER, Epoch(1), None, mine).unwrap();
    let reader = ReaderAttach { resume: None, ..returning_reader() };
    rig.pipe.attach_reader(&reader, mine).unwrap();
    rig.sync();
    for _ in 0..2 {
        for foreign in [other, Holder::Unknown, Holder::Process(ProcessId { pid: 1, started: 1, boot: 1 })] {
            let writer = rig.pipe.attach_writer(WRITER, Epoch(9), Some(WriterResume::default()), foreign);
            // The same words as for a session that never was.
            assert_eq!(writer.unwrap_err(), expired());
            assert_eq!(rig.pipe.attach_reader(&returning_reader(), foreign).unwrap_err(), expired());
        }
        rig.crash();
    }
    rig.pipe.attach_writer(WRITER, Epoch(9), Some(WriterResume::default()), mine).unwrap();
    rig.pipe.attach_reader(&ReaderAttach { epoch: Epoch(3), ..returning_reader() }, mine).unwrap();
}

fn returning_reader() -> ReaderAttach {
    ReaderAttach {
        session: READER,
        epoch: Epoch(2),
        mode: None,
        take: Take::Any,
        keep: false,
        no_wait: false,
        credit: 1,
        mid_record: false,
        resume: Some(Vec::new()),
        tape: Default::default(),
    }
}

#[test]
fn a_part_of_a_batch_may_be_acknowledged() {
    let mut rig = Rig::new();
    rig.read(1, None);
    rig.write(WRITER);
    let mut builder = BatchBuilder::new(WRITER, Epoch(1), Seq(0));
    (0..3).for_each(|_| assert!(builder.push(b"record", true, true)));
    rig.send(WRITER, 1, builder.build(None));
    assert!(matches!(rig.next(1), Next::Message(ReaderDown::Batch { .. })));
    rig.acknowledge(1, 2);
    let Next::Message(WriterDown::Ack(ack)) = rig.pipe.next_for_writer(WRITER, Epoch(1)) else { panic!("no news") };
    assert_eq!(ack, Ack { settled: Seq(0), stored: Seq(0), delivered: Seq(2) });
    // It comes back with what it has; the relay goes on behind it.
    rig.pipe.reader_away(READER, Epoch(1), NOW);
    rig.read(2, Some(vec![ReaderCursor { writer: WRITER, next: Seq(2) }]));
    let Next::Message(ReaderDown::Batch { from, .. }) = rig.next(2) else { panic!("no batch") };
    assert_eq!(from, Seq(2));
}

impl Rig {
    fn read_without_sync(&mut self, epoch: u32) {
        let attach = ReaderAttach { epoch: Epoch(epoch), ..returning_reader() };
        self.pipe.attach_reader(&attach, Holder::Unknown).unwrap();
    }
}

#[test]
fn who_was_not_welcome_yet_hears_that_the_pipe_was_removed() {
    let mut rig = Rig::new();
    let attach = ReaderAttach { epoch: Epoch(1), resume: None, ..returning_reader() };
    rig.pipe.attach_reader(&attach, Holder::Unknown).unwrap();
    rig.pipe.attach_writer(WRITER, Epoch(1), None, Holder::Unknown).unwrap();
    assert!(rig.pipe.writer_welcome(WRITER, Epoch(1)).is_none() && rig.pipe.reader_welcome(READER, Epoch(1)).is_none());
    assert_eq!((rig.pipe.counts().writers, rig.pipe.counts().readers), (1, 1));
    rig.pipe.remove();
    // As expired, their sessions would begin again, in a new pipe, without a word.
    assert_eq!(rig.pipe.writer_welcome(WRITER, Epoch(1)).unwrap().unwrap_err().code(), Code::Access);
    assert_eq!(rig.pipe.reader_welcome(READER, Epoch(1)).unwrap().unwrap_err().code(), Code::Access);
}

#[test]
fn a_live_reader_skips_what_others_took_after_a_snapshot_and_a_crash_too() {
    let (early, middle) = (SessionId([7; 16]), SessionId([8; 16]));
    let mut rig = Rig::new();
    rig.write(WRITER);
    rig.send(WRITER, 1, batch(WRITER, 0, 10, false));
    for session in [early, middle] {
        rig.pipe.attach_reader(&ReaderAttach { session, resume: None, ..returning_reader() }, Holder::Unknown).unwrap();
        rig.sync();
    }
    // The one that came in the middle takes a record for good, the one that has it all takes nothing; both go.
    rig.send(WRITER, 1, batch(WRITER, 1, 10, false));
    while let Next::Message(_) = rig.pipe.next_for_reader(middle, Epoch(2)) {}
    rig.pipe.acknowledge(middle, Epoch(2), ReaderCursor { writer: WRITER, next: Seq(2) }, NOW).unwrap();
    rig.pipe.leave(middle, Epoch(2), false).unwrap();
    rig.pipe.lost(early);
    rig.send(WRITER, 1, batch(WRITER, 2, 10, false));
    rig.sync();
    rig.read(1, None);
    rig.pipe.log_snapshot();
    rig.sync();
    rig.crash();
    rig.read(2, Some(Vec::new()));
    let mut got = Vec::new();
    while let Next::Message(message) = rig.next(2) {
        match message {
            ReaderDown::Batch { from, .. } => got.push(from.0),
            ReaderDown::Gap { .. } => panic!("nothing is missing"),
            _ => {}
        }
    }
    assert_eq!(got, [0, 2]);
}

#[test]
fn after_a_crash_an_older_attach_of_a_session_does_not_win() {
    let mut rig = Rig::new();
    rig.write(WRITER);
    rig.send(WRITER, 1, batch(WRITER, 0, 10, false));
    rig.read(1, None);
    rig.read(3, Some(Vec::new()));
    rig.pipe.attach_writer(WRITER, Epoch(3), Some(WriterResume::default()), Holder::Unknown).unwrap();
    assert!(rig.pipe.writer_welcome(WRITER, Epoch(3)).is_none(), "the log does not have it yet");
    rig.sync();
    assert!(rig.pipe.writer_welcome(WRITER, Epoch(3)).unwrap().is_ok());
    rig.pipe.log_snapshot();
    rig.sync();
    rig.crash();
    let late = rig.pipe.attach_writer(WRITER, Epoch(2), Some(WriterResume::default()), Holder::Unknown);
    assert_eq!(late.unwrap_err().code(), Code::Fenced);
    let late = rig.pipe.attach_reader(&returning_reader(), Holder::Unknown);
    assert_eq!(late.unwrap_err().code(), Code::Fenced);
}

/// Seen in a simulation: the log had given back the room of what a live reader had taken, and a relay that started again refused the
/// writer with `E_RESUME_AHEAD`, and told the next reader of a gap.
#[test]
fn a_relay_that_starts_again_knows_what_the_log_forgot() {
    for count in [1, 5, FORGET_STEP, 3 * FORGET_STEP + 7] {
        let mut rig = Rig::new();
        rig.write(WRITER);
        rig.read(1, None);
        for n in 0..count {
            rig.send(WRITER, 1, batch(WRITER, n, 1, false));
            rig.pipe.flush();
            rig.sync();
            while let Next::Message(_) = rig.next(1) {}
            rig.acknowledge(1, n + 1);
            rig.sync();
        }
        assert!((rig.batches.len() as u64) < 2 * FORGET_STEP, "the log may forget what is delivered");
        rig.crash();
        let resume = WriterResume { settled: Seq(count), stored: Seq(count) };
        rig.pipe.attach_writer(WRITER, Epoch(2), Some(resume), Holder::Unknown).unwrap();
        rig.sync();
        let welcome = rig.pipe.writer_welcome(WRITER, Epoch(2)).unwrap().unwrap();
        assert_eq!(welcome.next, Seq(count));
        // The reader does not come back: whoever is next is owed nothing that is gone.
        rig.pipe.lost(READER);
        rig.sync();
        rig.read(1, None);
        while let Next::Message(message) = rig.next(1) {
            assert!(!matches!(message, ReaderDown::Gap { .. }), "{count}: {message:?}");
        }
    }
}

/// Seen in a simulation: the notice went down with the link, and was never said again.
#[test]
fn that_it_starts_in_the_middle_is_told_again_over_the_next_link() {
    const OTHER: SessionId = SessionId([3; 16]);
    let mut rig = Rig::new();
    rig.write(WRITER);
    let other = ReaderAttach { session: OTHER, epoch: Epoch(1), resume: None, ..returning_reader() };
    rig.pipe.attach_reader(&other, Holder::Unknown).unwrap();
    rig.sync();
    rig.send(WRITER, 1, batch(WRITER, 0, 1, false));
    rig.sync();
    rig.read(1, None);
    let middle = Next::Message(ReaderDown::Notice(Notice::Middle { writer: WRITER, from: Seq(1) }));
    assert_eq!(rig.next(1), middle);
    rig.read(2, Some(Vec::new()));
    assert_eq!(rig.next(2), middle);
    assert_eq!(rig.next(2), Next::Wait);
    // One that names the writer has heard it.
    rig.read(3, Some(vec![ReaderCursor { writer: WRITER, next: Seq(1) }]));
    assert_eq!(rig.next(3), Next::Wait);
}

#[test]
fn a_session_that_is_not_known_cannot_be_resumed() {
    let mut rig = Rig::new();
    rig.write(WRITER);
    for resume in [WriterResume::default(), WriterResume { settled: Seq(u64::MAX), stored: Seq(u64::MAX) }] {
        let attached = rig.pipe.attach_writer(SessionId([99; 16]), Epoch(2), Some(resume), Holder::Unknown);
        assert_eq!(attached.unwrap_err().code(), Code::SessionExpired);
    }
    assert_eq!(rig.pipe.attach_reader(&returning_reader(), Holder::Unknown).unwrap_err().code(), Code::SessionExpired);
    assert_eq!(rig.pipe.counts().writers, 1, "the pipe is as it was");
}

#[test]
fn what_was_never_stored_here_cannot_be_claimed_as_stored() {
    let mut rig = Rig::new();
    rig.write(WRITER);
    rig.send(WRITER, 1, batch(WRITER, 0, 10, false));
    rig.sync();
    let claim = |stored| Some(WriterResume { settled: Seq(stored), stored: Seq(stored) });
    let refused = rig.pipe.attach_writer(WRITER, Epoch(2), claim(2), Holder::Unknown).unwrap_err();
    assert_eq!(refused.code(), Code::ResumeAhead);
    rig.pipe.attach_writer(WRITER, Epoch(2), claim(1), Holder::Unknown).unwrap();
    rig.sync();
    assert_eq!(rig.pipe.writer_welcome(WRITER, Epoch(2)).unwrap().unwrap().next, Seq(1), "nothing was invented");
}

#[test]
fn of_two_attaches_of_a_session_the_newer_writes() {
    let mut rig = Rig::new();
    rig.write(WRITER);
    rig.pipe.attach_writer(WRITER, Epoch(3), Some(WriterResume::default()), Holder::Unknown).unwrap();
    for old in [1, 2] {
        let refused = rig.pipe.batch(WRITER, Epoch(old), batch(WRITER, 0, 10, false), NOW).unwrap_err();
        assert_eq!(refused.code(), Code::Fenced);
        let again = rig.pipe.attach_writer(WRITER, Epoch(old), Some(WriterResume::default()), Holder::Unknown);
        assert_eq!(again.unwrap_err().code(), Code::Fenced);
    }
    rig.send(WRITER, 3, batch(WRITER, 0, 10, false));
}

#[test]
fn the_same_numbers_again_are_a_duplicate_and_with_other_bytes_a_conflict() {
    let mut rig = Rig::new();
    rig.read(1, None);
    rig.write(WRITER);
    let first = batch(WRITER, 0, 10, false);
    rig.send(WRITER, 1, first.clone());
    rig.send(WRITER, 1, first);
    let forged = rig.pipe.batch(WRITER, Epoch(1), batch(WRITER, 0, 11, false), NOW).unwrap_err();
    assert_eq!(forged.code(), Code::Conflict);
    assert!(matches!(rig.next(1), Next::Message(ReaderDown::Batch { .. })));
    assert!(matches!(rig.next(1), Next::Wait), "nothing comes twice");
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let mut rig = Rig::new();
    rig.read(1, None);
    rig.write(WRITER);
    rig.send(WRITER, 1, batch(WRITER, 0, 10, false));
    let ack = |next| ReaderCursor { writer: WRITER, next: Seq(next) };
    for next in [1, 2, u64::MAX] {
        let refused = rig.pipe.acknowledge(READER, Epoch(1), ack(next), NOW).unwrap_err();
        assert_eq!(refused.code(), Code::Protocol);
    }
    // Of a writer that this reader has nothing of, it says nothing.
    rig.pipe.acknowledge(READER, Epoch(1), ReaderCursor { writer: READER, next: Seq(9) }, NOW).unwrap();
    assert_eq!(rig.pipe.counts().items, 1);
}

#[test]
fn an_abort_is_told_once_a_crash_cannot_undo_it() {
    let mut rig = Rig::new();
    rig.read(1, None);
    rig.write(WRITER);
    rig.send(WRITER, 1, batch(WRITER, 0, 10, false));
    assert!(matches!(rig.next(1), Next::Message(ReaderDown::Batch { .. })));
    rig.pipe.lost(WRITER);
    assert!(matches!(rig.next(1), Next::Wait), "the writer may come back to a relay that knows nothing of it");
    rig.sync();
    assert!(matches!(rig.next(1), Next::Message(ReaderDown::ItemEnd { kind: EndKind::Aborted, .. })));
}

#[test]
fn an_item_given_up_before_its_first_record_leaves_nothing_where_nobody_was_given_it() {
    for crashes in [false, true] {
        let mut rig = Rig::new();
        rig.write(WRITER);
        rig.pipe.abort(WRITER, Epoch(1)).unwrap();
        rig.sync();
        match crashes {
            true => rig.crash(),
            false => rig.pipe.writer_away(WRITER, Epoch(1), NOW),
        }
        assert_eq!(rig.pipe.counts().items, 0);
        assert!(rig.pipe.is_gone());
    }
    // A reader that was given it is told that there was something.
    let mut rig = Rig::new();
    rig.read(1, None);
    rig.write(WRITER);
    rig.pipe.abort(WRITER, Epoch(1)).unwrap();
    rig.sync();
    assert!(matches!(rig.next(1), Next::Message(ReaderDown::ItemEnd { kind: EndKind::Aborted, .. })));
}

#[test]
fn a_writer_is_told_once_that_its_first_reader_is_there() {
    let told = |rig: &mut Rig| match rig.pipe.next_for_writer(WRITER, Epoch(1)) {
        Next::Message(message) => Some(message),
        _ => None,
    };
    let mut rig = Rig::new();
    rig.write(WRITER);
    assert_eq!(told(&mut rig), None);
    rig.read(1, None);
    assert_eq!((told(&mut rig), told(&mut rig)), (Some(WriterDown::HasReader), None));
    // Of one that was there before, the welcome tells.
    let mut rig = Rig::new();
    rig.read(1, None);
    rig.write(WRITER);
    assert_eq!(told(&mut rig), None);
}

#[test]
fn an_abort_is_told_when_the_log_fails_before_it_has_it() {
    let mut rig = Rig::new();
    rig.read(1, None);
    rig.write(WRITER);
    rig.pipe.lost(WRITER);
    assert!(matches!(rig.next(1), Next::Wait));
    rig.pipe.turn_read_only(&expired());
    assert!(matches!(rig.next(1), Next::Message(ReaderDown::ItemEnd { kind: EndKind::Aborted, .. })));
}

#[test]
fn a_writer_hears_of_no_number_that_it_is_still_to_send_again() {
    // The reader has acknowledged a record and the end mark, and the writer knows of the record only.
    let mut rig = reader_ahead_of_its_relay();
    let resume = Some(WriterResume { settled: Seq(1), stored: Seq(0) });
    rig.pipe.attach_writer(WRITER, Epoch(2), resume, Holder::Unknown).unwrap();
    rig.sync();
    let welcome = rig.pipe.writer_welcome(WRITER, Epoch(2)).unwrap().unwrap();
    assert_eq!((welcome.next, welcome.ack.delivered), (Seq(1), Seq(1)));
    let end = BatchBuilder::new(WRITER, Epoch(1), Seq(1)).build(Some(ItemDigest::default().end(EndKind::Finished, 0)));
    rig.send(WRITER, 2, end);
    assert_eq!(rig.credit(WRITER, 2), 0, "the end counts once the log has it");
    rig.sync();
    let Next::Message(WriterDown::Ack(ack)) = rig.pipe.next_for_writer(WRITER, Epoch(2)) else { panic!("no ack") };
    assert_eq!((ack.settled, ack.delivered), (Seq(2), Seq(2)));
}

/// An item that has ended, of one record.
fn write_item(rig: &mut Rig, writer: SessionId) {
    rig.write(writer);
    rig.send(writer, 1, batch(writer, 0, 10, true));
    rig.sync();
}

#[test]
fn on_a_full_disk_too_the_next_item_waits_until_the_one_before_is_taken() {
    let mut rig = Rig::new();
    let next = SessionId([9; 16]);
    write_item(&mut rig, WRITER);
    write_item(&mut rig, next);
    rig.pipe
        .attach_reader(
            &ReaderAttach { keep: true, credit: 1 << 20, resume: None, ..returning_reader() },
            Holder::Unknown,
        )
        .unwrap();
    rig.sync();
    rig.pipe.waits_for_room(Room::Disk, NOW);
    while let Next::Message(_) = rig.next(2) {}
    rig.acknowledge(2, 2);
    assert_eq!(rig.pipe.next_for_reader(READER, Epoch(2)), Next::Wait);
    // Waiting for the log is not standing still.
    rig.pipe.tick(Time(0).plus(2 * IDLE_READER_LOST));
    rig.sync();
    let is_next = |message: &Next<ReaderDown>| matches!(message, Next::Message(ReaderDown::Batch { batch, .. }) if batch.session() == next);
    let told: Vec<_> = (0..3).map(|_| rig.next(2)).collect();
    assert!(told.iter().any(is_next), "{told:?}");
}

#[test]
fn on_a_full_disk_a_writer_may_send_once_the_log_has_it() {
    let mut rig = Rig::new();
    rig.pipe.waits_for_room(Room::Disk, NOW);
    rig.pipe.attach_writer(WRITER, Epoch(1), None, Holder::Unknown).unwrap();
    let welcome = rig.pipe.writer_welcome(WRITER, Epoch(1)).unwrap().unwrap();
    rig.pipe.has_room(Room::Disk);
    assert_eq!((welcome.credit, rig.credit(WRITER, 1)), (0, 0));
    rig.sync();
    assert_eq!(rig.credit(WRITER, 1), WRITER_CREDIT_BYTES);
}

#[test]
fn every_item_that_is_got_from_its_middle_is_told() {
    let mut rig = Rig::new();
    rig.read(1, None);
    for number in 0..40 {
        let writer = SessionId([100 + number; 16]);
        rig.write(writer);
        rig.send(writer, 1, batch(writer, 0, 10, false));
    }
    let second = ReaderAttach { session: SessionId([3; 16]), epoch: Epoch(1), resume: None, ..returning_reader() };
    rig.pipe.attach_reader(&second, Holder::Unknown).unwrap();
    rig.sync();
    let told = std::iter::from_fn(|| match rig.pipe.next_for_reader(second.session, Epoch(1)) {
        Next::Message(message) => Some(message),
        _ => None,
    });
    let middles = told.filter(|message| matches!(message, ReaderDown::Notice(Notice::Middle { .. })));
    assert_eq!(middles.count(), 40);
}

#[test]
fn an_end_mark_that_was_never_logged_is_no_gap() {
    let mut rig = Rig::new();
    rig.read(1, None);
    rig.write(WRITER);
    rig.send(WRITER, 1, batch(WRITER, 0, 10, true));
    while let Next::Message(_) = rig.next(1) {}
    rig.acknowledge(1, 2);
    rig.sync();
    // What its reader took is not in the log; that it was delivered, and its end, are.
    rig.facts.retain(|fact| match fact {
        Fact::Took { reader, .. } => *reader != READER,
        Fact::ReaderLeft { .. } | Fact::Removed => false,
        _ => true,
    });
    rig.crash();
    rig.pipe.lost(READER);
    rig.read(1, None);
    let told: Vec<_> = (0..3).map(|_| rig.pipe.next_for_reader(READER, Epoch(1))).collect();
    assert!(matches!(told[0], Next::Message(ReaderDown::Notice(Notice::Middle { from: Seq(1), .. }))), "{told:?}");
    let Next::FromLog { item, from, .. } = told[1] else { panic!("{told:?}") };
    assert_eq!(rig.pipe.missing(READER, Epoch(1), item, from, Seq(u64::MAX)), None);
    assert!(matches!(rig.next(1), Next::Message(ReaderDown::ItemEnd { kind: EndKind::Finished, .. })));
}
