//! A queue whose workers crash, are late, refuse and extend, while its relay dies and links break: what P7 says, seen from outside.
//!
//! Everything is noted where it can be known for certain: a handing out when its message reaches the worker's machine, a record in hand when the
//! application has it, an acknowledgement as confirmed when [`Reader::settled`] returned and no [`Told::LeaseLost`] came.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use skypipe_core::{
    Broker, BrokerPipe, Caller, Code, Error, Event as Told, Features, Lease, LeaseId, ListPage, ListQuery, Mode, Pipe,
    PipeName, PipeRef, PipeStat, Reader, ReaderAttach, ReaderDown, ReaderHalves, ReaderOptions, SessionId,
    SharedBroker, Until, Writer, WriterAttach, WriterHalves, WriterOptions,
};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use crate::client::{broker, env};
use crate::dice::Dice;
use crate::history::{ItemId, RecordId, body, identify};
use crate::net::{Host, Via, Way};
use crate::world::{Fault, Plan, World, in_virtual_time};

/// More than any of these takes by its own clock.
const HANGS_AFTER: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// The queue.
const QUEUE: &str = "jobs";
/// Where its records go that were handed out too often.
const DEAD: &str = "jobs/dead";
/// Longer than a lease, a worker that stays away, and any delay: then all that can come has come.
const NOTHING_COMES: Duration = Duration::from_secs(200);
/// Most records that a worker takes at a time.
const PREFETCH_MAX: u64 = 6;

/// What happens in it.
#[derive(Clone, Debug)]
pub struct Shop {
    /// How many workers.
    pub workers: u32,
    /// How many writers.
    pub writers: u32,
    /// Records of each writer.
    pub records: u32,
    /// Faults of relay, links and disk.
    pub faults: Vec<Fault>,
    /// Whether workers crash.
    pub crashes: bool,
}

impl Default for Shop {
    fn default() -> Self {
        let faults = vec![Fault::Kill, Fault::PowerCut, Fault::Restart, Fault::Cut, Fault::Hold, Fault::SlowDisk];
        Self { workers: 4, writers: 2, records: 40, faults, crashes: true }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Worked {
    /// The promises that were not kept.
    pub broken: Vec<String>,
    /// Deaths of the relay.
    pub deaths: u64,
    /// Records that were settled for their writers.
    pub records: u64,
    /// Handings out that reached a worker's machine.
    pub handed: u64,
    /// Handings out that the relay counts and that reached nobody.
    pub unseen: u64,
    /// Acknowledgements that came too late and were refused.
    pub stale: u64,
    /// Records that went to the dead letters.
    pub dead: u64,
}

/// Runs it.
pub fn work(seed: u64, shop: &Shop) -> Worked {
    in_virtual_time(async move {
        let plan = Plan { faults: shop.faults.clone(), fault_every: 1000..=8000, ..Plan::default() };
        let world = Rc::new(World::new(seed, &plan));
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let hung = timeout(HANGS_AFTER, open_shop(&world, shop, seed, &ledger)).await.is_err();
        let ledger = lock(&ledger);
        let mut worked = ledger.judge(shop);
        worked.broken.extend(hung.then(|| "it hangs".to_owned()));
        worked.broken.extend(world.broken());
        worked.deaths = world.died();
        worked
    })
}

/// What everybody saw, in the order in which it happened.
#[derive(Default)]
struct Ledger {
    sent: BTreeSet<RecordId>,
    settled: BTreeMap<ItemId, u64>,
    /// Handings out that reached a machine: of each record the attempts, and whose they were.
    arrived: BTreeMap<RecordId, BTreeMap<u32, SessionId>>,
    /// Attaches that were tried: each may have cost what was on its way.
    attaches: u64,
    /// Which record stands where.
    places: BTreeMap<LeaseId, RecordId>,
    /// Said to be done.
    said: BTreeSet<LeaseId>,
    /// Confirmed to be done.
    done: BTreeMap<RecordId, BTreeSet<u32>>,
    /// Refused as too late.
    stale: u64,
    dead: BTreeSet<RecordId>,
    wrong: Vec<String>,
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// A handing out reached the machine of this session.
    fn arrives(&mut self, session: SessionId, lease: &LeaseId, bytes: &[u8]) {
        let Some(record) = identify(bytes).filter(|record| self.sent.contains(record)) else {
            return self.wrong.push(format!("{} bytes that nobody sent", bytes.len()));
        };
        if self.places.insert(lease.clone(), record).is_some_and(|known| known != record) {
            self.wrong.push(format!("two records at {lease:?}"));
        }
        // A link broke, and the same worker has it once more. What was on its way for long may be overtaken by a later handing out.
        let known = *self.arrived.entry(record).or_default().entry(lease.attempt).or_insert(session);
        if known != session {
            self.wrong.push(format!("{record:?} at attempt {} for {known} and for {session}", lease.attempt));
        }
        if self.done.get(&record).is_some_and(|done| done.iter().any(|done| *done < lease.attempt)) {
            self.wrong.push(format!("{record:?} is handed out at {} although it is known to be done", lease.attempt));
        }
    }

    /// A worker knows that the relay knows what it said.
    fn confirmed(&mut self, said: impl IntoIterator<Item = LeaseId>) {
        for lease in said {
            let Some(record) = self.places.get(&lease).copied() else { continue };
            self.done.entry(record).or_default().insert(lease.attempt);
            let last = self.arrived.get(&record).and_then(|all| all.last_key_value()).map(|(attempt, _)| *attempt);
            if last.is_some_and(|last| last > lease.attempt) {
                self.wrong
                    .push(format!("{record:?} was settled at attempt {}, and handed out at {last:?}", lease.attempt));
            }
        }
    }

    /// What holds at the end, when everything that can be handed out was.
    fn judge(&self, shop: &Shop) -> Worked {
        let mut broken = self.wrong.clone();
        for (item, count) in &self.settled {
            for n in 0..*count as u32 {
                let record = RecordId { item: *item, n };
                if !self.done.contains_key(&record) && !self.dead.contains(&record) {
                    // A worker that died may have said so, and the relay may have heard.
                    let said = self.said.iter().any(|lease| self.places.get(lease) == Some(&record));
                    if !said {
                        broken.push(format!("{record:?} is lost; {count} of the item were settled"));
                    }
                }
            }
        }
        for (record, attempts) in self.done.iter().filter(|(_, attempts)| attempts.len() > 1) {
            broken.push(format!("{record:?} was settled at {attempts:?}"));
        }
        let seen: u64 = self.arrived.values().map(|all| all.len() as u64).sum();
        let counted: u64 =
            self.arrived.values().filter_map(BTreeMap::last_key_value).map(|(last, _)| u64::from(*last)).sum();
        let unseen = counted.saturating_sub(seen);
        // Only what was on its way over a link that broke counts without having come.
        let may_be = if shop.faults.is_empty() && !shop.crashes { 0 } else { self.attaches * PREFETCH_MAX };
        if unseen > may_be {
            broken.push(format!(
                "{unseen} handings out are counted and reached nobody; {may_be} may have been on their way"
            ));
        }
        let (stale, dead, records) = (self.stale, self.dead.len() as u64, self.settled.values().sum());
        Worked { broken, deaths: 0, records, handed: seen, unseen, stale, dead }
    }
}

async fn open_shop(world: &Rc<World>, shop: &Shop, seed: u64, ledger: &Arc<Mutex<Ledger>>) {
    world.start().await;
    let mut dice = Dice::new(seed, "shop");
    let max_deliveries = if dice.chance(40) { dice.within(3..=6) as u32 } else { 100_000 };
    let (mut writing, mut working) = (JoinSet::new(), JoinSet::new());
    let hosts = shop.workers + shop.writers;
    let closing = Rc::new(std::cell::Cell::new(false));
    for n in 0..hosts {
        let host = Host(n + 1);
        let via = if dice.chance(30) { Via::Socket } else { Via::Network };
        world.net.add(host, via, dice.within(0..=80));
        let (world, ledger, dice) = (world.clone(), ledger.clone(), Dice::new(seed, &format!("shop {n}")));
        if n < shop.writers {
            writing.spawn_local(write(world, host, shop.records, max_deliveries, ledger, dice));
        } else {
            let (crashes, closing) = (shop.crashes, closing.clone());
            working.spawn_local(Worker { world, host, ledger, dice, crashes, closing, queue: QUEUE }.work());
        }
    }
    let faults = spawn_local(world.clone().faults_of(hosts));
    join(&mut writing, ledger).await;
    // Faults go on for a while beside those who take what is there.
    sleep(dice.millis(30_000..=180_000)).await;
    faults.abort();
    let _ = faults.await;
    for n in 0..hosts {
        [Way::Up, Way::Down].into_iter().for_each(|way| world.net.hold(Host(n + 1), way, false));
    }
    world.disk.lives();
    world.disk.set_full(None);
    world.disk.set_slow(Duration::ZERO);
    world.start().await;
    closing.set(true);
    join(&mut working, ledger).await;
    close_shop(world, Host(hosts + 1), ledger, Dice::new(seed, "close")).await;
}

async fn join(tasks: &mut JoinSet<()>, ledger: &Mutex<Ledger>) {
    while let Some(done) = tasks.join_next().await {
        if let Err(error) = done {
            lock(ledger).wrong.push(error.to_string());
        }
    }
}

/// Somebody takes all that is left, and looks whether anything is.
async fn close_shop(world: &Rc<World>, host: Host, ledger: &Arc<Mutex<Ledger>>, dice: Dice) {
    world.net.add(host, Via::Network, 1);
    let closing = Rc::new(std::cell::Cell::new(true));
    let mut last = Worker {
        world: world.clone(),
        host,
        ledger: ledger.clone(),
        dice,
        crashes: false,
        closing: closing.clone(),
        queue: QUEUE,
    };
    last.take_all(false).await;
    last.queue = DEAD;
    last.take_all(true).await;
    match last.pipe().stat().await {
        Ok(stat) if stat.items == 0 && stat.leased == 0 => {}
        other => lock(ledger).wrong.push(format!("the dead letters are not taken: {other:?}")),
    }
    last.queue = QUEUE;
    match last.pipe().stat().await {
        Ok(stat) if stat.items == 0 && stat.leased == 0 && stat.ready == 0 => {}
        other => lock(ledger).wrong.push(format!("something is left: {other:?}")),
    }
    world.relay.stop().await;
}

async fn write(
    world: Rc<World>,
    host: Host,
    records: u32,
    max_deliveries: u32,
    ledger: Arc<Mutex<Ledger>>,
    mut dice: Dice,
) {
    let item = ItemId(host.0);
    let mut options = WriterOptions::default().with_mode(Mode::Queue);
    options.settings.max_deliveries = Some(max_deliveries);
    let written = async {
        let mut writer = pipe_of(&world, host, broker(&world.common, host), QUEUE).writer_with(options).await?;
        for n in 0..records {
            let record = RecordId { item, n };
            lock(&ledger).sent.insert(record);
            send(&mut writer, &body(record, dice.within(20..=3000) as usize), &mut dice).await?;
            sleep(dice.millis(0..=2500)).await;
            lock(&ledger).settled.insert(item, writer.progress().settled);
        }
        writer.end(Until::Stored).await
    };
    match written.await {
        Ok(_) => drop(lock(&ledger).settled.insert(item, u64::from(records))),
        // Away for too long, it lacks only the answer to its end mark.
        Err(error) if error.code() == Code::SessionExpired => {}
        Err(error) => lock(&ledger).wrong.push(format!("{item:?}: {error}")),
    }
}

/// Sends a record, now and then in parts with time between them.
pub(crate) async fn send(writer: &mut Writer, body: &[u8], dice: &mut Dice) -> Result<(), Error> {
    if !dice.chance(30) {
        return writer.send(body).await;
    }
    let (begin, rest) = body.split_at(body.len() / 2);
    writer.send_part(begin, true, false).await?;
    sleep(dice.millis(0..=2500)).await;
    writer.send_part(rest, false, true).await
}

fn pipe_of(world: &World, host: Host, broker: SharedBroker, name: &str) -> BrokerPipe {
    #[expect(clippy::expect_used, reason = "the simulation's own names")]
    let name = PipeName::for_readers(name).expect("a name");
    BrokerPipe::new(broker, Caller::in_process(), name).with_env(env(&world.common, host))
}

/// One worker, through all its deaths.
struct Worker {
    world: Rc<World>,
    host: Host,
    ledger: Arc<Mutex<Ledger>>,
    dice: Dice,
    crashes: bool,
    /// Nothing new is begun.
    closing: Rc<std::cell::Cell<bool>>,
    queue: &'static str,
}

/// One start of it.
struct Shift {
    reader: Reader,
    /// What it said to be done and does not know to be known.
    said: Vec<LeaseId>,
    /// What it heard to have come too late.
    lost: Arc<Mutex<BTreeSet<LeaseId>>>,
    /// Records it keeps for later.
    kept: Vec<Lease>,
}

impl Worker {
    async fn work(mut self) {
        while !self.closing.get() {
            let Some(mut shift) = self.begin(false).await else {
                sleep(Duration::from_secs(1)).await;
                continue;
            };
            while !self.closing.get() {
                let patience = self.dice.millis(1000..=40_000);
                match timeout(patience, shift.reader.next_lease()).await {
                    Ok(Ok(Some(lease))) => {
                        if self.deal_with(&mut shift, lease).await {
                            break;
                        }
                    }
                    Ok(Ok(None)) => break,
                    Ok(Err(error)) => {
                        self.failed(&error);
                        break;
                    }
                    Err(_) if self.dice.chance(30) => break,
                    Err(_) => {}
                }
            }
            self.end(shift).await;
        }
    }

    /// Does what a worker may do with a record; true when it died over it.
    async fn deal_with(&mut self, shift: &mut Shift, lease: Lease) -> bool {
        match self.dice.below(100) {
            0..=44 => {
                sleep(self.dice.millis(0..=1500)).await;
                self.done(shift, lease);
            }
            45..=57 => lease.refuse(self.dice.millis(0..=20_000)),
            // Later than its time, or nearly.
            58..=69 => {
                sleep(self.dice.millis(25_000..=75_000)).await;
                self.done(shift, lease);
            }
            70..=79 => {
                for _ in 0..4 {
                    sleep(self.dice.millis(5000..=12_000)).await;
                    lease.extend();
                }
                self.done(shift, lease);
            }
            80..=84 => drop(lease),
            85..=94 => shift.kept.push(lease),
            _ if self.crashes => {
                self.world.net.client_dies(self.host);
                return true;
            }
            _ => self.done(shift, lease),
        }
        if self.dice.chance(30) && !shift.kept.is_empty() {
            let at = self.dice.below(shift.kept.len() as u64) as usize;
            let lease = shift.kept.swap_remove(at);
            self.done(shift, lease);
        }
        if self.dice.chance(25) {
            self.settle(shift, Duration::from_secs(30)).await;
        }
        false
    }

    fn done(&self, shift: &mut Shift, lease: Lease) {
        lock(&self.ledger).said.insert(lease.id().clone());
        shift.said.push(lease.id().clone());
        lease.done();
    }

    /// Waits until the relay knows what was said.
    async fn settle(&self, shift: &mut Shift, within: Duration) {
        if let Ok(Ok(())) = timeout(within, shift.reader.settled()).await {
            self.know(std::mem::take(&mut shift.said), &shift.lost);
        }
    }

    fn know(&self, said: Vec<LeaseId>, lost: &Mutex<BTreeSet<LeaseId>>) {
        let lost = lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut ledger = lock(&self.ledger);
        ledger.stale += said.iter().filter(|lease| lost.contains(lease)).count() as u64;
        ledger.confirmed(said.into_iter().filter(|lease| !lost.contains(lease)));
    }

    async fn begin(&mut self, no_wait: bool) -> Option<Shift> {
        let mut options = ReaderOptions::default().with_mode(Mode::Queue);
        (options.prefetch, options.no_wait) = (self.dice.within(1..=PREFETCH_MAX) as u32, no_wait);
        let lost = Arc::new(Mutex::new(BTreeSet::new()));
        let of_reader = lost.clone();
        let options = options.on_event(move |told| {
            if let Told::LeaseLost { lease, .. } = told {
                of_reader.lock().unwrap_or_else(PoisonError::into_inner).insert(lease);
            }
        });
        match self.pipe().reader_with(options).await {
            Ok(reader) => Some(Shift { reader, said: Vec::new(), lost, kept: Vec::new() }),
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// The end of a worker: with what it has in its hands given back, or without a word.
    async fn end(&mut self, mut shift: Shift) {
        if self.dice.chance(60) {
            self.settle(&mut shift, Duration::from_secs(120)).await;
        }
        shift.kept.clear();
        // Who goes without a word breaks its link.
        if !self.crashes || self.dice.chance(70) {
            let Shift { reader, said, lost, .. } = shift;
            match timeout(Duration::from_secs(600), reader.leave(false)).await {
                Ok(Ok(_)) => self.know(said, &lost),
                Ok(Err(error)) => self.failed(&error),
                Err(_) => lock(&self.ledger).wrong.push(format!("{:?} cannot leave", self.host)),
            }
        }
    }

    /// Takes all there is, until nothing comes any more.
    async fn take_all(&mut self, dead: bool) {
        let began = Instant::now();
        while began.elapsed() < NOTHING_COMES * 20 {
            let Some(mut shift) = self.begin(dead).await else { return };
            let mut count = 0;
            while let Ok(Ok(Some(lease))) = timeout(NOTHING_COMES, shift.reader.next_lease()).await {
                count += 1;
                if dead {
                    lock(&self.ledger).dead.extend(identify(lease.body()));
                    lease.done();
                } else {
                    self.done(&mut shift, lease);
                }
            }
            self.settle(&mut shift, Duration::from_secs(600)).await;
            if let Ok(Err(error)) = timeout(Duration::from_secs(600), shift.reader.leave(false)).await {
                self.failed(&error);
            }
            if count == 0 {
                return;
            }
        }
        lock(&self.ledger).wrong.push("records come for ever".to_owned());
    }

    /// What a worker may hear although nothing is wrong.
    fn failed(&self, error: &Error) {
        if !matches!(
            error.code(),
            Code::Unknown | Code::Unreachable | Code::Empty | Code::SessionExpired | Code::Access
        ) {
            lock(&self.ledger).wrong.push(format!("{:?}: {error}", self.host));
        }
    }

    fn pipe(&self) -> BrokerPipe {
        let inner = broker(&self.world.common, self.host);
        // The dead letters have attempts of their own.
        let ledger = (self.queue == QUEUE).then(|| self.ledger.clone());
        pipe_of(&self.world, self.host, Arc::new(Seen { inner, ledger }), self.queue)
    }
}

/// Notes what reaches a worker's machine, whether or not its application ever sees it.
struct Seen {
    inner: SharedBroker,
    ledger: Option<Arc<Mutex<Ledger>>>,
}

#[async_trait]
impl Broker for Seen {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn attach_writer(
        &self,
        caller: &Caller,
        pipe: &PipeRef,
        attach: WriterAttach,
    ) -> Result<WriterHalves, Error> {
        self.inner.attach_writer(caller, pipe, attach).await
    }

    async fn attach_reader(
        &self,
        caller: &Caller,
        pipe: &PipeRef,
        attach: ReaderAttach,
    ) -> Result<ReaderHalves, Error> {
        let session = attach.session;
        if let Some(ledger) = &self.ledger {
            lock(ledger).attaches += 1;
        }
        let ReaderHalves { welcome, up, down } = self.inner.attach_reader(caller, pipe, attach).await?;
        let ledger = self.ledger.clone();
        let mut whole = Vec::new();
        let down = down.inspect(move |message| {
            if let (Ok(ReaderDown::Leased { lease, batch, .. }), Some(ledger)) = (message, &ledger) {
                // Over each link a record in parts comes from its beginning.
                if batch.first_start() == Some(batch.first()) {
                    whole.clear();
                }
                whole.extend_from_slice(&batch.bodies());
                if !batch.is_open() {
                    lock(ledger).arrives(session, lease, &whole);
                }
            }
        });
        Ok(ReaderHalves { welcome, up, down: Box::pin(down) })
    }

    async fn list(&self, caller: &Caller, query: ListQuery) -> Result<ListPage, Error> {
        self.inner.list(caller, query).await
    }

    async fn stat(&self, caller: &Caller, pipe: &PipeRef) -> Result<PipeStat, Error> {
        self.inner.stat(caller, pipe).await
    }

    async fn remove(&self, caller: &Caller, pipe: &PipeRef) -> Result<(), Error> {
        self.inner.remove(caller, pipe).await
    }
}
