//! What the log gives back of a queue or a broadcast when it is opened: facts, in whatever order damage leaves them.

use skypipe_core::delivery::{Effect, Extent, Fact, TapePipe};
use skypipe_core::{Mode, PipeName, PipeRef, Seq, Time, WallTime};

use crate::facts::decoded;

pub(crate) fn run(bytes: &[u8]) {
    let Some((&first, mut rest)) = bytes.split_first() else { return };
    let mode = if first & 1 == 0 { Mode::Queue } else { Mode::Broadcast };
    let mut pipe = new_pipe(mode);
    // Entries stand behind their length.
    while let Some((&length, tail)) = rest.split_first() {
        let (entry, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        if let Some(fact) = decoded(entry) {
            pipe.replay(fact);
        }
    }
    let extent = on_disk(first);
    pipe.recovered(Time(1), |_| extent.clone());
    go_on(&mut pipe);
    let again = restated(&pipe, mode, &extent);
    go_on_later(pipe);
    go_on_later(again);
}

fn new_pipe(mode: Mode) -> TapePipe {
    TapePipe::new(PipeRef::from(&PipeName::default()), mode, WallTime(1_000_000))
}

/// What the log holds of the tape, as some byte says.
fn on_disk(first: u8) -> Extent {
    match first >> 1 & 3 {
        0 => vec![],
        1 => std::iter::once(Seq(0)..Seq(u64::from(first))).collect(),
        2 => vec![Seq(1)..Seq(3), Seq(5)..Seq(9)],
        _ => std::iter::once(Seq(u64::MAX - 1)..Seq(u64::MAX)).collect(),
    }
}

/// All effects come, and what they append is durable.
fn go_on(pipe: &mut TapePipe) {
    let effects = pipe.take_effects();
    let appended = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Fact(_) | Effect::Tape(..) | Effect::Batch(..)))
        .count();
    pipe.stored(appended as u64, Time(2));
    let _ = (pipe.counts(), pipe.reader_stats(), pipe.next_tick());
}

/// A pipe made of this one's snapshot.
fn restated(old: &TapePipe, mode: Mode, extent: &Extent) -> TapePipe {
    let Ok(snapshot) = Fact::decode(old.snapshot().encode()) else { panic!("a snapshot survives its encoding") };
    let mut new = new_pipe(mode);
    new.replay(snapshot);
    new.recovered(Time(1), |_| extent.clone());
    new
}

/// Everybody is given up, and nothing stays that somebody waits for.
fn go_on_later(mut pipe: TapePipe) {
    for (session, _) in pipe.away() {
        pipe.lost(session, Time(3));
        go_on(&mut pipe);
    }
    pipe.tick(Time(u64::MAX / 2));
    go_on(&mut pipe);
    pipe.flush();
    go_on(&mut pipe);
    let counts = pipe.counts();
    assert_eq!((counts.readers, counts.leased), (0, 0), "who is lost has nothing: {counts:?}");
    assert!(pipe.away().is_empty() && counts.writers == 0, "who is lost is gone: {counts:?}");
}
