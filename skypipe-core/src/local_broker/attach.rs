//! Attaching to a local broker.

use std::future::poll_fn;
use std::sync::Arc;

use crate::broker::{Ack, Mode, ReaderAttach, ReaderHalves, WriterAttach, WriterHalves, WriterWelcome};
use crate::budget::Reservation;
use crate::caller::{Caller, Holder, Peer};
use crate::delivery::{Closed, DefaultPipe};
use crate::error::{Code, Error};
use crate::id::SessionId;
use crate::identity::PublicKey;
use crate::memory::{PARTY_BYTES, PIPE_BYTES};
use crate::name::PipeRef;

use super::cell::SharedCell;
use super::halves::{self, Attached, Party};
use super::owners::{self, Account};
use super::shared::Shared;

/// Attaches a writer; see [`crate::Broker::attach_writer`].
pub(super) async fn writer(
    shared: &Arc<Shared>,
    caller: &Caller,
    pipe: &PipeRef,
    attach: WriterAttach,
) -> Result<WriterHalves, Error> {
    check(shared, caller.rights.write, attach.mode, pipe)?;
    exists_or_may(shared, caller, pipe)?;
    let (session, epoch, holder) = (attach.session, attach.epoch, holder(caller));
    if attach.resume.is_some()
        && let Some(closed) = closed(shared, pipe, session)?
    {
        return Ok(halves::of_closed_writer(welcome_of(closed)));
    }
    let _room = room(shared, pipe, attach.resume.is_none())?;
    let _account = account(shared, caller, pipe);
    let cell = change(shared, pipe, |pipe| pipe.attach_writer(session, epoch, attach.resume, holder))?;
    let attached = Arc::new(Attached::new(shared, &cell, caller, Party::Writer, session, epoch));
    let welcome = poll_fn(|cx| cell.poll(shared, session, cx, |pipe| pipe.writer_welcome(session, epoch))).await?;
    Ok(halves::of_writer(attached, welcome))
}

/// Attaches a reader; see [`crate::Broker::attach_reader`].
pub(super) async fn reader(
    shared: &Arc<Shared>,
    caller: &Caller,
    pipe: &PipeRef,
    attach: ReaderAttach,
) -> Result<ReaderHalves, Error> {
    check(shared, caller.rights.read, attach.mode, pipe)?;
    exists_or_may(shared, caller, pipe)?;
    let holder = holder(caller);
    if attach.resume.is_some() && closed(shared, pipe, attach.session)?.is_some() {
        return Ok(halves::of_closed_reader());
    }
    let (session, epoch) = (attach.session, attach.epoch);
    let _room = room(shared, pipe, attach.resume.is_none())?;
    let _account = account(shared, caller, pipe);
    let cell = change(shared, pipe, |pipe| pipe.attach_reader(&attach, holder))?;
    let attached = Arc::new(Attached::new(shared, &cell, caller, Party::Reader, session, epoch));
    poll_fn(|cx| cell.poll(shared, session, cx, |pipe| pipe.reader_welcome(session, epoch))).await?;
    Ok(halves::of_reader(attached))
}

/// What a stranger and a friend of an unknown pipe hear alike.
pub(super) fn no_access() -> Error {
    Error::new(Code::Access, "no such pipe, or no right to it")
}

fn check(shared: &Shared, right: bool, mode: Option<Mode>, pipe: &PipeRef) -> Result<(), Error> {
    if !right {
        return Err(no_access());
    }
    match mode {
        None | Some(Mode::Default) => Ok(()),
        Some(mode) if shared.directory().get(pipe).is_some() => {
            let text = format!("the pipe {} is a default pipe, not a {}", pipe.path.display(), mode.word());
            Err(Error::new(Code::Mode, text))
        }
        Some(mode) => Err(Error::new(Code::Unsupported, format!("this broker has no {} pipes", mode.word()))),
    }
}

/// Memory for one more, looked for before it is there. Who comes back has had it all the time.
fn room(shared: &Shared, pipe: &PipeRef, is_new: bool) -> Result<Option<Reservation>, Error> {
    if !is_new {
        return Ok(None);
    }
    let bytes = PIPE_BYTES + PARTY_BYTES;
    let taken = shared.memory.part_of(pipe.owner.0.map(PublicKey)).pipes.take(bytes);
    let refused = || match shared.memory.sessions.take(bytes) {
        Some(_) => Error::new(Code::Quota, "the owner of this pipe has as many pipes and items as it may"),
        None => Error::new(Code::Busy, "the relay holds as many pipes and sessions as its memory allows; try later"),
    };
    taken.map(Some).ok_or_else(refused)
}

/// The account of the pipe's owner, which may have what this caller says, if it says so. Held until the pipe holds it.
fn account(shared: &Shared, caller: &Caller, pipe: &PipeRef) -> Arc<Account> {
    let account = shared.owners.account(pipe.owner);
    if caller.limits.is_some_and(|limits| account.may_have(limits)) {
        shared.owners.changed(pipe.owner);
        owners::follow(shared);
    }
    account
}

/// Only who may begin pipes attaches to one that does not exist. One that ceases to exist right behind this look is begun anew:
/// who looked had a right to it, so nothing is told that was not known.
fn exists_or_may(shared: &Shared, caller: &Caller, pipe: &PipeRef) -> Result<(), Error> {
    let exists = || shared.directory().get(pipe).is_some();
    if caller.rights.create || exists() { Ok(()) } else { Err(no_access()) }
}

/// What is known of a session that came to its end; an error when it is not known at all.
fn closed(shared: &Shared, pipe: &PipeRef, session: SessionId) -> Result<Option<Closed>, Error> {
    // A pipe that goes takes the lock of the directory under its own, so the directory's must be free before a pipe is asked.
    let cell = shared.directory().get(pipe);
    if cell.is_some_and(|cell| cell.knows(session)) {
        return Ok(None);
    }
    let expired = Error::new(Code::SessionExpired, "the session is not known here any more");
    match shared.closed().get(session) {
        Some(closed) if closed.ended => Ok(Some(closed)),
        Some(given_up) => Err(expired.with_stored(given_up.next)),
        None => Err(expired),
    }
}

fn welcome_of(closed: Closed) -> WriterWelcome {
    let ack = Ack { settled: closed.next, stored: closed.next, delivered: closed.next };
    WriterWelcome { next: closed.next, ack, credit: 0, readers: 0 }
}

/// Changes the pipe of this name, which begins to exist if it does not and its owner may have one more.
fn change(
    shared: &Arc<Shared>,
    pipe: &PipeRef,
    mut change: impl FnMut(&mut DefaultPipe) -> Result<(), Error>,
) -> Result<SharedCell, Error> {
    loop {
        let cell = {
            let mut directory = shared.directory();
            match directory.get(pipe) {
                Some(cell) => cell,
                None if shared.owners.account(pipe.owner).has_all_pipes() => return Err(too_many_pipes()),
                None => {
                    let cell = shared.new_cell(pipe);
                    directory.insert(cell.clone());
                    cell
                }
            }
        };
        // A pipe that ceased to exist meanwhile has left the directory: the next round makes a new one.
        if let Some(result) = cell.change(shared, &mut change) {
            return result.map(|()| cell);
        }
    }
}

fn too_many_pipes() -> Error {
    Error::new(Code::Quota, "the owner of this pipe has as many pipes as it may")
}

fn holder(caller: &Caller) -> Holder {
    match (&caller.peer, caller.key) {
        (Peer::Process(process), _) => Holder::Process(*process),
        (Peer::InProcess, _) => Holder::Process(crate::local_socket::process_id(std::process::id())),
        (Peer::Network(_), Some(key)) => Holder::Key(key),
        (Peer::Network(_), None) => Holder::Unknown,
    }
}
