//! Wrong histories, which each rule must refuse, beside right ones that it must not.

use skypipe_core::{Code, EndKind, Seq, SessionId};

use super::check;
use crate::history::{Event, ItemId, ReadKind, ReaderId, RecordId, body, identify};

const ITEM: ItemId = ItemId(1);
const SESSION: SessionId = SessionId([1; 16]);
const A: ReaderId = ReaderId(10);
const B: ReaderId = ReaderId(11);

fn record(n: u32) -> RecordId {
    RecordId { item: ITEM, n }
}

fn got(reader: ReaderId, n: u32) -> Event {
    Event::Got(reader, SESSION, Seq(u64::from(n)), Some(record(n)), 10)
}

/// An item of three records, all settled, and its end.
fn written() -> Vec<Event> {
    let mut events = vec![Event::Session(ITEM, SESSION)];
    events.extend((0..3).map(|n| Event::Sends(record(n), 10)));
    events.extend([Event::Settled(ITEM, 3), Event::Ends(ITEM, EndKind::Finished), Event::Ended(ITEM)]);
    events
}

/// A reader that takes all of it alone.
fn read(reader: ReaderId) -> Vec<Event> {
    let mut events = vec![Event::Reads(reader, ReadKind::NoWait), Event::Acks(reader)];
    events.extend((0..3).flat_map(|n| [got(reader, n), Event::Acks(reader)]));
    events.extend([Event::ItemEnd(reader, SESSION, EndKind::Finished, true), Event::Finished(reader, true)]);
    events
}

fn right() -> Vec<Event> {
    let mut events = written();
    events.extend(read(A));
    events.push(Event::Drains);
    events
}

/// The rules that the right history breaks once it is changed.
fn broken(change: impl FnOnce(&mut Vec<Event>)) -> Vec<&'static str> {
    let mut events = right();
    change(&mut events);
    let mut rules: Vec<_> = check(&events).into_iter().map(|broken| broken.rule).collect();
    rules.dedup();
    rules
}

fn at(events: &[Event], event: &Event) -> usize {
    events.iter().position(|other| other == event).unwrap()
}

#[test]
fn a_right_history_breaks_no_rule() {
    assert_eq!(broken(|_| ()), [""; 0]);
}

#[test]
fn what_nobody_sent_is_refused() {
    let wrong = broken(|events| {
        let at = at(events, &got(A, 1));
        events[at] = Event::Got(A, SESSION, Seq(1), None, 10);
    });
    assert!(wrong.contains(&"every record that comes out was sent, byte for byte"), "{wrong:?}");
    let early = broken(|events| {
        let at = at(events, &Event::Sends(record(2), 10));
        let sends = events.remove(at);
        events.push(sends);
    });
    assert!(early.contains(&"every record that comes out was sent, byte for byte"), "{early:?}");
}

#[test]
fn a_record_that_is_missing_twice_or_out_of_order_is_refused() {
    const RULE: &str = "every record once, in order, and a hole is told";
    let hole = |events: &mut Vec<Event>| drop(events.remove(at(events, &got(A, 1))));
    assert!(broken(hole).contains(&RULE));
    let twice = |events: &mut Vec<Event>| events.insert(at(events, &got(A, 2)), got(A, 1));
    assert!(broken(twice).contains(&RULE));
    let swapped = |events: &mut Vec<Event>| {
        let (first, second) = (at(events, &got(A, 1)), at(events, &got(A, 2)));
        events.swap(first, second);
    };
    assert!(broken(swapped).contains(&RULE));
    let late = |events: &mut Vec<Event>| drop(events.remove(at(events, &got(A, 0))));
    assert!(broken(late).contains(&RULE), "joining late is told");
    let told = |events: &mut Vec<Event>| {
        let at = at(events, &got(A, 0));
        events[at] = Event::Middle(A, SESSION, Seq(1));
    };
    assert!(!broken(told).contains(&RULE));
    let gap = |events: &mut Vec<Event>| {
        let at = at(events, &got(A, 1));
        events[at] = Event::Gap(A, SESSION, Seq(1), Seq(2));
    };
    assert!(broken(gap).contains(&RULE), "nothing is ever gone here");
}

#[test]
fn a_wrong_end_is_refused() {
    const RULE: &str = "the end of an item is exact";
    let cut_off = |events: &mut Vec<Event>| drop(events.remove(at(events, &got(A, 2))));
    assert!(broken(cut_off).contains(&RULE));
    let of_kind = |kind| {
        broken(|events| {
            let at = at(events, &Event::ItemEnd(A, SESSION, EndKind::Finished, true));
            events[at] = Event::ItemEnd(A, SESSION, kind, true);
        })
    };
    assert!(of_kind(EndKind::Interrupted).contains(&RULE));
    assert!(of_kind(EndKind::Aborted).contains(&RULE), "its end was settled");
}

#[test]
fn who_is_done_before_the_end_is_refused() {
    let wrong = broken(|events| drop(events.remove(at(events, &Event::ItemEnd(A, SESSION, EndKind::Finished, true)))));
    assert!(wrong.contains(&"a reader that is done has all from where it joined"), "{wrong:?}");
}

#[test]
fn what_is_settled_and_never_read_is_lost() {
    const RULE: &str = "what is settled is not lost";
    assert!(broken(|events| events.retain(|event| *event != got(A, 2))).contains(&RULE));
    // Taken alone and not to its end: it was put back, and must come out again.
    let put_back = |events: &mut Vec<Event>| {
        events.retain(|event| !matches!(event, Event::ItemEnd(..) | Event::Finished(..)));
    };
    assert!(broken(put_back).contains(&RULE));
    let drained = |events: &mut Vec<Event>| {
        put_back(events);
        events.extend(read(B));
    };
    assert_eq!(broken(drained), [""; 0]);
    let not_settled = |events: &mut Vec<Event>| events.retain(|e| *e != Event::Settled(ITEM, 3) && *e != got(A, 2));
    assert!(!broken(not_settled).contains(&RULE));
}

#[test]
fn delivered_before_a_reader_has_it_is_refused() {
    const RULE: &str = "delivered is acknowledged by a reader";
    let early = |events: &mut Vec<Event>| events.insert(at(events, &got(A, 2)) + 1, Event::Delivered(ITEM, 3));
    assert!(broken(early).contains(&RULE), "handed over, not acknowledged");
    let in_time = |events: &mut Vec<Event>| events.insert(at(events, &got(A, 2)) + 2, Event::Delivered(ITEM, 3));
    assert_eq!(broken(in_time), [""; 0]);
}

#[test]
fn what_was_delivered_may_not_come_again() {
    const RULE: &str = "what is delivered does not come again";
    let again = |start: bool| {
        broken(|events| {
            events.push(Event::Delivered(ITEM, 3));
            events.extend(start.then_some(Event::RelayStarts));
            events.extend([Event::Reads(B, ReadKind::Any), got(B, 0)]);
        })
    };
    assert!(again(false).contains(&RULE));
    assert!(!again(true).contains(&RULE), "a relay that starts again may not know");
}

#[test]
fn an_item_that_somebody_took_alone_is_nobody_elses() {
    assert!(broken(|events| events.push(got(B, 0))).contains(&"an item taken alone goes to one reader"));
}

#[test]
fn a_failure_without_a_reason_is_refused() {
    const RULE: &str = "nothing fails that can go on";
    assert_eq!(broken(|events| events.push(Event::WriteFailed(ITEM, Code::ResumeAhead))), [RULE]);
    assert_eq!(broken(|events| events.push(Event::ReadFailed(A, Code::Integrity))), [RULE]);
    assert_eq!(broken(|events| events.push(Event::Fault("it hangs".to_owned()))), [RULE]);
    assert_eq!(broken(|events| events.push(Event::WriteFailed(ITEM, Code::Unknown))), [""; 0]);
}

#[test]
fn a_record_knows_itself() {
    for len in [10, 100, 70_000] {
        let bytes = body(record(7), len);
        assert_eq!(identify(&bytes), Some(record(7)));
        let mut wrong = bytes.clone();
        wrong[len - 1] ^= 1;
        assert_eq!(identify(&wrong), None);
        assert_eq!(identify(&bytes[..len - 1]), None);
    }
}

#[test]
fn the_rest_of_a_record_comes_only_to_who_was_told() {
    let rest = |told: bool| {
        let mut events = vec![Event::Session(ITEM, SESSION), Event::Sends(record(0), 300_000)];
        events.extend([Event::Ends(ITEM, EndKind::Finished), Event::Reads(B, ReadKind::NoWait), Event::Acks(B)]);
        events.extend(told.then_some(Event::Middle(B, SESSION, Seq(1))));
        events.push(Event::Tail(B, SESSION, Seq(1), record(0), 37_856));
        events.extend([Event::ItemEnd(B, SESSION, EndKind::Finished, true), Event::Finished(B, true)]);
        check(&events).len()
    };
    assert_eq!((rest(true), rest(false)), (0, 1));
}

/// The session with which the writer goes on once it was given up.
const NEXT: SessionId = SessionId([2; 16]);

#[test]
fn what_was_not_known_to_be_settled_may_come_with_the_next_item_too_and_nothing_else() {
    let again = |settled: u64, n: u32| {
        broken(|events| {
            let end = at(events, &Event::Finished(A, true));
            let next = [Event::Settled(ITEM, settled), Event::Session(ITEM, NEXT)];
            let written = at(events, &Event::Settled(ITEM, 3));
            events.splice(end..end, [Event::Got(A, NEXT, Seq(0), Some(record(n)), 10)]);
            events.splice(written..written, next);
        })
    };
    let rule = "every record once, in order, and a hole is told";
    assert!(!again(1, 2).contains(&rule), "{:?}", again(1, 2));
    assert!(again(3, 2).contains(&rule));
}

#[test]
fn who_was_given_up_may_hand_over_what_another_took_meanwhile() {
    let late = |told: &[Event]| {
        let mut events = right();
        events.extend([Event::Reads(B, ReadKind::Any), got(B, 0)]);
        events.extend_from_slice(told);
        let rules: Vec<_> = check(&events).into_iter().map(|broken| broken.rule).collect();
        rules.contains(&"an item taken alone goes to one reader")
    };
    assert!(late(&[]));
    assert!(!late(&[Event::NewReader(B)]));
    assert!(!late(&[Event::ReadFailed(B, Code::SessionExpired)]));
}
