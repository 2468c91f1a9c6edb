//! One reader of all queues and broadcasts that match: one attach, one credit, however many pipes.
//!
//! ```text
//!   directory.rs ── a pipe begins ──▶ ┌──────────────────────────┐
//!                                     │ members: a plain attach  │ ── From, Batch … ──▶ down
//!   cells ── something to get ──▶ turn│ to each pipe, same       │
//!                                     │ session and epoch        │ ◀── Of, AckTo … ──── up
//!                                     └──────────────────────────┘
//! ```
//!
//! To each pipe a member is a reader like any other, so leases, cursors and what is recovered are those of plain readers. What the members
//! share is here: whose turn it is, how much may be sent, what was read from the log, and how many records are in the reader's hands.

mod members;
#[cfg(test)]
mod tests;
mod turn;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures::{Sink, Stream};

use crate::broker::{
    PATTERN_PIPES_MAX, ReaderAttach, ReaderDown, ReaderHalves, ReaderUp, ReaderWelcome, Settings, Start, Take,
};
use crate::caller::Caller;
use crate::error::{Code, Error};
use crate::memory::PARTY_BYTES;
use crate::name::PatternRef;

use self::members::Members;
use super::attach;
use super::shared::{Shared, lock};

/// What one pipe of a reader of many takes beside what it takes in the pipe itself: its place here and its wakers.
const MEMBER_BYTES: u64 = 512;

/// Attaches a reader of many pipes; see [`crate::Broker::attach_pattern_reader`].
pub(super) async fn attach(
    shared: &Arc<Shared>,
    caller: &Caller,
    pattern: &PatternRef,
    attach: ReaderAttach,
) -> Result<ReaderHalves, Error> {
    attach::check(caller.rights.read)?;
    if matches!(attach.tape.start, Start::At(_)) {
        return Err(Error::new(Code::Usage, "a position is one of a single pipe, not of all that match a pattern"));
    }
    if attach.take != Take::Any || attach.keep || attach.tape.settings != Settings::default() {
        return Err(Error::new(Code::Usage, "items, keeping on and settings are for one pipe, not for a pattern"));
    }
    let _account = attach::account(shared, caller, pattern.owner);
    let (returns, no_wait) = (attach.resume.is_some(), attach.no_wait);
    let mut members = Members::new(shared, caller, pattern, attach);
    if !returns {
        members.look()?;
        while members.join_some()? {
            tokio::task::yield_now().await;
        }
        if no_wait && members.is_empty() {
            return Err(Error::new(Code::Empty, "no pipe matches that has something to take"));
        }
        for attached in members.attached() {
            let (session, epoch) = (attached.session, attached.epoch);
            // What went wrong with one of them is told when it is its turn.
            let welcome =
                poll_fn(|cx| attached.cell.poll(shared, session, cx, |pipe| pipe.reader_welcome(session, epoch)));
            drop(welcome.await);
        }
    }
    let members = Arc::new(Mutex::new(members));
    let down = PatternStream { members: members.clone(), over: false };
    Ok(ReaderHalves { welcome: ReaderWelcome::default(), up: Box::pin(PatternSink(members)), down: Box::pin(down) })
}

/// Memory for so many more pipes of one reader.
fn room(shared: &Shared, pipes: usize) -> Result<(), Error> {
    if pipes > PATTERN_PIPES_MAX {
        let text =
            format!("the pattern matches more than {PATTERN_PIPES_MAX} pipes, which is what one reader may read");
        return Err(Error::new(Code::Quota, text));
    }
    let taken = shared.memory.sessions.take(pipes as u64 * (MEMBER_BYTES + PARTY_BYTES));
    taken.map(drop).ok_or_else(|| {
        Error::new(Code::Busy, "the relay holds as many pipes and sessions as its memory allows; try later")
    })
}

/// What a reader of many pipes sends is done at once.
struct PatternSink(Arc<Mutex<Members>>);

impl Sink<ReaderUp> for PatternSink {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: ReaderUp) -> Result<(), Error> {
        lock(&self.0).up(message)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

/// What comes down to a reader of many pipes.
struct PatternStream {
    members: Arc<Mutex<Members>>,
    over: bool,
}

impl Stream for PatternStream {
    type Item = Result<ReaderDown, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let next = ready!(lock(&self.members).poll_next(cx));
        self.over = !matches!(&next, Ok(message) if *message != ReaderDown::Finished);
        Poll::Ready(Some(next))
    }
}
