//! Gives records that were handed out too often to the dead letters: the queue `NAME/dead` beside their own.
//!
//! The record is on disk there before its own queue knows that it is done with: power that goes in between leaves it in both, and none lost.

use std::sync::{Arc, Weak};

use tokio::sync::mpsc::UnboundedReceiver;

use crate::batch::{Batch, BatchBuilder};
use crate::broker::Mode;
use crate::caller::Holder;
use crate::error::{Code, Error};
use crate::id::{Epoch, PipeId, Seq};
use crate::log::{Read, TAPE};
use crate::name::{DEAD_LETTERS, PipeRef};

use super::attach;
use super::shared::Shared;

/// A record that was handed out too often. There are at most as many under way as a queue has in readers' hands.
pub(super) struct Burial {
    pub(super) pipe: PipeId,
    pub(super) place: Seq,
}

/// Starts the task that moves them, one after the other. It ends with the broker.
pub(super) fn start(shared: &Arc<Shared>, burials: UnboundedReceiver<Burial>) {
    tokio::spawn(run(Arc::downgrade(shared), burials));
}

async fn run(shared: Weak<Shared>, mut burials: UnboundedReceiver<Burial>) {
    while let Some(burial) = burials.recv().await {
        let Some(shared) = shared.upgrade() else { return };
        // What cannot be moved now stays where it is, and is moved by the next host.
        let _ = bury(&shared, &burial).await;
    }
}

async fn bury(shared: &Arc<Shared>, burial: &Burial) -> Result<(), Error> {
    let gone = || Error::new(Code::Access, "the pipe was removed");
    let cell = shared.directory().by_id(burial.pipe).ok_or_else(gone)?;
    let (log, pipe, place) = (shared.log.clone(), burial.pipe, burial.place);
    let read = shared.env.work.read(move || log.read(pipe, TAPE, place, 1)).await?;
    if let Read::Tape(batches) = read
        && let Some((_, batch)) = batches.first()
    {
        let dead = PipeRef { owner: cell.pipe.owner, path: cell.pipe.path.join(DEAD_LETTERS) };
        store(shared, &dead, batch).await?;
    }
    cell.change(shared, |pipe| pipe.buried(place)).ok_or_else(gone)
}

/// Writes the record to the dead letters, as a writer of its own, and waits until it is on disk.
async fn store(shared: &Arc<Shared>, dead: &PipeRef, batch: &Batch) -> Result<(), Error> {
    let (session, epoch, now) = (shared.env.session(), Epoch(1), shared.env.now());
    let mut copy = BatchBuilder::new(session, epoch, Seq(0)).headers(batch.headers());
    for piece in batch.pieces() {
        let fits = copy.push(&piece.body, piece.first, piece.last);
        debug_assert!(fits, "what was one batch is one again");
    }
    let copy = copy.build(None);
    let cell = attach::change(shared, dead, Some(Mode::Queue), |pipe| {
        pipe.attach_writer(session, epoch, None, Holder::Unknown)?;
        pipe.batch(session, epoch, copy.clone(), now)?;
        Ok(())
    })?;
    let stored = cell.all_stored(shared).await;
    cell.change(shared, |pipe| pipe.lost(session, now));
    stored
}
