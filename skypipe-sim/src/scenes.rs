//! Simulations with a plot: what one promise says happens, in each seed a little differently.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use skypipe_core::session::Patience;
use skypipe_core::{
    BrokerPipe, Caller, EndKind, Event as Told, Pipe, PipeName, ReaderOptions, SessionId, Until, WriterOptions,
};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use crate::client::{broker, env};
use crate::disk::Death;
use crate::history::{Event, ItemId, ReadKind, ReaderId, RecordId, body, identify};
use crate::net::{Host, Via, Way};
use crate::world::{Fault, Plan, World, in_virtual_time};

/// More than any of these takes by its own clock.
const HANGS_AFTER: Duration = Duration::from_secs(5 * 24 * 60 * 60);

fn pipe(world: &World, host: Host, name: &str) -> BrokerPipe {
    #[expect(clippy::expect_used, reason = "the simulation's own names")]
    let name = PipeName::new(name).expect("a name");
    let pipe = BrokerPipe::new(broker(&world.common, host), Caller::in_process(), name);
    pipe.with_env(env(&world.common, host))
}

/// A writer is cut off for so many hours, while the relay dies now and then, and comes back. It must go on with its item when it was away
/// for less than a day; else it must be told, and go on with a new one. Gives what is wrong.
pub fn long_absence(seed: u64, hours: u64) -> Vec<String> {
    in_virtual_time(async move {
        let world = Rc::new(World::new(seed, &Plan::default()));
        match timeout(HANGS_AFTER, absence(&world, hours)).await {
            Ok(Ok(())) => world.broken(),
            Ok(Err(text)) => vec![text],
            Err(_) => vec!["it hangs".to_owned()],
        }
    })
}

async fn absence(world: &Rc<World>, hours: u64) -> Result<(), String> {
    let (host, item) = (Host(1), ItemId(0));
    let note = |event| world.common.note(host, event);
    world.start().await;
    world.net.add(host, Via::Network, 10);
    let (common, sessions) = (world.common.clone(), Arc::new(std::sync::Mutex::new(1)));
    let counted = sessions.clone();
    let mut options = WriterOptions::default().on_event(move |told| {
        if let Told::NewItem { session, .. } = told {
            common.note(host, Event::Session(item, session));
            *counted.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += 1;
        }
    });
    options.patience = Patience { give_up: Duration::from_secs(48 * 60 * 60), ..Patience::default() };
    let mut writer = pipe(world, host, "pipe/0").writer_with(options).await.map_err(|e| e.to_string())?;
    note(Event::Session(item, writer.session()));
    for n in 0..8 {
        if n == 4 {
            writer.settled().await.map_err(|e| e.to_string())?;
            [Way::Up, Way::Down].into_iter().for_each(|way| world.net.hold(host, way, true));
        }
        note(Event::Sends(RecordId { item, n }, 100));
        writer.send(&body(RecordId { item, n }, 100)).await.map_err(|e| e.to_string())?;
        note(Event::Settled(item, writer.progress().settled));
    }
    sleep(Duration::from_secs(15)).await;
    world.net.cut(host);
    // A relay counts from its start: the last one must be long enough ago.
    let away = Duration::from_secs(hours * 60 * 60);
    let back = Instant::now() + away;
    let deaths = world.dice.borrow_mut().below(4);
    for _ in 0..deaths {
        let pause = world.dice.borrow_mut().millis(1000..=600_000);
        sleep(pause).await;
        let death = if world.dice.borrow_mut().chance(50) { Death::Kill } else { Death::PowerCut };
        world.relay.die(death);
        world.start().await;
    }
    tokio::time::sleep_until(back).await;
    [Way::Up, Way::Down].into_iter().for_each(|way| world.net.hold(host, way, false));
    note(Event::Ends(item, EndKind::Finished));
    let receipt = timeout(Duration::from_secs(3600), writer.end(Until::Stored)).await;
    let receipt = receipt.map_err(|_| "the writer does not come back".to_owned())?.map_err(|e| e.to_string())?;
    note(Event::Settled(item, receipt.progress.settled));
    note(Event::Ended(item));
    let sessions = *sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let expected = if hours < 24 { 1 } else { 2 };
    if sessions != expected || receipt.progress.settled != 8 {
        return Err(format!("after {hours} h it took {sessions} items, and settled {}", receipt.progress.settled));
    }
    world.judge(1).await;
    Ok(())
}

/// So many readers of one pipe are live, writers write, the relay dies and links break. All readers must get every record of every
/// writer, each writer's in the same order. Gives what is wrong, and how many deaths there were.
pub fn crowd(seed: u64, readers: u32, writers: u32, records: u32) -> (Vec<String>, u64) {
    in_virtual_time(async move {
        // None for so long that a reader is lost: that one would go on as a new reader, and wait.
        let faults = vec![Fault::Kill, Fault::PowerCut, Fault::Restart, Fault::Cut];
        let world = Rc::new(World::new(seed, &Plan { faults, fault_every: 1000..=6000, ..Plan::default() }));
        let text = match timeout(HANGS_AFTER, gather(&world, readers, writers, records)).await {
            Ok(text) => text,
            Err(_) => vec!["it hangs".to_owned()],
        };
        (text.into_iter().chain(world.broken()).collect(), world.died())
    })
}

type Seen = BTreeMap<SessionId, Vec<RecordId>>;

async fn gather(world: &Rc<World>, readers: u32, writers: u32, records: u32) -> Vec<String> {
    world.start().await;
    let attached = Rc::new(tokio::sync::Barrier::new((readers + writers) as usize + 1));
    let mut reading = JoinSet::new();
    for n in 0..readers {
        world.net.add(Host(n + 1), Via::Network, 1 + u64::from(n % 50));
        reading.spawn_local(read_all(world.clone(), Host(n + 1), attached.clone()));
        // One after the other, so that all are there before the first writer.
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_secs(10)).await;
    let mut writing = JoinSet::new();
    for n in 0..writers {
        let host = Host(readers + n + 1);
        world.net.add(host, Via::Network, 5);
        writing.spawn_local(write_some(world.clone(), host, records, attached.clone()));
    }
    attached.wait().await;
    let faults = spawn_local(world.clone().faults_of(readers + writers));
    let mut wrong = Vec::new();
    while let Some(done) = writing.join_next().await {
        wrong.extend(done.map_err(|e| e.to_string()).and_then(|done| done).err());
    }
    faults.abort();
    let _ = faults.await;
    world.disk.lives();
    world.start().await;
    let mut first: Option<Seen> = None;
    while let Some(done) = reading.join_next().await {
        match done.map_err(|e| e.to_string()).and_then(|done| done) {
            Ok(seen) => {
                let count: usize = seen.values().map(Vec::len).sum();
                if count != (writers * records) as usize {
                    wrong.push(format!("a reader got {count} of {} records", writers * records));
                } else if *first.get_or_insert_with(|| seen.clone()) != seen {
                    wrong.push("two readers got different orders".to_owned());
                }
            }
            Err(text) => wrong.push(text),
        }
    }
    wrong
}

async fn read_all(world: Rc<World>, host: Host, attached: Rc<tokio::sync::Barrier>) -> Result<Seen, String> {
    let id = ReaderId(host.0);
    let (common, of_reader) = (world.common.clone(), ReaderOptions::default());
    let options = of_reader.on_event(move |told| {
        if let Told::ItemEnded { writer, kind, alone } = told {
            common.note(host, Event::ItemEnd(id, writer, kind, alone));
        }
    });
    world.common.note(host, Event::Reads(id, ReadKind::Any));
    let mut reader = pipe(&world, host, "crowd").reader_with(options).await.map_err(|e| e.to_string())?;
    attached.wait().await;
    let mut seen = Seen::new();
    loop {
        world.common.note(host, Event::Acks(id));
        let Some(record) = reader.next().await.map_err(|e| format!("{id:?}: {e}"))? else { break };
        let known = identify(&record.body);
        world.common.note(host, Event::Got(id, record.writer, record.seq, known, record.body.len()));
        seen.entry(record.writer).or_default().extend(known);
    }
    let outcome = reader.outcome();
    world.common.note(host, Event::Finished(id, !outcome.incomplete && !outcome.gap));
    Ok(seen)
}

async fn write_some(
    world: Rc<World>,
    host: Host,
    records: u32,
    attached: Rc<tokio::sync::Barrier>,
) -> Result<(), String> {
    let item = ItemId(host.0);
    let note = |event| world.common.note(host, event);
    let mut writer = pipe(&world, host, "crowd").writer().await.map_err(|e| e.to_string())?;
    note(Event::Session(item, writer.session()));
    attached.wait().await;
    for n in 0..records {
        note(Event::Sends(RecordId { item, n }, 200));
        writer.send(&body(RecordId { item, n }, 200)).await.map_err(|e| e.to_string())?;
        let pause = world.dice.borrow_mut().millis(0..=1500);
        sleep(pause).await;
        note(Event::Settled(item, writer.progress().settled));
    }
    note(Event::Ends(item, EndKind::Finished));
    writer.end(Until::Stored).await.map_err(|e| format!("{item:?}: {e}"))?;
    note(Event::Settled(item, u64::from(records)));
    note(Event::Ended(item));
    Ok(())
}

/// How clients came back to a relay that was away.
#[derive(Clone, Copy, Debug)]
pub struct Return {
    /// From the moment at which the relay was back, for all but one of a hundred.
    pub p99: Duration,
    /// Most links that the relay dealt with of one source within a second.
    pub peak: usize,
    /// Most tries of one source within a second, once the relay was back.
    pub peak_tries: usize,
    /// Most tries of one client within a second.
    pub tries: usize,
    /// Clients that were not back after ten minutes.
    pub missing: usize,
}

/// So many clients, of so many sources, lose a relay that is back after a while.
pub fn come_back(seed: u64, clients: u32, sources: u32, away: Duration) -> Return {
    in_virtual_time(async move {
        let world = Rc::new(World::new(seed, &Plan::default()));
        world.net.set_sources(sources);
        world.start().await;
        let connected = Rc::new(RefCell::new(Vec::new()));
        let mut writers = Vec::new();
        for n in 0..clients {
            let host = Host(n + 1);
            let latency = world.dice.borrow_mut().within(5..=40);
            world.net.add(host, Via::Network, latency);
            let (events, told) = tokio::sync::mpsc::unbounded_channel();
            let options = WriterOptions::default().on_event(move |event| {
                if matches!(event, Told::Connected { .. }) {
                    let _ = events.send(Instant::now());
                }
            });
            let Ok(writer) = pipe(&world, host, &format!("pipe/{n}")).writer_with(options).await else { continue };
            writers.push((writer, told));
        }
        sleep(Duration::from_secs(60)).await;
        world.relay.die(Death::Kill);
        sleep(away).await;
        world.start().await;
        let back = Instant::now();
        for (_, told) in &mut writers {
            if let Ok(Some(at)) = timeout(Duration::from_secs(600), told.recv()).await {
                connected.borrow_mut().push(at - back);
            }
        }
        let mut times = connected.borrow().clone();
        times.sort_unstable();
        let (taken, tries) = (world.net.taken(), world.net.tries());
        let since_back =
            |all: &[(Instant, Host)]| all.iter().copied().filter(|(at, _)| *at >= back).collect::<Vec<_>>();
        let by_source = |host: Host| host.0 % sources;
        Return {
            p99: times.get(times.len() * 99 / 100).copied().unwrap_or(Duration::MAX),
            peak: peak(&since_back(&taken), by_source),
            peak_tries: peak(&since_back(&tries), by_source),
            tries: peak(&tries, |host| host.0),
            missing: clients as usize - times.len(),
        }
    })
}

/// Most of those that `of` tells alike within any second. They are in order of time.
fn peak(events: &[(Instant, Host)], of: impl Fn(Host) -> u32) -> usize {
    let mut times: BTreeMap<u32, Vec<Instant>> = BTreeMap::new();
    events.iter().for_each(|(at, host)| times.entry(of(*host)).or_default().push(*at));
    let most = |times: &Vec<Instant>| {
        let within = |(n, at): (usize, &Instant)| {
            let end = *at + Duration::from_secs(1);
            times[n..].partition_point(|other| *other < end)
        };
        times.iter().enumerate().map(within).max().unwrap_or(0)
    };
    times.values().map(most).max().unwrap_or(0)
}
