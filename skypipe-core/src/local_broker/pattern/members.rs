//! The pipes of one reader of many.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::broker::{Had, LeaseId, PATTERN_PIPES_MAX, ReaderAttach, ReaderDown, ReaderUp, Start};
use crate::budget::Reservation;
use crate::caller::{Caller, Holder, Peer};
use crate::delivery::{Hands, Next};
use crate::error::{Code, Error};
use crate::id::{PipeNo, SessionId};
use crate::name::{PatternRef, PipePath};

use super::super::attach;
use super::super::cell::SharedCell;
use super::super::directory::Watcher;
use super::super::halves::{Attached, Party};
use super::super::log_reading::LogReading;
use super::super::shared::Shared;
use super::turn::{InTurn, Turn};
use super::{MEMBER_BYTES, room};

/// The pipes of one reader of many, and what they share.
pub(super) struct Members {
    shared: Arc<Shared>,
    caller: Caller,
    holder: Holder,
    /// How it attaches to each pipe, but for what it has there.
    attach: ReaderAttach,
    watcher: Arc<Watcher>,
    turn: Arc<Turn>,
    hands: Arc<Hands>,
    members: BTreeMap<PipeNo, Member>,
    next_no: PipeNo,
    /// What a returning reader has said so far that it has; none once it said all. At most [`PATTERN_PIPES_MAX`].
    had: Option<BTreeMap<PipePath, Had>>,
    /// Pipes to be joined, and how: a part at a time, so that thousands hold up nobody else.
    to_join: VecDeque<ToJoin>,
    /// Those of the first that were not told yet. Nothing is sent before all are.
    joining: BTreeSet<PipeNo>,
    all_joined: bool,
    /// Encoded bytes of batches that may be sent.
    credit: i64,
    /// To whom goes what comes up.
    up: Option<PipeNo>,
    /// From whom came what went down last.
    from: Option<PipeNo>,
    /// At most a message and what says from whom it is.
    out: VecDeque<ReaderDown>,
    /// Whose turn it is still: what was read from the log is sent before another one's is read.
    reads: Option<PipeNo>,
    /// From whom went a part of a record, and of a queue which one: nothing of others comes between that and the rest.
    torn: Option<(PipeNo, Option<LeaseId>)>,
    reading: LogReading,
    /// Those whose turn came when nothing could be sent. Each at most once.
    starved: Vec<PipeNo>,
    /// Those that found the hands full, the first one first. Each at most once.
    hungry: VecDeque<PipeNo>,
    leaving: bool,
    /// Told when all the others have nothing more to say.
    failure: Option<Error>,
    reserved: Reservation,
}

/// Pipes joined before other tasks get their turn: some 10 µs each.
const JOINS_AT_ONCE: usize = 64;

/// A pipe that was there when the reader attached.
struct ToJoin {
    cell: SharedCell,
    had: Option<Had>,
    start: Start,
    /// It began while the reader was away.
    is_late: bool,
}

/// One of the pipes.
struct Member {
    attached: Arc<Attached>,
    in_turn: Arc<InTurn>,
    /// The reader is a new one there, although it was one before.
    is_new: bool,
    has_joined: bool,
    is_starved: bool,
    is_hungry: bool,
}

impl Members {
    pub(super) fn new(shared: &Arc<Shared>, caller: &Caller, pattern: &PatternRef, attach: ReaderAttach) -> Self {
        let is_local = matches!(caller.peer, Peer::InProcess | Peer::Process(_));
        let credit = i64::try_from(attach.credit).unwrap_or(i64::MAX);
        let hands = Hands::new(attach.tape.prefetch);
        hands.open(credit > 0);
        Self {
            shared: shared.clone(),
            caller: caller.clone(),
            holder: attach::holder(caller),
            watcher: Arc::new(Watcher::new(pattern.clone(), attach.mode)),
            turn: Arc::default(),
            hands: Arc::new(hands),
            members: BTreeMap::new(),
            next_no: PipeNo::default(),
            had: attach.resume.is_some().then(BTreeMap::new),
            to_join: VecDeque::new(),
            joining: BTreeSet::new(),
            all_joined: false,
            credit,
            up: None,
            from: None,
            out: VecDeque::new(),
            reads: None,
            torn: None,
            reading: LogReading::new(&shared.memory.part_of(caller.key), is_local),
            starved: Vec::new(),
            hungry: VecDeque::new(),
            leaving: false,
            failure: None,
            reserved: shared.memory.sessions.hold(0),
            attach: ReaderAttach { credit: 0, ..attach },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn attached(&self) -> Vec<Arc<Attached>> {
        self.members.values().map(|member| member.attached.clone()).collect()
    }

    /// Looks which pipes there are, to join them. Those that begin from now on are heard of.
    pub(super) fn look(&mut self) -> Result<(), Error> {
        let cells = self.shared.directory().watch(&self.watcher);
        room(&self.shared, cells.len())?;
        let mut known = self.had.take();
        for cell in cells {
            let had = known.as_mut().and_then(|known| known.remove(&cell.path));
            // One that a returning reader does not know began while it was away.
            let is_late = known.is_some() && had.is_none();
            let start = if is_late { Start::Beginning } else { self.attach.tape.start.clone() };
            self.to_join.push_back(ToJoin { cell, had, start, is_late });
        }
        Ok(())
    }

    /// Joins some of them. Tells whether there are more.
    pub(super) fn join_some(&mut self) -> Result<bool, Error> {
        for _ in 0..JOINS_AT_ONCE {
            let Some(pipe) = self.to_join.pop_front() else { break };
            if let Some(no) = self.join(&pipe)? {
                self.joining.insert(no);
            }
        }
        Ok(!self.to_join.is_empty())
    }

    /// A message of the reader.
    pub(super) fn up(&mut self, message: ReaderUp) -> Result<(), Error> {
        match message {
            ReaderUp::Credit(bytes) => self.may_send(bytes),
            ReaderUp::Prefetch(records) => self.hands.limit(records),
            ReaderUp::Of(no) => self.up = Some(no),
            ReaderUp::Had(had) => self.note(had)?,
            ReaderUp::HadAll if self.had.is_some() => {
                self.look()?;
            }
            ReaderUp::Leave { .. } => self.leave()?,
            ReaderUp::AckTo(_) | ReaderUp::Settle { .. } => {
                if let Some(member) = self.up.and_then(|no| self.members.get(&no)) {
                    tell(&member.attached, message)?;
                }
            }
            ReaderUp::HadAll | ReaderUp::Ack(_) => return Err(out_of_place()),
        }
        self.turn.look();
        Ok(())
    }

    /// The next message down.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<ReaderDown, Error>> {
        self.turn.watch(cx);
        loop {
            if let Some(message) = self.out.pop_front() {
                return Poll::Ready(Ok(message));
            }
            if self.had.is_none() {
                if self.join_some()? {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                self.join_begun(cx)?;
                if let Some(message) = self.milestone() {
                    return Poll::Ready(Ok(message));
                }
                self.feed();
            }
            let only = self.torn.as_ref().map(|(no, _)| *no);
            match self.reads.or_else(|| self.turn.next(only)) {
                Some(no) => ready!(self.poll_member(no, cx))?,
                None if only.is_some() => return Poll::Pending,
                None => return self.rest(),
            }
        }
    }

    /// Nobody has anything to say. Of a failed disk all was said that could be.
    fn rest(&mut self) -> Poll<Result<ReaderDown, Error>> {
        let said_all = self.failure.is_some() && self.starved.is_empty();
        let failure = if said_all { self.failure.take() } else { None };
        failure.map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
    }

    /// More may be sent.
    fn may_send(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        if self.credit > 0 {
            self.hands.open(true);
            self.wake_starved();
        }
    }

    fn wake_starved(&mut self) {
        for no in std::mem::take(&mut self.starved) {
            if let Some(member) = self.members.get_mut(&no) {
                member.is_starved = false;
                member.in_turn.waker().wake();
            }
        }
    }

    fn note(&mut self, had: Had) -> Result<(), Error> {
        let known = self.had.as_mut().ok_or_else(out_of_place)?;
        if known.len() >= PATTERN_PIPES_MAX {
            return Err(Error::new(Code::Protocol, "a reader had more pipes than one may have"));
        }
        known.insert(had.pipe.clone(), had);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Error> {
        self.leaving = true;
        self.members.values().try_for_each(|member| tell(&member.attached, ReaderUp::Leave { part: false }))
    }

    /// Pipes that began are read from their beginning.
    fn join_begun(&mut self, cx: &Context<'_>) -> Result<(), Error> {
        for cell in self.watcher.begun(cx) {
            if self.leaving || self.attach.no_wait {
                continue;
            }
            room(&self.shared, self.members.len() + 1)?;
            self.join(&ToJoin { cell, had: None, start: Start::Beginning, is_late: true })?;
        }
        Ok(())
    }

    /// Attaches to one pipe. None when it is gone, or has nothing for who would not wait.
    fn join(&mut self, to_join: &ToJoin) -> Result<Option<PipeNo>, Error> {
        let ToJoin { cell, had, start, is_late } = to_join;
        let (session, epoch, now) = (self.attach.session, self.attach.epoch, self.shared.env.now());
        let knows = cell.knows(session);
        // Who leaves still leaves those that know it.
        if !knows && (self.leaving || (self.attach.no_wait && *is_late)) {
            return Ok(None);
        }
        let attach = self.attach_to(had.as_ref(), start.clone(), knows);
        let joined = cell.change(&self.shared, |pipe| pipe.attach_member(&attach, self.holder, &self.hands, now));
        match joined {
            Some(Ok(())) => {}
            None => return Ok(None),
            Some(Err(error)) if error.code() == Code::Empty => return Ok(None),
            // Of a failed disk others may have something to read still.
            Some(Err(error)) if error.code() == Code::Storage => {
                self.failure.get_or_insert(error);
                return Ok(None);
            }
            Some(Err(error)) => return Err(error),
        }
        let attached = Attached::new(&self.shared, cell, &self.caller, Party::Reader, session, epoch);
        if self.leaving {
            tell(&attached, ReaderUp::Leave { part: false })?;
        }
        let no = self.next_no;
        self.next_no = PipeNo(no.0.wrapping_add(1));
        let member = Member {
            attached: Arc::new(attached),
            in_turn: InTurn::new(no, &self.turn),
            is_new: had.is_some() && !knows,
            has_joined: false,
            is_starved: false,
            is_hungry: false,
        };
        self.members.insert(no, member);
        self.reserved.resize(self.members.len() as u64 * MEMBER_BYTES);
        Ok(Some(no))
    }

    /// How it attaches to one pipe. What the pipe does not know of is told by the reader: in a broadcast it goes on where it was.
    fn attach_to(&self, had: Option<&Had>, start: Start, knows: bool) -> ReaderAttach {
        let mut attach = self.attach.clone();
        attach.tape.start = start;
        attach.resume = knows.then(Vec::new);
        match had {
            Some(had) if knows => {
                attach.tape.resume_at.clone_from(&had.at);
                attach.tape.has.clone_from(&had.leases);
            }
            Some(Had { at: Some(mark), .. }) => attach.tape.start = Start::At(mark.clone()),
            _ => {}
        }
        attach
    }

    /// What is said of all of them together.
    fn milestone(&mut self) -> Option<ReaderDown> {
        if !self.all_joined && self.joining.is_empty() {
            self.all_joined = true;
            self.wake_starved();
            return Some(ReaderDown::AllJoined);
        }
        let is_over = self.all_joined && self.members.is_empty() && (self.leaving || self.attach.no_wait);
        (is_over && self.failure.is_none()).then_some(ReaderDown::Finished)
    }

    /// The hands have room: those that found them full look again, in turn.
    fn feed(&mut self) {
        while self.hands.has_room()
            && let Some(no) = self.hungry.pop_front()
        {
            let Some(member) = self.members.get_mut(&no) else { continue };
            member.is_hungry = false;
            let now = self.shared.env.now();
            member.attached.change(|pipe, session, _| pipe.look_again(session, now));
            member.in_turn.waker().wake();
        }
    }

    /// One pipe says what it has to say, one message at a time.
    fn poll_member(&mut self, no: PipeNo, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(member) = self.members.get_mut(&no) else {
            self.done_reading();
            return Poll::Ready(Ok(()));
        };
        if self.reads != Some(no) {
            member.in_turn.begins();
        }
        if !member.has_joined {
            return Poll::Ready(self.welcome(no));
        }
        if !self.all_joined {
            self.starve(no);
            return Poll::Ready(Ok(()));
        }
        let (attached, waker) = (member.attached.clone(), member.in_turn.waker());
        let (session, epoch, credit) = (attached.session, attached.epoch, self.credit);
        let mut is_hungry = false;
        let next = attached.cell.poll(&self.shared, session, &Context::from_waker(&waker), |pipe| {
            match pipe.next_for_member(session, epoch, credit) {
                Next::Wait => {
                    is_hungry = pipe.is_hungry(session);
                    None
                }
                next => Some(next),
            }
        });
        match next {
            Poll::Ready(Next::FromLog { item, from, bytes_max }) => {
                self.reads = Some(no);
                if let Some(message) = ready!(self.reading.poll(&attached, cx, item, from, bytes_max))? {
                    self.say(no, message);
                    if self.reading.is_empty() {
                        self.done_reading();
                        waker.wake();
                    }
                }
            }
            Poll::Ready(Next::Message(ReaderDown::Finished)) => {
                self.done_reading();
                self.part_with(no);
            }
            Poll::Ready(Next::Message(message)) => {
                self.done_reading();
                self.say(no, message);
                waker.wake();
            }
            Poll::Ready(Next::End(error)) => {
                self.done_reading();
                return Poll::Ready(self.ended(no, error));
            }
            Poll::Ready(Next::Wait) | Poll::Pending => {
                self.done_reading();
                self.waits(no, is_hungry);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the reader of a pipe once its joining is on disk.
    fn welcome(&mut self, no: PipeNo) -> Result<(), Error> {
        let Some(member) = self.members.get_mut(&no) else { return Ok(()) };
        let (session, epoch): (SessionId, _) = (member.attached.session, member.attached.epoch);
        let (cell, waker) = (member.attached.cell.clone(), member.in_turn.waker());
        let cx = Context::from_waker(&waker);
        let welcome = match cell.poll(&self.shared, session, &cx, |pipe| pipe.reader_welcome(session, epoch)) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(welcome)) => welcome,
            Poll::Ready(Err(error)) => return self.ended(no, Some(error)),
        };
        member.has_joined = true;
        let joins = ReaderDown::Joins { no, pipe: cell.path.clone(), welcome, is_new: member.is_new };
        self.joining.remove(&no);
        self.out.push_back(joins);
        waker.wake();
        Ok(())
    }

    fn say(&mut self, no: PipeNo, message: ReaderDown) {
        if let Some(member) = self.members.get(&no) {
            member.attached.cell.meter.goes(&message);
        }
        if let ReaderDown::Batch { batch, .. } | ReaderDown::Leased { batch, .. } = &message {
            self.credit -= batch.encoded().len() as i64;
            self.hands.open(self.credit > 0);
        }
        self.note_torn(no, &message);
        if self.from.replace(no) != Some(no) {
            self.out.push_back(ReaderDown::From(no));
        }
        self.out.push_back(message);
    }

    /// Whether more of a record is to come from this pipe before others have their turn.
    fn note_torn(&mut self, no: PipeNo, message: &ReaderDown) {
        let is_here = self.torn.as_ref().is_some_and(|(torn, _)| *torn == no);
        match message {
            ReaderDown::Batch { batch, .. } => self.torn = batch.is_open().then_some((no, None)),
            ReaderDown::Leased { lease, batch, .. } => {
                self.torn = batch.is_open().then(|| (no, Some(lease.clone())));
            }
            ReaderDown::Missing { .. } if is_here => self.torn = None,
            // It was settled before its end came: that does not come then.
            ReaderDown::Settled { lease, .. } => {
                self.torn.take_if(|(torn, part)| *torn == no && part.as_ref() == Some(lease));
            }
            _ => {}
        }
    }

    fn waits(&mut self, no: PipeNo, is_hungry: bool) {
        if self.credit <= 0 {
            self.starve(no);
        }
        let Some(member) = self.members.get_mut(&no) else { return };
        if is_hungry && !std::mem::replace(&mut member.is_hungry, true) {
            self.hungry.push_back(no);
        }
    }

    /// Its turn comes again when something may be sent.
    fn starve(&mut self, no: PipeNo) {
        let Some(member) = self.members.get_mut(&no) else { return };
        if !std::mem::replace(&mut member.is_starved, true) {
            self.starved.push(no);
        }
    }

    fn done_reading(&mut self) {
        self.reads = None;
        self.reading.forget();
    }

    /// A pipe ended its reader. One that is gone is gone quietly.
    fn ended(&mut self, no: PipeNo, error: Option<Error>) -> Result<(), Error> {
        match error {
            Some(error) if error.code() == Code::Storage => {
                self.failure.get_or_insert(error);
            }
            Some(error) if error.code() != Code::Access => return Err(over_with(error)),
            _ => {}
        }
        self.part_with(no);
        Ok(())
    }

    fn part_with(&mut self, no: PipeNo) {
        let Some(member) = self.members.remove(&no) else { return };
        self.torn.take_if(|(torn, _)| *torn == no);
        self.joining.remove(&no);
        self.reserved.resize(self.members.len() as u64 * MEMBER_BYTES);
        if member.has_joined {
            self.out.push_back(ReaderDown::Gone(no));
        }
    }
}

/// Passes on what the reader says of one pipe. One that is gone does not hear it any more.
fn tell(attached: &Attached, message: ReaderUp) -> Result<(), Error> {
    let now = attached.shared.env.now();
    let told = attached.change(|pipe, session, epoch| pipe.reader_up(session, epoch, message, now));
    told.unwrap_or(Ok(())).map_err(over_with)
}

/// A pipe that gave the reader up is joined anew over a new link, and goes on where the reader was.
fn over_with(error: Error) -> Error {
    match error.code() {
        Code::SessionExpired => Error::new(Code::Disconnected, "one of the pipes gave the reader up").because(error),
        _ => error,
    }
}

fn out_of_place() -> Error {
    Error::new(Code::Protocol, "a message that has no meaning here to a reader of many pipes")
}
