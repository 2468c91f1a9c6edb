//! One simulation from its seed: relay, clients, faults, and the judgement at its end.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use skypipe_core::{Code, Env, Work};
use tokio::time::timeout;

use crate::checker::{Broken, check};
use crate::client::{Client, Common};
use crate::clock::SimClock;
use crate::dice::{Dice, SharedDice};
use crate::disk::{Death, Full, SimDisk};
use crate::history::Event;
use crate::net::{Host, Net, Via, Way};
use crate::relay::RelayHost;
use crate::trace::{Keep, Trace};

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many clients.
    pub clients: u32,
    /// Calls that each makes.
    pub calls: u32,
    /// On how many pipes.
    pub pipes: u32,
    /// Which faults come, each as often as it stands here.
    pub faults: Vec<Fault>,
    /// Time between two faults, in milliseconds.
    pub fault_every: std::ops::RangeInclusive<u64>,
    /// Pause of a client between two items, in milliseconds.
    pub lull: std::ops::RangeInclusive<u64>,
    /// The clients go on for at least so long.
    pub lasts: Duration,
    /// How much of the trace is kept.
    pub keep: Keep,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The relay's process is killed, at once or in the middle of what it does.
    Kill,
    /// The power of the relay's machine goes, likewise.
    PowerCut,
    /// The relay is stopped in order and started again.
    Restart,
    /// A client's links are reset.
    Cut,
    /// One way to or from a client carries nothing for a while.
    Hold,
    /// A client is cut off for a while.
    Partition,
    /// A client is further away from now on, or nearer.
    Latency,
    /// The disk is full for a while.
    FullDisk,
    /// The disk takes its time for a while.
    SlowDisk,
    /// The wall clock jumps by up to ten years, either way.
    WallClock,
}

impl Fault {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Kill,
        Self::PowerCut,
        Self::Restart,
        Self::Cut,
        Self::Hold,
        Self::Partition,
        Self::Latency,
        Self::FullDisk,
        Self::SlowDisk,
    ];
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            clients: 5,
            calls: 200,
            pipes: 2,
            faults: Fault::ALL.to_vec(),
            fault_every: 500..=15_000,
            lull: 0..=3000,
            lasts: Duration::ZERO,
            keep: Keep::Sum,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The promises that were not kept.
    pub broken: Vec<Broken>,
    /// What happened.
    pub trace: String,
    /// Deaths of the relay's machine by kill, and by power cut.
    pub kills: u64,
    /// See `kills`.
    pub power_cuts: u64,
    /// Records that were handed over.
    pub records: u64,
    /// Records that are known to be settled.
    pub settled: u64,
    /// How long it took by its own clock.
    pub took: Duration,
}

/// A simulation that has not ended by its own clock has hung.
const HANGS_AFTER: Duration = Duration::from_secs(20 * 24 * 60 * 60);
/// A link that carries nothing one way is found broken after this time, as the transports do.
const SILENCE: Duration = Duration::from_secs(15);
/// Longer than a writer without a reader is waited for: after it nobody is attached.
const ALL_LOST: Duration = Duration::from_secs(25 * 60 * 60);
const TEN_YEARS_MILLIS: i64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// Runs one simulation.
pub fn run(seed: u64, plan: &Plan) -> Report {
    in_virtual_time(async {
        let world = Rc::new(World::new(seed, plan));
        if timeout(HANGS_AFTER, world.clone().live()).await.is_err() {
            world.fault("the simulation hangs");
        }
        world.report()
    })
}

/// Runs something in one thread, where time passes when nobody has anything to do.
pub(crate) fn in_virtual_time<T>(what: impl Future<Output = T>) -> T {
    #[expect(clippy::expect_used, reason = "a runtime without sockets and threads needs nothing of the system")]
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, what)
}

/// All of one simulation.
pub(crate) struct World {
    plan: Plan,
    clock: Arc<SimClock>,
    trace: Arc<Trace>,
    pub(crate) net: Net,
    pub(crate) disk: SimDisk,
    pub(crate) relay: RelayHost,
    pub(crate) common: Arc<Common>,
    pipes: Vec<String>,
    deaths: std::cell::Cell<[u64; 2]>,
    pub(crate) dice: std::cell::RefCell<Dice>,
}

impl World {
    pub(crate) fn new(seed: u64, plan: &Plan) -> Self {
        let clock = Arc::new(SimClock::start());
        let trace = Arc::new(Trace::new(clock.clone(), plan.keep));
        let net = Net::new(Dice::new(seed, "net"), trace.clone());
        let disk = SimDisk::new(Dice::new(seed, "disk"), trace.clone());
        let mut env = Env::system();
        (env.clock, env.work) = (clock.clone(), Work::Inline);
        env.random = Arc::new(SharedDice::new(seed, "relay"));
        let relay = RelayHost::new(net.clone(), disk.clone(), env.clone());
        let common = Arc::new(Common::new(seed, net.clone(), env, trace.clone()));
        let pipes = (0..plan.pipes).map(|n| format!("pipe/{n}")).collect();
        let dice = std::cell::RefCell::new(Dice::new(seed, "faults"));
        let deaths = std::cell::Cell::default();
        Self { plan: plan.clone(), clock, trace, net, disk, relay, common, pipes, deaths, dice }
    }

    fn fault(&self, text: &str) {
        self.trace.say("world", text);
        self.common.history.note(Event::Fault(text.to_owned()));
    }

    async fn live(self: Rc<Self>) {
        self.start().await;
        let mut clients = tokio::task::JoinSet::new();
        for n in 0..self.plan.clients {
            let host = Host(n + 1);
            let (via, latency) = {
                let mut dice = self.dice.borrow_mut();
                (if dice.chance(30) { Via::Socket } else { Via::Network }, dice.within(0..=80))
            };
            self.net.add(host, via, latency);
            let client = Client::new(&self.common, host, &self.pipes, self.plan.calls);
            clients.spawn_local(client.run(self.plan.lull.clone(), self.clock.clone(), self.plan.lasts));
        }
        let faults = tokio::task::spawn_local(self.clone().faults_of(self.plan.clients));
        while let Some(done) = clients.join_next().await {
            if done.is_err() {
                self.fault("a client panicked");
            }
        }
        faults.abort();
        let _ = faults.await;
        self.judge(self.plan.clients).await;
    }

    /// The promises that were not kept, in words.
    pub(crate) fn broken(&self) -> Vec<String> {
        check(&self.common.history.events()).iter().map(ToString::to_string).collect()
    }

    /// How often the relay's machine died.
    pub(crate) fn died(&self) -> u64 {
        self.deaths.get().iter().sum()
    }

    /// All is healed, everybody gone: what is left is what was not taken.
    pub(crate) async fn judge(&self, clients: u32) {
        for n in 0..clients {
            let host = Host(n + 1);
            [Way::Up, Way::Down].into_iter().for_each(|way| self.net.hold(host, way, false));
            self.net.client_dies(host);
        }
        self.disk.lives();
        self.disk.set_full(None);
        self.disk.set_slow(Duration::ZERO);
        self.clock.set_wall_off(0);
        self.start().await;
        tokio::time::sleep(ALL_LOST).await;
        let host = Host(clients + 1);
        self.net.add(host, Via::Network, 1);
        self.common.note(host, Event::Drains);
        let mut last = Client::new(&self.common, host, &self.pipes, 0);
        for pipe in 0..self.pipes.len() {
            last.drain(pipe).await;
            if let Err(text) = last.is_gone(pipe).await {
                self.fault(&text);
            }
        }
        self.relay.stop().await;
    }

    /// Starts the relay if it does not run.
    pub(crate) async fn start(&self) {
        while !self.relay.is_up() {
            match self.relay.start() {
                Ok(()) => {
                    self.trace.say("world", "the relay runs");
                    self.common.history.note(Event::RelayStarts);
                }
                Err(error) if error.code() == Code::NoSpace => tokio::time::sleep(Duration::from_secs(1)).await,
                // The power went again while it opened its data.
                Err(error) if error.text().contains("the machine is dead") => {}
                Err(error) => {
                    self.fault(&format!("the relay does not start: {error}"));
                    tokio::time::sleep(HANGS_AFTER).await;
                }
            }
        }
    }

    /// Lets faults befall the relay and so many clients, until it is aborted.
    pub(crate) async fn faults_of(self: Rc<Self>, clients: u32) {
        loop {
            let (pause, fault) = {
                let mut dice = self.dice.borrow_mut();
                let pause = dice.millis(self.plan.fault_every.clone());
                let at = dice.below(self.plan.faults.len() as u64) as usize;
                (pause, self.plan.faults.get(at).copied())
            };
            tokio::time::sleep(pause).await;
            // It may have died at an operation of its disk meanwhile.
            self.start().await;
            if let Some(fault) = fault {
                self.trace.say("world", format_args!("{fault:?}"));
                self.befall(fault, clients).await;
            }
        }
    }

    async fn befall(self: &Rc<Self>, fault: Fault, clients: u32) {
        let (host, way, brief, long, number) = {
            let mut dice = self.dice.borrow_mut();
            let host = Host(1 + dice.below(u64::from(clients)) as u32);
            let way = if dice.chance(50) { Way::Up } else { Way::Down };
            let long = if dice.chance(80) { 1..=20_000 } else { 61_000..=200_000 };
            (host, way, dice.millis(0..=3000), dice.millis(long), dice.below(1000))
        };
        match fault {
            Fault::Kill => self.dies(Death::Kill, brief, number).await,
            Fault::PowerCut => self.dies(Death::PowerCut, brief, number).await,
            Fault::Restart => {
                self.relay.stop().await;
                tokio::time::sleep(brief).await;
                self.start().await;
            }
            Fault::Cut => self.net.cut(host),
            Fault::Hold => self.in_time(move |world| world.hold(host, vec![way], long)),
            Fault::Partition => self.in_time(move |world| world.hold(host, vec![Way::Up, Way::Down], long)),
            Fault::Latency => self.net.set_latency(host, number / 3),
            Fault::FullDisk => {
                self.disk.set_full(Some(if number.is_multiple_of(2) { Full::ByRoom } else { Full::ByWrite }));
                tokio::time::sleep(brief * 3).await;
                self.disk.set_full(None);
            }
            Fault::SlowDisk => {
                self.disk.set_slow(Duration::from_millis(number));
                self.in_time(move |world| async move {
                    tokio::time::sleep(long).await;
                    world.disk.set_slow(Duration::ZERO);
                });
            }
            Fault::WallClock => {
                let off = i64::try_from(number).unwrap_or(0) * (TEN_YEARS_MILLIS / 500) - TEN_YEARS_MILLIS;
                self.clock.set_wall_off(off);
            }
        }
    }

    /// Does something beside what else happens.
    fn in_time<F: Future<Output = ()> + 'static>(self: &Rc<Self>, what: impl FnOnce(Rc<Self>) -> F) {
        tokio::task::spawn_local(what(self.clone()));
    }

    async fn hold(self: Rc<Self>, host: Host, ways: Vec<Way>, long: Duration) {
        ways.iter().for_each(|way| self.net.hold(host, *way, true));
        tokio::time::sleep(long.min(SILENCE)).await;
        if long > SILENCE {
            self.net.cut(host);
            tokio::time::sleep(long.saturating_sub(SILENCE)).await;
        }
        ways.iter().for_each(|way| self.net.hold(host, *way, false));
    }

    /// Dies now, or within the next operations of its disk; and is back after a while.
    async fn dies(&self, death: Death, back: Duration, number: u64) {
        let mut deaths = self.deaths.get();
        deaths[death as usize] += 1;
        self.deaths.set(deaths);
        if number.is_multiple_of(4) {
            self.relay.die(death);
        } else {
            self.disk.dies_in(1 + number % 40, death);
            // With nothing to write it lives on; then the moment comes later.
            tokio::time::sleep(back).await;
        }
        if self.relay.is_up() {
            return;
        }
        tokio::time::sleep(back).await;
        if number % 8 == 1 {
            // It dies again while it opens its data.
            self.disk.dies_in(1 + number % 5, death);
        }
        self.start().await;
    }

    fn report(&self) -> Report {
        let events = self.common.history.events();
        let got = events.iter().filter(|event| matches!(event, Event::Got(..))).count() as u64;
        let mut settled = std::collections::BTreeMap::new();
        for event in &events {
            if let Event::Settled(item, count) = event {
                let most: &mut u64 = settled.entry(*item).or_default();
                *most = (*count).max(*most);
            }
        }
        let [kills, power_cuts] = self.deaths.get();
        Report {
            broken: check(&events),
            trace: self.trace.text(),
            kills,
            power_cuts,
            records: got,
            settled: settled.values().sum(),
            took: self.clock.elapsed(),
        }
    }
}
