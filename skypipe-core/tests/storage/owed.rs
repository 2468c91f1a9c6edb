//! What a log owes, from what it was given and what it said.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use skypipe_core::log::{Disk, Entry, Log, LogOptions, Read, Recovery};
use skypipe_core::{Batch, BatchBuilder, Epoch, ItemNo, Lsn, PipeId, Seq, SessionId};

/// How many calls had been made to the disk when something happened.
pub(crate) type At = usize;

/// What was given to a log, and what it said of it. What it must hold at any moment follows.
#[derive(Clone, Default)]
pub(crate) struct Owed {
    pipes: BTreeMap<PipeId, OwedPipe>,
    /// Told apart from one another, what was lost in a crash must not come back under the number of what came after.
    life: u32,
}

#[derive(Clone, Default)]
struct OwedPipe {
    facts: HashMap<Bytes, OwedFact>,
    /// The number of the newest fact.
    newest: u64,
    items: BTreeMap<ItemNo, OwedItem>,
    /// What the log has not said to be stored.
    pending: VecDeque<(Lsn, Pending)>,
    gone: Option<At>,
}

#[derive(Clone, Copy)]
struct OwedFact {
    number: u64,
    is_snapshot: bool,
    given: At,
    stored: Option<At>,
}

#[derive(Clone, Default)]
struct OwedItem {
    batches: BTreeMap<Seq, OwedBatch>,
    next: Seq,
    /// When it was said that numbers below are not wanted.
    forgotten: Vec<(At, Seq)>,
}

#[derive(Clone)]
struct OwedBatch {
    batch: Batch,
    given: At,
    stored: Option<At>,
}

#[derive(Clone)]
enum Pending {
    Fact(Bytes),
    Batch(ItemNo, Seq),
}

/// A log that was opened and not started, with all that can be read in it.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Opened {
    pub(crate) facts: Vec<(PipeId, Bytes)>,
    pub(crate) items: BTreeMap<(PipeId, ItemNo), Vec<Found>>,
    pub(crate) recovery: Recovery,
}

/// What reading an item gives.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Found {
    Batch(Bytes, Range<Seq>),
    Gap(Range<Seq>),
}

/// Small segments, so that all that happens to segments happens often.
pub(crate) fn options(segment_bytes: u64) -> LogOptions {
    let mut options = LogOptions::default();
    (options.segment_bytes, options.free_percent, options.salt) = (segment_bytes, 0, 7);
    options
}

/// Opens the log on this disk and reads everything.
pub(crate) fn open(disk: Arc<dyn Disk>, segment_bytes: u64) -> Result<(Arc<Log>, Opened), String> {
    open_with(disk, options(segment_bytes))
}

/// The same, with options of one's own.
pub(crate) fn open_with(disk: Arc<dyn Disk>, options: LogOptions) -> Result<(Arc<Log>, Opened), String> {
    let mut facts = Vec::new();
    let log = Log::open(disk, options, &mut |pipe, body| facts.push((pipe, body)))
        .map_err(|error| format!("it does not open: {error}"))?;
    let items = read_all(&log)?;
    let recovery = log.recovery().clone();
    Ok((log, Opened { facts, items, recovery }))
}

/// Reads all items of a log.
pub(crate) fn read_all(log: &Log) -> Result<BTreeMap<(PipeId, ItemNo), Vec<Found>>, String> {
    let mut items = BTreeMap::new();
    for pipe in log.pipes() {
        for item in log.items(pipe) {
            items.insert((pipe, item), read_item(log, pipe, item)?);
        }
    }
    Ok(items)
}

/// Reads one item from its start to its end.
pub(crate) fn read_item(log: &Log, pipe: PipeId, item: ItemNo) -> Result<Vec<Found>, String> {
    let (mut at, mut found) = (Seq(0), Vec::new());
    loop {
        match log.read(pipe, item, at, READ_BYTES).map_err(|error| format!("{pipe:?} {item:?} {at:?}: {error}"))? {
            Read::Tape(_) => unreachable!("these are items"),
            Read::Batches(batches) => {
                for batch in batches {
                    if batch.first() > at || batch.next() <= at {
                        return Err(format!("{pipe:?} {item:?}: asked for {at:?}, got {:?}", batch.first()));
                    }
                    found.push(Found::Batch(batch.encoded().clone(), batch.first()..batch.next()));
                    at = batch.next();
                }
            }
            Read::Gap { to } if to > at => {
                found.push(Found::Gap(at..to));
                at = to;
            }
            Read::Gap { to } => return Err(format!("{pipe:?} {item:?}: a gap from {at:?} to {to:?}")),
            Read::End => return Ok(found),
        }
    }
}

/// Bytes asked for at once: so few that reading goes on in the middle where an item is long.
const READ_BYTES: usize = 10_000;

impl Owed {
    /// Makes the next fact of a pipe.
    pub(crate) fn fact(&mut self, pipe: PipeId, is_snapshot: bool, given: At, filler: usize) -> Entry {
        let of = self.pipes.entry(pipe).or_default();
        let number = if is_snapshot { of.newest } else { of.newest + 1 };
        of.newest = number;
        let mut body = format!("{pipe:?} {number} {is_snapshot} {} {given} ", self.life).into_bytes();
        body.resize(body.len() + filler, b'.');
        let body = Bytes::from(body);
        of.facts.insert(body.clone(), OwedFact { number, is_snapshot, given, stored: None });
        Entry::Fact { pipe, body }
    }

    /// Makes the next batch of an item.
    pub(crate) fn batch(&mut self, pipe: PipeId, item: ItemNo, records: u64, length: usize, given: At) -> Entry {
        let of = self.pipes.entry(pipe).or_default().items.entry(item).or_default();
        let mut builder = BatchBuilder::new(SessionId([pipe.0 as u8; 16]), Epoch(self.life), of.next);
        for n in 0..records {
            let text = format!("{pipe:?} {item:?} {} {given}", of.next.0 + n);
            let body: Vec<u8> = text.bytes().cycle().take(length).collect();
            assert!(builder.push(&body, true, true), "a batch of a test is short");
        }
        let batch = builder.build(None);
        of.batches.insert(batch.first(), OwedBatch { batch: batch.clone(), given, stored: None });
        of.next = batch.next();
        Entry::Batch { pipe, item, batch }
    }

    /// The log has taken this entry.
    pub(crate) fn appended(&mut self, entry: &Entry, lsn: Lsn) {
        let (pipe, what) = match entry {
            Entry::Fact { pipe, body } => (pipe, Pending::Fact(body.clone())),
            Entry::Batch { pipe, item, batch } => (pipe, Pending::Batch(*item, batch.first())),
            Entry::Tape { .. } => unreachable!("these are items"),
        };
        self.pipes.entry(*pipe).or_default().pending.push_back((lsn, what));
    }

    /// The log says that all of this pipe is stored up to this entry.
    pub(crate) fn stored(&mut self, pipe: PipeId, upto: Lsn, at: At) {
        let Some(of) = self.pipes.get_mut(&pipe) else { return };
        let count = of.pending.partition_point(|(lsn, _)| *lsn <= upto);
        for (_, what) in of.pending.drain(..count) {
            match what {
                Pending::Fact(body) => drop(of.facts.get_mut(&body).map(|fact| fact.stored = Some(at))),
                Pending::Batch(item, first) => {
                    let batch = of.items.get_mut(&item).and_then(|item| item.batches.get_mut(&first));
                    batch.into_iter().for_each(|batch| batch.stored = Some(at));
                }
            }
        }
    }

    /// Whether the log has still to say of something that it is stored.
    pub(crate) fn waits(&self) -> bool {
        self.pipes.values().any(|pipe| !pipe.pending.is_empty())
    }

    /// Numbers below are not wanted any more.
    pub(crate) fn forget(&mut self, pipe: PipeId, item: ItemNo, below: Seq, at: At) {
        let of = self.pipes.get_mut(&pipe).and_then(|pipe| pipe.items.get_mut(&item));
        of.into_iter().for_each(|item| item.forgotten.push((at, below)));
    }

    /// Nothing of a pipe is wanted any more.
    pub(crate) fn forget_pipe(&mut self, pipe: PipeId, at: At) {
        self.pipes.entry(pipe).or_default().gone = Some(at);
    }

    /// The pipes that are there, each with its items and the number behind their last.
    pub(crate) fn pipes(&self) -> Vec<(PipeId, Vec<(ItemNo, Seq)>)> {
        let there = self.pipes.iter().filter(|(_, pipe)| pipe.gone.is_none());
        there.map(|(&id, pipe)| (id, pipe.items.iter().map(|(&no, item)| (no, item.next)).collect())).collect()
    }

    /// A number that no pipe had.
    pub(crate) fn new_pipe(&self) -> PipeId {
        PipeId(self.pipes.keys().last().map_or(1, |last| last.0 + 1))
    }

    /// Says again what is not wanted, as the owner of a log does when it is opened.
    pub(crate) fn say_again(&self, log: &Log) {
        for (&id, pipe) in &self.pipes {
            if pipe.gone.is_some() {
                log.forget_pipe(id);
                continue;
            }
            for (&no, item) in &pipe.items {
                if let Some(below) = item.forgotten.iter().map(|(_, below)| *below).max() {
                    log.forget(id, no, below);
                }
            }
        }
    }

    /// Holds what an opened log gave against what it owed when `at` calls had been made.
    pub(crate) fn check(&self, opened: &Opened, at: At) -> Result<(), String> {
        self.check_facts(&opened.facts, at)?;
        for ((pipe, item), found) in &opened.items {
            self.check_item(*pipe, *item, found, at)?;
        }
        for (&pipe, of) in &self.pipes {
            for &item in of.items.keys().filter(|item| !opened.items.contains_key(&(pipe, **item))) {
                self.check_item(pipe, item, &[], at)?;
            }
        }
        Ok(())
    }

    fn check_facts(&self, facts: &[(PipeId, Bytes)], at: At) -> Result<(), String> {
        let mut reached: BTreeMap<PipeId, u64> = BTreeMap::new();
        for (pipe, body) in facts {
            let known = self.pipes.get(pipe).and_then(|of| of.facts.get(body)).filter(|fact| fact.given <= at);
            let fact = known.ok_or_else(|| format!("{pipe:?}: a fact that was never given: {body:?}"))?;
            let before = reached.get(pipe).copied();
            if !fact.is_snapshot && before.unwrap_or_default() + 1 != fact.number {
                return Err(format!("{pipe:?}: fact {} behind {before:?}", fact.number));
            }
            reached.insert(*pipe, fact.number);
        }
        for (id, of) in &self.pipes {
            let stored = of.facts.values().filter(|fact| fact.stored.is_some_and(|stored| stored <= at));
            let owed = stored.map(|fact| fact.number).max().unwrap_or_default();
            let reached = reached.get(id).copied().unwrap_or_default();
            if reached < owed && !of.is_gone(at) {
                return Err(format!("{id:?}: facts up to {reached}, {owed} were stored"));
            }
        }
        Ok(())
    }

    /// Every batch is one that was given, and what is stored and wanted is there.
    pub(crate) fn check_item(&self, pipe: PipeId, no: ItemNo, found: &[Found], at: At) -> Result<(), String> {
        self.check_bytes(pipe, no, found, at)?;
        let of = &self.pipes[&pipe];
        if of.is_gone(at) {
            return Ok(());
        }
        let item = &of.items[&no];
        let below = item.below(at);
        let read = |first: Seq| found.iter().any(|f| matches!(f, Found::Batch(_, numbers) if numbers.start == first));
        let owed = item.batches.values().filter(|b| b.stored.is_some_and(|stored| stored <= at));
        match owed.map(|b| &b.batch).find(|b| b.next() > below && !read(b.first())) {
            Some(lost) => Err(format!("{pipe:?} {no:?}: {:?} was stored and is not there: {found:?}", lost.first())),
            None => Ok(()),
        }
    }

    /// Every batch is one that was given, byte for byte.
    pub(crate) fn check_bytes(&self, pipe: PipeId, no: ItemNo, found: &[Found], at: At) -> Result<(), String> {
        let item = self.pipes.get(&pipe).and_then(|of| of.items.get(&no));
        let item = item.ok_or_else(|| format!("{pipe:?} {no:?}: never given"))?;
        for batch in found {
            let Found::Batch(bytes, numbers) = batch else { continue };
            let known = item.batches.get(&numbers.start).filter(|b| b.given <= at && b.batch.encoded() == bytes);
            known.ok_or_else(|| format!("{pipe:?} {no:?}: {numbers:?} are not the bytes that were given"))?;
        }
        Ok(())
    }

    /// What was owed when `at` calls had been made, and nothing of what came later.
    pub(crate) fn cut(&self, at: At) -> Self {
        let mut cut = self.clone();
        for of in cut.pipes.values_mut() {
            of.gone = of.gone.filter(|gone| *gone <= at).map(|_| 0);
            of.facts.retain(|_, fact| fact.given <= at);
            for fact in of.facts.values_mut() {
                (fact.given, fact.stored) = (0, fact.stored.filter(|stored| *stored <= at));
            }
            for item in of.items.values_mut() {
                item.batches.retain(|_, batch| batch.given <= at);
                item.forgotten.retain(|(when, _)| *when <= at);
                item.forgotten.iter_mut().for_each(|(when, _)| *when = 0);
                for batch in item.batches.values_mut() {
                    (batch.given, batch.stored) = (0, batch.stored.filter(|stored| *stored <= at));
                }
            }
        }
        cut
    }

    /// A new life begins with what this log gave when it was opened: that is stored now, and what else was given is lost for good.
    pub(crate) fn begin_again(&mut self, opened: &Opened) {
        self.life += 1;
        for (id, of) in &mut self.pipes {
            of.pending.clear();
            of.gone = of.gone.map(|_| 0);
            let there = |body: &Bytes| opened.facts.iter().any(|(pipe, fact)| pipe == id && fact == body);
            of.facts.retain(|body, fact| fact.stored.is_some() || there(body));
            of.facts.values_mut().for_each(|fact| (fact.given, fact.stored) = (0, Some(0)));
            of.newest = of.facts.values().map(|fact| fact.number).max().unwrap_or_default();
            for (no, item) in &mut of.items {
                item.begin_again(opened.items.get(&(*id, *no)).map_or(&[], Vec::as_slice));
            }
        }
    }
}

impl OwedPipe {
    fn is_gone(&self, at: At) -> bool {
        self.gone.is_some_and(|gone| gone <= at)
    }
}

impl OwedItem {
    fn below(&self, at: At) -> Seq {
        self.forgotten.iter().filter(|(when, _)| *when <= at).map(|(_, below)| *below).max().unwrap_or_default()
    }

    fn begin_again(&mut self, found: &[Found]) {
        let there = |first: &Seq| found.iter().any(|f| matches!(f, Found::Batch(_, n) if n.start == *first));
        self.batches.retain(|first, batch| batch.stored.is_some() || there(first));
        self.batches.values_mut().for_each(|batch| (batch.given, batch.stored) = (0, Some(0)));
        self.forgotten.iter_mut().for_each(|(at, _)| *at = 0);
        // Numbers that were forgotten and are on no disk are never used again.
        let forgotten = self.forgotten.iter().map(|(_, below)| *below).filter(|below| *below < Seq(u64::MAX)).max();
        let last = self.batches.values().map(|b| b.batch.next()).max();
        self.next = last.max(forgotten).unwrap_or_default();
    }
}
