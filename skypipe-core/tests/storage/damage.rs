//! P9: every bit of a log flipped, and worse done to it. What is read is right, what is lost is told, all else is there, and nothing
//! is deleted.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memchr::memmem;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use skypipe_core::log::{Entry, FORMAT_FILE, HEADER_BYTES, Log, LogOwner, QUARANTINE};
use skypipe_core::{Error, ItemNo, Lsn, PipeId};
use skypipe_test::disk::{Image, ImageDisk};
use skypipe_test::proof::{Proof, cases, seed};

use crate::owed::{Found, Opened, Owed, open};

/// Two of these are a log: a full one, and the last one, which tells what is in the first.
const SEGMENT_BYTES: u64 = 64 * 1024;
const SEGMENTS: [&str; 2] = ["000000000001.segment", "000000000002.segment"];

#[test]
fn proof_bit_flips() {
    let proof = Proof::begin("P9", "bit flips");
    let first = Whole::new(seed());
    let bits: Vec<(&str, usize)> = SEGMENTS
        .iter()
        .chain(&[FORMAT_FILE])
        .flat_map(|name| {
            let bits = first.image.bytes(name).len() * 8;
            (0..bits).map(move |bit| (*name, bit))
        })
        .collect();
    let wanted = cases(400, bits.len() as u64, 10 * bits.len() as u64);
    let step = (bits.len() as u64 / wanted).max(1) as usize;
    let try_one = |whole: &Whole, n: u64| {
        // Beyond one round, the same bits of other logs.
        let (name, bit) = bits[(n as usize * step) % bits.len()];
        let bit = bit % (whole.image.bytes(name).len() * 8);
        let mut damaged = whole.image.clone();
        damaged.change(name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let changed = [(name, bit / 8..bit / 8 + 1)];
        whole
            .try_one(&damaged, &changed, n.is_multiple_of(PUT_ASIDE_EVERY))
            .map_err(|wrong| format!("{name}, bit {bit}: {wrong}"))
    };
    let failures = in_threads(wanted, bits.len() as u64, &try_one);
    proof.end(wanted, &failures);
}

#[test]
fn proof_damage_at_random() {
    let proof = Proof::begin("P9", "damage at random");
    let wanted = cases(300, 100_000, 10_000_000);
    let try_one = |whole: &Whole, n: u64| {
        let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed() ^ n << 8);
        let (kind, damaged, changed) = damage(&whole.image, &mut dice);
        let tried = whole.try_one(&damaged, &changed, n.is_multiple_of(PUT_ASIDE_EVERY / 8));
        tried.map_err(|wrong| format!("case {n}, {kind} {changed:?}: {wrong}"))
    };
    let failures = in_threads(wanted, 20_000, &try_one);
    proof.end(wanted, &failures);
}

/// So often it is tried whether damage is put aside when room is given back.
const PUT_ASIDE_EVERY: u64 = 4096;

/// Tries so many cases on both cores, a new log after so many.
fn in_threads(
    wanted: u64,
    of_one_log: u64,
    try_one: &(dyn Fn(&Whole, u64) -> Result<(), String> + Sync),
) -> Vec<String> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut failures = Vec::new();
        let mut whole = (0, Whole::new(seed()));
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= wanted {
                return failures;
            }
            if n / of_one_log != whole.0 {
                whole = (n / of_one_log, Whole::new(seed() + n / of_one_log));
            }
            let result = catch_unwind(AssertUnwindSafe(|| try_one(&whole.1, n)));
            failures.extend(result.unwrap_or_else(|_| Err(format!("case {n}: it panics"))).err());
        }
    };
    std::thread::scope(|scope| {
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// Something done to one of the segments: its name, the image then, and the bytes that are not what they were.
fn damage(whole: &Image, dice: &mut Xoshiro256PlusPlus) -> (&'static str, Image, Vec<(&'static str, Range<usize>)>) {
    let mut below = |below: usize| (dice.next_u64() % below as u64) as usize;
    let name = SEGMENTS[below(2)];
    let length = whole.bytes(name).len();
    let block = [64, 512, 4096][below(3)];
    let (from, to) = (below(length / block) * block, below(length / block) * block);
    let mut damaged = whole.clone();
    let (kind, changed) = match below(7) {
        0 => {
            let flips: Vec<usize> = (0..2 + below(20)).map(|_| below(length * 8)).collect();
            damaged.change(name, |bytes| flips.iter().for_each(|bit| bytes[bit / 8] ^= 1 << (bit % 8)));
            ("bits", flips.iter().map(|bit| (name, bit / 8..bit / 8 + 1)).collect())
        }
        1 => {
            damaged.change(name, |bytes| bytes[from..from + block].fill(0));
            ("zeros", vec![(name, from..from + block)])
        }
        2 => {
            let noise: Vec<u8> = (0..block).map(|_| below(256) as u8).collect();
            damaged.change(name, |bytes| bytes[from..from + block].copy_from_slice(&noise));
            ("noise", vec![(name, from..from + block)])
        }
        3 => {
            let size = below(length);
            damaged.change(name, |bytes| bytes.truncate(size));
            ("cut", vec![(name, size..length)])
        }
        4 => {
            damaged.change(name, |bytes| bytes.copy_within(from..from + block, to));
            ("block twice", vec![(name, to..to + block)])
        }
        5 => {
            damaged.change(name, |bytes| {
                let first = bytes[from..from + block].to_vec();
                bytes.copy_within(to..to + block, from);
                bytes[to..to + block].copy_from_slice(&first);
            });
            ("blocks changed over", vec![(name, from..from + block), (name, to..to + block)])
        }
        _ => {
            let noise: Vec<u8> = (0..block + below(block)).map(|_| below(256) as u8).collect();
            damaged.change(name, |bytes| bytes.extend_from_slice(&noise));
            ("bytes behind the end", Vec::new())
        }
    };
    (kind, damaged, changed)
}

/// A log that was closed in order, and all that is in it.
struct Whole {
    image: Image,
    opened: Opened,
    /// Where each fact and batch stands, header and all.
    places: BTreeMap<Bytes, (&'static str, Range<usize>)>,
}

impl Whole {
    fn new(seed: u64) -> Self {
        let disk = ImageDisk::default();
        let (log, _) = open(Arc::new(disk.clone()), SEGMENT_BYTES).unwrap();
        Feeder::run(&log, groups(seed));
        log.close();
        drop(log);
        let image = disk.image();
        let (_, opened) = open(Arc::new(ImageDisk::new(&image)), SEGMENT_BYTES).unwrap();
        assert!(opened.recovery.damaged.is_empty() && image.files.len() == 3, "{:?}", image.files.keys());
        let batches = opened.items.values().flatten().filter_map(|found| match found {
            Found::Batch(bytes, _) => Some(bytes.clone()),
            Found::Gap(_) => None,
        });
        let all = opened.facts.iter().map(|(_, body)| body.clone()).chain(batches);
        let places = all.map(|bytes| (bytes.clone(), place(&image, &bytes))).collect();
        Self { image, opened, places }
    }

    /// Opens what is damaged and holds it against the whole.
    fn try_one(&self, damaged: &Image, changed: &[(&str, Range<usize>)], put_aside: bool) -> Result<(), String> {
        let disk = ImageDisk::new(damaged);
        let (log, opened) = match open(Arc::new(disk.clone()), SEGMENT_BYTES) {
            Ok(opened) => opened,
            // Without its `format` a log is refused and not touched.
            Err(_) if changed.iter().all(|(name, _)| *name == FORMAT_FILE) && disk.image() == *damaged => return Ok(()),
            Err(wrong) => return Err(wrong),
        };
        // A last segment that ends where a group ends is what this log was a while ago: no log can tell the two apart.
        let end = self.image.bytes(SEGMENTS[1]).len();
        let is_end_gone =
            changed.iter().any(|(name, range)| *name == SEGMENTS[1] && range.end == end && range.len() > HEADER_BYTES);
        let may_look_older = is_end_gone && damaged.bytes(SEGMENTS[1]).len() < end;
        let lost = self.lost(&opened, may_look_older)?;
        if let Some(gone) = disk.image().lost_of(damaged, QUARANTINE) {
            return Err(gone);
        }
        // Only where the mark of an orderly close is gone, too, may what stands before it be a torn tail.
        let mark = |(name, range): &(&str, Range<usize>)| *name == SEGMENTS[1] && range.end + HEADER_BYTES > end;
        let kept = opened.recovery.quarantined.as_ref().filter(|_| changed.iter().any(mark));
        let kept = kept.map(|name| disk.image().bytes(name).to_vec());
        for bytes in &lost {
            let (name, place) = &self.places[bytes];
            let hit =
                |(n, range): &(&str, Range<usize>)| n == name && range.start < place.end && place.start < range.end;
            let is_aside = kept.as_ref().is_some_and(|kept| memmem::find(kept, bytes).is_some());
            if !changed.iter().any(hit) && !is_aside {
                return Err(format!("what stands at {place:?} of {name} was not damaged and is not there"));
            }
        }
        if !put_aside || lost.is_empty() || may_look_older {
            return Ok(());
        }
        self.empty(&log);
        let after = disk.image();
        let places =
            lost.iter().map(|bytes| self.places[bytes].0).filter(|name| damaged.bytes(name).len() > HEADER_BYTES);
        let mut hit = Image { files: damaged.files.clone() };
        hit.files.retain(|name, _| places.clone().any(|place| place == &**name));
        after.lost_of(&hit, QUARANTINE).map_or(Ok(()), |gone| Err(format!("when room was made: {gone}")))
    }

    /// What is not there any more. All of it must have been told, and nothing else may be there.
    fn lost(&self, opened: &Opened, may_look_older: bool) -> Result<Vec<Bytes>, String> {
        let told_at_opening = !opened.recovery.damaged.is_empty() || opened.recovery.torn_bytes > 0;
        let mut lost = Vec::new();
        let mut facts = opened.facts.iter().peekable();
        for fact in &self.opened.facts {
            if facts.next_if_eq(&fact).is_none() {
                lost.push(fact.1.clone());
            }
        }
        if let Some((pipe, fact)) = facts.next() {
            return Err(format!("{pipe:?}: a fact that was never given, or is out of order: {fact:?}"));
        }
        if !lost.is_empty() && !told_at_opening && !may_look_older {
            return Err(format!("{} facts are lost, and nothing is told", lost.len()));
        }
        for ((pipe, item), all) in &self.opened.items {
            let found = opened.items.get(&(*pipe, *item)).map_or(&[][..], Vec::as_slice);
            let mut there = found.iter().filter(|found| matches!(found, Found::Batch(..))).peekable();
            let missing: Vec<&Found> = all.iter().filter(|batch| there.next_if_eq(batch).is_none()).collect();
            if let Some(wrong) = there.next() {
                return Err(format!("{pipe:?} {item:?}: never given, or out of order: {wrong:?}"));
            }
            for batch in missing {
                let Found::Batch(bytes, numbers) = batch else { continue };
                let told =
                    |f: &Found| matches!(f, Found::Gap(gap) if gap.start <= numbers.start && numbers.end <= gap.end);
                if !told_at_opening && !may_look_older && !found.iter().any(told) {
                    return Err(format!("{pipe:?} {item:?}: {numbers:?} are lost, and nothing is told"));
                }
                lost.push(bytes.clone());
            }
        }
        match opened.items.keys().find(|item| !self.opened.items.contains_key(item)) {
            Some(item) => Err(format!("{item:?} was never given")),
            None => Ok(lost),
        }
    }

    /// Nobody wants anything any more, and the log makes room.
    fn empty(&self, log: &Arc<Log>) {
        for pipe in log.pipes() {
            log.forget_pipe(pipe);
        }
        let mut owed = Owed::default();
        let filler = |_| vec![owed.batch(FILLER, ItemNo(1), 1, 9000, 0)];
        Feeder::run(log, (0..20).map(filler).collect());
        log.close();
    }
}

/// A pipe that is in none of the logs.
const FILLER: PipeId = PipeId(99);

/// What is in a log: facts and batches of a few items, enough for a full segment and most of another.
fn groups(seed: u64) -> VecDeque<Vec<Entry>> {
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut below = |below: u64| dice.next_u64() % below;
    let mut owed = Owed::default();
    let (mut groups, mut bytes) = (VecDeque::new(), 0);
    while bytes < 2 * SEGMENT_BYTES - 6000 {
        let pipe = PipeId(1 + below(2));
        let mut group = Vec::new();
        for _ in 0..1 + below(4) {
            group.push(match below(6) {
                0 => owed.fact(pipe, false, groups.len(), below(100) as usize),
                _ => owed.batch(pipe, ItemNo(1 + below(2)), 1 + below(3), 1 + below(800) as usize, groups.len()),
            });
        }
        bytes += group.iter().map(bytes_of).sum::<u64>();
        groups.push_back(group);
    }
    groups
}

fn bytes_of(entry: &Entry) -> u64 {
    HEADER_BYTES as u64
        + 8
        + match entry {
            Entry::Fact { body, .. } => body.len() as u64,
            Entry::Batch { batch, .. } | Entry::Tape { batch, .. } => batch.encoded().len() as u64,
        }
}

fn place(image: &Image, bytes: &[u8]) -> (&'static str, Range<usize>) {
    let find = |name: &&'static str| memmem::find(image.bytes(name), bytes).map(|at| (*name, at));
    let (name, at) = SEGMENTS.iter().find_map(find).unwrap();
    (name, at - HEADER_BYTES..at + bytes.len())
}

/// Gives a log one group after the other, and restates nothing.
struct Feeder {
    log: Mutex<Option<Arc<Log>>>,
    groups: Mutex<VecDeque<Vec<Entry>>>,
    over: Sender<()>,
}

impl Feeder {
    fn run(log: &Arc<Log>, groups: VecDeque<Vec<Entry>>) {
        let (over, ended) = channel();
        let feeder = Arc::new(Self { log: Mutex::new(Some(log.clone())), groups: Mutex::new(groups), over });
        feeder.feed();
        let owner: Arc<dyn LogOwner> = feeder.clone();
        log.start(Arc::downgrade(&owner)).unwrap();
        ended.recv().unwrap();
        *feeder.log.lock().unwrap() = None;
        // What the log does by itself is done once it is closed.
        log.close();
    }

    fn feed(&self) {
        let group = self.groups.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (group, log) {
            (Some(group), Some(log)) => group.into_iter().for_each(|entry| {
                log.append(entry);
            }),
            _ => drop(self.over.send(())),
        }
    }
}

impl LogOwner for Feeder {
    fn stored(&self, _: PipeId, _: Lsn) {
        self.feed();
    }

    fn snapshot(&self, _: PipeId) {}

    fn stalled(&self, _: &Error) {}

    fn resumed(&self) {}

    fn failed(&self, error: &Error) {
        panic!("{error}");
    }
}
