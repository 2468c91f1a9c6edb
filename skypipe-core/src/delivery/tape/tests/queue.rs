//! P7: no record is lost, none is in two hands, stale acknowledgements are refused, and how often a record was handed out is known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use skypipe_test::proof::{Proof, cases};
use skypipe_test::property;

use super::world::{World, body};
use crate::broker::{LeaseId, Mode, OnTape, ReaderAttach, ReaderDown, ReaderUp, Settings, Take, Verdict, WriterResume};
use crate::caller::Holder;
use crate::error::Code;
use crate::id::{Epoch, Seq, SessionId};
use crate::time::WallTime;

const CONSUMERS: usize = 3;
const LEASE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
enum Step {
    Write {
        writer: usize,
        records: usize,
        delay: u64,
    },
    /// It begins a record in parts.
    Begin {
        writer: usize,
        delay: u64,
    },
    GoOn(usize),
    WriterReturns(usize),
    /// A consumer takes what is there for it.
    Take(usize),
    Done {
        consumer: usize,
        which: usize,
    },
    Refuse {
        consumer: usize,
        which: usize,
        delay: u64,
    },
    Extend {
        consumer: usize,
        which: usize,
    },
    /// It says something of a record that it had before.
    Stale {
        consumer: usize,
        which: usize,
    },
    /// Its process dies, and a new one comes.
    Dies(usize),
    /// Its link breaks and comes back.
    Breaks(usize),
    Pass(u64),
    Sync,
    SyncSome(usize),
    Snapshot,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let consumer = 0..CONSUMERS;
    prop_oneof![
        4 => (0..3usize, 1..4usize, prop_oneof![4 => Just(0u64), 1 => 1..100u64])
            .prop_map(|(writer, records, delay)| Step::Write { writer, records, delay }),
        1 => (0..3usize, prop_oneof![4 => Just(0u64), 1 => 1..100u64])
            .prop_map(|(writer, delay)| Step::Begin { writer, delay }),
        2 => (0..3usize).prop_map(Step::GoOn),
        2 => (0..3usize).prop_map(Step::WriterReturns),
        6 => consumer.clone().prop_map(Step::Take),
        5 => (consumer.clone(), 0..8usize).prop_map(|(consumer, which)| Step::Done { consumer, which }),
        2 => (consumer.clone(), 0..8usize, prop_oneof![Just(0), 1..60u64])
            .prop_map(|(consumer, which, delay)| Step::Refuse { consumer, which, delay }),
        1 => (consumer.clone(), 0..8usize).prop_map(|(consumer, which)| Step::Extend { consumer, which }),
        2 => (consumer.clone(), 0..8usize).prop_map(|(consumer, which)| Step::Stale { consumer, which }),
        1 => consumer.clone().prop_map(Step::Dies),
        1 => consumer.prop_map(Step::Breaks),
        2 => (1..40u64).prop_map(Step::Pass),
        6 => Just(Step::Sync),
        2 => (1..5usize).prop_map(Step::SyncSome),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Crash),
    ]
}

/// A consumer and what it believes.
struct Consumer {
    session: SessionId,
    epoch: Epoch,
    attached: bool,
    /// In its hands, with the body.
    has: BTreeMap<LeaseId, String>,
    /// What it had.
    had: Vec<LeaseId>,
    /// What it said and was not confirmed.
    said: BTreeMap<LeaseId, Verdict>,
}

struct Run {
    world: World,
    writers: Vec<SessionId>,
    written: u64,
    /// When each record may be handed out.
    not_before: BTreeMap<String, WallTime>,
    consumers: Vec<Consumer>,
    /// How often each record was handed out.
    attempts: BTreeMap<String, u32>,
    /// Confirmed as done.
    done: BTreeSet<String>,
    /// Said to be done by a consumer that died before it heard more, or given to the dead letters.
    perhaps: BTreeSet<String>,
    bodies: BTreeMap<Seq, String>,
    max_deliveries: u32,
}

impl Run {
    fn new(max_deliveries: u32) -> Self {
        let mut world = World::new(Mode::Queue);
        let writers = (0..3).map(|_| world.writer()).collect();
        world.set(Settings { max_deliveries: Some(max_deliveries), ..Settings::default() });
        world.sync();
        let consumers = (0..CONSUMERS).map(|_| consumer(&mut world)).collect();
        let mut run = Self {
            world,
            writers,
            written: 0,
            not_before: BTreeMap::new(),
            consumers,
            attempts: BTreeMap::new(),
            done: BTreeSet::new(),
            perhaps: BTreeSet::new(),
            bodies: BTreeMap::new(),
            max_deliveries,
        };
        (0..CONSUMERS).for_each(|index| run.join(index));
        run
    }

    fn join(&mut self, index: usize) {
        let attach = attach(&self.consumers[index], false);
        self.world.attach(&attach).unwrap();
        self.world.sync();
        self.consumers[index].attached = true;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write { writer, records, delay } => self.write(writer, records, delay),
            Step::Begin { writer, delay } => {
                let body = format!("record {}", self.written);
                self.written += 1;
                let moment = self.moment(delay);
                self.not_before.extend(moment.map(|moment| (body.clone(), moment)));
                self.world.begin_long(self.writers[writer], &body, moment);
            }
            Step::GoOn(writer) => self.world.go_on(self.writers[writer]),
            Step::WriterReturns(writer) => {
                if !self.world.is_connected(self.writers[writer]) {
                    self.writers[writer] = self.world.come_back(self.writers[writer]);
                }
            }
            Step::Take(consumer) => self.take(consumer),
            Step::Done { consumer, which } => self.say(consumer, which, Verdict::Done),
            Step::Refuse { consumer, which, delay } => {
                self.say(consumer, which, Verdict::Refused { delay: Duration::from_secs(delay) });
            }
            Step::Extend { consumer, which } => self.say(consumer, which, Verdict::Extend),
            Step::Stale { consumer, which } => self.say_stale(consumer, which),
            Step::Dies(consumer) => self.dies(consumer),
            Step::Breaks(consumer) => self.breaks(consumer),
            Step::Pass(seconds) => self.world.pass(Duration::from_secs(seconds)),
            Step::Sync => self.world.sync(),
            Step::SyncSome(count) => self.world.sync_some(count),
            Step::Snapshot => self.world.snapshot(),
            Step::Crash => self.crash(),
        }
        self.bury();
        self.world.figures();
    }

    fn write(&mut self, writer: usize, records: usize, delay: u64) {
        let bodies: Vec<String> = (0..records as u64).map(|n| format!("record {}", self.written + n)).collect();
        self.written += records as u64;
        let moment = self.moment(delay);
        if let Some(moment) = moment {
            self.not_before.extend(bodies.iter().map(|body| (body.clone(), moment)));
        }
        self.world.write(self.writers[writer], &bodies, moment);
    }

    fn moment(&self, delay: u64) -> Option<WallTime> {
        (delay > 0).then(|| WallTime(self.wall().0 + delay * 1000))
    }

    fn wall(&self) -> WallTime {
        WallTime(1_000_000 + self.world.now.0 / 1000)
    }

    /// What came for a consumer.
    fn take(&mut self, index: usize) {
        if !self.consumers[index].attached {
            return;
        }
        let (session, epoch) = (self.consumers[index].session, self.consumers[index].epoch);
        while let Some(message) = self.world.next(session, epoch) {
            match message {
                ReaderDown::Leased { lease, batch, .. } => self.leased(index, lease, body(&batch)),
                ReaderDown::Settled { lease, error } => self.settled(index, &lease, error),
                ReaderDown::Finished | ReaderDown::Notice(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn leased(&mut self, index: usize, lease: LeaseId, body: String) {
        assert!(!self.done.contains(&body), "{body} was done with");
        let place = Seq::try_from(&lease.position).unwrap();
        let known = self.bodies.entry(place).or_insert_with(|| body.clone());
        assert_eq!(*known, body, "another record at {place:?}");
        if let Some(moment) = self.not_before.get(&body) {
            assert!(self.wall() >= *moment, "{body} came before its time");
        }
        let before = self.attempts.get(&body).copied().unwrap_or(0);
        assert!(lease.attempt > before, "{body}: attempt {} behind {before}", lease.attempt);
        assert!(lease.attempt <= self.max_deliveries, "{body}: handed out {} times", lease.attempt);
        self.attempts.insert(body.clone(), lease.attempt);
        self.perhaps.remove(&body);
        self.consumers[index].has.insert(lease, body);
    }

    /// The relay knows what became of a record, or refuses to.
    fn settled(&mut self, index: usize, lease: &LeaseId, error: Option<Code>) {
        let consumer = &mut self.consumers[index];
        let said = consumer.said.remove(lease);
        let body = consumer.has.remove(lease);
        match error {
            None => {
                // What was said again over a new link is confirmed twice.
                let Some(body) = body else { return };
                if said == Some(Verdict::Done) {
                    // Nobody else had it since: it is this attempt that counts.
                    assert_eq!(self.attempts[&body], lease.attempt, "a stale acknowledgement of {body} counted");
                    assert!(self.done.insert(body), "done twice");
                }
            }
            Some(code) => assert_eq!(code, Code::LeaseLost),
        }
        consumer.had.push(lease.clone());
    }

    fn say(&mut self, index: usize, which: usize, verdict: Verdict) {
        let consumer = &mut self.consumers[index];
        let free: Vec<LeaseId> =
            consumer.has.keys().filter(|lease| !consumer.said.contains_key(lease)).cloned().collect();
        if free.is_empty() || !consumer.attached {
            return;
        }
        let lease = free[which % free.len()].clone();
        match verdict {
            Verdict::Extend => {}
            verdict => drop(consumer.said.insert(lease.clone(), verdict)),
        }
        let (session, epoch) = (consumer.session, consumer.epoch);
        let up = ReaderUp::Settle { lease, verdict };
        self.world.pipe.reader_up(session, epoch, up, self.world.now).unwrap();
        self.world.effects();
    }

    /// What was given up, or lapsed and went elsewhere, cannot be acknowledged.
    fn say_stale(&mut self, index: usize, which: usize) {
        let consumer = &self.consumers[index];
        let stale: Vec<LeaseId> =
            consumer.had.iter().filter(|lease| !consumer.has.contains_key(lease)).cloned().collect();
        if stale.is_empty() || !consumer.attached {
            return;
        }
        let lease = stale[which % stale.len()].clone();
        let (session, epoch) = (consumer.session, consumer.epoch);
        self.take(index);
        let up = ReaderUp::Settle { lease: lease.clone(), verdict: Verdict::Done };
        self.world.pipe.reader_up(session, epoch, up, self.world.now).unwrap();
        self.world.effects();
        // What led to the answer must be on disk.
        self.world.sync();
        let mut refused = None;
        while let Some(message) = self.world.next(session, epoch) {
            match message {
                ReaderDown::Settled { lease: of, error } if of == lease => refused = Some(error),
                ReaderDown::Settled { lease: of, error } => self.settled(index, &of, error),
                ReaderDown::Leased { lease, batch, .. } => self.leased(index, lease, body(&batch)),
                _ => {}
            }
        }
        let place = Seq::try_from(&lease.position).unwrap();
        let is_done = self.bodies.get(&place).is_some_and(|body| self.done.contains(body));
        let refused = refused.expect("an answer");
        assert!(refused == Some(Code::LeaseLost) || is_done, "a stale acknowledgement of {lease:?} counted");
    }

    fn dies(&mut self, index: usize) {
        let session = self.consumers[index].session;
        self.world.pipe.lost(session, self.world.now);
        self.world.effects();
        self.replace(index);
    }

    fn replace(&mut self, index: usize) {
        let new = consumer(&mut self.world);
        let old = std::mem::replace(&mut self.consumers[index], new);
        let said = old.said.keys().filter_map(|lease| old.has.get(lease).cloned());
        self.perhaps.extend(said);
        self.join(index);
    }

    /// The link breaks; what it has it has still.
    fn breaks(&mut self, index: usize) {
        let (session, epoch) = (self.consumers[index].session, self.consumers[index].epoch);
        self.world.pipe.reader_away(session, epoch, self.world.now);
        self.world.effects();
        self.returns(index);
    }

    fn returns(&mut self, index: usize) {
        self.consumers[index].epoch = Epoch(self.consumers[index].epoch.0 + 1);
        let attach = attach(&self.consumers[index], true);
        match self.world.attach(&attach) {
            Ok(()) => {
                self.world.sync();
                self.consumers[index].attached = true;
                // What was said and not confirmed is said again.
                let (session, epoch) = (self.consumers[index].session, self.consumers[index].epoch);
                for (lease, verdict) in self.consumers[index].said.clone() {
                    let up = ReaderUp::Settle { lease, verdict };
                    self.world.pipe.reader_up(session, epoch, up, self.world.now).unwrap();
                    self.world.effects();
                }
            }
            Err(error) => {
                assert_eq!(error.code(), Code::SessionExpired);
                self.replace(index);
            }
        }
    }

    fn crash(&mut self) {
        self.world.crash();
        (0..CONSUMERS).for_each(|index| self.returns(index));
    }

    /// The driver moves the dead letters.
    fn bury(&mut self) {
        for place in std::mem::take(&mut self.world.buried) {
            if let Some(body) = self.bodies.get(&place) {
                assert_eq!(self.attempts[body], self.max_deliveries, "{body} went to the dead letters too soon");
                // A crash before the log knows may bring it back: then it is in both.
                self.perhaps.insert(body.clone());
            }
            self.world.pipe.buried(place);
            self.world.effects();
        }
    }

    /// In the end everything that was stored is handed out until it is done with.
    fn finish(mut self) {
        for writer in self.writers.clone() {
            let writer = if self.world.is_connected(writer) { writer } else { self.world.come_back(writer) };
            self.world.write_rest(writer);
        }
        for round in 0.. {
            assert!(round < 1000, "it never ends: {:?}", self.world.pipe.counts());
            self.world.sync();
            for index in 0..CONSUMERS {
                self.take(index);
                while self.consumers[index].has.keys().any(|lease| !self.consumers[index].said.contains_key(lease)) {
                    self.say(index, 0, Verdict::Done);
                }
                self.world.sync();
                self.take(index);
            }
            self.bury();
            if self.world.pipe.counts().items == 0 && self.consumers.iter().all(|consumer| consumer.said.is_empty()) {
                break;
            }
            self.world.pass(LEASE);
        }
        assert_eq!(self.world.pipe.counts().leased, 0, "nothing is left");
        let known: BTreeSet<&String> = self.done.union(&self.perhaps).collect();
        assert_eq!(known.len(), self.written as usize - self.world.torn.len(), "a record was lost");
    }
}

fn consumer(world: &mut World) -> Consumer {
    Consumer {
        session: world.name(),
        epoch: Epoch(1),
        attached: false,
        has: BTreeMap::new(),
        had: Vec::new(),
        said: BTreeMap::new(),
    }
}

fn attach(consumer: &Consumer, returns: bool) -> ReaderAttach {
    ReaderAttach {
        session: consumer.session,
        epoch: consumer.epoch,
        mode: None,
        take: Take::Any,
        keep: false,
        no_wait: false,
        credit: 1 << 40,
        mid_record: false,
        resume: returns.then(Vec::new),
        tape: OnTape { prefetch: 4, has: consumer.has.keys().cloned().collect(), ..OnTape::default() },
    }
}

#[test]
fn how_much_of_a_lost_writer_is_stored_is_told_once_it_is() {
    let mut world = World::new(Mode::Queue);
    let writer = world.writer();
    world.sync();
    world.write(writer, &["kept".to_owned()], None);
    world.pipe.lost(writer, world.now);
    world.effects();
    // Told now, and the relay killed then, its writer would keep nothing of what is not on disk.
    let resume = Some(WriterResume::default());
    let code = |world: &mut World| {
        let attached = world.pipe.attach_writer(writer, Epoch(2), resume, Holder::Unknown);
        attached.map_err(|error| error.code())
    };
    assert_eq!((code(&mut world), world.closed_at(writer)), (Err(Code::Busy), None));
    world.sync();
    assert_eq!((code(&mut world), world.closed_at(writer)), (Err(Code::SessionExpired), Some(Seq(1))));
    assert_eq!(world.pipe.next_tick(), None, "nothing more is due");
}

#[test]
fn nothing_is_due_in_a_log_that_failed() {
    let mut run = Run::new(20);
    run.write(0, 1, 0);
    run.world.sync();
    (0..CONSUMERS).for_each(|index| run.take(index));
    let holds = |consumer: &Consumer| !consumer.has.is_empty();
    let holder = run.consumers.iter().position(holds).unwrap();
    run.say(holder, 0, Verdict::Refused { delay: Duration::from_secs(5) });
    run.world.sync();
    assert!(run.world.pipe.next_tick().is_some());
    run.world.pipe.turn_read_only(&crate::error::Error::new(Code::Storage, "it failed"));
    // What is due and cannot be done would be due for ever.
    assert_eq!(run.world.pipe.next_tick(), None);
}

#[test]
fn the_figures_tell_what_waits_and_what_lost_readers_had() {
    let mut run = Run::new(20);
    run.write(0, 9, 0);
    run.write(0, 1, 60);
    run.world.sync();
    (0..CONSUMERS).for_each(|index| run.take(index));
    let (counts, readers) = run.world.figures();
    assert_eq!((counts.items, counts.ready, counts.leased, counts.delayed), (10, 0, 9, 1));
    assert_eq!(readers.iter().map(|reader| reader.holds).collect::<Vec<_>>(), [3, 3, 3]);
    run.say(0, 0, Verdict::Refused { delay: Duration::from_secs(5) });
    run.world.pipe.lost(run.consumers[1].session, run.world.now);
    let (counts, _) = run.world.figures();
    assert_eq!((counts.released, counts.delayed, counts.readers), (3, 2, 2), "what was refused was not released");
}

/// Any order of anything. 1,000 cases take a second.
#[test]
fn proof_queue_against_its_model() {
    let proof = Proof::begin("P7", "queue against its model");
    let wanted = cases(300, 20_000, 1_000_000);
    let failures = property::failures(
        wanted,
        || (2..6u32, proptest::collection::vec(step(), 1..200)),
        |(max_deliveries, steps)| {
            let mut run = Run::new(max_deliveries);
            steps.into_iter().for_each(|step| run.step(step));
            run.finish();
            Ok(())
        },
    );
    proof.end(wanted, &failures);
}
