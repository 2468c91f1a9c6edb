//! The driver over disks in memory: whole sessions, restarts, power loss, full and failing disks.

use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use tokio::time::timeout;

use super::*;
use crate::batch::{Batch, BatchBuilder, EndKind, ItemDigest};
use crate::broker::{Notice, ReaderCursor, ReaderDown, ReaderUp, Take, WriterDown, WriterResume, WriterUp};
use crate::caller::{Holder, Peer};
use crate::delivery::Fact;
use crate::id::{Epoch, ItemNo, PipeId, Seq, SessionId};
use crate::log::{Entry, Log, PowerLoss};
use crate::name::{Owner, Pattern, PipeName};
use crate::pipe::{BrokerPipe, Pipe};
use crate::{Until, broker};

pub(super) const WRITER: SessionId = SessionId([1; 16]);
pub(super) const READER: SessionId = SessionId([2; 16]);

/// So long a test waits for what must come.
pub(super) const SOON: Duration = Duration::from_secs(20);

fn name() -> PipeName {
    PipeName::new("logs/web").unwrap()
}

pub(super) fn pipe_ref() -> PipeRef {
    PipeRef::from(&name())
}

/// Somebody whose broken link says nothing.
pub(super) fn far() -> Caller {
    Caller::in_process().at(Peer::Network("far".to_owned()))
}

pub(super) fn open(disk: &RamDisk) -> Arc<LocalBroker> {
    let mut options = LocalBrokerOptions::default();
    options.log.free_percent = 0;
    LocalBroker::on_disk(Arc::new(disk.clone()), Env::system(), options).unwrap()
}

pub(super) fn pipe(broker: &Arc<LocalBroker>) -> BrokerPipe {
    BrokerPipe::new(broker.clone(), Caller::in_process(), name())
}

pub(super) fn batch(first: u64, records: u64, end: bool) -> Batch {
    let mut builder = BatchBuilder::new(WRITER, Epoch(1), Seq(first));
    (first..first + records).for_each(|n| assert!(builder.push(&n.to_le_bytes(), true, true)));
    builder.build(end.then(|| ItemDigest::default().end(EndKind::Finished, 0)))
}

pub(super) async fn write(broker: &LocalBroker, epoch: u32, resume: Option<WriterResume>) -> WriterHalves {
    let attach =
        WriterAttach { session: WRITER, epoch: Epoch(epoch), mode: None, resume, settings: Default::default() };
    timeout(SOON, broker.attach_writer(&far(), &pipe_ref(), attach)).await.unwrap().unwrap()
}

pub(super) fn reader_attach(epoch: u32, resume: Option<Vec<ReaderCursor>>) -> ReaderAttach {
    ReaderAttach {
        session: READER,
        epoch: Epoch(epoch),
        mode: None,
        take: Take::Any,
        keep: false,
        no_wait: false,
        credit: 1 << 40,
        mid_record: false,
        resume,
        tape: Default::default(),
    }
}

pub(super) async fn read(broker: &LocalBroker, epoch: u32, resume: Option<Vec<ReaderCursor>>) -> ReaderHalves {
    broker.attach_reader(&far(), &pipe_ref(), reader_attach(epoch, resume)).await.unwrap()
}

pub(super) async fn next<T>(down: &mut broker::DownStream<T>) -> T {
    timeout(SOON, down.next()).await.unwrap().unwrap().unwrap()
}

/// Waits until the writer heard that all below `settled` is safe.
pub(super) async fn settled(writer: &mut WriterHalves, settled: u64) {
    loop {
        if let WriterDown::Ack(ack) = next(&mut writer.down).await
            && ack.settled >= Seq(settled)
        {
            return;
        }
    }
}

/// Takes all that comes, acknowledging it, and gives the numbers of the records.
async fn take_all(reader: &mut ReaderHalves) -> Vec<u64> {
    let mut got = Vec::new();
    loop {
        match next(&mut reader.down).await {
            ReaderDown::Batch { from, batch, .. } => {
                let ack = ReaderCursor { writer: WRITER, next: batch.next() };
                got.extend(from.0..batch.next().0 - u64::from(batch.is_end()));
                reader.up.send(ReaderUp::Ack(ack)).await.unwrap();
            }
            ReaderDown::ItemEnd { next, .. } => {
                reader.up.send(ReaderUp::Ack(ReaderCursor { writer: WRITER, next })).await.unwrap();
            }
            ReaderDown::Finished => return got,
            ReaderDown::Gap { from, to, .. } => panic!("{from:?} to {to:?} are gone"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn live_records_reach_their_reader_and_the_pipe_is_gone_then() {
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let mut reader = pipe(&broker).reader().await.unwrap();
    let mut writer = pipe(&broker).writer().await.unwrap();
    writer.send(b"one\n").await.unwrap();
    writer.flush().await.unwrap();
    assert_eq!(&timeout(SOON, reader.next()).await.unwrap().unwrap().unwrap().body[..], b"one\n");
    let (ended, rest) = tokio::join!(writer.end(Until::Delivered), async {
        let rest = reader.next().await.unwrap();
        drop(reader);
        rest
    });
    ended.unwrap();
    assert!(rest.is_none());
    assert_eq!(pipe(&broker).stat().await.unwrap_err().code(), Code::Access);
}

#[tokio::test]
async fn what_is_stored_survives_power_loss() {
    let disk = RamDisk::with_power_loss();
    let broker = open(&disk);
    let mut writer = write(&broker, 1, None).await;
    for n in 0..10 {
        writer.up.send(WriterUp::Batch(batch(n * 3, 3, n == 9))).await.unwrap();
    }
    settled(&mut writer, 31).await;
    let broker = open(&disk.after_power_loss(PowerLoss::Nothing));
    // The writer did not hear it: it comes back and is told.
    let again = write(&broker, 2, Some(WriterResume::default())).await;
    assert_eq!(again.welcome.ack.stored, Seq(31));
    let mut reader = read(&broker, 1, None).await;
    assert_eq!(take_all(&mut reader).await, (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn live_sessions_go_on_after_a_crash_and_nothing_comes_twice() {
    let disk = RamDisk::with_power_loss();
    let broker = open(&disk);
    let mut reader = read(&broker, 1, None).await;
    let mut writer = write(&broker, 1, None).await;
    for n in 0..4 {
        writer.up.send(WriterUp::Batch(batch(n, 1, false))).await.unwrap();
    }
    let mut has = 0;
    while has < 3 {
        if let ReaderDown::Batch { batch, .. } = next(&mut reader.down).await {
            has = batch.next().0;
        }
    }
    // Prompt: nothing of it is on disk when the power goes.
    let broker = open(&disk.after_power_loss(PowerLoss::Nothing));
    let mut reader = read(&broker, 2, Some(vec![ReaderCursor { writer: WRITER, next: Seq(3) }])).await;
    let mut writer = write(&broker, 2, Some(WriterResume::default())).await;
    for n in writer.welcome.next.0..6 {
        writer.up.send(WriterUp::Batch(batch(n, 1, n == 5))).await.unwrap();
    }
    assert_eq!(take_all(&mut reader).await, [3, 4, 5]);
    settled(&mut writer, 7).await;
}

/// The relay was killed when the last facts of an item were on disk, and nothing behind them.
/// Seen in a simulation: the power went between two writes of one commit group.
#[tokio::test]
async fn an_end_mark_whose_fact_was_torn_off_is_an_end() {
    let disk = RamDisk::new();
    let log = Log::open(Arc::new(disk.clone()), LogOptions::default(), &mut |_, _| ()).unwrap();
    let item = ItemNo(0);
    let joined = Fact::WriterJoined { session: WRITER, epoch: Epoch(1), item, holder: Holder::Unknown };
    for fact in [Fact::Opened { pipe: pipe_ref(), mode: broker::Mode::Default }, joined] {
        log.append(Entry::Fact { pipe: PipeId(1), body: fact.encode() });
    }
    log.append(Entry::Batch { pipe: PipeId(1), item, batch: batch(0, 2, true) });
    log.close();

    // Also when nobody has asked for it before the next crash.
    drop(open(&disk));
    let broker = open(&disk);
    let mut reader = read(&broker, 1, None).await;
    assert_eq!(timeout(SOON, take_all(&mut reader)).await.expect("the item has ended"), [0, 1]);
}

#[tokio::test]
async fn a_pipe_of_which_nothing_is_left_at_the_start_keeps_its_last_words() {
    let disk = RamDisk::new();
    let log = Log::open(Arc::new(disk.clone()), LogOptions::default(), &mut |_, _| ()).unwrap();
    let (item, kind, next) = (ItemNo(0), EndKind::Finished, Seq(3));
    let all = [
        Fact::Opened { pipe: pipe_ref(), mode: broker::Mode::Default },
        Fact::WriterJoined { session: WRITER, epoch: Epoch(1), item, holder: Holder::Unknown },
        Fact::Took { reader: SessionId([0xff; 16]), item, from: Seq(0), to: next },
        Fact::Ended { item, kind, next },
    ];
    for fact in all {
        log.append(Entry::Fact { pipe: PipeId(1), body: fact.encode() });
    }
    log.close();

    let broker = open(&disk);
    let resume = WriterResume { settled: Seq(2), stored: Seq(2) };
    let mut writer = write(&broker, 2, Some(resume)).await;
    assert_eq!(writer.welcome.next, next);
    // And whoever comes next begins the pipe anew.
    let attach = WriterAttach {
        session: SessionId([3; 16]),
        epoch: Epoch(1),
        mode: None,
        resume: None,
        settings: Default::default(),
    };
    timeout(SOON, broker.attach_writer(&far(), &pipe_ref(), attach)).await.unwrap().unwrap();
    writer.up.close().await.unwrap();
}

#[tokio::test]
async fn sessions_go_on_after_a_drain() {
    let disk = RamDisk::new();
    let broker = open(&disk);
    let mut reader = read(&broker, 1, None).await;
    let mut writer = write(&broker, 1, None).await;
    writer.up.send(WriterUp::Batch(batch(0, 2, false))).await.unwrap();
    timeout(SOON, broker.close(SOON)).await.unwrap();
    drop((writer, broker));
    let broker = open(&disk);
    let mut writer = write(&broker, 2, Some(WriterResume::default())).await;
    assert_eq!(writer.welcome.next, Seq(2), "drained to disk");
    while next(&mut reader.down).now_or_never().is_some() {}
    drop(reader);
    let mut reader = read(&broker, 2, Some(Vec::new())).await;
    writer.up.send(WriterUp::Batch(batch(2, 1, true))).await.unwrap();
    assert_eq!(take_all(&mut reader).await, [0, 1, 2]);
}

#[tokio::test]
async fn a_drain_ends_on_a_full_disk_in_the_time_its_caller_gives() {
    let disk = RamDisk::new();
    let broker = open(&disk);
    let mut writer = write(&broker, 1, None).await;
    disk.set_bytes_max(Some(0));
    writer.up.send(WriterUp::Batch(batch(0, 1, true))).await.unwrap();
    assert!(matches!(next(&mut writer.down).await, WriterDown::Notice(Notice::WaitsForRoom { .. })));
    assert!(timeout(Duration::from_millis(50), broker.drain()).await.is_err());
}

#[tokio::test]
async fn the_end_of_an_old_link_does_not_silence_the_new_one() {
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let old = read(&broker, 1, None).await;
    let mut new = read(&broker, 2, Some(Vec::new())).await;
    let waits = tokio::spawn(async move { next(&mut new.down).await });
    tokio::task::yield_now().await;
    // The relay hears late that the first link is gone.
    drop(old);
    let mut writer = write(&broker, 1, None).await;
    writer.up.send(WriterUp::Batch(batch(0, 1, false))).await.unwrap();
    let message = timeout(Duration::from_secs(5), waits).await.expect("nobody woke the new link").unwrap();
    assert!(matches!(message, ReaderDown::Batch { .. }), "{message:?}");
}

#[tokio::test]
async fn an_old_link_is_fenced() {
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let mut old = write(&broker, 1, None).await;
    let mut new = write(&broker, 2, Some(WriterResume::default())).await;
    let error = old.up.send(WriterUp::Batch(batch(0, 1, false))).await.unwrap_err();
    assert_eq!(error.code(), Code::Fenced);
    assert_eq!(timeout(SOON, old.down.next()).await.unwrap().unwrap().unwrap_err().code(), Code::Fenced);
    new.up.send(WriterUp::Batch(batch(0, 1, true))).await.unwrap();
    settled(&mut new, 2).await;
}

#[tokio::test]
async fn a_removed_pipe_ends_its_parties() {
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let mut writer = write(&broker, 1, None).await;
    let mut reader = read(&broker, 1, None).await;
    let waits = tokio::spawn(async move { reader.down.next().await.unwrap().unwrap_err() });
    timeout(SOON, broker.remove(&far(), &pipe_ref())).await.unwrap().unwrap();
    assert_eq!(timeout(SOON, waits).await.unwrap().unwrap().code(), Code::Access);
    assert_eq!(writer.up.send(WriterUp::Abort).await.unwrap_err().code(), Code::Access);
    let query = ListQuery { owner: Owner::SELF, pattern: Pattern::parse("**").unwrap(), after: None, limit: 10 };
    assert_eq!(broker.list(&far(), query).await.unwrap(), ListPage::default());
    assert_eq!(broker.remove(&far(), &pipe_ref()).await.unwrap_err().code(), Code::Access);
}

#[tokio::test]
async fn a_pipe_removed_while_a_writer_attaches_ends_it() {
    let disk = RamDisk::new();
    let broker = open(&disk);
    // Nothing becomes durable, so nobody is welcome.
    disk.set_bytes_max(Some(0));
    let to_write = pipe(&broker);
    // Its attach may be on disk just before the removal is: then it is welcome, and ends at once.
    let attaching = tokio::spawn(async move { to_write.writer().await?.end(Until::Stored).await.map(drop) });
    while broker.stat(&far(), &pipe_ref()).await.is_err() {
        tokio::task::yield_now().await;
    }
    let (caller, name) = (far(), pipe_ref());
    let mut removing = broker.remove(&caller, &name);
    assert!((&mut removing).now_or_never().is_none());
    disk.set_bytes_max(None);
    let error = timeout(SOON, attaching).await.unwrap().unwrap().expect_err("the writer is not attached to a new pipe");
    assert_eq!(error.code(), Code::Access);
    timeout(SOON, removing).await.unwrap().unwrap();
    assert_eq!(broker.stat(&far(), &pipe_ref()).await.unwrap_err().code(), Code::Access);
}

#[tokio::test]
async fn a_full_disk_stalls_the_writer_and_it_goes_on_by_itself() {
    let disk = RamDisk::new();
    let broker = open(&disk);
    let mut writer = write(&broker, 1, None).await;
    disk.set_bytes_max(Some(0));
    writer.up.send(WriterUp::Batch(batch(0, 1, true))).await.unwrap();
    assert!(matches!(next(&mut writer.down).await, WriterDown::Notice(Notice::WaitsForRoom { .. })));
    disk.set_bytes_max(None);
    settled(&mut writer, 2).await;
    assert_eq!(take_all(&mut read(&broker, 1, None).await).await, [0]);
}

#[tokio::test]
async fn a_session_away_for_a_minute_is_lost() {
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let mut reader = read(&broker, 1, None).await;
    let writer = write(&broker, 1, None).await;
    drop(writer);
    // What the log had to do is done. A paused clock runs on while everybody waits: a minute is over at once.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(61)).await;
    // The reader hears of it once the log, which knows no clock, has it.
    tokio::time::resume();
    let kind = loop {
        match timeout(Duration::from_secs(3600), reader.down.next()).await.unwrap().unwrap().unwrap() {
            ReaderDown::ItemEnd { kind, .. } => break kind,
            _ => continue,
        }
    };
    assert_eq!(kind, EndKind::Aborted);
    let attach = WriterAttach {
        session: WRITER,
        epoch: Epoch(2),
        mode: None,
        resume: Some(WriterResume::default()),
        settings: Default::default(),
    };
    let error = broker.attach_writer(&far(), &pipe_ref(), attach).await.err().unwrap();
    assert_eq!(error.code(), Code::SessionExpired);
}

#[tokio::test]
async fn a_slow_reader_makes_no_writer_wait() {
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let mut reader = read(&broker, 1, None).await;
    let mut writer = write(&broker, 1, None).await;
    writer.up.send(WriterUp::Batch(batch(0, 1, true))).await.unwrap();
    // Nobody reads: after a quarter of a second it is on disk.
    settled(&mut writer, 2).await;
    assert_eq!(take_all(&mut reader).await, [0]);
}

/// Attaching looks at the directory and then at a pipe; a pipe that goes does it the other way round.
#[tokio::test]
async fn pipes_that_come_and_go_while_sessions_look_for_them_block_nobody() {
    const TIMES: u32 = 20_000;
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let (done, all_done) = std::sync::mpsc::channel();
    // Threads of their own: a deadlock must not hang the test that looks for it.
    for comes_and_goes in [false, true] {
        let (broker, done) = (broker.clone(), done.clone());
        std::thread::spawn(move || {
            for _ in 0..TIMES {
                let refused = if comes_and_goes {
                    let attach = ReaderAttach { no_wait: true, ..reader_attach(1, None) };
                    broker.attach_reader(&far(), &pipe_ref(), attach).now_or_never().unwrap().is_err()
                } else {
                    let resume = Some(WriterResume::default());
                    let attach = WriterAttach {
                        session: WRITER,
                        epoch: Epoch(2),
                        mode: None,
                        resume,
                        settings: Default::default(),
                    };
                    broker.attach_writer(&far(), &pipe_ref(), attach).now_or_never().unwrap().is_err()
                };
                assert!(refused);
            }
            done.send(()).unwrap();
        });
    }
    let wait = move || (0..2).all(|_| all_done.recv_timeout(SOON).is_ok());
    assert!(tokio::task::spawn_blocking(wait).await.unwrap(), "a deadlock");
}

#[tokio::test]
async fn through_a_relay_over_mem_a_live_batch_stays_the_same_memory() {
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let listener = crate::mem::MemListener::bind("local-broker-same-memory").unwrap();
    let relay = crate::Relay::new(broker).listen(Box::new(listener));
    let url = relay.urls().remove(0);
    let serving = tokio::spawn(async move { relay.serve().await });
    let remote = crate::RemoteBroker::new(Arc::new(crate::mem::MemTransport), &url);
    let mut reader = remote.attach_reader(&far(), &pipe_ref(), reader_attach(1, None)).await.unwrap();
    let attach =
        WriterAttach { session: WRITER, epoch: Epoch(1), mode: None, resume: None, settings: Default::default() };
    let mut writer = timeout(SOON, remote.attach_writer(&far(), &pipe_ref(), attach)).await.unwrap().unwrap();
    for n in 0..3 {
        let sent = batch(n * 100, 100, false);
        writer.up.send(WriterUp::Batch(sent.clone())).await.unwrap();
        let ReaderDown::Batch { batch: got, .. } = next(&mut reader.down).await else { panic!("no batch") };
        assert_eq!(got.encoded().as_ptr(), sent.encoded().as_ptr());
    }
    serving.abort();
}

// Time stands still while the test looks, so nothing that waits for a clock can help.
#[tokio::test(start_paused = true)]
async fn a_broker_that_nobody_holds_is_gone_at_once() {
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let attach =
        WriterAttach { session: WRITER, epoch: Epoch(1), mode: None, resume: None, settings: Default::default() };
    drop(broker.attach_writer(&far(), &pipe_ref(), attach).await.unwrap());
    let shared = Arc::downgrade(&broker.shared);
    // The timers' task has begun to wait, for the writer that is away.
    tokio::task::yield_now().await;
    drop(broker);
    let start = std::time::Instant::now();
    while shared.strong_count() > 0 {
        assert!(start.elapsed() < SOON, "somebody holds it");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_same_numbers_with_other_bytes_are_a_conflict_when_the_first_ones_are_only_in_the_log() {
    let disk = RamDisk::new();
    let broker = open(&disk);
    let mut writer = write(&broker, 1, None).await;
    writer.up.send(WriterUp::Batch(batch(0, 2, false))).await.unwrap();
    settled(&mut writer, 2).await;
    timeout(SOON, broker.close(SOON)).await.unwrap();
    drop((writer, broker));
    let broker = open(&disk);
    let mut writer = write(&broker, 2, Some(WriterResume::default())).await;
    // What was sent before, once more; and then something else in its place.
    writer.up.send(WriterUp::Batch(batch(0, 2, false))).await.unwrap();
    let other = {
        let mut builder = BatchBuilder::new(WRITER, Epoch(1), Seq(0));
        (0..2).for_each(|_| assert!(builder.push(b"other", true, true)));
        builder.build(None)
    };
    assert_eq!(writer.up.send(WriterUp::Batch(other)).await.unwrap_err().code(), Code::Conflict);
    writer = write(&broker, 3, Some(WriterResume::default())).await;
    writer.up.send(WriterUp::Batch(batch(2, 1, true))).await.unwrap();
    settled(&mut writer, 4).await;
    assert_eq!(take_all(&mut read(&broker, 1, None).await).await, [0, 1, 2]);
}

/// The wall clock of a machine whose time is set, over and over.
struct Jumping {
    system: Env,
    wall: std::sync::atomic::AtomicU64,
}

impl crate::Clock for Jumping {
    fn now(&self) -> crate::Time {
        self.system.now()
    }

    fn wall(&self) -> crate::WallTime {
        crate::WallTime(self.wall.load(std::sync::atomic::Ordering::Relaxed))
    }
}

#[tokio::test]
async fn a_wall_clock_that_jumps_by_ten_years_loses_no_session() {
    const TEN_YEARS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
    const TODAY: u64 = 1_800_000_000_000;
    let clock = Arc::new(Jumping { system: Env::system(), wall: TODAY.into() });
    let broker = LocalBroker::in_memory(Env { clock: clock.clone(), ..Env::system() }).unwrap();
    let mut reader = read(&broker, 1, None).await;
    let mut writer = write(&broker, 1, None).await;
    for (epoch, wall) in [TODAY + TEN_YEARS, TODAY - TEN_YEARS, 0, u64::MAX, TODAY].into_iter().enumerate() {
        let number = epoch as u64;
        clock.wall.store(wall, std::sync::atomic::Ordering::Relaxed);
        drop(writer);
        let resume = WriterResume { settled: Seq(number), stored: Seq(0) };
        writer = write(&broker, 2 + epoch as u32, Some(resume)).await;
        writer.up.send(WriterUp::Batch(batch(number, 1, number == 4))).await.unwrap();
        if number < 4 {
            let message = next(&mut reader.down).await;
            assert!(matches!(message, ReaderDown::Batch { from, .. } if from == Seq(number)), "{message:?}");
            let ack = ReaderCursor { writer: WRITER, next: Seq(number + 1) };
            reader.up.send(ReaderUp::Ack(ack)).await.unwrap();
            settled(&mut writer, number + 1).await;
        }
    }
    assert_eq!(take_all(&mut reader).await, [4]);
}

/// Seen in a simulation: killed between the last taking and the word that nothing is left, a relay that started again looked the pipe up
/// for ever.
#[test]
fn a_pipe_that_was_emptied_when_the_power_went_can_be_used_again() {
    for nth in 1..12 {
        let (done, wait) = std::sync::mpsc::channel();
        // On a thread of its own: one that spins cannot be stopped.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.unwrap().block_on(empty_and_use_again(nth));
            done.send(()).unwrap();
        });
        wait.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("power off at sync {nth}: it hangs"));
    }
}

async fn empty_and_use_again(nth: u64) {
    let env = Env { work: crate::env::Work::Inline, ..Env::system() };
    let open = |disk: RamDisk| {
        let broker = LocalBroker::on_disk(Arc::new(disk), env.clone(), LocalBrokerOptions::default()).unwrap();
        crate::BrokerPipe::new(broker, Caller::in_process(), crate::PipeName::new("p").unwrap())
    };
    let disk = RamDisk::with_power_loss();
    let pipe = open(disk.clone());
    disk.power_off_at_sync(nth);
    let emptied = async {
        let mut writer = crate::Pipe::writer(&pipe).await?;
        writer.send(b"all there is").await?;
        writer.end(crate::Until::Stored).await?;
        let mut reader = crate::Pipe::reader(&pipe).await?;
        while reader.next().await?.is_some() {}
        Ok::<(), Error>(())
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), emptied).await;
    let pipe = open(disk.after_power_loss(crate::log::PowerLoss::Nothing));
    crate::Pipe::writer(&pipe).await.unwrap();
}
