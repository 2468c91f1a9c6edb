//! What writers do to a default pipe.

use crate::batch::{Batch, EndKind};
use crate::broker::{Mode, Notice, WriterResume, WriterWelcome};
use crate::caller::Holder;
use crate::error::{Code, Error};
use crate::id::{Epoch, ItemNo, Seq, SessionId};
use crate::time::Time;

use super::default::{DefaultPipe, EVERYBODY, Pending, expired, fenced};
use super::fact::Fact;
use super::item::{End, Item, Link};
use super::limits::{CURSORS_MAX, ITEMS_MAX, LIVE_WINDOW_BYTES};
use super::ranges::Ranges;
use super::reader::{Cursor, Holds};

/// What is known of a batch that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It is new, or the same as the one that is in memory; or it is past caring.
    Fine,
    /// Its numbers came before and are not in memory: whether with the same bytes, the log can tell.
    Again(ItemNo),
}

impl DefaultPipe {
    /// A writer attaches or returns. It is welcome once [`DefaultPipe::writer_welcome`] says so.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`, `E_RESUME_AHEAD`, `E_BUSY`; `E_STORAGE` when the log failed.
    pub fn attach_writer(
        &mut self,
        session: SessionId,
        epoch: Epoch,
        resume: Option<WriterResume>,
        holder: Holder,
    ) -> Result<(), Error> {
        match (self.writers.get(&session), resume) {
            (Some(item), _) if !self.items[item].holder.admits(holder) => Err(expired()),
            (Some(&item), resume) => self.return_writer(item, epoch, resume.unwrap_or_default()),
            (None, Some(_)) => {
                self.vanish_if_empty();
                Err(expired())
            }
            (None, None) => self.join_writer(session, epoch, holder).inspect_err(|_| self.vanish_if_empty()),
        }
    }

    /// The welcome of an attached writer, once its joining is durable.
    pub fn writer_welcome(&mut self, session: SessionId, epoch: Epoch) -> Option<Result<WriterWelcome, Error>> {
        let (durable, confirmed) = (self.durable, self.confirmed());
        let Some(&no) = self.writers.get(&session) else { return Some(Err(self.unknown())) };
        let window = self.window(no);
        let readers = self.readers.values().filter(|reader| reader.gets(no)).count() as u32;
        let item = self.items.get_mut(&no)?;
        if item.epoch != epoch {
            return Some(Err(fenced()));
        }
        (item.joined <= confirmed).then(|| {
            item.reader_told = readers > 0;
            Ok(WriterWelcome {
                next: item.accepted,
                ack: item.welcome_ack(durable),
                credit: item.welcome_credit(window),
                readers,
                mode: Mode::Default,
            })
        })
    }

    /// A batch comes in. One that came before is compared with what is in memory; with what is in the log, by the caller.
    ///
    /// # Errors
    /// `E_FENCED`, or `E_PROTOCOL` and `E_CONFLICT` when the batch cannot be the next one or there was no credit for it; the attach must be
    /// closed then.
    pub fn batch(&mut self, session: SessionId, epoch: Epoch, batch: Batch, now: Time) -> Result<Came, Error> {
        let no = self.attached_item(session, epoch)?;
        if self.read_only.is_some() {
            // The writer hears why from below, behind the last acknowledgement.
            return Ok(Came::Fine);
        }
        if batch.session() != session {
            return Err(Error::new(Code::Protocol, "a batch of another session"));
        }
        self.spend(no, &batch)?;
        if self.is_known(no, &batch)? {
            let in_memory = self.items[&no].in_memory(batch.first()).is_some();
            return Ok(if in_memory { Came::Fine } else { Came::Again(no) });
        }
        self.with_item(no, |item| item.accept(batch, now));
        self.offer(no);
        if !self.is_prompt(no) || self.unlogged_bytes > LIVE_WINDOW_BYTES {
            self.log_item(no);
        }
        let ended = self.items[&no].end.is_some();
        if ended {
            self.item_ended(no);
        }
        // What a resumed reader already acknowledged is settled as it comes.
        self.refresh(no);
        if ended {
            self.complete_ahead(no);
        }
        self.vanish_if_empty();
        Ok(Came::Fine)
    }

    /// The writer gives its item up.
    ///
    /// # Errors
    /// `E_FENCED`, `E_SESSION_EXPIRED`, or `E_ACCESS` when the pipe was removed.
    pub fn abort(&mut self, session: SessionId, epoch: Epoch) -> Result<(), Error> {
        let no = self.attached_item(session, epoch)?;
        let is_nothing = self.items[&no].accepted == Seq(0) && !self.readers.values().any(|reader| reader.gets(no));
        self.abort_item(no);
        if is_nothing {
            self.withdraw(no);
        }
        self.vanish_if_empty();
        Ok(())
    }

    /// The writer's link broke.
    pub fn writer_away(&mut self, session: SessionId, epoch: Epoch, now: Time) {
        let Ok(no) = self.attached_item(session, epoch) else { return };
        self.with_item(no, |item| item.link = Link::Away(now));
        self.drop_item_if_over(no);
        self.vanish_if_empty();
    }

    pub(super) fn attached_item(&self, session: SessionId, epoch: Epoch) -> Result<ItemNo, Error> {
        let &no = self.writers.get(&session).ok_or_else(|| self.unknown())?;
        if self.items[&no].epoch == epoch { Ok(no) } else { Err(fenced()) }
    }

    /// A new item begins.
    fn join_writer(&mut self, session: SessionId, epoch: Epoch, holder: Holder) -> Result<(), Error> {
        if let Some(error) = self.read_only_error() {
            return Err(error);
        }
        if self.items.len() >= ITEMS_MAX || self.cursors() + self.readers.len() > CURSORS_MAX {
            return Err(Error::new(Code::Busy, "the pipe holds as many items as it may"));
        }
        // A reader that ends with an item must have ended before this writer in the log as well.
        let ended = |no: &ItemNo| self.items.get(no).is_some_and(|item| item.end.is_some());
        let ended: Vec<ItemNo> = self.watched.iter().copied().filter(ended).collect();
        ended.into_iter().for_each(|no| self.log_item(no));
        let no = self.next_item;
        let joined = self.append(Fact::WriterJoined { session, epoch, item: no, holder });
        self.when_durable(joined, Pending::Wake(session));
        self.begin_item(no, Item::new(session, epoch, holder, joined));
        self.say_second_writer(no);
        self.say_full(no);
        Ok(())
    }

    /// Puts a new item in its place: owed to all who are live, or to the first who waits for an item.
    pub(super) fn begin_item(&mut self, no: ItemNo, mut item: Item) {
        let mut owed = false;
        for reader in self.readers.values_mut().filter(|reader| reader.leaving.is_none()) {
            let lagging = reader.link != Link::Attached;
            if let Some(live) = reader.live().filter(|live| !live.ending) {
                live.cursors.insert(no, Cursor { lagging, ..Cursor::new(Seq(0), Seq(0), Ranges::default()) });
                owed = true;
            }
        }
        let waiting = |holds: &Holds| matches!(holds, Holds::Waiting);
        let waiting = self.readers.iter_mut().filter(|(_, r)| !owed && r.leaving.is_none() && waiting(&r.holds));
        let waiting = waiting.min_by_key(|(_, reader)| reader.arrival);
        if let Some((session, reader)) = waiting {
            reader.holds = Holds::Alone(no, Cursor::new(Seq(0), Seq(0), Ranges::default()));
            item.taker = Some(*session);
        }
        self.writers.insert(item.session, no);
        self.sending += u64::from(item.is_sending());
        self.items.insert(no, item);
        self.next_item = ItemNo(no.0.saturating_add(1));
    }

    /// A known writer returns.
    fn return_writer(&mut self, no: ItemNo, epoch: Epoch, resume: WriterResume) -> Result<(), Error> {
        let (session, known) = (self.items[&no].session, self.items[&no].accepted);
        self.with_item(no, |item| {
            if epoch <= item.epoch {
                return Err(fenced());
            }
            if item.end.is_some_and(|end| end.kind == EndKind::Aborted) {
                return Err(expired().with_stored(item.accepted));
            }
            if resume.stored > item.accepted {
                return Err(Error::new(Code::ResumeAhead, "the writer claims as stored what was never stored here"));
            }
            // A relay that crashed knows nothing of what was delivered and never logged; the writer does.
            if resume.settled > item.accepted {
                item.acked.insert(item.accepted..resume.settled);
                item.accepted = resume.settled;
                item.settled = item.settled.max(resume.settled);
            }
            item.epoch = epoch;
            item.link = Link::Attached;
            Ok(())
        })
        .unwrap_or_else(|| Err(expired()))?;
        let returned = self.append(Fact::Returned { session, epoch });
        self.when_durable(returned, Pending::Wake(session));
        self.with_item(no, |item| item.joined = returned);
        // Whoever was owed those has them.
        for cursor in self.readers.values_mut().filter_map(|reader| reader.cursor(no)) {
            cursor.skip.insert(known..resume.settled);
        }
        self.wake(session);
        self.refresh(no);
        Ok(())
    }

    /// A writer that sends more than it may fills memory that nobody gave it.
    fn spend(&mut self, no: ItemNo, batch: &Batch) -> Result<(), Error> {
        let spent = self.items.get_mut(&no).is_some_and(|item| item.spend(batch.encoded().len()));
        if spent { Ok(()) } else { Err(Error::new(Code::Protocol, "a batch without credit for it")) }
    }

    /// Whether a batch was accepted before.
    fn is_known(&mut self, no: ItemNo, batch: &Batch) -> Result<bool, Error> {
        let item = &self.items[&no];
        // Only a batch with the end mark can reach back: its records were delivered before a relay crashed, its end was not logged.
        if batch.first() <= item.accepted && batch.next() > item.accepted && item.end.is_none() {
            return Ok(false);
        }
        if batch.next() > item.accepted {
            return Err(Error::new(Code::Protocol, "a batch that is not the next one"));
        }
        if item.in_memory(batch.first()).is_some_and(|known| known.checksum() != batch.checksum()) {
            return Err(conflict());
        }
        let session = item.session;
        self.with_item(no, |item| item.refund(batch.encoded().len()));
        self.wake(session);
        Ok(true)
    }

    /// Tells the readers of an item that there is more of it.
    pub(super) fn offer(&mut self, no: ItemNo) {
        let mut woken = Vec::new();
        let ended = self.items.get(&no).is_some_and(|item| item.end.is_some());
        for (session, reader) in &mut self.readers {
            // One that may not be sent anything is woken by its credit: a thousand of them must not cost each batch a thousand looks.
            let may_be_sent = ended || reader.credit > 0;
            if let Some(live) = reader.live().filter(|live| live.cursors.contains_key(&no)) {
                live.queue(no);
                woken.extend(may_be_sent.then_some(*session));
            } else if reader.cursor(no).is_some() {
                woken.extend(may_be_sent.then_some(*session));
            }
        }
        woken.into_iter().for_each(|session| self.wake(session));
    }

    /// Whether the writer is still to be told that somebody reads its item.
    pub(super) fn is_read_first(&self, no: ItemNo) -> bool {
        let untold = self.items.get(&no).is_some_and(|item| !item.reader_told && item.end.is_none());
        untold && self.readers.values().any(|reader| reader.gets(no))
    }

    /// A reader was given items: their writers may have waited for one.
    pub(super) fn reader_came(&mut self, session: SessionId) {
        let Some(reader) = self.readers.get(&session) else { return };
        let waits = |no: &ItemNo| self.items.get(no).filter(|item| !item.reader_told && item.link == Link::Attached);
        let waiting: Vec<SessionId> = reader.items().filter_map(|no| waits(&no)).map(|item| item.session).collect();
        waiting.into_iter().for_each(|writer| self.wake(writer));
    }

    /// The item ends as aborted where it is.
    pub(super) fn abort_item(&mut self, no: ItemNo) {
        // A reader that came in the middle before a relay crashed proves that the item went so far.
        let begun = |cursor: &mut Cursor| if cursor.start_unknown { cursor.sent } else { cursor.start };
        let begun = self.readers.values_mut().filter_map(|reader| reader.cursor(no)).map(begun).max();
        let begun = begun.unwrap_or_default();
        let aborted = self.with_item(no, |item| {
            item.link = Link::Away(Time::default());
            let open = item.end.is_none();
            let lost = item.accepted..item.known_until().max(begun);
            if open {
                item.end = Some(End { kind: EndKind::Aborted, next: lost.end.plus(1), append: None });
                item.acked.insert(lost.clone());
            }
            (open, item.session, lost)
        });
        let Some((true, session, lost)) = aborted else { return self.drop_item_if_over(no) };
        // What a relay that crashed does not have any more, and some reader has: the others are told where it goes on.
        for cursor in self.readers.values_mut().filter_map(|reader| reader.cursor(no)) {
            cursor.skip.insert(lost.clone());
        }
        self.wake(session);
        // Readers hear of it once the log has it.
        self.log_item(no);
        self.item_ended(no);
        self.refresh(no);
    }

    /// An item that was given up before its first record, and that nobody was given, is as if it had never been.
    fn withdraw(&mut self, no: ItemNo) {
        let Some(end) = self.items.get(&no).and_then(|item| item.end) else { return };
        let all = Seq(0)..end.next;
        self.append(Fact::Took { reader: EVERYBODY, item: no, from: all.start, to: all.end });
        self.with_item(no, |item| item.acked.insert(all));
        self.refresh(no);
    }

    /// That an item was aborted may be told now.
    pub(super) fn offer_abort(&mut self, no: ItemNo) {
        let end = self.items.get(&no).and_then(|item| item.end);
        if end.is_some_and(|end| end.kind == EndKind::Aborted) {
            self.offer(no);
        }
    }

    /// The same of all items.
    pub(super) fn offer_aborts(&mut self) {
        let items: Vec<ItemNo> = self.items.keys().copied().collect();
        items.into_iter().for_each(|no| self.offer_abort(no));
    }

    /// When the last writer of a live reader has ended, the reader ends too, however far it is.
    pub(super) fn item_ended(&mut self, no: ItemNo) {
        let items = &self.items;
        let ended = |item: &ItemNo| items.get(item).is_none_or(|item| item.end.is_some());
        for live in self.readers.values_mut().filter_map(|reader| reader.live()) {
            if live.cursors.contains_key(&no) && live.cursors.keys().all(ended) {
                live.ending = true;
            }
        }
        self.offer(no);
    }

    /// Says once to each side that more than one writer writes what a live reader gets.
    fn say_second_writer(&mut self, no: ItemNo) {
        let mut others = Vec::new();
        let items = &self.items;
        for (session, reader) in &mut self.readers {
            let told = reader.second_writer_told;
            let Some(live) = reader.live().filter(|live| live.cursors.contains_key(&no)) else { continue };
            let open: Vec<ItemNo> =
                live.cursors.keys().copied().filter(|i| items.get(i).is_some_and(|item| item.end.is_none())).collect();
            if open.len() < 2 {
                continue;
            }
            if !told {
                reader.second_writer_told = true;
                reader.say(crate::broker::ReaderDown::Notice(Notice::SecondWriter));
            }
            others.push((*session, open));
        }
        for (session, open) in others {
            self.wake(session);
            for item in open {
                self.tell_writer_once(item);
            }
        }
    }

    fn tell_writer_once(&mut self, no: ItemNo) {
        let Some(item) = self.items.get_mut(&no).filter(|item| !item.second_writer_told) else { return };
        item.second_writer_told = true;
        item.notify(Notice::SecondWriter);
        let session = item.session;
        self.wake(session);
    }
}

/// A writer that gives other bytes the numbers of those that it sent before.
pub fn conflict() -> Error {
    Error::new(Code::Conflict, "the same numbers with other bytes")
}
