//! Two ends against each other, in one thread and on a clock of their own.

use bytes::Bytes;

use super::constants::kind;
use super::*;

pub(super) const START: Time = Time(1_000_000);

/// Two ends and what is on its way between them.
pub(super) struct Pair {
    pub(super) ends: [Mux; 2],
    /// To the first, and to the second.
    under_way: [VecDeque<Bytes>; 2],
    pub(super) now: Time,
}

impl Pair {
    pub(super) fn new() -> Self {
        let ends = [Mux::new(Side::Client, START), Mux::new(Side::Relay, START)];
        Self { ends, under_way: [VecDeque::new(), VecDeque::new()], now: START }
    }

    /// Sends one message of this end, and says whether there was one.
    pub(super) fn send(&mut self, end: usize) -> bool {
        let Some(message) = self.ends[end].next() else { return false };
        assert!(message.len() <= MESSAGE_BYTES_MAX);
        self.under_way[1 - end].push_back(message);
        self.ends[end].flushed();
        true
    }

    /// Delivers one message to this end, if it wants one.
    pub(super) fn deliver(&mut self, end: usize) -> bool {
        if !self.ends[end].wants_more() {
            return false;
        }
        let Some(message) = self.under_way[end].pop_front() else { return false };
        self.ends[end].take(message, self.now).unwrap();
        true
    }

    /// Until nothing moves.
    pub(super) fn settle(&mut self) {
        while self.send(0) | self.send(1) | self.deliver(0) | self.deliver(1) {}
    }

    fn stream(&mut self) -> StreamId {
        let id = self.ends[0].open(self.now).unwrap().unwrap();
        self.settle();
        assert_eq!(self.ends[1].accept(), Some(id));
        id
    }

    fn read_all(&mut self, end: usize, id: StreamId) -> Vec<u8> {
        let mut all = Vec::new();
        while let Ok(Some(1..)) = self.ends[end].read(id, 100_000, |bytes| all.extend_from_slice(bytes), self.now) {
            self.settle();
        }
        all
    }
}

#[test]
fn a_stream_opens_carries_ends_and_is_forgotten() {
    let mut pair = Pair::new();
    let id = pair.stream();
    assert_eq!(pair.ends[0].write(id, b"hello").unwrap(), Some(5));
    assert!(!pair.ends[0].finish(id).unwrap());
    pair.settle();
    assert!(pair.ends[0].finish(id).unwrap(), "it left");
    assert_eq!(pair.read_all(1, id), b"hello");
    assert_eq!(pair.ends[1].read(id, 9, |_| {}, START), Ok(Some(0)), "a clean end");
    assert_eq!(pair.ends[1].write(id, b"answer").unwrap(), Some(6));
    pair.ends[1].finish(id).unwrap();
    pair.settle();
    assert_eq!(pair.read_all(0, id), b"answer");
    pair.ends.iter_mut().for_each(|end| end.drop_stream(id));
    pair.settle();
    assert!(pair.ends.iter().all(Mux::is_idle));
    assert_eq!(pair.ends[0].may_open, STREAMS_AT_FIRST, "the number is free again");
}

#[test]
fn a_dropped_stream_is_cut_and_never_ends_cleanly() {
    let mut pair = Pair::new();
    let id = pair.stream();
    pair.ends[0].write(id, b"half").unwrap();
    pair.settle();
    pair.ends[0].drop_stream(id);
    pair.settle();
    assert_eq!(pair.read_all(1, id), b"half", "what came can be read");
    assert_eq!(pair.ends[1].read(id, 9, |_| {}, START), Err(Gone::Reset));
    assert_eq!(pair.ends[1].write(id, b"x"), Err(Gone::Reset));
    assert_eq!(pair.ends[1].finish(id), Err(Gone::Reset));
}

#[test]
fn what_was_flushed_before_a_drop_arrives_and_then_ends() {
    let mut pair = Pair::new();
    let (early, late) = (pair.stream(), pair.stream());
    for id in [early, late] {
        for part in [&b"last "[..], b"words"] {
            pair.ends[0].write(id, part).unwrap();
            pair.ends[0].flush(id);
        }
    }
    pair.ends[0].drop_stream(early);
    assert!(!pair.ends[0].is_idle(), "it is yet to be sent");
    pair.settle();
    pair.ends[0].drop_stream(late);
    pair.settle();
    for id in [early, late] {
        assert_eq!(pair.read_all(1, id), b"last words");
        assert_eq!(pair.ends[1].read(id, 9, |_| {}, START), Ok(Some(0)), "a clean end");
        assert_eq!(pair.ends[1].write(id, b"x"), Err(Gone::Reset), "nobody would read it");
        pair.ends[1].drop_stream(id);
    }
    pair.settle();
    assert!(pair.ends.iter().all(Mux::is_idle));
}

#[test]
fn a_drop_behind_a_flush_but_in_the_next_write_is_no_end() {
    let mut pair = Pair::new();
    let id = pair.stream();
    pair.ends[0].write(id, b"whole").unwrap();
    pair.ends[0].flush(id);
    pair.settle();
    pair.ends[0].write(id, b"half").unwrap();
    pair.ends[0].drop_stream(id);
    pair.settle();
    assert_eq!(pair.read_all(1, id), b"whole");
    assert_eq!(pair.ends[1].read(id, 9, |_| {}, START), Err(Gone::Reset));
}

#[test]
fn who_is_gone_is_not_told_twice() {
    let mut pair = Pair::new();
    let id = pair.stream();
    pair.ends[1].finish(id).unwrap();
    pair.settle();
    pair.ends[0].write(id, b"all").unwrap();
    pair.ends[0].flush(id);
    pair.ends[0].drop_stream(id);
    let kinds: Vec<u8> = std::iter::from_fn(|| pair.ends[0].next()).map(|message| message[0]).collect();
    assert_eq!(kinds, [kind::DATA, kind::FIN]);
    assert!(pair.ends[0].is_idle());
}

#[test]
fn last_words_before_a_drop_arrive_whole() {
    let mut pair = Pair::new();
    let id = pair.stream();
    pair.ends[1].write(id, b"refused").unwrap();
    pair.ends[1].finish(id).unwrap();
    pair.send(1);
    pair.send(1);
    pair.ends[1].drop_stream(id);
    pair.settle();
    assert_eq!(pair.read_all(0, id), b"refused");
    assert_eq!(pair.ends[0].read(id, 9, |_| {}, START), Ok(Some(0)));
    assert_eq!(pair.ends[0].write(id, b"x"), Err(Gone::Reset), "nobody would read it");
}

#[test]
fn a_stalled_stream_holds_up_no_other() {
    let mut pair = Pair::new();
    let (stalled, other) = (pair.stream(), pair.stream());
    pair.ends[1].admit();
    let mut stuffed = 0;
    while let Some(taken) = pair.ends[0].write(stalled, &[1; 70_000]).unwrap() {
        stuffed += taken;
        pair.settle();
    }
    assert_eq!(stuffed, WINDOW_BYTES as usize, "its window, and nothing waits");
    assert_eq!(pair.ends[0].unsent, 0);
    for _ in 0..1000 {
        assert_eq!(pair.ends[0].write(other, &[2; 50_000]).unwrap(), Some(50_000));
        pair.settle();
        assert_eq!(pair.read_all(1, other).len(), 50_000);
    }
    assert_eq!(pair.read_all(1, stalled).len(), WINDOW_BYTES as usize);
}

#[test]
fn streams_take_turns() {
    let mut pair = Pair::new();
    let ids = [pair.stream(), pair.stream(), pair.stream()];
    for id in ids {
        pair.ends[0].write(id, &[0; 2 * DATA_BYTES]).unwrap();
    }
    let order: Vec<u8> = std::iter::from_fn(|| pair.ends[0].next()).map(|m| m[1]).collect();
    assert_eq!(order, [1, 3, 5, 1, 3, 5]);
}

#[test]
fn what_waits_to_be_sent_is_bounded_and_who_waits_is_woken() {
    let mut pair = Pair::new();
    let ids: Vec<_> = (0..16).map(|_| pair.stream()).collect();
    let waits = |id: &StreamId| pair.ends[0].write(*id, &[0; 1_000_000]).unwrap().is_none();
    let waiting: Vec<_> = ids.iter().copied().filter(waits).collect();
    assert_eq!(pair.ends[0].unsent, UNSENT_BYTES_MAX);
    assert!(waiting.len() > 8);
    assert_eq!(pair.ends[0].write(ids[15], b"x"), Ok(None));
    pair.ends[0].wakes().for_each(drop);
    while pair.ends[0].next().is_some() {}
    let woken: Vec<_> = pair.ends[0].wakes().collect();
    assert!(waiting.iter().all(|&id| woken.contains(&Wake::Write(id))), "{woken:?}");
}

#[test]
fn a_stranger_has_few_streams_and_little_memory() {
    let mut pair = Pair::new();
    let ids: Vec<_> = (0..STREAMS_AT_FIRST).map(|_| pair.ends[0].open(START).unwrap().unwrap()).collect();
    assert_eq!(pair.ends[0].open(START), Ok(None));
    for &id in &ids {
        pair.ends[0].write(id, &[0; 60_000]).unwrap();
    }
    pair.settle();
    assert!(pair.ends[1].unread < UNREAD_BYTES_BEFORE_PROOF_MAX + DATA_BYTES_MAX);
    pair.ends[1].admit();
    pair.settle();
    assert_eq!(pair.ends[0].may_open, STREAMS_ADMITTED - STREAMS_AT_FIRST);
    assert!(pair.ends[0].wakes().any(|wake| wake == Wake::Open));
}

#[test]
fn a_link_without_an_acceptor_cuts_what_comes() {
    let mut pair = Pair::new();
    let early = pair.ends[0].open(START).unwrap().unwrap();
    pair.settle();
    pair.ends[1].deafen();
    let late = pair.ends[0].open(START).unwrap().unwrap();
    pair.settle();
    for id in [early, late] {
        assert_eq!(pair.ends[0].write(id, b"x"), Err(Gone::Reset));
    }
    assert!(pair.ends[1].is_idle());
}

#[test]
fn a_broken_link_gives_what_came_and_then_says_so() {
    let mut pair = Pair::new();
    let id = pair.stream();
    pair.ends[0].write(id, b"came").unwrap();
    pair.settle();
    pair.ends[1].break_off();
    assert_eq!(pair.read_all(1, id), b"came");
    assert_eq!(pair.ends[1].read(id, 9, |_| {}, START), Err(Gone::Link));
    assert_eq!(pair.ends[1].write(id, b"x"), Err(Gone::Link));
    assert_eq!(pair.ends[1].finish(id), Err(Gone::Link));
    assert_eq!(pair.ends[1].open(START), Err(Gone::Link));
    pair.ends[1].drop_stream(id);
    assert!(pair.ends[1].is_idle());
}

/// A relay's end, and what it says to a row of messages of which the last breaks a rule.
fn breach(messages: &[Bytes]) -> Breach {
    let mut relay = Mux::new(Side::Relay, START);
    let (last, first) = messages.split_last().unwrap();
    for message in first {
        relay.take(message.clone(), START).unwrap();
    }
    relay.take(last.clone(), START).unwrap_err()
}

fn data(id: StreamId, length: usize) -> Bytes {
    let mut message = message::head(kind::DATA, id, length);
    message.extend_from_slice(&vec![0; length]);
    message.freeze()
}

#[test]
fn who_breaks_the_rules_is_found() {
    let (open, fin, reset) =
        (message::plain(kind::OPEN, 1), message::plain(kind::FIN, 1), message::plain(kind::RESET, 1));
    let mut rows = vec![
        vec![message::plain(kind::OPEN, 3)],
        vec![message::plain(kind::OPEN, 2)],
        vec![message::plain(kind::OPEN, 0)],
        vec![open.clone(), open.clone()],
        vec![data(1, 1)],
        vec![fin.clone()],
        vec![message::plain(kind::RESET, 2)],
        vec![open.clone(), fin.clone(), data(1, 1)],
        vec![open.clone(), fin.clone(), fin],
        vec![open.clone(), reset, data(1, 1)],
        vec![open.clone(), message::numbered(kind::WINDOW, 1, 1)],
        vec![open.clone(), message::numbered(kind::WINDOW, 1, WINDOW_BYTES_MAX)],
        vec![message::numbered(kind::STREAMS, 0, STREAMS_ADMITTED)],
        vec![message::numbered(kind::STREAMS, 0, 0)],
    ];
    let mut full = vec![open];
    full.extend((0..5).map(|_| data(1, DATA_BYTES_MAX)));
    rows.push(full);
    rows.push((0..=STREAMS_AT_FIRST).map(|n| message::plain(kind::OPEN, 1 + 2 * n)).collect());
    for row in rows {
        assert!(matches!(breach(&row), Breach::Protocol(_)), "{row:?}");
    }
}

#[test]
fn a_flood_of_cut_streams_is_found_and_answered_ones_do_not_count() {
    let mut pair = Pair::new();
    for _ in 0..5 * RESETS_PER_MINUTE_MAX {
        let id = pair.stream();
        pair.ends[1].write(id, b"answer").unwrap();
        pair.settle();
        pair.ends[0].drop_stream(id);
        pair.settle();
        pair.ends[1].drop_stream(id);
        pair.settle();
    }
    let mut relay = Mux::new(Side::Relay, START);
    let mut cut = |n: u32| {
        relay.take(message::plain(kind::OPEN, 1 + 2 * n), START)?;
        let id = relay.accept().unwrap();
        relay.take(message::plain(kind::RESET, id), START)?;
        relay.drop_stream(id);
        relay.next();
        Ok(())
    };
    assert!((0..RESETS_PER_MINUTE_MAX).all(|n| cut(n).is_ok()));
    assert!(matches!(cut(RESETS_PER_MINUTE_MAX), Err(Breach::Flood(_))));
}

#[test]
fn bytes_that_cross_with_a_cut_are_passed_over_and_no_more_than_those() {
    let mut pair = Pair::new();
    let id = pair.stream();
    pair.ends[1].drop_stream(id);
    pair.ends[0].write(id, &[0; 100_000]).unwrap();
    while pair.send(0) {}
    pair.settle();
    assert_eq!(pair.ends[0].write(id, b"x"), Err(Gone::Reset));
    let relay = &mut pair.ends[1];
    for _ in 0..2 {
        relay.take(data(id, DATA_BYTES_MAX), START).unwrap();
    }
    assert!(relay.take(data(id, DATA_BYTES_MAX), START).is_err());
}

#[test]
fn over_a_long_path_the_window_grows_until_it_holds_all_that_is_under_way() {
    let (mut pair, round_trip) = (Pair::new(), Duration::from_millis(200));
    pair.ends.iter_mut().for_each(|end| end.took(round_trip));
    pair.ends[1].admit();
    let id = pair.stream();
    let mut per_trip = Vec::new();
    for _ in 0..10 {
        let mut sent = 0;
        while let Some(taken) = pair.ends[0].write(id, &[0; 100_000]).unwrap() {
            sent += taken;
            while pair.send(0) {}
        }
        per_trip.push(sent);
        pair.now = pair.now.plus(round_trip);
        while pair.deliver(1) {
            while let Ok(Some(1..)) = pair.ends[1].read(id, 100_000, |_| {}, pair.now) {}
            while pair.send(1) {}
        }
        while pair.deliver(0) {}
    }
    assert_eq!(per_trip[0], WINDOW_BYTES as usize);
    // Up to half a window that was read is not given back yet.
    assert!(per_trip[9] >= WINDOW_BYTES_MAX as usize / 2, "{per_trip:?}");
}
