//! A data folder full of anything: entries whose headers are good and whose contents lie, and bytes that are nothing at all.

use std::io::IoSlice;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use bytes::{BufMut, Bytes};
use skypipe_core::log::{Disk, DiskFile, Log, LogOptions, RamDisk, Read};
use skypipe_core::{Batch, BatchBuilder, Epoch, PipeId, Seq};

use crate::session::{Number, session};

const SALT: u64 = 77;
/// The numbers of `docs/log.md`, written down once more: a change of the format would be noticed here.
const HEADER_BYTES: usize = 48;
const MAGIC: &[u8; 2] = b"SL";
const SEGMENTS_MAX: usize = 3;
const ENTRIES_MAX: usize = 40;
/// Reading one item never takes more calls than there are entries, and gaps between them.
const READS_MAX: usize = 1000;
const READ_BYTES: usize = 64 * 1024;

/// One entry: what its header says, and what follows it.
#[derive(Arbitrary, Debug)]
struct Entry {
    kind: u8,
    flags: u8,
    /// None: that of the payload.
    length: Option<u32>,
    /// None: the right one.
    checksum: Option<u32>,
    /// In steps of 8 bytes before this entry; none: it is the first of its group.
    group_before: Option<u8>,
    count: Option<u32>,
    pipe: u8,
    item: u8,
    first: Number,
    payload: Payload,
}

#[derive(Arbitrary, Debug)]
enum Payload {
    Bytes(Vec<u8>),
    /// A good batch with so many records.
    Batch(u8),
    /// A table of contents: where facts stand, and spans.
    Contents(Vec<u16>, Vec<[u16; 8]>),
}

#[derive(Arbitrary, Debug)]
enum Damage {
    Byte(u16, u8),
    Zeros(u16, u16),
    Cut(u16),
    More(Vec<u8>),
    /// A block of 512 bytes over another one.
    Copy(u8, u8),
}

#[derive(Arbitrary, Debug)]
struct Segment {
    number: u8,
    header_is_bad: bool,
    entries: Vec<Entry>,
    damage: Vec<Damage>,
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(format) = Option::<Vec<u8>>::arbitrary(&mut input) else { return };
    let format = format.unwrap_or_else(|| format!("skypipe log 1\nsalt {SALT:016x}\n").into_bytes());
    let mut files = vec![("format".to_owned(), format)];
    for _ in 0..SEGMENTS_MAX {
        let Ok(segment) = Segment::arbitrary(&mut input) else { break };
        let name = format!("{:012}.segment", segment.number);
        if files.iter().all(|(known, _)| *known != name) {
            files.push((name, segment.into_bytes()));
        }
    }
    let disk = disk_of(&files);
    let Some((log, facts)) = open(&disk) else {
        assert_eq!(contents(&disk), files_sorted(files), "a log that does not open is not touched");
        return;
    };
    read_all(&log);
    nothing_is_deleted(&files, &disk);
    let Some((again, facts_again)) = open(&disk) else { panic!("a log that was opened opens again") };
    // When the last segment was nothing at all, the one before is the last now, and may have a torn tail. And a tail that was cut off may have held
    // the contents of the segment before, which may lie here.
    let torn = log.recovery().torn_bytes + again.recovery().torn_bytes;
    assert!(torn > 0 || facts == facts_again, "the same facts come back each time");
    read_all(&again);
    nothing_is_deleted(&files, &disk);
}

type Facts = Vec<(PipeId, Bytes)>;

fn open(disk: &RamDisk) -> Option<(Arc<Log>, Facts)> {
    let mut facts = Vec::new();
    let mut options = LogOptions::default();
    options.salt = SALT;
    let log = Log::open(Arc::new(disk.clone()), options, &mut |pipe, fact| facts.push((pipe, fact))).ok()?;
    Some((log, facts))
}

/// Every item can be read to its end, and only good batches come out of it.
fn read_all(log: &Log) {
    for pipe in log.pipes() {
        let _ = log.bytes(pipe);
        for item in log.items(pipe) {
            let _ = log.item_bytes(pipe, item);
            let mut from = log.extent(pipe, item).first().map_or(Seq(0), |range| range.start);
            for reads in 0.. {
                assert!(reads < READS_MAX, "reading never ends");
                match log.read(pipe, item, from, READ_BYTES) {
                    Ok(Read::Batches(batches)) => {
                        let next = batches.last().map_or(from, |batch| batch.next());
                        assert!(next > from && batches.iter().all(|batch| batch.next() > from), "no way forward");
                        from = next;
                    }
                    Ok(Read::Tape(batches)) => {
                        let behind = |(at, batch): &(Seq, Batch)| at.plus(u64::from(batch.count()));
                        let next = batches.last().map_or(from, behind);
                        assert!(next > from && batches.iter().all(|batch| behind(batch) > from), "no way forward");
                        from = next;
                    }
                    Ok(Read::Gap { to }) => {
                        assert!(to > from, "a gap of nothing");
                        from = to;
                    }
                    Ok(Read::End) | Err(_) => break,
                }
            }
        }
    }
}

/// What is no longer in a segment lies in quarantine, in a file that is named after the segment and the place. But for zeros at its end, which are written ahead.
fn nothing_is_deleted(before: &[(String, Vec<u8>)], disk: &RamDisk) {
    let after = contents(disk);
    for (name, old) in before {
        let kept = after.iter().find(|(other, _)| other == name).map_or(&[][..], |(_, bytes)| bytes);
        let mut all = kept.to_vec();
        let prefix = format!("quarantine/{}-", name.trim_end_matches(".segment"));
        for (aside, bytes) in &after {
            let Some(at) = aside.strip_prefix(&prefix).and_then(|at| at.parse::<usize>().ok()) else { continue };
            all.resize(all.len().max(at + bytes.len()), 0);
            all[at..at + bytes.len()].copy_from_slice(bytes);
        }
        all.resize(all.len().max(old.len()), 0);
        assert!(all == *old, "the {} bytes of {name} are not all left", old.len());
    }
}

fn disk_of(files: &[(String, Vec<u8>)]) -> RamDisk {
    let disk = RamDisk::new();
    for (name, bytes) in files {
        let written = disk.create(name).and_then(|file| file.write_at(0, &[IoSlice::new(bytes)]));
        assert_eq!(written.ok(), Some(bytes.len()));
    }
    disk
}

fn files_sorted(mut files: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    files.sort();
    files
}

fn contents(disk: &RamDisk) -> Vec<(String, Vec<u8>)> {
    let read = |file: Box<dyn DiskFile>| {
        let mut bytes = vec![0; file.size().map_or(0, |size| size as usize)];
        let read = file.read_at(0, &mut bytes).unwrap_or(0);
        bytes.truncate(read);
        bytes
    };
    let files = disk.names().into_iter().map(|name| {
        let file = disk.open(&name).map(read).unwrap_or_default();
        (name, file)
    });
    files_sorted(files.collect())
}

impl Segment {
    fn into_bytes(self) -> Vec<u8> {
        let number = u64::from(self.number);
        let seed = crc32c::crc32c_append(crc32c::crc32c(&SALT.to_le_bytes()), &number.to_le_bytes());
        let mut out = Vec::new();
        if self.header_is_bad {
            out.put_bytes(0, HEADER_BYTES);
        } else {
            put_header(&mut out, seed, [1, 0], 0, 0, 0, 0, [number, SALT, 1]);
        }
        for entry in self.entries.into_iter().take(ENTRIES_MAX) {
            entry.put(&mut out, seed);
        }
        for damage in self.damage {
            damage.apply(&mut out);
        }
        out
    }
}

impl Entry {
    fn put(self, out: &mut Vec<u8>, seed: u32) {
        let (kind, first) = (self.kind % 6, self.first.get());
        let (payload, numbers) = self.payload.into_bytes(first);
        let sum = match &payload {
            _ if kind == 3 && payload.len() > 8 => u32::from_le_bytes([payload[4], payload[5], payload[6], payload[7]]),
            _ => crc32c::crc32c(&payload),
        };
        let length = self.length.unwrap_or(payload.len() as u32);
        let offset = out.len() as u64;
        let group = (offset / 8).saturating_sub(self.group_before.unwrap_or(0).into()) as u32;
        let (checksum, count) = (self.checksum.unwrap_or(sum), self.count.unwrap_or(numbers));
        let owner = [u64::from(self.pipe % 4), u64::from(self.item % 4), first];
        put_header(out, seed, [kind, self.flags], length, checksum, group, count, owner);
        out.extend_from_slice(&payload);
        out.resize(out.len().next_multiple_of(8), 0);
    }
}

impl Payload {
    /// The bytes, and how many numbers they cover.
    fn into_bytes(self, first: u64) -> (Vec<u8>, u32) {
        match self {
            Self::Bytes(bytes) => (bytes, 1),
            Self::Batch(count) => {
                let mut builder = BatchBuilder::new(session(1), Epoch(1), Seq(first));
                for number in 0..count {
                    let _ = builder.push(&[number], true, true);
                }
                (builder.build(None).encoded().to_vec(), count.into())
            }
            Self::Contents(facts, spans) => {
                let mut out = Vec::new();
                out.put_u32_le(facts.len() as u32);
                facts.iter().for_each(|&at| out.put_u32_le(at.into()));
                for [pipe, item, first, next, start, end, bytes, _] in spans {
                    [pipe % 4, item % 4, first, next].iter().for_each(|&number| out.put_u64_le(number.into()));
                    [start, end].iter().for_each(|&at| out.put_u32_le(at.into()));
                    out.put_u64_le(bytes.into());
                }
                (out, 0)
            }
        }
    }
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Byte(at, value) => {
                let at = usize::from(at) % bytes.len();
                bytes[at] ^= value;
            }
            Self::Zeros(at, count) => {
                let at = usize::from(at) % bytes.len();
                let end = (at + usize::from(count)).min(bytes.len());
                bytes[at..end].fill(0);
            }
            Self::Cut(at) => bytes.truncate(usize::from(at) % bytes.len()),
            Self::More(more) => bytes.extend_from_slice(&more),
            Self::Copy(from, to) => {
                let (from, to) = (usize::from(from) * 512, usize::from(to) * 512);
                if from.max(to) + 512 <= bytes.len() {
                    bytes.copy_within(from..from + 512, to);
                }
            }
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn put_header(
    out: &mut Vec<u8>,
    seed: u32,
    [kind, flags]: [u8; 2],
    length: u32,
    checksum: u32,
    group: u32,
    count: u32,
    numbers: [u64; 3],
) {
    let offset = out.len() as u64;
    let mut rest = Vec::with_capacity(HEADER_BYTES);
    rest.put_slice(&[kind, flags]);
    rest.put_slice(MAGIC);
    [length, checksum, group, count].iter().for_each(|&number| rest.put_u32_le(number));
    numbers.iter().for_each(|&number| rest.put_u64_le(number));
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(seed, &offset.to_le_bytes()), &rest);
    out.put_u32_le(sum);
    out.extend_from_slice(&rest);
}
