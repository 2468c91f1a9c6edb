//! An item whose arrival is cut off, at every place: its reader never takes it for a whole one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use skypipe_core::session::Patience;
use skypipe_core::wire::constants::kind;
use skypipe_core::{
    BrokerPipe, Caller, Env, Error, LocalBroker, Pipe as _, PipeName, ReaderOptions, Relay, RemoteBroker, Transport,
    Until,
};
use skypipe_test::proof::{Proof, cases, seed};
use tokio::sync::mpsc;

use crate::dice::Dice;
use crate::links::{Heard, Links, Recording, Replayed};

/// Records of the item: enough for many batches, one of them of several pieces.
const RECORDS: u64 = 60;
/// A batch that holds nothing but the end mark is shorter than this, and any other here is longer.
const END_MARK_BYTES_MAX: usize = 120;
/// In front of each frame's payload: its length in four bytes, then what it is.
const FRAME_HEADER_BYTES: usize = 8;

fn record(n: u64) -> Vec<u8> {
    let length = if n == 30 { 600 * 1024 } else { 20 + n * 37 % 900 };
    vec![n as u8; length as usize]
}

/// All that a relay says to the reader of one stored item.
async fn arrival() -> Vec<u8> {
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let mut writer =
        BrokerPipe::new(broker.clone(), Caller::in_process(), PipeName::new("p").unwrap()).writer().await.unwrap();
    for n in 0..RECORDS {
        writer.send(&record(n)).await.unwrap();
        // Small batches: more borders to cut at.
        writer.flush().await.unwrap();
    }
    writer.end(Until::Stored).await.unwrap();
    let (relay_side, links) = mpsc::channel(1);
    let relay = Relay::new(broker).listen(Box::new(Links(tokio::sync::Mutex::new(links))));
    let serving = tokio::spawn(async move { relay.serve().await });
    let heard = Heard::default();
    let outcome = read(Arc::new(Recording { relay: relay_side, heard: heard.clone() })).await;
    serving.abort();
    assert_eq!(outcome.unwrap(), RECORDS, "the whole of it is a whole one");
    let down = heard.down.lock().unwrap();
    down.clone()
}

/// Reads a whole item; gives how many records there were.
async fn read(transport: Arc<dyn Transport>) -> Result<u64, Error> {
    let broker = Arc::new(RemoteBroker::new(transport, "memory:"));
    let pipe = BrokerPipe::new(broker, Caller::in_process(), PipeName::new("p").unwrap());
    let mut options = ReaderOptions::default();
    let short = Duration::from_millis(50);
    options.patience = Patience { connect_timeout: short, give_up: short };
    let mut reader = pipe.reader_with(options).await?;
    let mut count = 0;
    while let Some(record_came) = reader.next().await? {
        assert_eq!(record_came.body, record(count));
        count += 1;
    }
    assert!(!reader.outcome().gap && !reader.outcome().incomplete);
    Ok(count)
}

/// The frames of an arrival, as the places where they begin and end.
fn frames(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        frames.push(at..at + FRAME_HEADER_BYTES + length);
        at += FRAME_HEADER_BYTES + length;
    }
    assert_eq!(at, bytes.len());
    frames
}

#[tokio::test(start_paused = true)]
async fn proof_a_cut_off_item_is_never_a_whole_one() {
    let whole = {
        // A log has a thread of its own, which a paused clock would overtake.
        tokio::time::resume();
        let whole = arrival().await;
        tokio::time::pause();
        whole
    };
    let frames = frames(&whole);
    let is_batch = |frame: &std::ops::Range<usize>| whole[frame.start + 4] == kind::READER_BATCH;
    let batches: Vec<usize> = (0..frames.len()).filter(|at| is_batch(&frames[*at])).collect();
    assert!(batches.len() > 20, "{} batches", batches.len());
    let proof = Proof::begin("P3", "arrivals cut off");
    let (mut tried, mut failures) = (0, Vec::new());
    let mut check = async |what: String, bytes: Vec<u8>| {
        tried += 1;
        if let Ok(count) = read(Arc::new(Replayed(Mutex::new(Some(bytes))))).await {
            failures.push(format!("{what}: taken for whole with {count} records"));
        }
    };
    // The link ends at every border between two frames, and anywhere.
    for frame in &frames {
        check(format!("cut before byte {}", frame.start), whole[..frame.start].to_vec()).await;
    }
    let mut dice = Dice(seed());
    for _ in 0..cases(200, 10_000, 1_000_000) {
        let at = dice.below(whole.len() as u64) as usize;
        check(format!("cut behind byte {at}"), whole[..at].to_vec()).await;
    }
    // The link stays, and a relay that lost a part says that the item has ended: from every batch on, and single ones. Not the first one: a reader
    // that never heard of a beginning has joined behind it.
    for (nth, first) in batches.iter().enumerate().skip(1) {
        for last in [batches.len() - 1, nth] {
            let lost = frames[*first].start..frames[batches[last]].end;
            let bytes = [&whole[..lost.start], &whole[lost.end..]].concat();
            // The end mark may travel alone, and the relay says it as well: then no record is lost.
            if first == batches.last().unwrap() && lost.len() < END_MARK_BYTES_MAX {
                continue;
            }
            check(format!("without the bytes {lost:?}"), bytes).await;
        }
    }
    proof.end(tried, &failures);
}
