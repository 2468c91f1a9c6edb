//! What the facts in the log add up to when a broker is opened.
//!
//! Of very many pipes nearly all rest: they have a handful of facts each, which are kept as they came until the last item has ended, and laid
//! down from that. A pipe with more facts is followed fact by fact.

use bytes::Bytes;

use crate::broker::Mode;
use crate::delivery::{Fact, Machine, Rest};
use crate::error::{Code, Error};
use crate::id::PipeId;
use crate::log::ByPipe;
use crate::name::{Owner, PipePath, PipeRef};
use crate::time::WallTime;

use super::closed::ClosedSessions;
use super::shared::BROKER;

/// Bytes of facts of one pipe that are kept as they came: those of eight items, or of one with all that readers did with it.
const FACTS_BYTES_MAX: usize = 1024;
/// More than the facts of a pipe with one item and a short name, so that most need one piece of memory.
const FACTS_BYTES_USUAL: usize = 112;

/// What the facts in the log add up to.
pub(super) struct Recovery {
    pipes: ByPipe<Found>,
    closed: ClosedSessions,
    error: Option<Error>,
    wall_at_zero: WallTime,
}

/// What was found of one pipe.
pub(super) enum Found {
    /// Its facts, each behind its length.
    Facts(Vec<u8>),
    /// All of its items have ended, so that it may rest.
    Rest(PipeRef, Rest),
    /// More than is kept as it came.
    Machine(Machine),
}

impl Default for Found {
    fn default() -> Self {
        Self::Facts(Vec::new())
    }
}

impl Recovery {
    pub(super) fn new(wall_at_zero: WallTime) -> Self {
        Self { pipes: ByPipe::default(), closed: ClosedSessions::default(), error: None, wall_at_zero }
    }

    /// Takes the next fact.
    pub(super) fn fact(&mut self, id: PipeId, body: &Bytes) {
        if let Err(error) = self.take(id, body) {
            self.error = Some(error);
        }
    }

    /// All of them were taken.
    ///
    /// # Errors
    /// `E_FORMAT` when there was one that this version does not know.
    pub(super) fn finish(self) -> Result<(ByPipe<Found>, ClosedSessions), Error> {
        self.error.map_or(Ok((self.pipes, self.closed)), Err)
    }

    fn take(&mut self, id: PipeId, body: &Bytes) -> Result<(), Error> {
        if id == BROKER {
            self.closed.replay(decode(body.clone())?);
            return Ok(());
        }
        if Fact::is_removed(body) {
            self.pipes.remove(id);
            return Ok(());
        }
        let found = self.pipes.get_or_insert_with(id, Found::default);
        *found = std::mem::take(found).with(id, body, self.wall_at_zero)?;
        Ok(())
    }
}

impl Found {
    /// The same with one fact more.
    fn with(self, id: PipeId, body: &Bytes, wall_at_zero: WallTime) -> Result<Self, Error> {
        let mut facts = match self {
            Self::Facts(facts) => facts,
            Self::Rest(pipe, rest) => together(&rest.facts(pipe)),
            Self::Machine(mut machine) => {
                machine.replay(decode(body.clone())?);
                return Ok(Self::Machine(machine));
            }
        };
        if facts.len() + body.len() >= FACTS_BYTES_MAX {
            let all = split(&facts.into()).chain([decode(body.clone())]);
            return machine(id, all, wall_at_zero).map(Self::Machine);
        }
        add(&mut facts, body);
        Ok(if Fact::is_ended(body) { Self::laid_down(facts) } else { Self::Facts(facts) })
    }

    /// What rests if these are all the facts of a pipe.
    fn laid_down(facts: Vec<u8>) -> Self {
        let facts = Bytes::from(facts);
        let mut are_known = true;
        let found = Rest::of_facts(split(&facts).map_while(|fact| {
            are_known = fact.is_ok();
            fact.ok()
        }));
        match found.filter(|_| are_known) {
            Some((pipe, rest)) => Self::Rest(pipe, rest),
            None => Self::Facts(facts.into()),
        }
    }

    /// The pipe as it rests, and its bytes on disk, if that is all there is to it: `bytes_of_all` tells those if the log has exactly these items.
    ///
    /// # Errors
    /// What was found, when it does not rest.
    pub(super) fn at_rest(self, bytes_of_all: impl FnOnce(&Rest) -> Option<u64>) -> Result<(PipeRef, Rest, u64), Self> {
        let found = if let Self::Facts(facts) = self { Self::laid_down(facts) } else { self };
        match found {
            Self::Rest(pipe, rest) => match bytes_of_all(&rest) {
                Some(bytes) => Ok((pipe, rest, bytes)),
                None => Err(Self::Rest(pipe, rest)),
            },
            found => Err(found),
        }
    }

    /// The pipe as all of its facts say.
    ///
    /// # Errors
    /// As [`Recovery::finish`].
    pub(super) fn machine(self, id: PipeId, wall_at_zero: WallTime) -> Result<Machine, Error> {
        match self {
            Self::Facts(facts) => machine(id, split(&facts.into()), wall_at_zero),
            Self::Rest(pipe, rest) => machine(id, rest.facts(pipe).into_iter().map(Ok), wall_at_zero),
            Self::Machine(machine) => Ok(machine),
        }
    }
}

fn decode(body: Bytes) -> Result<Fact, Error> {
    Fact::decode(body).map_err(|e| Error::new(Code::Format, "the log holds facts of a newer version").because(e))
}

/// Puts a fact behind others.
fn add(facts: &mut Vec<u8>, body: &[u8]) {
    if facts.is_empty() {
        facts.reserve(FACTS_BYTES_USUAL);
    }
    facts.extend_from_slice(&(body.len() as u16).to_le_bytes());
    facts.extend_from_slice(body);
}

fn together(facts: &[Fact]) -> Vec<u8> {
    let mut all = Vec::new();
    facts.iter().for_each(|fact| add(&mut all, &fact.encode()));
    all
}

/// Facts, each behind its length.
fn split(facts: &Bytes) -> impl Iterator<Item = Result<Fact, Error>> + use<> {
    let facts = facts.clone();
    let mut at = 0;
    std::iter::from_fn(move || {
        let length = facts.get(at..at + 2)?;
        let from = at + 2;
        at = from + usize::from(u16::from_le_bytes([length[0], length[1]]));
        Some(decode(facts.slice(from..at)))
    })
}

/// A pipe from its first facts.
fn machine(
    id: PipeId,
    facts: impl Iterator<Item = Result<Fact, Error>>,
    wall_at_zero: WallTime,
) -> Result<Machine, Error> {
    let facts = facts.collect::<Result<Vec<_>, _>>()?;
    let mut machine = nameless(id, facts.first().map_or(Mode::Default, mode_of), wall_at_zero);
    facts.into_iter().for_each(|fact| machine.replay(fact));
    Ok(machine)
}

/// The mode that the first fact of a pipe tells.
fn mode_of(fact: &Fact) -> Mode {
    match fact {
        Fact::Opened { mode, .. } => *mode,
        Fact::Snapshot(facts) => facts.first().map_or(Mode::Default, mode_of),
        _ => Mode::Default,
    }
}

/// A pipe whose first fact is about to tell its name. Where that cannot be read, what is left of it is found under this one.
fn nameless(id: PipeId, mode: Mode, wall_at_zero: WallTime) -> Machine {
    let path = PipePath::from_segments([LOST_AND_FOUND, id.0.to_string().as_bytes()]);
    Machine::new(PipeRef { owner: Owner::SELF, path }, mode, wall_at_zero)
}

/// Above the numbers of pipes whose names were lost with damaged bytes of the log.
const LOST_AND_FOUND: &[u8] = b"lost-and-found";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::EndKind;
    use crate::caller::Holder;
    use crate::id::{Epoch, ItemNo, Seq, SessionId};
    use crate::name::PipeName;

    #[test]
    fn a_pipe_that_might_have_rested_goes_on_with_the_next_fact() {
        let pipe = PipeRef::from(&PipeName::new("a/b").unwrap());
        let item = |no: u8| {
            let (session, item) = (SessionId([no; 16]), ItemNo(no.into()));
            let joined = Fact::WriterJoined { session, epoch: Epoch(1), item, holder: Holder::Unknown };
            [joined, Fact::Ended { item, kind: EndKind::Finished, next: Seq(2) }]
        };
        let mut facts = vec![Fact::Opened { pipe: pipe.clone(), mode: Mode::Default }];
        facts.extend((0..40).flat_map(item));
        let (id, wall) = (PipeId(7), WallTime::default());
        let (mut found, mut made) = (Found::default(), Machine::new(pipe, Mode::Default, wall));
        for (n, fact) in facts.into_iter().enumerate() {
            found = found.with(id, &fact.encode(), wall).unwrap();
            made.replay(fact);
            // The first items fit in what is kept as it came.
            assert!(n > 8 || matches!(found, Found::Rest(..)) == (n > 0 && n % 2 == 0), "after {n} facts");
            if let Found::Rest(pipe, rest) = &found {
                let machine = Found::Rest(pipe.clone(), rest.clone()).machine(id, wall).unwrap();
                assert_eq!(format!("{machine:?}"), format!("{made:?}"));
            }
        }
        assert!(matches!(found, Found::Machine(_)));
        assert_eq!(format!("{:?}", found.machine(id, wall).unwrap()), format!("{made:?}"));
    }

    #[test]
    fn a_pipe_is_of_the_mode_that_its_first_fact_tells_however_long_that_is() {
        let pipe = PipeRef::from(&PipeName::new("jobs").unwrap());
        let (id, wall) = (PipeId(7), WallTime::default());
        for length in [1, FACTS_BYTES_MAX] {
            let opened = Fact::Opened { pipe: pipe.clone(), mode: Mode::Queue };
            let took = |n| Fact::Took { reader: SessionId([1; 16]), item: ItemNo(n), from: Seq(0), to: Seq(0) };
            let snapshot = Fact::Snapshot([opened].into_iter().chain((0..length as u64).map(took)).collect());
            let found = Found::default().with(id, &snapshot.encode(), wall).unwrap();
            assert_eq!(matches!(found, Found::Machine(_)), length == FACTS_BYTES_MAX);
            assert!(matches!(found.machine(id, wall), Ok(Machine::Tape(_))), "{length} facts");
        }
    }
}
