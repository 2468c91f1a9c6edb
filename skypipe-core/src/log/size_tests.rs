//! How long opening takes, by how much is stored.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use skypipe_test::proof::{Length, Proof};

use super::commit::first_entries;
use super::contents::{Contents, ItemSpan};
use super::format::{FORMAT_FILE, aligned, format_text, seed_of, segment_name};
use super::index::Span;
use super::*;
use crate::delivery::Fact;
use crate::{Caller, Env, Epoch, Holder, LocalBroker, LocalBrokerOptions, Mode, PipeName, PipeRef, SessionId, broker};

const SALT: u64 = 7;
const GIB: u64 = 1 << 30;
/// What a person takes for at once.
const AT_ONCE: Duration = Duration::from_secs(2);
/// The same in the quick form, which runs unoptimised and beside other tests.
const AT_ONCE_QUICK: Duration = Duration::from_secs(20);
/// Numbers in each segment.
const NUMBERS: u64 = 1000;

/// One item of so many bytes in full segments, as the log leaves them; their payloads are holes in the files.
fn full_segments(folder: &Path, bytes: u64) -> u64 {
    std::fs::write(folder.join(FORMAT_FILE), format_text(SALT)).unwrap();
    let count = bytes / SEGMENT_BYTES;
    let mut before = None;
    for number in 1..=count {
        let seed = seed_of(SALT, number);
        let (mut head, payload, start) = first_entries(number, SALT, seed, before.take());
        head.extend_from_slice(&payload);
        let mut facts = Vec::new();
        let mut at = aligned(start);
        if number == 1 {
            for fact in facts_of_one_item() {
                head.resize(at as usize, 0);
                facts.push(at);
                let (mut header, payload) = parts(Entry::Fact { pipe: PipeId(1), body: fact.encode() });
                header.flags |= if facts.len() == 1 { FLAG_START } else { 0 };
                Header { group: at, ..header }.encode(seed, at, &mut head);
                head.extend_from_slice(&payload);
                at += header.span();
            }
        }
        let file = File::create(folder.join(segment_name(number))).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &head, 0).unwrap();
        let is_last = number == count;
        file.set_len(if is_last { at } else { SEGMENT_BYTES }).unwrap();
        let (first, next) = (Seq(number * NUMBERS - NUMBERS), Seq(number * NUMBERS));
        let span = Span { next, segment: number, start: at, end: SEGMENT_BYTES, bytes: SEGMENT_BYTES - at };
        let spans = vec![ItemSpan { pipe: PipeId(1), item: ItemNo(0), first, span }];
        before = Some(Contents { segment: number, end: SEGMENT_BYTES, facts, spans });
    }
    count
}

fn facts_of_one_item() -> [Fact; 2] {
    let pipe = PipeRef::from(&PipeName::new("big").unwrap());
    let session = SessionId([1; 16]);
    let joined = Fact::WriterJoined { session, epoch: Epoch(1), item: ItemNo(0), holder: Holder::Unknown };
    [Fact::Opened { pipe, mode: Mode::Default }, joined]
}

#[tokio::test]
async fn proof_opening_does_not_take_longer_the_more_is_stored() {
    let proof = Proof::begin("P11", "recovery of 100 GB");
    let at_once = if Length::asked() == Length::Quick { AT_ONCE_QUICK } else { AT_ONCE };
    let (mut failures, mut segments) = (Vec::new(), 0);
    for size in [GIB, 10 * GIB, 100 * GIB] {
        let folder = tempfile::tempdir().unwrap();
        let count = full_segments(folder.path(), size);
        segments += count;
        let start = Instant::now();
        let broker = LocalBroker::open(folder.path(), Env::system(), LocalBrokerOptions::default()).unwrap();
        let took = start.elapsed();
        let pipe = PipeRef::from(&PipeName::new("big").unwrap());
        let stat = broker::Broker::stat(&*broker, &Caller::in_process(), &pipe).await.unwrap();
        println!("{} GiB, {count} segments: {took:?}", size / GIB);
        // All but the last segment, which holds nothing yet, less what stands in front.
        if stat.bytes < (count - 1) * SEGMENT_BYTES / 100 * 99 || stat.damaged {
            failures.push(format!("{} GiB: {stat:?}", size / GIB));
        }
        if took > at_once {
            failures.push(format!("{} GiB took {took:?}", size / GIB));
        }
        broker.close(at_once).await;
    }
    go_through_tiny_items();
    proof.end(segments, &failures);
}

/// Where so many items stand in a segment that telling of them would be no shorter than itself, it is gone through. This says what that costs.
fn go_through_tiny_items() {
    const ITEMS: u64 = 40_000;
    let disk = RamDisk::new();
    let open = || Log::open(Arc::new(disk.clone()), super::tests::options(1 << 20), &mut |_, _| {}).unwrap();
    let log = open();
    log.append(super::tests::fact(1, "made"));
    for item in 0..ITEMS {
        log.append(super::tests::batch(1, item, 0, 1, 10));
    }
    log.close();
    let start = Instant::now();
    let log = open();
    println!("{ITEMS} items of a record each in {} KiB, gone through: {:?}", log.disk_bytes() / 1024, start.elapsed());
    assert_eq!(log.items(PipeId(1)).len() as u64, ITEMS);
}
