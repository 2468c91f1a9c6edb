//! One reader of many pipes, message by message.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, SinkExt};

use super::super::tests::{far, next, open, reader_attach};
use super::super::{LocalBroker, LocalBrokerOptions};
use crate::broker::{
    Broker, Had, Mark, Mode, PATTERN_PIPES_MAX, ReaderAttach, ReaderDown, ReaderHalves, ReaderUp, Start, Verdict,
};
use crate::env::Env;
use crate::error::Code;
use crate::id::{Epoch, PipeNo, SessionId};
use crate::log::{PowerLoss, RamDisk};
use crate::memory::Memory;
use crate::name::{Owner, Pattern, PatternRef, PipeName, PipeRef};
use crate::pipe::{BrokerPipe, Pipe, WriterOptions};
use crate::{Caller, Until};

fn pattern(text: &str) -> PatternRef {
    PatternRef { owner: Owner::SELF, pattern: Pattern::parse(text).unwrap(), within: Vec::new() }
}

fn attach(epoch: u32, returns: bool) -> ReaderAttach {
    let mut attach = reader_attach(epoch, returns.then(Vec::new));
    (attach.tape.start, attach.tape.prefetch) = (Start::Beginning, 16);
    attach
}

async fn read(broker: &LocalBroker, attach: ReaderAttach) -> ReaderHalves {
    broker.attach_pattern_reader(&far(), &pattern("a/**"), attach).await.unwrap()
}

async fn write(broker: &Arc<LocalBroker>, mode: Mode, name: &str, texts: &[&str]) {
    let pipe = BrokerPipe::new(broker.clone(), Caller::in_process(), PipeName::new(name).unwrap());
    let mut writer = pipe.writer_with(WriterOptions::default().with_mode(mode)).await.unwrap();
    for text in texts {
        writer.send(text.as_bytes()).await.unwrap();
    }
    writer.end(Until::Stored).await.unwrap();
}

/// What comes next, told in short.
async fn heard(reader: &mut ReaderHalves) -> String {
    let text = |batch: &crate::Batch| String::from_utf8_lossy(&batch.bodies()).into_owned();
    match next(&mut reader.down).await {
        ReaderDown::Joins { no, pipe, is_new, .. } => {
            format!("joins {} {}{}", no.0, pipe.display(), if is_new { " new" } else { "" })
        }
        ReaderDown::AllJoined => "all".to_owned(),
        ReaderDown::From(no) => format!("from {}", no.0),
        ReaderDown::Gone(no) => format!("gone {}", no.0),
        ReaderDown::Batch { batch, .. } => text(&batch),
        ReaderDown::Leased { batch, lease, .. } => format!("{} #{}", text(&batch), lease.attempt),
        ReaderDown::Settled { error, .. } => format!("settled {error:?}"),
        other => format!("{other:?}"),
    }
}

async fn hear(reader: &mut ReaderHalves, wanted: &[&str]) {
    for wanted in wanted {
        assert_eq!(heard(reader).await, *wanted);
    }
    assert!(reader.down.next_now().is_none(), "nothing more");
}

/// Looks without waiting.
trait NextNow {
    fn next_now(&mut self) -> Option<ReaderDown>;
}

impl NextNow for crate::broker::DownStream<ReaderDown> {
    fn next_now(&mut self) -> Option<ReaderDown> {
        futures::StreamExt::next(self).now_or_never().map(|message| message.unwrap().unwrap())
    }
}

fn mark(place: u64) -> Mark {
    Mark { position: crate::Seq(place).into(), records: 0 }
}

/// Lets so many seconds pass at once. What the log does meanwhile takes its own time.
async fn a_while(seconds: u64) {
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

async fn say(reader: &mut ReaderHalves, messages: impl IntoIterator<Item = ReaderUp>) {
    for message in messages {
        reader.up.send(message).await.unwrap();
    }
}

fn had(name: &str, at: Option<Mark>) -> ReaderUp {
    ReaderUp::Had(Had { pipe: PipeName::new(name).unwrap().path(), at, leases: Vec::new() })
}

#[tokio::test]
async fn all_that_are_there_join_first_and_later_ones_when_they_begin() {
    let broker = open(&RamDisk::new());
    write(&broker, Mode::Broadcast, "a/x", &["1"]).await;
    write(&broker, Mode::Default, "a/plain", &["no"]).await;
    write(&broker, Mode::Broadcast, "b", &["no"]).await;
    let mut reader = read(&broker, attach(1, false)).await;
    hear(&mut reader, &["joins 0 a/x", "all", "from 0", "1"]).await;
    write(&broker, Mode::Broadcast, "a/y", &["2"]).await;
    hear(&mut reader, &["joins 1 a/y", "from 1", "2"]).await;
    write(&broker, Mode::Broadcast, "a/x", &["3"]).await;
    hear(&mut reader, &["from 0", "3"]).await;
    broker.remove(&Caller::in_process(), &PipeRef::from(&PipeName::new("a/x").unwrap())).await.unwrap();
    hear(&mut reader, &["gone 0"]).await;
    say(&mut reader, [ReaderUp::Leave { part: false }]).await;
    assert_eq!(next(&mut reader.down).await, ReaderDown::Gone(PipeNo(1)));
    assert_eq!(next(&mut reader.down).await, ReaderDown::Finished);
}

#[tokio::test]
async fn pipes_with_something_take_turns() {
    let broker = open(&RamDisk::new());
    for name in ["a/x", "a/y"] {
        // A batch each.
        for text in ["1", "2"] {
            write(&broker, Mode::Broadcast, name, &[text]).await;
        }
    }
    let mut reader = read(&broker, attach(1, false)).await;
    let rounds = ["from 0", "1", "from 1", "1", "from 0", "2", "from 1", "2"];
    hear(&mut reader, &[&["joins 0 a/x", "joins 1 a/y", "all"][..], &rounds].concat()).await;
}

#[tokio::test]
async fn one_credit_is_for_all() {
    let broker = open(&RamDisk::new());
    for name in ["a/x", "a/y"] {
        write(&broker, Mode::Broadcast, name, &["1"]).await;
    }
    let mut reader = read(&broker, ReaderAttach { credit: 1, ..attach(1, false) }).await;
    // One batch may overdraw it.
    hear(&mut reader, &["joins 0 a/x", "joins 1 a/y", "all", "from 0", "1"]).await;
    say(&mut reader, [ReaderUp::Credit(1000)]).await;
    hear(&mut reader, &["from 1", "1"]).await;
}

/// The link breaks; what is still held is told, pipe by pipe, before anything comes.
#[tokio::test]
async fn who_returns_goes_on_in_each_pipe_and_begins_those_that_came_meanwhile() {
    let broker = open(&RamDisk::new());
    for name in ["a/x", "a/y", "a/z"] {
        write(&broker, Mode::Broadcast, name, &["1"]).await;
        write(&broker, Mode::Broadcast, name, &["2"]).await;
    }
    let mut reader = read(&broker, ReaderAttach { credit: 1, ..attach(1, false) }).await;
    hear(&mut reader, &["joins 0 a/x", "joins 1 a/y", "joins 2 a/z", "all", "from 0", "1"]).await;
    drop(reader);
    write(&broker, Mode::Broadcast, "a/late", &["3"]).await;
    broker.remove(&Caller::in_process(), &PipeRef::from(&PipeName::new("a/z").unwrap())).await.unwrap();
    let mut reader = read(&broker, attach(2, true)).await;
    assert!(reader.down.next_now().is_none(), "it waits for what the reader has");
    say(&mut reader, [had("a/x", Some(mark(1))), had("a/y", Some(mark(0))), had("a/z", Some(mark(0)))]).await;
    assert!(reader.down.next_now().is_none());
    say(&mut reader, [ReaderUp::HadAll]).await;
    // In which order they join depends on what the log has written when.
    let (mut names, mut came, mut from) = (BTreeMap::new(), BTreeMap::new(), String::new());
    for _ in 0..3 {
        let joins = heard(&mut reader).await;
        let (no, name) = joins.strip_prefix("joins ").and_then(|joins| joins.split_once(' ')).expect("they join first");
        names.insert(no.to_owned(), name.to_owned());
    }
    assert_eq!(heard(&mut reader).await, "all");
    while came.values().map(Vec::len).sum::<usize>() < 4 {
        let message = heard(&mut reader).await;
        match message.strip_prefix("from ") {
            Some(no) => names[no].clone_into(&mut from),
            None => came.entry(from.clone()).or_insert_with(Vec::new).push(message),
        }
    }
    let wanted = [("a/late", vec!["3"]), ("a/x", vec!["2"]), ("a/y", vec!["1", "2"])];
    let wanted = wanted.map(|(name, texts)| (name.to_owned(), texts.into_iter().map(str::to_owned).collect()));
    assert_eq!(came, BTreeMap::from(wanted));
    assert!(reader.down.next_now().is_none(), "nothing more");
}

/// A relay that was killed knows from its log whose pipes they are.
#[tokio::test]
async fn who_returns_after_a_crash_goes_on_too() {
    let disk = RamDisk::with_power_loss();
    let broker = open(&disk);
    write(&broker, Mode::Broadcast, "a/x", &["1"]).await;
    let mut now = attach(1, false);
    now.tape.start = Start::Now;
    let mut reader = read(&broker, now.clone()).await;
    hear(&mut reader, &["joins 0 a/x", "all"]).await;
    let after = disk.after_power_loss(PowerLoss::Nothing);
    drop((reader, broker));
    let broker = open(&after);
    write(&broker, Mode::Broadcast, "a/x", &["2"]).await;
    let mut reader = read(&broker, ReaderAttach { epoch: Epoch(2), resume: Some(Vec::new()), ..now }).await;
    // It does not say what it had: its place is in the log.
    say(&mut reader, [ReaderUp::HadAll]).await;
    hear(&mut reader, &["joins 0 a/x", "all", "from 0", "2"]).await;
}

#[tokio::test]
async fn who_was_given_up_goes_on_where_it_was_and_hears_what_is_lost() {
    let broker = open(&RamDisk::new());
    write(&broker, Mode::Broadcast, "a/b", &["1"]).await;
    write(&broker, Mode::Queue, "a/q", &["job"]).await;
    let mut reader = read(&broker, attach(1, false)).await;
    let mut came = Vec::new();
    for _ in 0..7 {
        came.push(heard(&mut reader).await);
    }
    came.sort();
    assert_eq!(came, ["1", "all", "from 0", "from 1", "job #1", "joins 0 a/b", "joins 1 a/q"]);
    drop(reader);
    a_while(61).await;
    write(&broker, Mode::Broadcast, "a/b", &["2"]).await;
    let mut reader = read(&broker, attach(2, true)).await;
    say(&mut reader, [had("a/b", Some(mark(1))), had("a/q", None), ReaderUp::HadAll]).await;
    let mut came = Vec::new();
    for _ in 0..7 {
        came.push(heard(&mut reader).await);
    }
    came.sort();
    assert_eq!(came, ["2", "all", "from 0", "from 1", "job #2", "joins 0 a/b new", "joins 1 a/q new"]);
}

#[tokio::test]
async fn what_is_in_its_hands_counts_over_all_queues() {
    let broker = open(&RamDisk::new());
    for name in ["a/x", "a/y", "a/z"] {
        write(&broker, Mode::Queue, name, &["1", "2", "3"]).await;
    }
    let mut attach = attach(1, false);
    attach.tape.prefetch = 2;
    let mut reader = read(&broker, attach).await;
    let (mut from, mut leases, mut done) = (PipeNo(0), Vec::new(), 0);
    while done < 9 {
        match next(&mut reader.down).await {
            ReaderDown::From(no) => from = no,
            ReaderDown::Leased { lease, .. } => leases.push((from, lease)),
            ReaderDown::Settled { error: None, .. } => done += 1,
            ReaderDown::Joins { .. } | ReaderDown::AllJoined => {}
            other => panic!("{other:?}"),
        }
        let mut held = 0;
        for name in ["a/x", "a/y", "a/z"] {
            let stat = broker.stat(&Caller::in_process(), &PipeRef::from(&PipeName::new(name).unwrap())).await;
            held += stat.unwrap().leased;
        }
        assert!(held <= 2, "{held} in its hands");
        if leases.len() == 2 || leases.len() + done == 9 {
            for (no, lease) in leases.drain(..) {
                say(&mut reader, [ReaderUp::Of(no), ReaderUp::Settle { lease, verdict: Verdict::Done }]).await;
            }
        }
    }
}

#[tokio::test]
async fn a_lease_that_lapses_makes_room_in_its_hands() {
    let broker = open(&RamDisk::new());
    write(&broker, Mode::Queue, "a/x", &["1"]).await;
    let mut attach = attach(1, false);
    attach.tape.prefetch = 1;
    let mut reader = read(&broker, attach).await;
    hear(&mut reader, &["joins 0 a/x", "all", "from 0", "1 #1"]).await;
    write(&broker, Mode::Queue, "a/y", &["2"]).await;
    hear(&mut reader, &["joins 1 a/y"]).await;
    // Its hands are full for 30 s; then it is the turn of the other one.
    a_while(31).await;
    hear(&mut reader, &["from 1", "2 #1"]).await;
}

#[tokio::test]
async fn queues_take_turns_in_its_hands() {
    let broker = open(&RamDisk::new());
    for name in ["a/x", "a/y", "a/z"] {
        write(&broker, Mode::Queue, name, &["1", "2", "3"]).await;
    }
    let mut attach = attach(1, false);
    attach.tape.prefetch = 1;
    let mut reader = read(&broker, attach).await;
    let (mut from, mut order) = (PipeNo(0), Vec::new());
    while order.len() < 9 {
        match next(&mut reader.down).await {
            ReaderDown::From(no) => from = no,
            ReaderDown::Leased { lease, .. } => {
                order.push(from.0);
                say(&mut reader, [ReaderUp::Of(from), ReaderUp::Settle { lease, verdict: Verdict::Done }]).await;
            }
            _ => {}
        }
    }
    // Who is asked first depends on what the log has written when: none gets all that it has before another has had some.
    let mut served = [0_i32; 3];
    for no in &order {
        served[*no as usize] += 1;
        let (most, least) = (served.iter().max().unwrap(), served.iter().min().unwrap());
        assert!(most - least <= 2, "{order:?}");
    }
}

#[tokio::test]
async fn messages_out_of_place_are_refused() {
    let broker = open(&RamDisk::new());
    let mut reader = read(&broker, attach(1, false)).await;
    for wrong in [had("a/x", None), ReaderUp::HadAll] {
        assert_eq!(reader.up.send(wrong).await.unwrap_err().code(), Code::Protocol);
    }
    let one = ReaderAttach { session: SessionId([9; 16]), keep: true, ..attach(1, false) };
    let refused = broker.attach_pattern_reader(&far(), &pattern("a/**"), one).await.err().unwrap();
    assert_eq!(refused.code(), Code::Usage);
}

#[tokio::test]
async fn more_pipes_than_one_reader_may_read_are_one_clear_error() {
    let memory = Memory::of_process(64 * 1024 * 1024);
    let options = LocalBrokerOptions { memory, ..LocalBrokerOptions::default() };
    let broker = LocalBroker::on_disk(Arc::new(RamDisk::new()), Env::system(), options).unwrap();
    let error = super::room(&broker.shared, PATTERN_PIPES_MAX + 1).unwrap_err();
    assert!(error.code() == Code::Quota && error.text().contains("16384"), "{error}");
    let all = broker.shared.memory.sessions.take(broker.shared.memory.sessions.bytes_max() - 1000);
    assert_eq!(super::room(&broker.shared, 1).unwrap_err().code(), Code::Busy);
    drop(all);
    assert!(super::room(&broker.shared, 1).is_ok());
}
