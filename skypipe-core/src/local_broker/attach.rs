//! Attaching to a local broker.

use std::future::poll_fn;
use std::sync::Arc;

use crate::broker::{Ack, Mode, ReaderAttach, ReaderHalves, WriterAttach, WriterHalves, WriterWelcome};
use crate::budget::Reservation;
use crate::caller::{Caller, Holder, Peer};
use crate::delivery::{Closed, Machine};
use crate::error::{Code, Error};
use crate::id::{Seq, SessionId};
use crate::identity::PublicKey;
use crate::memory::{PARTY_BYTES, PIPE_BYTES};
use crate::name::{Owner, PipeRef};

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
    check(caller.rights.write)?;
    exists_or_may(shared, caller, pipe)?;
    let (session, epoch, holder) = (attach.session, attach.epoch, holder(caller));
    if attach.resume.is_some()
        && let Some(closed) = closed(shared, pipe, session)?
    {
        return Ok(halves::of_closed_writer(welcome_of(closed)));
    }
    let _room = room(shared, pipe, attach.resume.is_none())?;
    let _account = account(shared, caller, pipe.owner);
    let cell = change(shared, pipe, attach.mode, |pipe| {
        pipe.attach_writer(session, epoch, attach.resume, holder)?;
        pipe.set(attach.settings);
        Ok(())
    })?;
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
    check(caller.rights.read)?;
    exists_or_may(shared, caller, pipe)?;
    let holder = holder(caller);
    if attach.resume.is_some() && closed(shared, pipe, attach.session)?.is_some() {
        return Ok(halves::of_closed_reader());
    }
    let (session, epoch) = (attach.session, attach.epoch);
    let _room = room(shared, pipe, attach.resume.is_none())?;
    let _account = account(shared, caller, pipe.owner);
    let now = shared.env.now();
    let cell = change(shared, pipe, attach.mode, |pipe| {
        pipe.set(attach.tape.settings);
        pipe.attach_reader(&attach, holder, now)
    })?;
    let attached = Arc::new(Attached::new(shared, &cell, caller, Party::Reader, session, epoch));
    let welcome = poll_fn(|cx| cell.poll(shared, session, cx, |pipe| pipe.reader_welcome(session, epoch))).await?;
    Ok(halves::of_reader(attached, welcome))
}

/// What a stranger and a friend of an unknown pipe hear alike.
pub(super) fn no_access() -> Error {
    Error::new(Code::Access, "no such pipe, or no right to it")
}

pub(super) fn check(right: bool) -> Result<(), Error> {
    if right { Ok(()) } else { Err(no_access()) }
}

/// The mode belongs to the pipe, set by whoever used it first.
fn has_mode(machine: &Machine, wanted: Option<Mode>) -> Result<(), Error> {
    let mode = machine.mode();
    if wanted.is_none_or(|wanted| wanted == mode) {
        return Ok(());
    }
    let wanted = wanted.unwrap_or_default().word();
    let text = format!("the pipe {} is a {} pipe, not a {wanted} pipe", machine.pipe().path.display(), mode.word());
    Err(Error::new(Code::Mode, text))
}

/// Memory for one more, looked for before it is there. Who comes back has had it all the time.
fn room(shared: &Shared, pipe: &PipeRef, is_new: bool) -> Result<Option<Reservation>, Error> {
    if !is_new {
        return Ok(None);
    }
    let bytes = PIPE_BYTES + PARTY_BYTES;
    let taken = shared.memory.part_of(pipe.owner.0.map(PublicKey)).pipes.take(bytes);
    let refused = || match shared.memory.pipes.take(bytes) {
        Some(_) => Error::new(Code::Quota, "the owner of this pipe has as many pipes and items as it may"),
        None => Error::new(Code::Busy, "the relay holds as many pipes and sessions as its memory allows; try later"),
    };
    taken.map(Some).ok_or_else(refused)
}

/// The account of the pipe's owner, which may have what this caller says, if it says so. Held until the pipe holds it.
pub(super) fn account(shared: &Shared, caller: &Caller, owner: Owner) -> Arc<Account> {
    let account = shared.owners.account(owner);
    if caller.limits.is_some_and(|limits| account.may_have(limits)) {
        shared.owners.changed(owner);
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
    let delivered = if closed.delivered { closed.next } else { Seq(0) };
    let ack = Ack { settled: closed.next, stored: closed.next, delivered };
    // Once a session is closed its mode matters to nobody.
    WriterWelcome { next: closed.next, ack, credit: 0, readers: 0, mode: Mode::Default }
}

/// Changes the pipe of this name, which begins to exist if it does not and its owner may have one more.
pub(super) fn change(
    shared: &Arc<Shared>,
    pipe: &PipeRef,
    mode: Option<Mode>,
    mut change: impl FnMut(&mut Machine) -> Result<(), Error>,
) -> Result<SharedCell, Error> {
    loop {
        let cell = {
            let mut directory = shared.directory();
            match directory.get(pipe) {
                Some(cell) => cell,
                None if shared.owners.account(pipe.owner).has_all_pipes() => return Err(too_many_pipes()),
                None => {
                    let cell = shared.new_cell(pipe, mode.unwrap_or_default());
                    directory.insert(cell.clone());
                    cell
                }
            }
        };
        // A pipe that ceased to exist meanwhile has left the directory: the next round makes a new one.
        let result = cell.change(shared, |machine| {
            has_mode(machine, mode)?;
            change(machine)
        });
        if let Some(result) = result {
            return result.map(|()| cell);
        }
    }
}

fn too_many_pipes() -> Error {
    Error::new(Code::Quota, "the owner of this pipe has as many pipes as it may")
}

pub(super) fn holder(caller: &Caller) -> Holder {
    match (&caller.peer, caller.key) {
        (Peer::Process(process), _) => Holder::Process(*process),
        (Peer::InProcess, _) => Holder::Process(crate::local_socket::process_id(std::process::id())),
        (Peer::Network(_), Some(key)) => Holder::Key(key),
        (Peer::Network(_), None) => Holder::Unknown,
    }
}
