//! Random runs: whatever the order, bytes arrive in order, nothing exceeds its bounds, and nothing stands still.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{Pair, START};
use super::*;

/// One step of a random run: which end, which of its streams, how much.
#[derive(Clone, Debug)]
enum Step {
    Open(usize),
    Write(usize, usize, usize),
    Read(usize, usize, usize),
    Flush(usize, usize),
    Finish(usize, usize),
    Drop(usize, usize),
    Send(usize, usize),
    Deliver(usize, usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (end, pick) = (0..2_usize, 0..8_usize);
    prop_oneof![
        2 => end.clone().prop_map(Step::Open),
        8 => (end.clone(), pick.clone(), 0..200_000_usize).prop_map(|(e, s, n)| Step::Write(e, s, n)),
        8 => (end.clone(), pick.clone(), 0..200_000_usize).prop_map(|(e, s, n)| Step::Read(e, s, n)),
        4 => (end.clone(), pick.clone()).prop_map(|(e, s)| Step::Flush(e, s)),
        1 => (end.clone(), pick.clone()).prop_map(|(e, s)| Step::Finish(e, s)),
        1 => (end.clone(), pick.clone()).prop_map(|(e, s)| Step::Drop(e, s)),
        8 => (end.clone(), 0..20_usize).prop_map(|(e, n)| Step::Send(e, n)),
        8 => (end, 0..20_usize).prop_map(|(e, n)| Step::Deliver(e, n)),
        1 => (0..100_000_u64).prop_map(Step::Wait),
    ]
}

/// What one end knows of one of its streams: bytes are a counter, so their order shows.
#[derive(Default)]
struct Known {
    written: usize,
    flushed: usize,
    read: usize,
    finished: bool,
    ended: bool,
}

struct Run {
    pair: Pair,
    /// The streams each end holds.
    known: [BTreeMap<StreamId, Known>; 2],
    /// What each end dropped, and the bytes that the other end gets before a clean end; none where it gets an error.
    dropped: [BTreeMap<StreamId, Option<usize>>; 2],
}

impl Run {
    fn pick(&self, end: usize, nth: usize) -> Option<StreamId> {
        let count = self.known[end].len();
        (count > 0).then(|| self.known[end].keys().nth(nth % count).copied())?
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Open(end) => {
                if let Ok(Some(id)) = self.pair.ends[end].open(self.pair.now) {
                    self.known[end].insert(id, Known::default());
                }
            }
            Step::Write(end, nth, length) => self.write(end, nth, length),
            Step::Read(end, nth, length) => self.read(end, nth, length),
            Step::Flush(end, nth) => {
                if let Some(id) = self.pick(end, nth) {
                    self.pair.ends[end].flush(id);
                    let known = self.known[end].get_mut(&id).unwrap();
                    known.flushed = known.written;
                }
            }
            Step::Finish(end, nth) => {
                if let Some(id) = self.pick(end, nth) {
                    let _ = self.pair.ends[end].finish(id);
                    let known = self.known[end].get_mut(&id).unwrap();
                    (known.finished, known.flushed) = (true, known.written);
                }
            }
            Step::Drop(end, nth) => self.drop_one(end, nth),
            Step::Send(end, count) => (0..count).for_each(|_| _ = self.pair.send(end)),
            Step::Deliver(end, count) => (0..count).for_each(|_| _ = self.pair.deliver(end)),
            Step::Wait(micros) => self.pair.now = Time(self.pair.now.0 + micros),
        }
        self.accept();
        self.bounds();
    }

    fn drop_one(&mut self, end: usize, nth: usize) {
        let Some(id) = self.pick(end, nth) else { return };
        self.pair.ends[end].drop_stream(id);
        let known = self.known[end].remove(&id).unwrap();
        let clean = known.finished || known.written > 0 && known.flushed == known.written;
        self.dropped[end].insert(id, clean.then_some(known.written));
    }

    fn accept(&mut self) {
        for end in 0..2 {
            while let Some(id) = self.pair.ends[end].accept() {
                self.known[end].insert(id, Known::default());
            }
        }
    }

    fn write(&mut self, end: usize, nth: usize, length: usize) {
        let Some(id) = self.pick(end, nth) else { return };
        let known = self.known[end].get_mut(&id).unwrap();
        let bytes: Vec<u8> = (known.written..known.written + length).map(|n| (n % 251) as u8).collect();
        if let Ok(Some(taken)) = self.pair.ends[end].write(id, &bytes) {
            known.written += taken;
        }
    }

    fn read(&mut self, end: usize, nth: usize, length: usize) {
        let Some(id) = self.pick(end, nth) else { return };
        let mut came = Vec::new();
        let known = self.known[end].get_mut(&id).unwrap();
        match self.pair.ends[end].read(id, length.max(1), |bytes| came.extend_from_slice(bytes), self.pair.now) {
            Ok(Some(0)) => known.ended = true,
            Ok(Some(_)) => {
                for byte in &came {
                    assert_eq!(*byte, (known.read % 251) as u8, "stream {id} at {}", known.read);
                    known.read += 1;
                }
            }
            Err(Gone::Reset) => assert_eq!(self.dropped[1 - end].get(&id), Some(&None), "stream {id}"),
            Err(Gone::Link) => panic!("stream {id} is gone"),
            Ok(None) => {}
        }
    }

    fn bounds(&self) {
        self.pair.ends.iter().for_each(Mux::assert_bounds);
    }

    /// All that was written arrives, and what was finished ends, once everybody reads.
    fn finish(&mut self) {
        self.pair.ends[1].admit();
        loop {
            let before: usize = self.known.iter().flat_map(|k| k.values()).map(|k| k.read).sum();
            self.pair.settle();
            self.accept();
            for end in 0..2 {
                (0..self.known[end].len()).for_each(|nth| self.read(end, nth, 1_000_000));
            }
            self.pair.settle();
            self.bounds();
            let after: usize = self.known.iter().flat_map(|k| k.values()).map(|k| k.read).sum();
            if before == after {
                break;
            }
        }
        for (&id, near) in &self.known[0] {
            if let Some(far) = self.known[1].get(&id) {
                assert_eq!((near.written, far.written), (far.read, near.read), "stream {id}");
                assert_eq!((near.finished, far.finished), (far.ended, near.ended), "stream {id}");
            }
        }
        for end in 0..2 {
            for (id, left) in &self.known[end] {
                let Some(Some(whole)) = self.dropped[1 - end].get(id) else { continue };
                assert_eq!((left.read, left.ended), (*whole, true), "stream {id}");
            }
            assert!(self.pair.ends[end].streams.keys().all(|id| self.known[end].contains_key(id)), "nothing stays");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_order_all_arrives_and_nothing_exceeds_its_bounds(steps in prop::collection::vec(step(), 1..250)) {
        let mut run = Run { pair: Pair::new(), known: Default::default(), dropped: Default::default() };
        steps.iter().for_each(|step| run.step(step));
        run.finish();
    }

    #[test]
    fn no_bytes_of_a_stranger_do_any_harm(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..60)) {
        let mut relay = Mux::new(Side::Relay, START);
        for mut message in messages {
            if let Some(kind) = message.first_mut() { *kind %= 8; }
            if message.len() > 5 && message[0] != 2 { message.truncate(5); }
            if let Some(stream) = message.get_mut(1..5) { stream.copy_from_slice(&u32::from(stream[0] % 7).to_le_bytes()); }
            if relay.take(message.into(), START).is_err() { break; }
            relay.next();
            if let Some(id) = relay.accept() { relay.drop_stream(id); }
        }
    }
}
