//! Delivery in each mode: a batch in, out to its readers, acknowledged, settled. What the log would do is done at once.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use skypipe_core::delivery::{Effect, Machine, Next};
use skypipe_core::{
    Batch, Epoch, Holder, Mark, Mode, OnTape, PipeName, PipeRef, ReaderAttach, ReaderCursor, ReaderDown, ReaderUp, Seq,
    SessionId, Take, Time, Verdict, WallTime, WriterDown,
};

use super::{WRITER, batches};

/// Batches in a row: a batch is what delivery handles, whatever it holds.
const BATCHES: usize = 256;
const RECORD_BYTES: usize = 128;
const EPOCH: Epoch = Epoch(1);
const NOW: Time = Time(1);

pub(super) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("delivery, {BATCHES} batches"));
    group.throughput(Throughput::Elements(BATCHES as u64));
    let batches = batches(BATCHES, 1, RECORD_BYTES);
    let cases = [
        ("default, stored", Mode::Default, 0),
        ("default, live", Mode::Default, 1),
        ("default, live", Mode::Default, 8),
        ("queue", Mode::Queue, 1),
        ("broadcast", Mode::Broadcast, 1),
        ("broadcast", Mode::Broadcast, 8),
    ];
    for (name, mode, readers) in cases {
        group.bench_function(BenchmarkId::new(name, format!("{readers} readers")), |b| {
            let setup = || (World::new(mode, readers), batches.clone());
            let run = |(world, batches): &mut (World, Vec<Batch>)| {
                batches.drain(..).for_each(|batch| world.goes_through(batch));
            };
            b.iter_batched_ref(setup, run, BatchSize::SmallInput);
        });
    }
    group.finish();
}

struct World {
    pipe: Machine,
    readers: Vec<SessionId>,
}

impl World {
    /// All readers are there before the writer is.
    fn new(mode: Mode, readers: usize) -> Self {
        let readers: Vec<_> = (0..readers).map(|number| SessionId([100 + number as u8; 16])).collect();
        let pipe = Machine::new(PipeRef::from(&PipeName::default()), mode, WallTime(1_000_000));
        let mut world = Self { pipe, readers };
        for session in world.readers.clone() {
            world.pipe.attach_reader(&attach(session, mode), Holder::Unknown, NOW).unwrap();
            world.log();
            assert!(world.pipe.reader_welcome(session, EPOCH).is_some_and(|welcome| welcome.is_ok()), "it is there");
        }
        world.pipe.attach_writer(WRITER, EPOCH, None, Holder::Unknown).unwrap();
        world.log();
        assert!(world.pipe.writer_welcome(WRITER, EPOCH).is_some_and(|welcome| welcome.is_ok()), "it is there");
        world
    }

    fn goes_through(&mut self, batch: Batch) {
        let next = batch.next();
        self.pipe.batch(WRITER, EPOCH, batch, NOW).unwrap();
        if self.readers.is_empty() {
            // Nobody is prompt who is not there: it is logged when its time has come.
            self.pipe.flush();
        }
        self.log();
        for number in 0..self.readers.len() {
            self.read(self.readers[number]);
        }
        let mut settled = Seq(0);
        while let Next::Message(message) = self.pipe.next_for_writer(WRITER, EPOCH) {
            if let WriterDown::Ack(ack) = message {
                settled = ack.settled;
            }
        }
        assert_eq!(settled, next, "its writer knows");
    }

    /// Takes all there is and says so.
    fn read(&mut self, session: SessionId) {
        loop {
            let up = match self.pipe.next_for_reader(session, EPOCH) {
                Next::Message(message) => acknowledged(message, self.pipe.mode()),
                Next::Wait => return,
                other => panic!("not from memory: {other:?}"),
            };
            if let Some(up) = up {
                self.pipe.reader_up(session, EPOCH, up, NOW).unwrap();
            }
            self.log();
        }
    }

    /// All that was appended is durable at once.
    fn log(&mut self) {
        loop {
            let effects = self.pipe.take_effects();
            let is_appended = |e: &&Effect| matches!(e, Effect::Fact(_) | Effect::Batch(..) | Effect::Tape(..));
            let appended = effects.iter().filter(is_appended).count() as u64;
            if appended == 0 {
                return;
            }
            self.pipe.stored(appended, NOW);
        }
    }
}

fn attach(session: SessionId, mode: Mode) -> ReaderAttach {
    ReaderAttach {
        session,
        epoch: EPOCH,
        mode: Some(mode),
        take: Take::Any,
        keep: false,
        no_wait: false,
        credit: 1 << 40,
        mid_record: false,
        resume: None,
        tape: OnTape { prefetch: 16, ..OnTape::default() },
    }
}

/// What a reader says to what it got.
fn acknowledged(message: ReaderDown, mode: Mode) -> Option<ReaderUp> {
    match message {
        ReaderDown::Batch { batch, position, .. } if mode == Mode::Broadcast => {
            Some(ReaderUp::AckTo(Mark { position, records: batch.count() }))
        }
        ReaderDown::Batch { batch, .. } => {
            Some(ReaderUp::Ack(ReaderCursor { writer: batch.session(), next: batch.next() }))
        }
        ReaderDown::Leased { lease, .. } => Some(ReaderUp::Settle { lease, verdict: Verdict::Done }),
        _ => None,
    }
}
