//! Gives records that were handed out too often to the dead letters: the queue `NAME/dead` beside their own.
//!
//! The record is on disk there before its own queue knows that it is done with: power that goes in between leaves it in both, and none lost.

use std::sync::{Arc, Weak};

use tokio::sync::mpsc::UnboundedReceiver;

use crate::batch::{Batch, BatchBuilder};
use crate::broker::Mode;
use crate::caller::Holder;
use crate::delivery::{Long, Next};
use crate::error::{Code, Error};
use crate::id::{Epoch, ItemNo, PipeId, Seq, SessionId};
use crate::log::{Read, TAPE};
use crate::name::{DEAD_LETTERS, PipeRef};

use super::attach;
use super::cell::SharedCell;
use super::shared::Shared;

/// Its writer has one attach.
const EPOCH: Epoch = Epoch(1);

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
    let (pipe, place) = (burial.pipe, burial.place);
    let dead = PipeRef { path: cell.path.join(DEAD_LETTERS), ..cell.pipe() };
    let long = cell.change(shared, |pipe| pipe.long(place)).ok_or_else(gone)?;
    let mut grave = Grave::dig(shared, &dead)?;
    let moved = match long {
        Some(long) => move_parts(shared, pipe, long, &mut grave).await,
        None => move_record(shared, pipe, place, &mut grave).await,
    };
    grave.close(shared);
    moved?;
    cell.change(shared, |pipe| pipe.buried(place)).ok_or_else(gone)
}

async fn move_record(shared: &Arc<Shared>, pipe: PipeId, place: Seq, grave: &mut Grave) -> Result<(), Error> {
    if let Read::Tape(batches) = read(shared, pipe, TAPE, place).await?
        && let Some((_, batch)) = batches.into_iter().next().filter(|(_, batch)| !batch.is_beside())
    {
        grave.put(shared, &batch).await?;
    }
    Ok(())
}

/// Of a record in parts each part is on disk before the next is read. One of which a part is damaged is gone.
async fn move_parts(shared: &Arc<Shared>, pipe: PipeId, long: Long, grave: &mut Grave) -> Result<(), Error> {
    let mut from = long.first;
    while from < long.next {
        let batch = match read(shared, pipe, long.item, from).await? {
            Read::Batches(batches) => batches.into_iter().next().filter(|batch| batch.first() == from),
            _ => None,
        };
        let Some(batch) = batch else { break };
        grave.put(shared, &batch).await?;
        from = batch.first().plus(u64::from(batch.count()));
    }
    Ok(())
}

async fn read(shared: &Arc<Shared>, pipe: PipeId, item: ItemNo, from: Seq) -> Result<Read, Error> {
    let log = shared.log.clone();
    shared.env.work.read(move || log.read(pipe, item, from, 1)).await
}

/// A writer of the dead letters, for one record.
struct Grave {
    cell: SharedCell,
    session: SessionId,
    next: Seq,
}

impl Grave {
    fn dig(shared: &Arc<Shared>, dead: &PipeRef) -> Result<Self, Error> {
        let session = shared.env.session();
        let cell = attach::change(shared, dead, Some(Mode::Queue), |pipe| {
            pipe.attach_writer(session, EPOCH, None, Holder::Unknown)
        })?;
        Ok(Self { cell, session, next: Seq(0) })
    }

    /// Writes what a batch holds, and waits until it is on disk.
    async fn put(&mut self, shared: &Arc<Shared>, batch: &Batch) -> Result<(), Error> {
        let mut copy = BatchBuilder::new(self.session, EPOCH, self.next).headers(batch.headers());
        for piece in batch.pieces() {
            let fits = copy.push(&piece.body, piece.first, piece.last);
            debug_assert!(fits, "what was one batch is one again");
        }
        let (copy, now) = (copy.build(None), shared.env.now());
        self.next = copy.next();
        let gone = || Error::new(Code::Access, "the dead letters were removed");
        self.cell.change(shared, |pipe| pipe.batch(self.session, EPOCH, copy, now)).ok_or_else(gone)??;
        self.cell.all_stored(shared).await?;
        // It hears of the room that there is again.
        self.cell.change(shared, |pipe| while let Next::Message(_) = pipe.next_for_writer(self.session, EPOCH) {});
        Ok(())
    }

    /// What was not written to its end is not there.
    fn close(self, shared: &Shared) {
        let now = shared.env.now();
        self.cell.change(shared, |pipe| pipe.lost(self.session, now));
    }
}
