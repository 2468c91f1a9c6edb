//! Both machines against the toy broker, on virtual time: every cut, in every order.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::{prop_assert, prop_assert_eq};
use skypipe_test::proof::{Proof, cases};
use skypipe_test::property;

use super::toy::Toy;
use super::*;
use crate::batch::{Batch, BatchBuilder, EndKind, ItemDigest, PIECE_BYTES_MAX};
use crate::broker::*;
use crate::error::{Code, Error};
use crate::event::Event;
use crate::headers::Headers;
use crate::id::{Epoch, Position, Seq, SessionId};
use crate::time::Time;

enum Link<A, W, U, D> {
    None,
    Asked(A),
    Answered(Result<W, Error>),
    Open { up: VecDeque<U>, down: VecDeque<D> },
}

type WriterLink = Link<WriterAttach, WriterWelcome, WriterUp, WriterDown>;
type ReaderLink = Link<ReaderAttach, (), ReaderUp, ReaderDown>;

struct World {
    now: Time,
    writer: WriterSession,
    reader: ReaderSession,
    toy: Toy,
    writer_link: WriterLink,
    reader_link: ReaderLink,
    /// What the application still has to write.
    to_write: VecDeque<Vec<u8>>,
    /// The numbers of the records read; their bytes were compared.
    read: Vec<usize>,
    handed: Option<(SessionId, Seq)>,
    draws: u64,
    messages: usize,
    writer_events: Vec<Event>,
    reader_events: Vec<Event>,
}

fn cut() -> Error {
    Error::new(Code::Disconnected, "cut")
}

fn id(number: u64) -> SessionId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    SessionId(id)
}

fn record(number: usize) -> Vec<u8> {
    format!("record {number} {}\n", "x".repeat(number * 37 % 200)).into_bytes()
}

fn all(count: usize) -> Vec<usize> {
    (0..count).collect()
}

impl World {
    fn new(count: usize) -> Self {
        Self {
            now: Time(0),
            writer: WriterSession::new(id(1), WriterWants { window_bytes: 3000, ..WriterWants::default() }, Time(0)),
            reader: ReaderSession::new(id(2), ReaderWants::default(), Time(0)),
            toy: Toy::default(),
            writer_link: Link::None,
            reader_link: Link::None,
            to_write: (0..count).map(record).collect(),
            read: Vec::new(),
            handed: None,
            draws: 2,
            messages: 0,
            writer_events: Vec::new(),
            reader_events: Vec::new(),
        }
    }

    fn draw(&mut self) -> Draw {
        self.draws += 1;
        Draw { jitter: self.draws * 7919, session: id(self.draws) }
    }

    fn write_one(&mut self) -> bool {
        let Some(record) = self.to_write.front() else {
            self.writer.end(EndKind::Finished);
            return false;
        };
        let pushed = self.writer.push(record, true, true);
        if pushed {
            self.to_write.pop_front();
        }
        pushed
    }

    fn read_one(&mut self) -> bool {
        if let Some((writer, next)) = self.handed.take() {
            self.reader.ack(writer, next);
        }
        let Some(chunk) = self.reader.next_chunk() else { return false };
        for piece in chunk.records() {
            let text = String::from_utf8(piece.body.to_vec()).expect("text");
            let number = text.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a number");
            assert_eq!(text.as_bytes(), record(number));
            self.read.push(number);
        }
        self.handed = Some((chunk.writer, chunk.next()));
        true
    }

    /// One step of the writer's link.
    fn writer_step(&mut self) -> bool {
        self.messages += 1;
        match &mut self.writer_link {
            Link::None if self.writer.connection().is_due(self.now) => {
                self.writer_link = Link::Asked(self.writer.begin(self.now));
            }
            Link::Asked(attach) => self.writer_link = Link::Answered(self.toy.attach_writer(attach)),
            Link::Answered(Ok(welcome)) => {
                self.writer.attached(welcome, self.now);
                self.writer_link = Link::Open { up: VecDeque::new(), down: VecDeque::new() };
            }
            Link::Answered(Err(error)) => {
                let error = Error::new(error.code(), error.text());
                self.cut_writer_with(error);
            }
            Link::Open { up, down } => {
                up.extend(std::iter::from_fn(|| self.writer.next_up()));
                down.extend(std::iter::from_fn(|| self.toy.next_for_writer()));
                if let Some(message) = up.pop_front() {
                    self.toy.writer_up(message);
                } else if let Some(message) = down.pop_front() {
                    self.writer.down(message);
                } else {
                    self.writer.flushed();
                    self.messages -= 1;
                    return false;
                }
            }
            Link::None => {
                self.messages -= 1;
                return false;
            }
        }
        self.writer_events.extend(self.writer.take_events());
        true
    }

    fn reader_step(&mut self) -> bool {
        self.messages += 1;
        match &mut self.reader_link {
            Link::None if self.reader.connection().is_due(self.now) => {
                self.reader_link = Link::Asked(self.reader.begin(self.now));
            }
            Link::Asked(attach) => self.reader_link = Link::Answered(self.toy.attach_reader(attach)),
            Link::Answered(Ok(())) => {
                self.reader.attached(Default::default(), self.now);
                self.reader_link = Link::Open { up: VecDeque::new(), down: VecDeque::new() };
            }
            Link::Answered(Err(error)) => {
                let error = Error::new(error.code(), error.text());
                self.cut_reader_with(error);
            }
            Link::Open { up, down } => {
                up.extend(std::iter::from_fn(|| self.reader.next_up()));
                down.extend(std::iter::from_fn(|| self.toy.next_for_reader()));
                if let Some(message) = down.pop_front() {
                    self.reader.down(message);
                } else if let Some(message) = up.pop_front() {
                    self.toy.reader_up(message);
                } else {
                    self.messages -= 1;
                    return false;
                }
            }
            Link::None => {
                self.messages -= 1;
                return false;
            }
        }
        self.reader_events.extend(self.reader.take_events());
        true
    }

    fn cut_writer(&mut self) {
        if !matches!(self.writer_link, Link::None) {
            self.cut_writer_with(cut());
        }
    }

    fn cut_writer_with(&mut self, error: Error) {
        self.writer_link = Link::None;
        let draw = self.draw();
        self.writer.lost(error, self.now, draw);
    }

    fn cut_reader(&mut self) {
        if !matches!(self.reader_link, Link::None) {
            self.toy.reader_cut();
            self.cut_reader_with(cut());
        }
    }

    fn cut_reader_with(&mut self, error: Error) {
        self.reader_link = Link::None;
        let draw = self.draw();
        self.reader.lost(error, self.now, draw);
    }

    fn pass_time(&mut self) {
        let next = [self.writer.connection().deadline(), self.reader.connection().deadline()];
        self.now = next.into_iter().flatten().min().unwrap_or(self.now).max(self.now.plus(Duration::from_millis(1)));
        let (one, two) = (self.draw(), self.draw());
        self.writer.tick(self.now, one);
        self.reader.tick(self.now, two);
    }

    fn is_done(&self) -> bool {
        self.reader.is_finished() && self.writer.reached(Until::Delivered)
    }

    /// Runs fairly until both are done; `at` may break something before each round.
    fn run(&mut self, mut at: impl FnMut(&mut Self)) {
        for _ in 0..200_000 {
            at(self);
            if self.is_done() {
                return;
            }
            assert!(self.writer.failure().is_none(), "{:?}", self.writer.failure());
            assert!(self.reader.failure().is_none(), "{:?}", self.reader.failure());
            let mut moved = self.write_one();
            moved |= self.writer_step();
            moved |= self.reader_step();
            moved |= self.read_one();
            if !moved {
                self.pass_time();
            }
        }
        panic!("it never ends: writer {:?}, reader {:?}", self.writer.progress(), self.reader.outcome());
    }
}

#[test]
fn without_cuts_all_arrives() {
    let mut world = World::new(40);
    world.run(|_| ());
    assert_eq!(world.read, all(40));
    let outcome = world.reader.outcome();
    assert_eq!((outcome.items, outcome.records, outcome.incomplete, outcome.gap), (1, 40, false, false));
    let progress = Progress { records: 40, settled: 40, stored: 40, delivered: 40 };
    assert_eq!(world.writer.progress(), progress);
}

/// Cuts one or both links before each message in turn.
#[test]
fn every_cut_point_is_survived() {
    let mut total = World::new(25);
    total.run(|_| ());
    for at in 1..total.messages + 2 {
        for who in 1..4 {
            let (mut world, mut done) = (World::new(25), false);
            world.run(|world| {
                if world.messages >= at && !std::mem::replace(&mut done, true) {
                    if who & 1 != 0 {
                        world.cut_writer();
                    }
                    if who & 2 != 0 {
                        world.cut_reader();
                    }
                } else if world.messages < at {
                    done = false;
                }
            });
            assert_eq!(world.read, all(25), "cut {who} at {at}");
            assert!(!world.reader.outcome().incomplete && !world.reader.outcome().gap);
        }
    }
}

/// Given up at each message in turn, the writer goes on with a new item: nothing is lost, and what it knew to be stored
/// does not come again.
#[test]
fn a_writer_given_up_goes_on_with_a_new_item() {
    for at in 1..120 {
        let (mut world, mut settled) = (World::new(25), None);
        let first = world.writer.session();
        world.run(|world| {
            if world.messages >= at && !world.toy.items.is_empty() && settled.is_none() {
                settled = Some(world.writer.progress().settled as usize);
                world.toy.forget_writer();
                world.cut_writer();
            }
        });
        let renewed = world.writer.session() != first;
        let first_part = (1..world.read.len()).find(|&i| world.read[i] != world.read[i - 1] + 1).unwrap_or(25);
        let again = world.read.get(first_part).copied().unwrap_or(25);
        assert!(again >= settled.unwrap_or(0) && (renewed || first_part == 25), "given up at {at}: {:?}", world.read);
        assert_eq!(world.read, [all(first_part), (again..25).collect()].concat());
        assert_eq!(world.reader.outcome().incomplete, renewed);
        assert_eq!((world.writer.progress().records, world.writer.progress().settled), (25, 25));
    }
}

#[test]
fn a_reader_given_up_goes_on_without_duplicates() {
    for at in 1..120 {
        let (mut world, mut done) = (World::new(25), false);
        world.run(|world| {
            if world.messages >= at && !std::mem::replace(&mut done, true) {
                world.toy.forget_reader();
                world.cut_reader();
            }
        });
        assert_eq!(world.read, all(25), "given up at {at}");
    }
}

/// Any order of steps and cuts: exactly once, in order.
#[test]
fn proof_sessions_against_their_model() {
    let proof = Proof::begin("P2", "sessions against their model");
    let wanted = cases(3_000, 200_000, 50_000_000);
    let any = || (proptest::collection::vec(0u8..24, 0..400), 0usize..30);
    let failures = property::failures(wanted, any, |(steps, count)| {
        let mut world = World::new(count);
        for step in steps {
            match step {
                0 => world.cut_writer(),
                1 => world.cut_reader(),
                2 => world.now = world.now.plus(Duration::from_millis(7)),
                3..=8 => {
                    world.write_one();
                }
                9..=13 => {
                    world.writer_step();
                }
                14..=19 => {
                    world.reader_step();
                }
                _ => {
                    world.read_one();
                }
            }
        }
        world.run(|_| ());
        prop_assert_eq!(&world.read, &all(count));
        let outcome = world.reader.outcome();
        prop_assert!(!outcome.incomplete && !outcome.gap && outcome.items == 1);
        prop_assert_eq!(world.writer.progress().delivered, count as u64);
        Ok(())
    });
    proof.end(wanted, &failures);
}

fn wants_no_wait() -> WriterWants {
    WriterWants { no_wait: true, ..WriterWants::default() }
}

fn welcome(next: u64, credit: u64) -> WriterWelcome {
    WriterWelcome { next: Seq(next), ack: Ack::default(), credit, readers: 0, mode: Default::default() }
}

fn any_draw() -> Draw {
    Draw { jitter: 3, session: id(99) }
}

fn attached_writer(wants: WriterWants) -> WriterSession {
    let mut writer = WriterSession::new(id(1), wants, Time(0));
    assert_eq!(writer.begin(Time(0)).resume, None);
    writer.attached(&welcome(0, 1 << 20), Time(0));
    writer
}

#[test]
fn a_lone_record_goes_at_once_and_many_go_together() {
    let mut writer = attached_writer(WriterWants::default());
    assert!(writer.push(b"one", true, true));
    assert!(matches!(writer.next_up(), Some(WriterUp::Batch(batch)) if batch.count() == 1));
    (0..1000).for_each(|_| assert!(writer.push(b"more", true, true)));
    assert!(matches!(writer.next_up(), Some(WriterUp::Batch(batch)) if batch.count() == 1000));
    assert!(!writer.can_send());
}

#[test]
fn the_window_is_bounded_and_opens_again() {
    let mut writer = attached_writer(WriterWants::default());
    let piece = vec![1; PIECE_BYTES_MAX];
    let pushed = (0..1000).take_while(|_| writer.push(&piece, true, true)).count();
    assert!((15..=17).contains(&pushed), "{pushed}");
    writer.down(WriterDown::Ack(Ack { settled: Seq(1), ..Ack::default() }));
    assert!(writer.has_room());
    assert!(!writer.push(&vec![1; PIECE_BYTES_MAX + 1], true, true));
}

#[test]
fn a_resuming_writer_says_what_it_knows_and_goes_on_where_told() {
    let mut writer = attached_writer(WriterWants::default());
    for _ in 0..5 {
        assert!(writer.push(b"x", true, true));
        assert!(writer.next_up().is_some());
    }
    writer.down(WriterDown::Ack(Ack { settled: Seq(2), stored: Seq(1), delivered: Seq(2) }));
    writer.lost(cut(), Time(5), any_draw());
    let attach = writer.begin(Time(9));
    assert_eq!(attach.epoch, Epoch(2));
    assert_eq!(attach.resume, Some(WriterResume { settled: Seq(2), stored: Seq(1) }));
    writer.attached(&welcome(4, 100), Time(9));
    assert!(matches!(writer.next_up(), Some(WriterUp::Batch(batch)) if batch.first() == Seq(4)));
    assert!(writer.next_up().is_none());
}

#[test]
fn a_broker_that_lies_is_found_out() {
    for ack in [Seq(1), Seq(u64::MAX)] {
        let mut writer = attached_writer(WriterWants::default());
        writer.down(WriterDown::Ack(Ack { settled: ack, ..Ack::default() }));
        assert_eq!(writer.failure().map(|e| e.code()), Some(Code::Protocol));
    }
    let mut writer = attached_writer(WriterWants::default());
    writer.lost(cut(), Time(0), any_draw());
    writer.begin(Time(1));
    writer.attached(&welcome(1, 1), Time(1));
    assert_eq!(writer.failure().map(|e| e.code()), Some(Code::Protocol));
}

#[test]
fn final_errors_end_a_writer_with_the_count_that_is_known() {
    for code in [Code::Access, Code::Fenced, Code::ResumeAhead, Code::Storage, Code::Mode, Code::Protocol] {
        let mut writer = attached_writer(WriterWants::default());
        assert!(writer.push(b"x", true, true));
        writer.lost(Error::new(code, "no"), Time(1), any_draw());
        let failure = writer.failure().expect("it is final");
        assert_eq!(failure.code(), code);
        assert!(failure.text().contains("0 of 1 records"), "{failure}");
        assert!(writer.connection().is_over() && !writer.push(b"y", true, true));
    }
    let mut writer = attached_writer(wants_no_wait());
    writer.down(WriterDown::Notice(Notice::WaitsForRoom {
        code: Code::Quota,
        text: "the pipe's quota is used up".into(),
    }));
    assert_eq!(writer.failure().map(|e| e.code()), Some(Code::Quota));
}

#[test]
fn a_writer_that_gives_up_says_unknown_only_when_it_is() {
    for (pushed, code) in [(false, Code::Unreachable), (true, Code::Unknown)] {
        let mut writer = attached_writer(WriterWants::default());
        if pushed {
            assert!(writer.push(b"x", true, true));
        }
        writer.lost(cut(), Time(1), any_draw());
        writer.tick(Time(1).plus(GIVE_UP - Duration::from_secs(1)), any_draw());
        assert!(writer.failure().is_none());
        writer.tick(Time(1).plus(GIVE_UP), any_draw());
        assert_eq!(writer.failure().map(|e| e.code()), Some(code));
    }
}

#[test]
fn a_new_item_repeats_nothing_that_is_known_to_be_stored() {
    let mut writer = attached_writer(WriterWants::default());
    for body in [b"a", b"b", b"c"] {
        assert!(writer.push(body, true, true));
    }
    assert!(writer.next_up().is_some());
    writer.lost(Error::new(Code::SessionExpired, "gone").with_stored(Seq(2)), Time(1), any_draw());
    writer.begin(Time(2));
    writer.attached(&welcome(0, 1 << 20), Time(2));
    let Some(WriterUp::Batch(batch)) = writer.next_up() else { panic!("nothing is sent") };
    assert_eq!(&batch.bodies()[..], b"c");
    assert_eq!(writer.progress(), Progress { records: 3, settled: 2, stored: 0, delivered: 0 });
}

#[test]
fn a_new_item_begins_at_the_first_unacknowledged_record() {
    let mut writer = attached_writer(WriterWants::default());
    for body in [b"a", b"b", b"c"] {
        assert!(writer.push(body, true, true));
    }
    assert!(writer.next_up().is_some());
    assert!(writer.push(b"d", true, false));
    writer.down(WriterDown::Ack(Ack { settled: Seq(2), stored: Seq(2), delivered: Seq(0) }));
    writer.lost(Error::new(Code::SessionExpired, "gone"), Time(1), any_draw());
    assert_eq!(writer.take_events(), [Event::NewItem { lost: id(1), session: id(99) }]);
    let attach = writer.begin(Time(2));
    assert_eq!((attach.session, attach.epoch, attach.resume), (id(99), Epoch(1), None));
    writer.attached(&welcome(0, 1 << 20), Time(2));
    assert!(writer.push(b"D", false, true));
    writer.end(EndKind::Finished);
    let mut bodies = Vec::new();
    let mut digest = ItemDigest::default();
    while let Some(WriterUp::Batch(batch)) = writer.next_up() {
        assert_eq!((batch.session(), batch.first()), (id(99), Seq(bodies.len() as u64)));
        bodies.extend(batch.pieces().map(|piece| (piece.first, piece.last, piece.body.to_vec())));
        assert!(!batch.is_end() || digest.matches(&batch));
        digest.add(&batch);
    }
    let whole = |body: &[u8]| (true, true, body.to_vec());
    assert_eq!(bodies, [whole(b"c"), (true, false, b"d".to_vec()), (false, true, b"D".to_vec())]);
    assert_eq!(writer.progress(), Progress { records: 4, settled: 2, stored: 2, delivered: 0 });
}

#[test]
fn records_with_other_headers_travel_apart_and_keep_them_in_a_new_item() {
    let headers = |value| Headers::new().with("k", value).unwrap();
    let mut writer = attached_writer(WriterWants::default());
    for (value, body) in [("1", b"a"), ("1", b"b"), ("2", b"c")] {
        writer.headers(headers(value));
        assert!(writer.push(body, true, true));
    }
    let sent = |writer: &mut WriterSession| {
        let mut batches = Vec::new();
        while let Some(WriterUp::Batch(batch)) = writer.next_up() {
            batches.push((batch.headers(), batch.bodies().to_vec()));
        }
        batches
    };
    let all = [(headers("1"), b"ab".to_vec()), (headers("2"), b"c".to_vec())];
    assert_eq!(sent(&mut writer), all);
    writer.headers(Headers::new());
    writer.lost(Error::new(Code::SessionExpired, "gone"), Time(1), any_draw());
    writer.begin(Time(2));
    writer.attached(&welcome(0, 1 << 20), Time(2));
    assert!(writer.push(b"d", true, true));
    assert_eq!(sent(&mut writer), [all[0].clone(), all[1].clone(), (Headers::new(), b"d".to_vec())]);
}

fn batch(first: u64, bodies: &[&[u8]], digest: &mut ItemDigest, end: Option<EndKind>) -> Batch {
    let mut builder = BatchBuilder::new(id(7), Epoch(1), Seq(first));
    bodies.iter().for_each(|body| assert!(builder.push(body, true, true)));
    let bytes = bodies.iter().map(|body| body.len() as u64).sum();
    let batch = builder.build(end.map(|kind| digest.end(kind, bytes)));
    if end.is_none() {
        digest.add(&batch);
    }
    batch
}

fn down(batch: Batch) -> ReaderDown {
    ReaderDown::Batch { from: Seq(0), position: Position::default(), batch }
}

fn attached_reader() -> ReaderSession {
    let mut reader = ReaderSession::new(id(2), ReaderWants::default(), Time(0));
    assert_eq!(reader.begin(Time(0)).resume, None);
    reader.attached(Default::default(), Time(0));
    reader
}

fn code_of(reader: &mut ReaderSession) -> Option<Code> {
    while reader.next_chunk().is_some() {}
    reader.failure().map(|error| error.code())
}

#[test]
fn a_hole_is_an_error_and_a_gap_is_told() {
    let mut sum = ItemDigest::default();
    let (one, two) = (batch(0, &[b"a"], &mut sum, None), batch(3, &[b"d"], &mut sum, None));
    let mut reader = attached_reader();
    reader.down(down(one.clone()));
    reader.down(down(two.clone()));
    assert_eq!(reader.next_chunk().map(|chunk| chunk.bodies().to_vec()), Some(b"a".to_vec()));
    assert_eq!(code_of(&mut reader), Some(Code::Integrity));

    let mut reader = attached_reader();
    reader.down(down(one));
    reader.down(ReaderDown::Gap { writer: id(7), from: Seq(1), to: Seq(3) });
    reader.down(down(two));
    assert!(reader.next_chunk().is_some() && !reader.outcome().gap);
    assert!(reader.next_chunk().is_some() && reader.outcome().gap);
    assert_eq!(reader.take_events(), [Event::Gap { writer: id(7), from: Seq(1), to: Seq(3) }]);
}

#[test]
fn a_wrong_sum_or_an_early_end_is_never_a_whole_item() {
    let mut sum = ItemDigest::default();
    let one = batch(0, &[b"a"], &mut sum, None);
    let wrong = batch(1, &[b"b"], &mut ItemDigest::default(), Some(EndKind::Finished));
    let mut reader = attached_reader();
    reader.down(down(one.clone()));
    reader.down(down(wrong));
    assert_eq!(code_of(&mut reader), Some(Code::Integrity));

    let mut reader = attached_reader();
    reader.down(down(one));
    reader.down(ReaderDown::ItemEnd { writer: id(7), kind: EndKind::Finished, next: Seq(3), alone: true });
    assert_eq!(code_of(&mut reader), Some(Code::Integrity));
}

#[test]
fn duplicates_and_foreign_records_are_skipped() {
    let mut sum = ItemDigest::default();
    let one = batch(0, &[b"a", b"b"], &mut sum, None);
    let mut reader = attached_reader();
    let from = Seq(1);
    reader.down(ReaderDown::Batch { from, position: Position::default(), batch: one.clone() });
    reader.down(down(one));
    let chunk = reader.next_chunk().expect("the new part");
    assert_eq!(&chunk.bodies()[..], b"b");
    assert_eq!(chunk.records().count(), 1);
    assert!(reader.next_chunk().is_none() && reader.failure().is_none());
}

#[test]
fn incomplete_depends_on_how_the_item_was_taken() {
    let cases = [
        (EndKind::Finished, true, false),
        (EndKind::Finished, false, false),
        (EndKind::Interrupted, true, true),
        (EndKind::Interrupted, false, false),
        (EndKind::Aborted, true, true),
        (EndKind::Aborted, false, true),
    ];
    for (kind, alone, incomplete) in cases {
        let mut sum = ItemDigest::default();
        let mut reader = attached_reader();
        let mark = (kind != EndKind::Aborted).then_some(kind);
        reader.down(down(batch(0, &[b"a"], &mut sum, mark)));
        reader.down(ReaderDown::ItemEnd { writer: id(7), kind, next: Seq(2), alone });
        reader.down(ReaderDown::Finished);
        assert!(!reader.is_finished() && reader.next_chunk().is_some() && reader.next_chunk().is_none());
        assert!(reader.is_finished());
        assert_eq!(reader.outcome().incomplete, incomplete, "{kind:?} alone {alone}");
    }
}

#[test]
fn the_end_is_acknowledged_with_the_last_records() {
    let mut sum = ItemDigest::default();
    let mut reader = attached_reader();
    reader.down(down(batch(0, &[b"a"], &mut sum, Some(EndKind::Finished))));
    reader.down(ReaderDown::ItemEnd { writer: id(7), kind: EndKind::Finished, next: Seq(2), alone: true });
    let chunk = reader.next_chunk().expect("one");
    assert!(!reader.can_send());
    reader.ack(chunk.writer, chunk.next());
    assert!(reader.next_chunk().is_none());
    assert_eq!(reader.next_up(), Some(ReaderUp::Ack(ReaderCursor { writer: id(7), next: Seq(2) })));
    // Over the next link it is said again, and what comes again is not handed over again.
    reader.lost(cut(), Time(1), any_draw());
    let attach = reader.begin(Time(2));
    assert_eq!(attach.resume, Some(vec![ReaderCursor { writer: id(7), next: Seq(2) }]));
    reader.attached(Default::default(), Time(2));
    assert_eq!(reader.next_up(), Some(ReaderUp::Ack(ReaderCursor { writer: id(7), next: Seq(2) })));
    reader.down(ReaderDown::ItemEnd { writer: id(7), kind: EndKind::Finished, next: Seq(2), alone: true });
    assert_eq!(reader.next_up(), Some(ReaderUp::Ack(ReaderCursor { writer: id(7), next: Seq(2) })));
    assert_eq!(reader.outcome().items, 1);
    // Given up now, it wants no second item.
    reader.lost(Error::new(Code::SessionExpired, "gone"), Time(3), any_draw());
    assert_eq!(code_of(&mut reader), Some(Code::SessionExpired));
}

#[test]
fn credit_follows_the_application_and_is_kept() {
    let big = vec![0; PIECE_BYTES_MAX];
    let mut sum = ItemDigest::default();
    let mut reader = attached_reader();
    let mut sent = 0;
    while sent < 100 && reader.connection().is_attached() {
        reader.down(down(batch(sent, &[&big], &mut sum, None)));
        sent += 1;
    }
    // Nothing was asked for: what fits the window was taken, the next one is a breach.
    assert_eq!(sent, READER_WINDOW_BYTES / PIECE_BYTES_MAX as u64 + 1);
    assert_eq!(code_of(&mut reader), Some(Code::Protocol));

    let mut reader = attached_reader();
    let (mut sum, mut credit, mut grants) = (ItemDigest::default(), READER_WINDOW_BYTES as i64, 0);
    for first in 0..100 {
        assert!(credit > 0);
        let batch = batch(first, &[&big], &mut sum, None);
        credit -= batch.encoded().len() as i64;
        reader.down(down(batch));
        assert!(reader.next_chunk().is_some());
        if let Some(ReaderUp::Credit(more)) = reader.next_up() {
            credit += more as i64;
            grants += 1;
        }
    }
    assert!(reader.failure().is_none());
    assert!((10..20).contains(&grants), "{grants} grants for 25 MiB");
}

#[test]
fn leaving_is_said_again_over_the_next_link() {
    let mut sum = ItemDigest::default();
    let mut reader = attached_reader();
    reader.down(down(batch(0, &[b"a", b"b"], &mut sum, None)));
    let chunk = reader.next_chunk().expect("one");
    reader.ack(chunk.writer, Seq(1));
    reader.leave(true);
    let says = |reader: &mut ReaderSession| {
        assert_eq!(reader.next_up(), Some(ReaderUp::Ack(ReaderCursor { writer: id(7), next: Seq(1) })));
        assert_eq!(reader.next_up(), Some(ReaderUp::Leave { part: true }));
        assert_eq!(reader.next_up(), None);
    };
    says(&mut reader);
    reader.lost(cut(), Time(1), any_draw());
    reader.begin(Time(2));
    reader.attached(Default::default(), Time(2));
    says(&mut reader);
    reader.down(ReaderDown::Finished);
    assert!(reader.is_finished() && !reader.outcome().incomplete);
}

#[test]
fn a_reader_given_up_within_an_item_that_another_had_to_its_end_is_incomplete() {
    let mut sum = ItemDigest::default();
    let mut reader = attached_reader();
    reader.down(down(batch(0, &[b"a"], &mut sum, None)));
    let chunk = reader.next_chunk().expect("one");
    reader.ack(chunk.writer, chunk.next());
    reader.lost(Error::new(Code::SessionExpired, "gone"), Time(1), any_draw());
    reader.begin(Time(2));
    reader.attached(Default::default(), Time(2));
    // It names the item when it returns, and does not hold it any more.
    reader.down(ReaderDown::Taken { writer: id(7) });
    reader.down(ReaderDown::Finished);
    assert!(reader.is_finished() && reader.outcome().incomplete);
}

#[test]
fn the_end_of_an_item_that_was_given_up_is_not_stored() {
    let mut writer = attached_writer(WriterWants::default());
    assert!(writer.push(b"a", true, true));
    writer.end(EndKind::Finished);
    assert!(writer.next_up().is_some());
    writer.lost(Error::new(Code::SessionExpired, "gone").with_stored(Seq(2)), Time(1), any_draw());
    assert!(!writer.reached(Until::Stored));
    assert_eq!(writer.failure().map(|e| e.code()), Some(Code::SessionExpired));
}

#[test]
fn a_record_of_a_queue_is_written_anew_from_its_beginning_or_not_at_all() {
    for acknowledged in [0, 1] {
        let mut writer = WriterSession::new(id(1), WriterWants::default(), Time(0));
        writer.begin(Time(0));
        writer.attached(&WriterWelcome { mode: Mode::Queue, ..welcome(0, 1 << 20) }, Time(0));
        assert!(writer.push(b"one", true, false));
        assert!(writer.next_up().is_some());
        assert!(writer.push(b"two", false, false));
        let settled = Seq(acknowledged);
        writer.down(WriterDown::Ack(Ack { settled, stored: settled, delivered: Seq(0) }));
        writer.lost(Error::new(Code::SessionExpired, "gone").with_stored(Seq(0)), Time(1), any_draw());
        let failure = writer.failure().map(|error| error.code());
        assert_eq!(failure, (acknowledged == 1).then_some(Code::SessionExpired), "its beginning is gone");
    }
}

#[test]
fn parts_of_a_record_share_no_batch_with_others_on_a_tape() {
    let mut writer = WriterSession::new(id(1), WriterWants::default(), Time(0));
    writer.begin(Time(0));
    writer.attached(&WriterWelcome { mode: Mode::Broadcast, ..welcome(0, 1 << 20) }, Time(0));
    let pieces: [(&[u8], bool, bool); 5] =
        [(b"a", true, true), (b"b", true, true), (b"c", true, false), (b"C", false, true), (b"d", true, true)];
    assert!(pieces.into_iter().all(|(body, first, last)| writer.push(body, first, last)));
    let mut bodies = Vec::new();
    while let Some(WriterUp::Batch(batch)) = writer.next_up() {
        bodies.push(batch.bodies());
    }
    assert_eq!(bodies, ["ab", "cC", "d"]);
}

/// Says that it starts a writer's item in the middle.
fn middle(from: u64) -> ReaderDown {
    ReaderDown::Notice(Notice::Middle { writer: id(7), from: Seq(from) })
}

/// The broker gives the reader up, and it is back as a new one.
fn given_up(reader: &mut ReaderSession) {
    reader.lost(Error::new(Code::SessionExpired, "gone"), Time(1), any_draw());
    assert_eq!(reader.begin(Time(2)).resume, None);
    reader.attached(Default::default(), Time(2));
}

fn taken_from(reader: &mut ReaderSession) -> Option<Seq> {
    let chunk = reader.next_chunk()?;
    reader.ack(chunk.writer, chunk.next());
    Some(chunk.from)
}

#[test]
fn a_new_reader_gets_what_stands_in_front_of_what_it_had() {
    let mut sum = ItemDigest::default();
    let mut reader = attached_reader();
    reader.down(middle(2));
    reader.down(down(batch(2, &[b"c"], &mut sum, None)));
    assert_eq!(taken_from(&mut reader), Some(Seq(2)));
    given_up(&mut reader);
    reader.down(down(batch(0, &[b"a", b"b"], &mut sum, None)));
    reader.down(down(batch(2, &[b"c"], &mut sum, None)));
    assert_eq!(reader.next_up(), None);
    assert_eq!(taken_from(&mut reader), Some(Seq(0)));
    assert_eq!(reader.next_up(), Some(ReaderUp::Ack(ReaderCursor { writer: id(7), next: Seq(2) })));
    // What it had is not handed over again, and the broker hears that it has it.
    assert_eq!(taken_from(&mut reader), None);
    assert_eq!(reader.next_up(), Some(ReaderUp::Ack(ReaderCursor { writer: id(7), next: Seq(3) })));
    assert_eq!(reader.outcome().records, 3);
}

#[test]
fn a_new_reader_says_nothing_of_what_only_the_lost_one_was_given() {
    let mut sum = ItemDigest::default();
    let mut reader = attached_reader();
    reader.down(down(batch(0, &[b"a"], &mut sum, None)));
    reader.down(down(batch(1, &[b"b"], &mut sum, None)));
    assert_eq!(taken_from(&mut reader), Some(Seq(0)));
    given_up(&mut reader);
    assert_eq!(taken_from(&mut reader), Some(Seq(1)));
    assert!(reader.next_chunk().is_none());
    assert_eq!(reader.next_up(), None);
    // What a returning reader names and does not hold it has taken for good: it does not name this.
    reader.lost(cut(), Time(3), any_draw());
    assert_eq!(reader.begin(Time(4)).resume, Some(Vec::new()));
}

#[test]
fn a_reader_given_up_with_an_end_at_hand_wants_no_second_item() {
    let mut sum = ItemDigest::default();
    let mut reader = attached_reader();
    reader.down(down(batch(0, &[b"a"], &mut sum, Some(EndKind::Finished))));
    reader.down(ReaderDown::ItemEnd { writer: id(7), kind: EndKind::Finished, next: Seq(2), alone: true });
    reader.lost(Error::new(Code::SessionExpired, "gone"), Time(1), any_draw());
    assert_eq!(taken_from(&mut reader), Some(Seq(0)));
    assert!(reader.next_chunk().is_none());
    assert_eq!(code_of(&mut reader), Some(Code::SessionExpired));
}

#[test]
fn a_new_reader_is_told_the_gap_before_an_end() {
    let mut sum = ItemDigest::default();
    let mut reader = attached_reader();
    reader.down(down(batch(0, &[b"a"], &mut sum, None)));
    given_up(&mut reader);
    reader.down(ReaderDown::ItemEnd { writer: id(7), kind: EndKind::Aborted, next: Seq(5), alone: false });
    assert_eq!(taken_from(&mut reader), Some(Seq(0)));
    assert!(reader.next_chunk().is_none() && reader.failure().is_none());
    assert!(reader.outcome().gap);
}

#[test]
fn who_leaves_after_the_broker_is_done_need_not_wait() {
    let mut sum = ItemDigest::default();
    let mut reader = attached_reader();
    reader.down(down(batch(0, &[b"a"], &mut sum, None)));
    reader.down(ReaderDown::Finished);
    assert!(!reader.is_finished());
    reader.leave(false);
    assert!(reader.is_finished());
}
