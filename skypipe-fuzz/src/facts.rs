//! What the log gives back when it is opened: facts, in whatever order damage leaves them.

use bytes::Bytes;
use skypipe_core::delivery::{DefaultPipe, Effect, Fact};
use skypipe_core::{ItemNo, PipeName, PipeRef, Seq, Time};

use crate::allocated::within;

/// What the facts of one entry may cost when they are read.
const BYTES_AT_LEAST: usize = 8 * 1024;
const BYTES_FOR_EACH: usize = 64;

pub(crate) fn run(bytes: &[u8]) {
    let Some((&extent, mut rest)) = bytes.split_first() else { return };
    let mut pipe = pipe();
    // Entries stand behind their length.
    while let Some((&length, tail)) = rest.split_first() {
        let (entry, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        if let Some(fact) = decoded(entry) {
            pipe.replay(fact);
        }
    }
    pipe.recovered(Time(1), |item| on_disk(extent, item));
    go_on(&mut pipe);
    let again = restated(&pipe);
    go_on_later(pipe);
    go_on_later(again);
}

fn pipe() -> DefaultPipe {
    DefaultPipe::new(PipeRef::from(&PipeName::default()))
}

pub(crate) fn decoded(entry: &[u8]) -> Option<Fact> {
    let bytes = Bytes::copy_from_slice(entry);
    let fact = within(BYTES_AT_LEAST + BYTES_FOR_EACH * entry.len(), || Fact::decode(bytes)).ok()?;
    assert_eq!(Fact::decode(fact.encode()).as_ref(), Ok(&fact), "a fact survives its encoding");
    Some(fact)
}

/// What the log holds of an item, as some byte says.
fn on_disk(extent: u8, item: ItemNo) -> Vec<std::ops::Range<Seq>> {
    match extent.wrapping_add(item.0 as u8) % 4 {
        0 => vec![],
        1 => vec![Seq(0)..Seq(u64::from(extent))],
        2 => vec![Seq(1)..Seq(3), Seq(5)..Seq(9)],
        _ => vec![Seq(u64::MAX - 1)..Seq(u64::MAX)],
    }
}

/// All effects come, and what they append is durable.
pub(crate) fn go_on(pipe: &mut DefaultPipe) -> Vec<Effect> {
    let effects = pipe.take_effects();
    let appended = effects.iter().filter(|effect| matches!(effect, Effect::Fact(_) | Effect::Batch(..))).count();
    if appended > 0 {
        pipe.stored(appended as u64);
    }
    effects
}

/// A pipe made of this one's snapshot.
fn restated(old: &DefaultPipe) -> DefaultPipe {
    let snapshot = old.snapshot();
    let Ok(snapshot) = Fact::decode(snapshot.encode()) else { panic!("a snapshot survives its encoding") };
    let mut new = pipe();
    new.replay(snapshot);
    new.recovered(Time(1), |_| Vec::new());
    new
}

/// Everybody is given up, and nothing stays that somebody waits for.
fn go_on_later(mut pipe: DefaultPipe) {
    for (session, _) in pipe.away() {
        pipe.lost(session);
        go_on(&mut pipe);
    }
    pipe.tick(Time(u64::MAX / 2));
    go_on(&mut pipe);
    pipe.flush();
    go_on(&mut pipe);
    assert!(pipe.away().is_empty() && pipe.counts().writers == 0, "who is lost is gone: {:?}", pipe.counts());
}
