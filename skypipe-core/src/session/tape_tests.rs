//! Readers of queues and broadcasts that were given up, or hear no answer: what they then know and say.

use std::time::Duration;

use super::*;
use crate::batch::{Batch, BatchBuilder};
use crate::broker::*;
use crate::error::{Code, Error};
use crate::event::Event;
use crate::id::{Epoch, Position, Seq, SessionId};
use crate::name::PipePath;
use crate::record::Taken;
use crate::time::Time;

const WRITER: SessionId = SessionId([7; 16]);

/// The one that is read.
fn pipe() -> PipePath {
    PipePath::default()
}

fn draw() -> Draw {
    Draw { session: SessionId([9; 16]), jitter: 0 }
}

fn batch(first: u64) -> Batch {
    let mut builder = BatchBuilder::new(WRITER, Epoch(1), Seq(first));
    assert!(builder.push(b"a record", true, true));
    builder.build(None)
}

fn mark(place: u64, records: u32) -> Mark {
    Mark { position: Position::from(Seq(place)), records }
}

fn lease(place: u64) -> LeaseId {
    LeaseId { position: Position::from(Seq(place)), attempt: 1 }
}

fn attached(mode: Mode, cursor: Option<&str>) -> ReaderSession {
    let tape = OnTape { cursor: cursor.map(str::to_owned), ..OnTape::default() };
    let mut reader = ReaderSession::new(SessionId([2; 16]), ReaderWants { tape, ..ReaderWants::default() }, Time(0));
    reader.begin(Time(0));
    reader.attached(ReaderWelcome { mode, position: Position::from(Seq(0)) }, Time(0));
    reader
}

/// A reader of a queue with two records in its hands.
fn worker() -> ReaderSession {
    let mut reader = attached(Mode::Queue, None);
    for place in 0..2 {
        let time = Duration::from_secs(30);
        reader.down(ReaderDown::Leased { lease: lease(place), time, batch: batch(place) });
        assert!(reader.next_chunk().is_some());
    }
    reader
}

/// A reader of a broadcast that has the records at 0 and 1.
fn subscriber(cursor: Option<&str>) -> ReaderSession {
    let mut reader = attached(Mode::Broadcast, cursor);
    for place in 0..2 {
        let position = Position::from(Seq(place));
        reader.down(ReaderDown::Batch { from: Seq(place), position, batch: batch(place) });
        assert!(reader.next_chunk().is_some());
    }
    reader
}

fn given_up(reader: &mut ReaderSession) {
    reader.lost(Error::new(Code::SessionExpired, "gone"), Time(1), draw());
}

fn lost_leases(reader: &mut ReaderSession) -> Vec<LeaseId> {
    let events = reader.take_events().into_iter();
    events.filter_map(|event| if let Event::LeaseLost { lease, .. } = event { Some(lease) } else { None }).collect()
}

#[test]
fn what_was_done_and_not_heard_is_told_to_be_lost() {
    let mut reader = worker();
    assert!(reader.settle(&pipe(), lease(0), Verdict::Done));
    given_up(&mut reader);
    assert!(reader.is_settled(), "nothing is waited for");
    assert_eq!(lost_leases(&mut reader), [lease(0)]);
    // What was in hand all the while is nobody's to be done with any more.
    assert!(!reader.settle(&pipe(), lease(1), Verdict::Done));
    assert_eq!(lost_leases(&mut reader), [lease(1)]);
    // That it is not wanted is all the same to whoever has it.
    assert!(!reader.settle(&pipe(), lease(1), Verdict::Refused { delay: Duration::ZERO }));
    assert_eq!(lost_leases(&mut reader), []);
}

#[test]
fn who_leaves_without_an_answer_does_not_know() {
    for is_expired in [true, false] {
        let mut reader = worker();
        assert!(reader.settle(&pipe(), lease(0), Verdict::Done));
        reader.leave(false);
        // The link breaks, and the relay let it go at once: it answers the next one that all is over.
        if is_expired {
            given_up(&mut reader)
        } else {
            reader.down(ReaderDown::Finished)
        };
        assert!(!reader.is_finished());
        assert_eq!(reader.failure().map(|error| error.code()), Some(Code::Unknown));
    }
    let mut reader = worker();
    assert!(reader.settle(&pipe(), lease(0), Verdict::Done));
    reader.leave(false);
    reader.down(ReaderDown::Settled { lease: lease(0), error: None });
    reader.down(ReaderDown::Finished);
    assert!(reader.is_finished());
}

#[test]
fn a_reader_of_news_that_was_given_up_says_what_it_has_and_what_it_acknowledged() {
    let mut reader = subscriber(Some("me"));
    reader.take(Taken::Place(pipe(), mark(0, 1)));
    given_up(&mut reader);
    let attach = reader.begin(Time(2));
    assert_eq!((attach.resume, attach.tape.resume_at), (None, Some(mark(1, 1))), "its cursor may stand before that");
    reader.attached(ReaderWelcome { mode: Mode::Broadcast, position: Position::from(Seq(2)) }, Time(2));
    assert_eq!(reader.next_up(), Some(ReaderUp::AckTo(mark(0, 1))));
}

#[test]
fn a_cursor_that_may_stand_elsewhere_is_unknown_to_who_leaves() {
    let left = |cursor| {
        let mut reader = subscriber(cursor);
        reader.take(Taken::Place(pipe(), mark(0, 1)));
        reader.leave(false);
        given_up(&mut reader);
        (reader.is_finished(), reader.failure().map(|error| error.code()))
    };
    assert_eq!(left(Some("me")), (false, Some(Code::Unknown)));
    assert_eq!(left(None), (true, None), "nothing is left of a reader without one");
}

#[test]
fn a_gap_does_not_hold_up_who_leaves() {
    let mut reader = subscriber(None);
    reader.leave(false);
    let (from, to) = (Position::from(Seq(2)), Position::from(Seq(5)));
    reader.down(ReaderDown::Missing { from, to, records: 3 });
    reader.down(ReaderDown::Finished);
    assert!(reader.is_finished(), "nobody takes what came");
}

/// One of the three parts of the record at place 0.
fn part(number: u64) -> ReaderDown {
    let mut builder = BatchBuilder::new(WRITER, Epoch(1), Seq(number));
    assert!(builder.push(format!("part {number}").as_bytes(), number == 0, number == 2));
    ReaderDown::Leased { lease: lease(0), time: Duration::from_secs(30), batch: builder.build(None) }
}

fn texts(reader: &mut ReaderSession) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(chunk) = reader.next_chunk() {
        texts.push(String::from_utf8(chunk.bodies().to_vec()).unwrap());
    }
    texts
}

#[test]
fn what_came_of_a_record_before_its_link_broke_is_passed_over() {
    let mut reader = attached(Mode::Queue, None);
    reader.down(part(0));
    reader.down(part(1));
    let chunk = reader.next_chunk().unwrap();
    assert_eq!(chunk.taken(chunk.next()), Taken::Part, "a part is nothing to be done with");
    reader.lost(Error::new(Code::Disconnected, "gone"), Time(1), draw());
    assert_eq!(reader.begin(Time(2)).tape.has, [], "what is not whole must come again");
    reader.attached(ReaderWelcome { mode: Mode::Queue, position: Position::default() }, Time(2));
    (0..3).for_each(|number| reader.down(part(number)));
    assert_eq!(reader.next_chunk().map(|chunk| chunk.from), Some(Seq(1)));
    let last = reader.next_chunk().unwrap();
    assert_eq!((last.from, last.taken(last.next())), (Seq(2), Taken::Lease(pipe(), lease(0))));
    assert_eq!((reader.next_chunk(), reader.outcome().incomplete), (None, false));
}

#[test]
fn a_record_whose_rest_does_not_come_is_lost_and_said_to_be() {
    let other = ReaderDown::Leased { lease: lease(5), time: Duration::from_secs(30), batch: batch(9) };
    let settled = ReaderDown::Settled { lease: lease(0), error: Some(Code::LeaseLost) };
    let missing = ReaderDown::Missing { from: Seq(0).into(), to: Seq(1).into(), records: 1 };
    for (what, rest) in [(other, vec!["a record"]), (settled, vec![]), (missing, vec![])] {
        let mut reader = attached(Mode::Queue, None);
        reader.down(part(0));
        assert_eq!(texts(&mut reader), ["part 0"]);
        reader.down(part(1));
        reader.down(what);
        assert_eq!(texts(&mut reader), rest, "a part that nobody can use");
        assert_eq!((lost_leases(&mut reader), reader.outcome().incomplete), (vec![lease(0)], true));
        assert!(!reader.holds(&pipe(), &lease(0)));
    }
}

#[test]
fn who_is_done_with_a_record_sooner_hears_no_more_of_it() {
    let mut reader = attached(Mode::Queue, None);
    reader.down(part(0));
    assert_eq!(texts(&mut reader), ["part 0"]);
    reader.down(part(1));
    assert!(reader.settle(&pipe(), lease(0), Verdict::Done));
    reader.down(part(2));
    reader.down(ReaderDown::Settled { lease: lease(0), error: None });
    assert_eq!((texts(&mut reader), lost_leases(&mut reader)), (vec![], vec![]));
    assert!(reader.is_settled() && !reader.outcome().incomplete);
}

#[test]
fn a_record_that_begins_in_its_middle_is_no_record() {
    let mut reader = attached(Mode::Queue, None);
    reader.down(part(1));
    assert_eq!(reader.failure().map(|error| error.code()), Some(Code::Protocol));
}
