//! What a party of a default pipe gets next.

use crate::batch::{Batch, EndKind};
use crate::broker::{Notice, ReaderDown, WriterDown};
use crate::id::{Epoch, ItemNo, Position, Seq, SessionId};

use super::default::{DefaultPipe, Next, fenced};
use super::item::Item;
use super::read_only::NEVER;
use super::reader::{Cursor, Holds, Reader};

/// What a cursor comes to next.
enum Step {
    /// This batch, which is in memory.
    Batch(Batch),
    /// A batch that is in the log.
    FromLog(Seq),
    /// Numbers that others took before; it goes on behind them.
    Skip(Seq),
    /// The end of the item.
    End(EndKind, Seq),
    /// Nothing yet.
    Nothing,
}

impl DefaultPipe {
    /// The next message down to a writer.
    pub fn next_for_writer(&mut self, session: SessionId, epoch: Epoch) -> Next<WriterDown> {
        let durable = self.durable;
        let Some(&no) = self.writers.get(&session) else { return Next::End(self.removed.then(|| self.unknown())) };
        let (window, is_read_first) = (self.window(no), self.is_read_first(no));
        let Some(item) = self.items.get_mut(&no) else { return Next::End(None) };
        if item.epoch != epoch {
            return Next::End(Some(fenced()));
        }
        let message = if let Some(notice) = item.take_notice() {
            WriterDown::Notice(notice)
        } else if let Some(ack) = item.take_ack(durable) {
            WriterDown::Ack(ack)
        } else if let Some(credit) = item.take_credit(window) {
            WriterDown::Credit(credit)
        } else if is_read_first {
            item.reader_told = true;
            WriterDown::HasReader
        } else {
            return self.writer_waits();
        };
        self.drop_item_if_over(no);
        self.vanish_if_empty();
        Next::Message(message)
    }

    /// The next message down to a reader.
    pub fn next_for_reader(&mut self, session: SessionId, epoch: Epoch) -> Next<ReaderDown> {
        let (durable, confirmed, is_read_only) = (self.durable, self.confirmed(), self.read_only.is_some());
        if !self.readers.contains_key(&session) {
            return Next::End(Some(self.unknown()));
        }
        let Some(reader) = self.readers.get_mut(&session) else { return Next::End(None) };
        if reader.epoch != epoch {
            return Next::End(Some(fenced()));
        }
        // A full disk does not let it have the next item any sooner. Of a log that failed everybody may read all there is: nothing is taken.
        if reader.joined > confirmed || (reader.given > durable && !is_read_only) {
            return Next::Wait;
        }
        if let Some(message) = reader.outbox.pop_front() {
            return Next::Message(message);
        }
        if let Some(left) = reader.leaving {
            return if left <= durable { self.finished(session) } else { self.reader_waits(session) };
        }
        match self.next_records(session) {
            Next::Wait => self.reader_waits(session),
            next => next,
        }
    }

    /// A batch from the log for a reader that was sent to it; `None` when the reader does not want it any more.
    pub fn from_log(&mut self, session: SessionId, epoch: Epoch, no: ItemNo, batch: &Batch) -> Option<ReaderDown> {
        let reader = self.readers.get_mut(&session).filter(|reader| reader.epoch == epoch)?;
        let cursor = reader.serving(no)?;
        let wanted = batch.first() <= cursor.sent && cursor.sent < batch.next();
        let message = wanted.then(|| reader.send(no, batch.clone()));
        self.advance(session, no);
        message.flatten()
    }

    /// What a reader was sent to the log for is damaged or gone there, up to `to`.
    pub fn missing(&mut self, session: SessionId, epoch: Epoch, no: ItemNo, from: Seq, to: Seq) -> Option<ReaderDown> {
        let item = self.items.get(&no)?;
        let (writer, last) = (item.session, item.accepted);
        // Where it stands alone in its batch the end mark may never have been logged: the fact tells of the end.
        let is_mark = item.end.is_some_and(|end| from.plus(1) == end.next);
        let reader = self.readers.get_mut(&session).filter(|reader| reader.epoch == epoch)?;
        let cursor = reader.serving(no).filter(|cursor| cursor.sent == from)?;
        let to = to.min(last).max(from.plus(1));
        cursor.sent = to;
        if is_mark {
            self.advance(session, no);
            return None;
        }
        // Nobody owes a look anything: what its owners took meanwhile is no gap.
        let peeks = matches!(reader.holds, Holds::Peek(_));
        self.damaged |= !peeks;
        self.advance(session, no);
        Some(match peeks {
            true => ReaderDown::Notice(Notice::Middle { writer, from: to }),
            false => ReaderDown::Gap { writer, from, to },
        })
    }

    fn finished(&mut self, session: SessionId) -> Next<ReaderDown> {
        self.readers.remove(&session);
        self.vanish_if_empty();
        Next::Message(ReaderDown::Finished)
    }

    fn next_records(&mut self, session: SessionId) -> Next<ReaderDown> {
        let confirmed = self.confirmed();
        loop {
            let Some(reader) = self.readers.get_mut(&session) else { return Next::Wait };
            let Some(no) = reader.front() else {
                if matches!(reader.holds, Holds::Peek(_)) {
                    reader.leaving = Some(0);
                    return self.finished(session);
                }
                return Next::Wait;
            };
            let Some(item) = self.items.get(&no) else {
                reader.forget_front(no);
                continue;
            };
            let alone = matches!(reader.holds, Holds::Alone(..));
            // A look takes nothing: nobody goes on from it.
            let told = if matches!(reader.holds, Holds::Peek(_)) { NEVER } else { confirmed };
            let credit = u64::try_from(reader.credit).unwrap_or(0);
            let writer = item.session;
            let Some(cursor) = reader.serving(no) else { return Next::Wait };
            match step(item, cursor, told) {
                Step::Batch(_) | Step::FromLog(_) if credit == 0 => return Next::Wait,
                Step::FromLog(from) => return Next::FromLog { item: no, from, bytes_max: credit },
                Step::Batch(batch) => {
                    let message = reader.send(no, batch);
                    self.advance(session, no);
                    if let Some(message) = message {
                        return Next::Message(message);
                    }
                }
                // It has not begun yet: it is told once, when it does.
                Step::Skip(to) if cursor.wants_start => {
                    (cursor.start, cursor.sent, cursor.acked) = (to, to, to);
                }
                Step::Skip(to) => {
                    cursor.sent = to;
                    return Next::Message(ReaderDown::Notice(Notice::Middle { writer, from: to }));
                }
                Step::End(kind, next) => {
                    // A reader may be ahead of what a crashed relay knew, and acknowledges that as well.
                    cursor.sent = cursor.sent.max(next);
                    cursor.end_told = true;
                    self.advance(session, no);
                    return Next::Message(ReaderDown::ItemEnd { writer, kind, alone, next });
                }
                Step::Nothing if self.advance(session, no) => {}
                Step::Nothing => return Next::Wait,
            }
        }
    }

    /// Goes to the next item in line if the front one has nothing more for now. Returns whether it did.
    fn advance(&mut self, session: SessionId, no: ItemNo) -> bool {
        let confirmed = self.confirmed();
        let Some(reader) = self.readers.get_mut(&session) else { return false };
        let item = self.items.get(&no);
        match &mut reader.holds {
            Holds::Peek(items) => {
                let done = |cursor: &Cursor| {
                    cursor.end_told || cursor.sent >= cursor.stored_until && item.is_none_or(|i| i.end.is_none())
                };
                let done = items.front().is_some_and(|(front, cursor)| *front == no && done(cursor));
                if done {
                    items.pop_front();
                }
                done
            }
            Holds::Live(live) => {
                let Some(cursor) = live.cursors.get_mut(&no).filter(|_| live.ready.front() == Some(&no)) else {
                    return false;
                };
                let stays = !cursor.end_told && (cursor.sent < cursor.stored_until || cursor.open_record);
                if stays {
                    return false;
                }
                live.ready.pop_front();
                let more = item.is_some_and(|item| !matches!(step(item, cursor, confirmed), Step::Nothing));
                cursor.queued = more && !cursor.end_told;
                if cursor.queued {
                    live.ready.push_back(no);
                }
                true
            }
            Holds::Waiting | Holds::Alone(..) => false,
        }
    }
}

/// What `cursor` comes to next in `item`, when entries of the log up to `confirmed` may be relied on.
fn step(item: &Item, cursor: &Cursor, confirmed: u64) -> Step {
    match step_now(item, cursor) {
        // Nobody sends an abort again: who was told of one that a crash then undid would miss what its writer goes on with.
        Step::End(EndKind::Aborted, _) if !item.is_end_known(confirmed) => Step::Nothing,
        step => step,
    }
}

fn step_now(item: &Item, cursor: &Cursor) -> Step {
    let taken_until = cursor.skip.first_gap(cursor.sent);
    // Others may have taken the end as well: it is told all the same, so the skip stops before it.
    let end_mark = item.end.filter(|_| !cursor.end_told).map(|end| (end, Seq(end.next.0 - 1)));
    match end_mark.filter(|(end, _)| taken_until >= end.next) {
        Some((end, mark)) if cursor.sent >= mark => return Step::End(end.kind, end.next),
        Some((_, mark)) => return Step::Skip(mark),
        None if taken_until > cursor.sent => return Step::Skip(taken_until),
        None => {}
    }
    if let Some(end) = item.end.filter(|end| {
        let without_batch = end.kind == EndKind::Aborted && cursor.sent >= item.accepted;
        !cursor.end_told && (cursor.sent >= end.next || without_batch)
    }) {
        return Step::End(end.kind, end.next);
    }
    match item.in_memory(cursor.sent) {
        Some(batch) => Step::Batch(batch.clone()),
        None if cursor.sent < item.accepted => Step::FromLog(cursor.sent),
        None => Step::Nothing,
    }
}

impl Reader {
    /// The item that is served now.
    fn front(&self) -> Option<ItemNo> {
        match &self.holds {
            Holds::Waiting => None,
            Holds::Alone(no, cursor) => (!cursor.end_told).then_some(*no),
            Holds::Live(live) => live.ready.front().copied(),
            Holds::Peek(items) => items.front().map(|(no, _)| *no),
        }
    }

    /// The cursor in an item, a peek's included.
    fn serving(&mut self, no: ItemNo) -> Option<&mut Cursor> {
        match &mut self.holds {
            Holds::Peek(items) => items.front_mut().filter(|(front, _)| *front == no).map(|(_, cursor)| cursor),
            Holds::Alone(own, cursor) if *own == no => Some(cursor),
            Holds::Live(live) => live.cursors.get_mut(&no),
            Holds::Alone(..) | Holds::Waiting => None,
        }
    }

    /// The item is gone.
    fn forget_front(&mut self, no: ItemNo) {
        match &mut self.holds {
            Holds::Peek(items) => drop(items.pop_front()),
            Holds::Live(live) => live.complete(no),
            Holds::Waiting | Holds::Alone(..) => self.holds = Holds::Waiting,
        }
    }

    /// Moves the cursor over `batch` and makes the message; none when no record in it is this reader's.
    fn send(&mut self, no: ItemNo, batch: Batch) -> Option<ReaderDown> {
        let cursor = self.serving(no)?;
        let mut from = cursor.sent;
        cursor.sent = batch.next();
        cursor.open_record = batch.is_open();
        if cursor.wants_start {
            // Where no record begins any more it is owed the end mark, so the item stays until it has acknowledged that.
            let end_mark = batch.is_end().then(|| Seq(batch.next().0 - 1));
            let Some(start) = batch.first_start().or(end_mark) else {
                (cursor.start, cursor.acked) = (batch.next(), batch.next());
                return None;
            };
            cursor.wants_start = false;
            from = start.max(from);
            (cursor.start, cursor.acked) = (from, from);
            let middle = Notice::Middle { writer: batch.session(), from };
            self.outbox.push_back(ReaderDown::Notice(middle));
            // The notice goes first: the batch is sent again behind it.
            let cursor = self.serving(no)?;
            cursor.sent = from;
            return self.outbox.pop_front();
        }
        self.credit -= batch.encoded().len() as i64;
        Some(ReaderDown::Batch { from, position: position(no, from), batch })
    }
}

/// The token of a place in a pipe: item and number.
fn position(no: ItemNo, seq: Seq) -> Position {
    let mut token = [0; 16];
    token[..8].copy_from_slice(&no.0.to_le_bytes());
    token[8..].copy_from_slice(&seq.0.to_le_bytes());
    Position(bytes::Bytes::copy_from_slice(&token))
}
