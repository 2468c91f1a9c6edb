//! A broadcast whose relay dies while readers come, crash and go on, by their names or by themselves: what P8 says, seen from outside.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skypipe_core::{
    BrokerPipe, Caller, Code, Error, Event as Told, Mark, Mode, Pipe, PipeName, Position, Reader, ReaderOptions,
    Record, Retain, Seq, Start, Until, WriterOptions,
};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use crate::client::{broker, env};
use crate::dice::Dice;
use crate::history::{ItemId, RecordId, body, identify};
use crate::net::{Host, Via, Way};
use crate::workers::send;
use crate::world::{Fault, Plan, World, in_virtual_time};

/// More than any of these takes by its own clock.
const HANGS_AFTER: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// Longer than any fault lasts that is left when nothing new is begun: then all that can come has come.
const NOTHING_COMES: Duration = Duration::from_secs(200);
/// The broadcast.
const NEWS: &str = "news";

/// What happens in it.
#[derive(Clone, Debug)]
pub struct Paper {
    /// Readers with a durable cursor.
    pub named: u32,
    /// Readers without.
    pub others: u32,
    /// How many writers.
    pub writers: u32,
    /// Records of each writer.
    pub records: u32,
    /// Faults of relay, links and disk.
    pub faults: Vec<Fault>,
}

impl Default for Paper {
    fn default() -> Self {
        let faults = vec![Fault::Kill, Fault::PowerCut, Fault::Restart, Fault::Cut, Fault::SlowDisk];
        Self { named: 2, others: 2, writers: 2, records: 60, faults }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Delivered {
    /// The promises that were not kept.
    pub broken: Vec<String>,
    /// Deaths of the relay.
    pub deaths: u64,
    /// Records that were settled for their writers.
    pub records: u64,
    /// Records that readers got.
    pub got: u64,
    /// Records that readers were told to be gone.
    pub missing: u64,
    /// How often a reader went on with its cursor.
    pub returns: u64,
}

/// Runs it.
pub fn publish(seed: u64, paper: &Paper) -> Delivered {
    in_virtual_time(async move {
        let plan = Plan { faults: paper.faults.clone(), fault_every: 1000..=6000, ..Plan::default() };
        let world = Rc::new(World::new(seed, &plan));
        let desk = Rc::new(Desk { world: world.clone(), paper: paper.clone(), ..Desk::new(&world) });
        let hung = timeout(HANGS_AFTER, desk.clone().live(seed)).await.is_err();
        let mut seen = desk.judge();
        seen.broken.extend(hung.then(|| "it hangs".to_owned()));
        seen.broken.extend(world.broken());
        seen.deaths = world.died();
        seen
    })
}

/// What all know.
struct Desk {
    world: Rc<World>,
    paper: Paper,
    sent: RefCell<BTreeSet<RecordId>>,
    settled: RefCell<BTreeMap<ItemId, u64>>,
    /// What stands where: the same for everybody.
    tape: RefCell<BTreeMap<Seq, RecordId>>,
    seen: RefCell<Delivered>,
    /// Some records are not kept.
    retains: Cell<bool>,
    /// All is written, and nothing befalls anybody any more.
    closing: Cell<bool>,
}

impl Desk {
    fn new(world: &Rc<World>) -> Self {
        Self {
            world: world.clone(),
            paper: Paper::default(),
            sent: RefCell::default(),
            settled: RefCell::default(),
            tape: RefCell::default(),
            seen: RefCell::default(),
            retains: Cell::new(false),
            closing: Cell::new(false),
        }
    }

    fn wrong(&self, text: impl Into<String>) {
        self.seen.borrow_mut().broken.push(text.into());
    }

    async fn live(self: Rc<Self>, seed: u64) {
        let (world, paper) = (&self.world, &self.paper);
        world.start().await;
        let mut dice = Dice::new(seed, "paper");
        self.retains.set(dice.chance(30));
        let (mut writing, mut reading) = (JoinSet::new(), JoinSet::new());
        let (readers, hosts) = (paper.named + paper.others, paper.named + paper.others + paper.writers);
        for n in 0..hosts {
            let host = Host(n + 1);
            let via = if dice.chance(30) { Via::Socket } else { Via::Network };
            world.net.add(host, via, dice.within(0..=80));
            let dice = Dice::new(seed, &format!("paper {n}"));
            if n < readers {
                let name = (n < paper.named).then(|| format!("reader {n}"));
                reading.spawn_local(Subscriber::new(&self, host, name, dice).read());
            } else {
                writing.spawn_local(self.clone().write(host, dice));
            }
        }
        let faults = spawn_local(world.clone().faults_of(hosts));
        self.join(&mut writing).await;
        sleep(dice.millis(10_000..=60_000)).await;
        faults.abort();
        let _ = faults.await;
        for n in 0..hosts {
            [Way::Up, Way::Down].into_iter().for_each(|way| world.net.hold(Host(n + 1), way, false));
        }
        world.disk.lives();
        world.disk.set_full(None);
        world.disk.set_slow(Duration::ZERO);
        world.start().await;
        self.closing.set(true);
        self.join(&mut reading).await;
        world.relay.stop().await;
    }

    async fn join(&self, tasks: &mut JoinSet<()>) {
        while let Some(done) = tasks.join_next().await {
            if let Err(error) = done {
                self.wrong(error.to_string());
            }
        }
    }

    async fn write(self: Rc<Self>, host: Host, mut dice: Dice) {
        let item = ItemId(host.0);
        let mut options = WriterOptions::default().with_mode(Mode::Broadcast);
        if self.retains.get() {
            options.settings.retain = Retain { records: Some(25), ..Retain::default() };
        }
        let written = async {
            let mut writer = self.pipe(host).writer_with(options).await?;
            for n in 0..self.paper.records {
                let record = RecordId { item, n };
                self.sent.borrow_mut().insert(record);
                send(&mut writer, &body(record, dice.within(20..=3000) as usize), &mut dice).await?;
                // Some come together in a batch.
                if dice.chance(60) {
                    sleep(dice.millis(0..=2500)).await;
                }
                self.settled.borrow_mut().insert(item, writer.progress().settled);
            }
            writer.end(Until::Stored).await
        };
        match written.await {
            Ok(_) => drop(self.settled.borrow_mut().insert(item, u64::from(self.paper.records))),
            // Away for too long, it lacks only the answer to its end mark.
            Err(error) if error.code() == Code::SessionExpired => {}
            Err(error) => self.wrong(format!("{item:?}: {error}")),
        }
    }

    fn pipe(&self, host: Host) -> BrokerPipe {
        #[expect(clippy::expect_used, reason = "the simulation's own names")]
        let name = PipeName::new(NEWS).expect("a name");
        let pipe = BrokerPipe::new(broker(&self.world.common, host), Caller::in_process(), name);
        pipe.with_env(env(&self.world.common, host))
    }

    /// A record stands at a place, as it does for everybody.
    fn stands(&self, place: Seq, record: RecordId) {
        if !self.sent.borrow().contains(&record) {
            self.wrong(format!("{record:?} was never sent"));
        }
        let known = *self.tape.borrow_mut().entry(place).or_insert(record);
        if known != record {
            self.wrong(format!("{record:?} stands at {place:?}, where another reader got {known:?}"));
        }
    }

    /// What holds at the end, when everybody has all there is.
    fn judge(&self) -> Delivered {
        let mut seen = std::mem::take(&mut *self.seen.borrow_mut());
        let (tape, settled) = (self.tape.borrow(), self.settled.borrow());
        let mut count: BTreeMap<RecordId, u32> = BTreeMap::new();
        let mut last: BTreeMap<ItemId, u32> = BTreeMap::new();
        for record in tape.values() {
            *count.entry(*record).or_default() += 1;
            if last.insert(record.item, record.n).is_some_and(|before| before >= record.n) {
                seen.broken.push(format!("{record:?} stands behind a later one of its writer"));
            }
        }
        let twice = count.iter().filter(|(_, count)| **count > 1);
        seen.broken.extend(twice.map(|(record, count)| format!("{record:?} stands in {count} places")));
        if !self.retains.get() {
            let all = settled.iter().flat_map(|(item, count)| (0..*count as u32).map(|n| RecordId { item: *item, n }));
            let lost = all.filter(|record| !count.contains_key(record));
            seen.broken.extend(lost.map(|record| format!("{record:?} is lost, and was settled")));
        }
        seen.records = settled.values().sum();
        seen
    }
}

/// What a reader was told to be gone: from, to, and how many.
type Gaps = Arc<Mutex<Vec<(Seq, Seq, u64)>>>;

/// One reader, through all its deaths.
struct Subscriber {
    desk: Rc<Desk>,
    host: Host,
    /// Its durable cursor.
    name: Option<String>,
    dice: Dice,
    /// Behind what it has, once it began.
    next: Option<Seq>,
    /// Its cursor stands here at least: the relay said so by letting it go.
    saved: Seq,
    /// It acknowledged all below in one of its lives.
    acked: Seq,
}

impl Subscriber {
    fn new(desk: &Rc<Desk>, host: Host, name: Option<String>, dice: Dice) -> Self {
        Self { desk: desk.clone(), host, name, dice, next: None, saved: Seq(0), acked: Seq(0) }
    }

    async fn read(mut self) {
        let mut quiet = Instant::now();
        while quiet.elapsed() < NOTHING_COMES || !self.desk.closing.get() {
            let gaps = Arc::new(Mutex::new(Vec::new()));
            let Some(mut reader) = self.begin(&gaps).await else {
                sleep(Duration::from_secs(1)).await;
                continue;
            };
            // A new reader with its name begins where the cursor stands.
            let mut is_first = self.name.is_some() && self.next.is_some();
            let lasts = self.dice.within(3..=60);
            let mut left = lasts;
            let crashes = loop {
                let patience = if self.desk.closing.get() { NOTHING_COMES } else { Duration::from_secs(20) };
                match timeout(patience, reader.next()).await {
                    Ok(Ok(Some(record))) => {
                        quiet = Instant::now();
                        self.got(&record, &gaps, &mut is_first);
                    }
                    Ok(Ok(None)) => break false,
                    Ok(Err(error)) => {
                        self.failed(&error);
                        break false;
                    }
                    Err(_) if self.desk.closing.get() => break false,
                    Err(_) => {}
                }
                sleep(self.dice.millis(0..=1200)).await;
                left = left.saturating_sub(1);
                if left == 0 && !self.desk.closing.get() {
                    break self.dice.chance(50);
                }
            };
            self.end(reader, crashes).await;
        }
        let end = self.desk.tape.borrow().last_key_value().map_or(Seq(0), |(place, _)| Seq(place.0 + 1));
        if self.next != Some(end) {
            self.desk.wrong(format!("{:?} is at {:?}, and the end is {end:?}", self.host, self.next));
        }
    }

    async fn begin(&mut self, gaps: &Gaps) -> Option<Reader> {
        let mut options = ReaderOptions::default().with_mode(Mode::Broadcast);
        options.cursor.clone_from(&self.name);
        options.start = match self.next {
            // What it has it remembers itself.
            Some(next) if self.name.is_none() => Start::At(Mark { position: next.into(), records: 0 }),
            _ => Start::Beginning,
        };
        let told = gaps.clone();
        let options = options.on_event(move |event| {
            if let Told::Missing { from, to, records, .. } = event
                && let (Ok(from), Ok(to)) = (Seq::try_from(&from), Seq::try_from(&to))
            {
                told.lock().unwrap_or_else(PoisonError::into_inner).push((from, to, records));
            }
        });
        match self.desk.pipe(self.host).reader_with(options).await {
            Ok(reader) => Some(reader),
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// A record is handed over, and the one before acknowledged.
    fn got(&mut self, record: &Record, gaps: &Gaps, is_first: &mut bool) {
        let (Ok(place), Some(known)) = (place(&record.at), identify(&record.body)) else {
            return self.desk.wrong(format!("{:?} got {} bytes that nobody sent", self.host, record.body.len()));
        };
        self.desk.stands(place, known);
        self.desk.seen.borrow_mut().got += 1;
        let gaps = std::mem::take(&mut *gaps.lock().unwrap_or_else(PoisonError::into_inner));
        let begins = gaps.first().map_or(place, |(from, ..)| *from);
        let mut at = match std::mem::take(is_first) {
            true => {
                self.desk.seen.borrow_mut().returns += 1;
                // The cursor is behind nothing that was known to be acknowledged, and before nothing that was not.
                let at = begins.clamp(self.saved, self.acked.max(self.saved));
                self.acked = at;
                Some(at)
            }
            // Without a cursor it knows itself; at first it begins with what is kept.
            false => self.next.or((!self.desk.retains.get()).then_some(Seq(0))),
        };
        for (from, to, records) in gaps {
            self.desk.seen.borrow_mut().missing += records;
            if !self.desk.retains.get() || records != to.0 - from.0 || at.is_some_and(|at| at != from) {
                self.desk.wrong(format!(
                    "{:?} at {at:?} is told that {records} from {from:?} to {to:?} are gone",
                    self.host
                ));
            }
            at = Some(to);
        }
        if at.is_some_and(|at| at != place) {
            self.desk.wrong(format!(
                "{:?} {:?} got {place:?} and not {at:?}; saved {:?}, acknowledged {:?}",
                self.host, self.name, self.saved, self.acked
            ));
        }
        // To ask for this one was to acknowledge the one before.
        self.acked = self.acked.max(place);
        self.next = Some(place.plus(1));
    }

    /// With a word to the relay, which then knows what was acknowledged; or without one.
    async fn end(&mut self, mut reader: Reader, crashes: bool) {
        if crashes {
            self.desk.world.net.client_dies(self.host);
            return;
        }
        reader.ack();
        self.acked = self.acked.max(self.next.unwrap_or_default());
        match timeout(Duration::from_secs(600), reader.leave(false)).await {
            Ok(Ok(_)) => self.saved = self.acked,
            Ok(Err(error)) => self.failed(&error),
            Err(_) => self.desk.wrong(format!("{:?} cannot leave", self.host)),
        }
    }

    /// What a reader may hear although nothing is wrong.
    fn failed(&self, error: &Error) {
        if !matches!(error.code(), Code::Unknown | Code::Unreachable | Code::SessionExpired) {
            self.desk.wrong(format!("{:?}: {error}", self.host));
        }
    }
}

/// The place of a record.
fn place(mark: &Mark) -> Result<Seq, Error> {
    // That of a record in parts ends with the part.
    let position = Position(mark.position.0.slice(..mark.position.0.len().min(8)));
    Ok(Seq::try_from(&position)?.plus(u64::from(mark.records)))
}
