//! What the facts in the log add up to when a broker is opened.
//!
//! Of very many pipes nearly all rest: they have a handful of facts each, which are kept as they came until the last one, and laid down from
//! that. A pipe with more facts is followed fact by fact.

use bytes::Bytes;

use crate::broker::Mode;
use crate::delivery::{Fact, Machine, Rest};
use crate::error::{Code, Error};
use crate::id::{ItemNo, PipeId, Seq};
use crate::log::ByPipe;
use crate::name::{Owner, PipePath, PipeRef};
use crate::time::WallTime;

use super::closed::ClosedSessions;
use super::shared::BROKER;

/// Bytes of facts of one pipe that are kept as they came: those of eight items, or of one with all that readers did with it.
const FACTS_BYTES_MAX: usize = 1024;
/// More than the facts of a pipe with one item and a short name, so that most need one piece of memory; and so much that the pipe finds its place
/// there when they are done with.
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
    /// More than is kept that way.
    Machine(Machine),
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
        let found = self.pipes.get_or_insert_with(id, || Found::Facts(Vec::new()));
        if let Found::Facts(facts) = found {
            if facts.len() + body.len() < FACTS_BYTES_MAX {
                if facts.is_empty() {
                    facts.reserve(FACTS_BYTES_USUAL);
                }
                facts.extend_from_slice(&(body.len() as u16).to_le_bytes());
                facts.extend_from_slice(body);
                return Ok(());
            }
            let mut all = split(facts)?;
            all.push(decode(body.clone())?);
            *found = Found::Machine(machine(id, all, self.wall_at_zero));
        } else if let Found::Machine(machine) = found {
            machine.replay(decode(body.clone())?);
        }
        Ok(())
    }
}

impl Found {
    /// The pipe as it rests, and its bytes on disk, if that is all there is to it: `bytes_of_all` tells those if the log has exactly these items.
    ///
    /// # Errors
    /// What was found, when it does not rest.
    pub(super) fn at_rest(
        self,
        bytes_of_all: impl FnOnce(&[(ItemNo, Seq)]) -> Option<u64>,
    ) -> Result<(PipeRef, Rest, u64), Self> {
        let rest = || {
            let Self::Facts(facts) = &self else { return None };
            let (pipe, rest, batches) = Rest::of_facts(&split(facts).ok()?)?;
            Some((pipe, rest, bytes_of_all(&batches)?))
        };
        rest().ok_or(self)
    }

    /// The pipe as all of its facts say.
    ///
    /// # Errors
    /// As [`Recovery::finish`].
    pub(super) fn machine(self, id: PipeId, wall_at_zero: WallTime) -> Result<Machine, Error> {
        match self {
            Self::Facts(facts) => Ok(machine(id, split(&facts)?, wall_at_zero)),
            Self::Machine(machine) => Ok(machine),
        }
    }
}

fn decode(body: Bytes) -> Result<Fact, Error> {
    Fact::decode(body).map_err(|e| Error::new(Code::Format, "the log holds facts of a newer version").because(e))
}

/// Facts, each behind its length.
fn split(facts: &[u8]) -> Result<Vec<Fact>, Error> {
    let all = Bytes::copy_from_slice(facts);
    let mut split = Vec::with_capacity(4);
    let mut at = 0;
    while let Some(length) = all.get(at..at + 2) {
        let end = at + 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
        split.push(decode(all.slice(at + 2..end))?);
        at = end;
    }
    Ok(split)
}

/// A pipe from its first facts.
fn machine(id: PipeId, facts: Vec<Fact>, wall_at_zero: WallTime) -> Machine {
    let mut machine = nameless(id, facts.first().map_or(Mode::Default, mode_of), wall_at_zero);
    facts.into_iter().for_each(|fact| machine.replay(fact));
    machine
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
