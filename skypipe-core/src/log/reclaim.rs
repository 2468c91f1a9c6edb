//! Gives room back, a little after each commit: the oldest segment is emptied of what is still wanted and removed.

use std::io;
use std::thread;

use super::commit::{Committer, Stop};
use super::format::{HEADER_BYTES, Header, Kind, QUARANTINE, seed_of, segment_name};
use super::index::Place;
use super::walk::{Step, Walker};
use super::{State, batch_of, broken, lock, segment_salt};
use crate::id::{Lsn, PipeId};

/// Pipes asked for a snapshot in one round, and bytes moved: what a writer may have to wait for besides its own sync.
const SNAPSHOTS_A_ROUND: usize = 64;
const MOVE_BYTES_A_ROUND: u64 = 2 * 1024 * 1024;

/// A segment that is being emptied.
pub(super) struct Moving {
    segment: u64,
    /// Pipes still to be asked for a snapshot.
    pipes: Vec<PipeId>,
    /// Where looking for batches goes on.
    pos: u64,
    /// When this entry is on disk, all of the last round is.
    upto: Lsn,
    walked: bool,
}

impl Committer {
    /// Whether a call of [`Committer::tidy`] would do something.
    pub(super) fn wants_tidying(&self, state: &State) -> bool {
        !state.idle_moves
            && (self.moving.is_some()
                || state.index.dead(state.head_number).is_some()
                || state.index.worth_moving(state.head_number, self.core.options.segment_bytes).is_some())
    }

    /// Does one round of giving room back.
    pub(super) fn tidy(&mut self) -> Result<(), Stop> {
        let state = lock(&self.core.state);
        if !self.wants_tidying(&state) {
            return Ok(());
        }
        let dead = state.index.dead(state.head_number);
        drop(state);
        if let Some(dead) = dead {
            self.moving = self.moving.take().filter(|m| m.segment != dead);
            return self.free(dead);
        }
        match self.moving.take() {
            None => self.begin_moving(),
            Some(moving) => self.go_on_moving(moving)?,
        }
        Ok(())
    }

    fn begin_moving(&mut self) {
        let state = lock(&self.core.state);
        let Some(segment) = state.index.worth_moving(state.head_number, self.core.options.segment_bytes) else {
            return;
        };
        let pipes = state.index.fact_pipes(segment);
        drop(state);
        self.moving = Some(Moving { segment, pipes, pos: HEADER_BYTES as u64, upto: Lsn(0), walked: false });
    }

    /// The next round, once the last one is on disk: on a full disk no more than one waits in memory.
    fn go_on_moving(&mut self, mut moving: Moving) -> Result<(), Stop> {
        if self.committed < moving.upto {
            self.moving = Some(moving);
            return Ok(());
        }
        if !moving.pipes.is_empty() {
            let rest = moving.pipes.len().saturating_sub(SNAPSHOTS_A_ROUND);
            for pipe in moving.pipes.split_off(rest) {
                self.ask_for_snapshot(pipe);
            }
        } else if !moving.walked {
            if self.move_some(&mut moving).is_err() {
                // Nobody knows what stands where the disk cannot be read, so nothing is removed. The next new segment tries again.
                lock(&self.core.state).idle_moves = true;
                return Ok(());
            }
        } else {
            return self.finish(&moving);
        }
        moving.upto = Lsn(lock(&self.core.state).next_lsn - 1);
        self.moving = Some(moving);
        Ok(())
    }

    fn ask_for_snapshot(&self, pipe: PipeId) {
        lock(&self.core.state).snapshot_of = Some((pipe, thread::current().id()));
        self.tell(|owner| owner.snapshot(pipe));
        lock(&self.core.state).snapshot_of = None;
    }

    /// Queues some of what is wanted to be written again at the head.
    fn move_some(&self, moving: &mut Moving) -> io::Result<()> {
        let number = moving.segment;
        // Not as readers open it: where they get a gap, what the disk cannot read now may be there the next time.
        let file = self.core.disk.open(&segment_name(number))?;
        let seed = seed_of(segment_salt(&*file)?.unwrap_or(self.core.salt), number);
        let mut walker = Walker::new(&*file, seed, moving.pos, file.size()?);
        let mut bytes = 0;
        while bytes < MOVE_BYTES_A_ROUND {
            match walker.next()? {
                Some(Step::Entry(offset, header)) if header.kind == Kind::Batch => {
                    bytes += self.move_one(&mut walker, Place { segment: number, offset }, header)?;
                }
                Some(Step::Entry(..)) => {}
                Some(Step::Damage(..)) => lock(&self.core.state).index.damaged(number),
                None => {
                    moving.walked = true;
                    break;
                }
            }
        }
        moving.pos = walker.pos();
        Ok(())
    }

    fn move_one(&self, walker: &mut Walker<'_>, place: Place, header: Header) -> io::Result<u64> {
        if !lock(&self.core.state).index.is_live(place, &header) {
            return Ok(0);
        }
        let batch = batch_of(&header, walker.payload(place.offset, &header)?);
        let mut state = lock(&self.core.state);
        match batch {
            Some(batch) => {
                state.push(header, batch.encoded().clone(), Some(place));
            }
            None => state.index.damaged(place.segment),
        }
        Ok(header.span())
    }

    /// All that could be moved is on disk elsewhere.
    fn finish(&mut self, moving: &Moving) -> Result<(), Stop> {
        let mut state = lock(&self.core.state);
        if !state.index.facts_done(moving.segment) {
            // Some pipe was not restated, so its facts are still needed here: wait until there is a reason to ask again.
            state.idle_moves = true;
            return Ok(());
        }
        drop(state);
        self.free(moving.segment)
    }

    /// Removes a segment. One with damage in it is put aside for a person to look at: nothing that may be somebody's is deleted.
    fn free(&mut self, number: u64) -> Result<(), Stop> {
        let name = segment_name(number);
        let damaged = lock(&self.core.state).index.is_damaged(number);
        let removed = match damaged {
            true => self.core.disk.rename(&name, &format!("{QUARANTINE}/{name}")),
            false => self.core.disk.remove(&name),
        };
        if removed.is_err_and(|e| e.kind() != io::ErrorKind::NotFound) {
            // It only takes room. The next start of the log tries again.
            lock(&self.core.state).idle_moves = true;
            return Ok(());
        }
        let synced = self.core.disk.sync_folder();
        synced.map_err(|e| Stop::Failed(broken("the data folder cannot be synced", e)))?;
        self.core.close_segment(number);
        lock(&self.core.state).index.drop_segment(number);
        Ok(())
    }
}
