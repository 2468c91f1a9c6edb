//! A writer's side of its session.

use std::collections::VecDeque;

use crate::batch::{Batch, BatchBuilder, EndKind, ItemDigest, PIECE_BYTES_MAX};
use crate::broker::{Ack, Mode, Notice, Settings, WriterAttach, WriterDown, WriterResume, WriterUp, WriterWelcome};
use crate::error::{Code, Error};
use crate::event::Event;
use crate::headers::Headers;
use crate::id::{Epoch, Seq, SessionId};
use crate::session::connection::{Connection, Draw, Patience};
use crate::session::count::RecordCount;
use crate::time::{Time, WallTime};

/// A batch is closed when it has so many encoded bytes: enough to spread the cost of one message over many records,
/// half of what a batch may have, so that the piece that goes beyond always fits.
pub const BATCH_BYTES_TARGET: usize = 256 * 1024;
/// Encoded bytes a writer keeps unacknowledged unless told otherwise: as much as a broker keeps live.
pub const WRITER_WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// What a writer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterWants {
    /// The mode the pipe must have; none means the one it has.
    pub mode: Option<Mode>,
    /// End with an error instead of waiting for room on the broker's disk or in its quota.
    pub no_wait: bool,
    /// Encoded bytes kept unacknowledged.
    pub window_bytes: usize,
    /// How long it tries to get a link.
    pub patience: Patience,
    /// How a queue or broadcast is kept from now on.
    pub settings: Settings,
}

impl Default for WriterWants {
    fn default() -> Self {
        Self {
            mode: None,
            no_wait: false,
            window_bytes: WRITER_WINDOW_BYTES,
            patience: Patience::default(),
            settings: Settings::default(),
        }
    }
}

/// How far a writer is, in whole records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Progress {
    /// Records given to the writer.
    pub records: u64,
    /// Those that are stored or delivered: they will not be lost.
    pub settled: u64,
    /// Those known to be on disk.
    pub stored: u64,
    /// Those acknowledged by every reader they were owed to.
    pub delivered: u64,
}

/// What a writer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Until {
    /// Everything was handed to the link.
    Received,
    /// Everything is stored, or delivered already.
    #[default]
    Stored,
    /// Everything was acknowledged by every reader it was owed to.
    Delivered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Abort {
    No,
    Asked,
    Sent,
}

/// Keeps what is not acknowledged, and says what to send next.
///
/// ```text
///  push ─▶ open batch ─▶ kept ········· sent ─▶ acknowledged, forgotten
///                        │◀ window_bytes      ▶│
/// ```
#[derive(Debug)]
pub struct WriterSession {
    wants: WriterWants,
    connection: Connection,
    session: SessionId,
    /// Batches not wholly acknowledged, in order.
    kept: VecDeque<Batch>,
    kept_bytes: usize,
    /// How many of them went over this link.
    sent: usize,
    /// The batch that still grows, and the bytes of its bodies.
    open: BatchBuilder,
    open_bodies: u64,
    /// Whether the last piece left its record unfinished.
    in_record: bool,
    digest: ItemDigest,
    /// The number behind the end mark, once there is one.
    end: Option<Seq>,
    ack: Ack,
    credit: i64,
    /// How the pipe hands out records: one by one in a queue, so each has a batch of its own.
    mode: Mode,
    /// When the next records may be handed out by a queue.
    not_before: Option<WallTime>,
    /// What the next records carry beside their bytes.
    headers: Headers,
    /// Whether all that was given to the link has left this process.
    flushed: bool,
    count: RecordCount,
    /// Whether a reader was there.
    has_reader: bool,
    /// What was written in items that were given up.
    before: Progress,
    abort: Abort,
    failure: Option<(Code, String)>,
    events: Vec<Event>,
}

impl WriterSession {
    /// A session that attaches at once.
    pub fn new(session: SessionId, wants: WriterWants, now: Time) -> Self {
        Self {
            wants,
            connection: Connection::new(wants.patience, now),
            session,
            kept: VecDeque::new(),
            kept_bytes: 0,
            sent: 0,
            open: BatchBuilder::new(session, Epoch(1), Seq(0)),
            open_bodies: 0,
            in_record: false,
            digest: ItemDigest::default(),
            end: None,
            ack: Ack::default(),
            credit: 0,
            mode: Mode::Default,
            not_before: None,
            headers: Headers::new(),
            flushed: true,
            count: RecordCount::default(),
            has_reader: false,
            before: Progress::default(),
            abort: Abort::No,
            failure: None,
            events: Vec::new(),
        }
    }

    /// The state of its link.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The session, which is also the item's identity. It changes when the writer goes on with a new item.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Whether a piece may be pushed: the window has room and the session goes on.
    pub fn has_room(&self) -> bool {
        self.kept_bytes + self.open.encoded_bytes() < self.wants.window_bytes.max(1)
            && self.end.is_none()
            && !self.connection.is_over()
    }

    /// Adds a record, or a piece of one, of at most [`PIECE_BYTES_MAX`] bytes; copies it. False, and nothing added, when
    /// there is no room or it is too long. What follows a last piece begins a record; a first piece ends an unfinished one.
    #[must_use]
    pub fn push(&mut self, piece: &[u8], first: bool, last: bool) -> bool {
        if piece.len() > PIECE_BYTES_MAX || !self.has_room() {
            return false;
        }
        self.add(piece, first, last);
        true
    }

    /// Adds one record of any length if there is room for a piece: the window may be exceeded by what the application holds
    /// anyway.
    ///
    /// # Errors
    /// The error with which the session ended, or `E_USAGE` when there is no room.
    pub fn push_whole(&mut self, record: &[u8]) -> Result<(), Error> {
        if !self.has_room() {
            return Err(self.ended_with().unwrap_or_else(|| Error::new(Code::Usage, "sent before there was room")));
        }
        let pieces = record.len().div_ceil(PIECE_BYTES_MAX).max(1);
        for index in 0..pieces {
            let piece = &record[index * PIECE_BYTES_MAX..record.len().min((index + 1) * PIECE_BYTES_MAX)];
            self.add(piece, index == 0, index + 1 == pieces);
        }
        Ok(())
    }

    /// Adds each whole line of `bytes`, its `delimiter` with it, as a record, while there is room; copies them. Gives how many bytes it took: all but a last line
    /// without its end, if there was room.
    ///
    /// A line over [`PIECE_BYTES_MAX`] is not taken, nor what follows it.
    pub fn push_lines(&mut self, bytes: &[u8], delimiter: u8) -> usize {
        let mut taken = 0;
        for end in memchr::memchr_iter(delimiter, bytes).map(|at| at + 1) {
            if !self.push(&bytes[taken..end], true, true) {
                break;
            }
            taken = end;
        }
        taken
    }

    /// A queue hands what is pushed from now on to nobody before this moment. No other pipe minds.
    pub fn not_before(&mut self, moment: Option<WallTime>) {
        self.not_before = moment;
    }

    /// What is pushed from now on carries these headers. Records with others do not share a batch with it.
    pub fn headers(&mut self, headers: Headers) {
        if headers != self.headers {
            self.close_open();
            self.headers = headers;
            self.open = self.next_open();
        }
    }

    /// Ends the item. An unfinished record ends with it.
    pub fn end(&mut self, kind: EndKind) {
        if self.end.is_some() || self.connection.is_over() {
            return;
        }
        if self.in_record {
            self.add(b"", false, true);
        }
        let mark = self.digest.end(kind, self.open_bodies);
        let batch = self.swap_open().build(Some(mark));
        self.end = Some(batch.next());
        self.keep(batch);
    }

    /// Gives the item up: it ends as aborted. Without a link the broker finds out by itself.
    pub fn abort(&mut self) {
        match self.abort {
            Abort::No if self.connection.is_attached() => self.abort = Abort::Asked,
            Abort::No => self.connection.close(),
            Abort::Asked | Abort::Sent => {}
        }
    }

    /// Nothing more is wanted of the session.
    pub fn close(&mut self) {
        self.connection.close();
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            records: self.before.records + self.count.records(),
            settled: self.before.settled + self.count.below(self.ack.settled),
            stored: self.before.stored + self.count.below(self.ack.stored),
            delivered: self.before.delivered + self.count.below(self.ack.delivered),
        }
    }

    /// Whether all that was pushed, and the end mark if there is one, got so far.
    pub fn reached(&self, until: Until) -> bool {
        let all = self.end.unwrap_or(self.open.next());
        match until {
            Until::Received => self.ack.settled >= all || (self.flushed && !self.has_unsent()),
            Until::Stored => self.ack.settled >= all,
            Until::Delivered => self.ack.delivered >= all,
        }
    }

    /// Whether a reader was there that gets what is pushed, as far as is known here.
    pub fn has_reader(&self) -> bool {
        self.has_reader
    }

    /// The error with which the session ended.
    pub fn failure(&self) -> Option<Error> {
        self.failure.as_ref().map(|(code, text)| Error::new(*code, text.clone()))
    }

    /// Why nothing more can be sent: the failure, or that the item has ended.
    pub fn ended_with(&self) -> Option<Error> {
        let ended = self.end.is_some() || self.connection.is_over();
        self.failure().or_else(|| ended.then(|| Error::new(Code::Usage, "the item has ended")))
    }

    /// Whether the link could carry a whole batch that waits here.
    pub fn is_batch_waiting(&self) -> bool {
        self.sent < self.kept.len() && self.can_send()
    }

    /// An attach begins; gives what to send.
    pub fn begin(&mut self, now: Time) -> WriterAttach {
        let epoch = self.connection.begin(now);
        let resume = (epoch.0 > 1).then_some(WriterResume { settled: self.ack.settled, stored: self.ack.stored });
        WriterAttach { session: self.session, epoch, mode: self.wants.mode, settings: self.wants.settings, resume }
    }

    /// The broker answered the attach.
    pub fn attached(&mut self, welcome: &WriterWelcome, now: Time) {
        if self.connection.is_over() {
            return;
        }
        let made = self.end.unwrap_or(self.open.next());
        if welcome.next < self.ack.settled || welcome.next > made {
            self.fail(Error::new(Code::Protocol, "the broker wants to go on at a number this writer cannot give"));
            return;
        }
        self.events.extend(self.connection.attached(now));
        self.take_ack(welcome.ack);
        self.mode = welcome.mode;
        self.has_reader |= welcome.readers > 0;
        self.credit = i64::try_from(welcome.credit).unwrap_or(i64::MAX);
        self.sent = self.kept.partition_point(|batch| batch.next() <= welcome.next);
    }

    /// A message came down.
    pub fn down(&mut self, message: WriterDown) {
        self.connection.is_good();
        match message {
            WriterDown::Ack(ack) => self.take_ack(ack),
            WriterDown::Credit(bytes) => {
                self.credit = self.credit.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
            WriterDown::HasReader => self.has_reader = true,
            WriterDown::Notice(notice) => self.take_notice(notice),
        }
    }

    /// The link broke, or the attach failed.
    pub fn lost(&mut self, error: Error, now: Time, draw: Draw) {
        if self.connection.is_over() {
            return;
        }
        // What went over the broken link may never have arrived.
        (self.flushed, self.sent) = (true, 0);
        if self.abort != Abort::No {
            self.connection.close();
        } else if error.code() == Code::SessionExpired {
            self.connection.lost(&error, now, draw.jitter);
            self.start_over(draw.session, error.stored());
        } else if self.connection.survives(&error) {
            self.connection.lost(&error, now, draw.jitter);
        } else {
            self.fail(error);
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Time, draw: Draw) {
        match self.connection.tick(now, draw.jitter) {
            Ok(event) => self.events.extend(event),
            Err(error) if self.ack.settled < self.made() => {
                let text = format!("whether all of it was stored is unknown: {}", error.text());
                self.fail(Error::new(if self.connection.was_attached() { Code::Unknown } else { error.code() }, text));
            }
            Err(error) => self.fail(error),
        }
    }

    /// Whether [`WriterSession::next_up`] has something.
    pub fn can_send(&self) -> bool {
        self.connection.is_attached()
            && (self.abort == Abort::Asked || (self.abort == Abort::No && self.credit > 0 && self.has_unsent()))
    }

    /// The next message to send over this link.
    pub fn next_up(&mut self) -> Option<WriterUp> {
        if !self.can_send() {
            return None;
        }
        self.flushed = false;
        if self.abort == Abort::Asked {
            self.abort = Abort::Sent;
            return Some(WriterUp::Abort);
        }
        if self.sent == self.kept.len() {
            self.close_open();
        }
        let batch = self.kept.get(self.sent)?.clone();
        self.sent += 1;
        self.credit = self.credit.saturating_sub(batch.encoded().len() as i64);
        Some(WriterUp::Batch(batch))
    }

    /// All messages left this process.
    pub fn flushed(&mut self) {
        self.flushed = true;
        if self.abort == Abort::Sent {
            self.connection.close();
        }
    }

    /// What the application should hear.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn made(&self) -> Seq {
        self.end.unwrap_or(self.open.next())
    }

    fn has_unsent(&self) -> bool {
        self.sent < self.kept.len() || !self.open.is_empty()
    }

    fn add(&mut self, piece: &[u8], first: bool, last: bool) {
        if first && self.in_record {
            self.add(b"", false, true);
        }
        let first = !self.in_record;
        // Of a record in parts a queue or broadcast takes each batch for itself.
        let is_begun_alone = first && !last && self.mode != Mode::Default;
        if is_begun_alone || !self.open.fits(piece.len()) {
            self.close_open();
        }
        let added = self.open.push(piece, first, last);
        debug_assert!(added, "an empty batch has room for any piece");
        self.open_bodies += piece.len() as u64;
        self.in_record = !last;
        self.count.push(last);
        let ends_alone = last && (self.mode == Mode::Queue || (!first && self.mode == Mode::Broadcast));
        if ends_alone || self.open.encoded_bytes() >= BATCH_BYTES_TARGET {
            self.close_open();
        }
    }

    fn close_open(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let not_before = self.not_before.filter(|_| self.mode == Mode::Queue);
        let batch = self.swap_open().not_before(not_before).build(None);
        self.digest.add(&batch);
        self.keep(batch);
    }

    fn swap_open(&mut self) -> BatchBuilder {
        self.open_bodies = 0;
        let next = self.next_open();
        std::mem::replace(&mut self.open, next)
    }

    fn next_open(&self) -> BatchBuilder {
        let epoch = Epoch(self.connection.epoch().0.max(1));
        BatchBuilder::new(self.session, epoch, self.open.next()).headers(self.headers.clone()).like(&self.open)
    }

    fn keep(&mut self, batch: Batch) {
        self.kept_bytes += batch.encoded().len();
        self.kept.push_back(batch);
    }

    fn take_ack(&mut self, ack: Ack) {
        let made = self.made();
        if ack.settled > made || ack.stored > made || ack.delivered > made {
            self.fail(Error::new(Code::Protocol, "the broker acknowledged records that were never written"));
            return;
        }
        self.ack.settled = self.ack.settled.max(ack.settled);
        self.ack.stored = self.ack.stored.max(ack.stored);
        self.ack.delivered = self.ack.delivered.max(ack.delivered);
        self.count.forget(self.ack.settled.min(self.ack.stored).min(self.ack.delivered));
        let done = self.kept.partition_point(|batch| batch.next() <= self.ack.settled);
        self.kept_bytes -= self.kept.drain(..done).map(|batch| batch.encoded().len()).sum::<usize>();
        self.sent = self.sent.saturating_sub(done);
    }

    fn take_notice(&mut self, notice: Notice) {
        if let Notice::WaitsForRoom { code, text } = &notice
            && self.wants.no_wait
        {
            self.fail(Error::new(*code, text.clone()));
            return;
        }
        self.events.push(Event::Notice(notice));
    }

    /// Goes on with a new item, from the first record that is not acknowledged, and not known to be stored.
    fn start_over(&mut self, session: SessionId, stored: Option<Seq>) {
        // An item that was given up has no end, even where a reader had it.
        let records = self.end.map_or(self.open.next(), |end| Seq(end.0 - 1));
        let stored = stored.unwrap_or_default().min(records);
        self.ack.settled = self.ack.settled.max(stored);
        let lost = std::mem::replace(&mut self.session, session);
        let (done, is_known) = (self.progress(), self.connection.was_attached());
        let end = self.kept.back().and_then(Batch::end).map(|mark| mark.kind);
        self.close_open();
        let (kept, settled) = (std::mem::take(&mut self.kept), self.ack.settled);
        if self.end.is_some() && kept.iter().all(|batch| batch.first().plus(u64::from(batch.count())) <= settled) {
            self.fail(Error::new(Code::SessionExpired, "the relay gave the item up before it knew of its end"));
            return;
        }
        let rest = kept.iter().flat_map(Batch::pieces).find(|piece| piece.seq >= settled);
        let is_torn = rest.map_or(self.in_record, |piece| !piece.first);
        if is_torn && self.mode != Mode::Default {
            let text = "the relay gave this writer up within a record, and has nothing of that record";
            self.fail(Error::new(Code::SessionExpired, text));
            return;
        }
        self.before = Progress { records: done.settled, ..done };
        self.forget_item();
        // The start of a record may be settled already: its rest then stands for itself.
        let (not_before, headers) = (self.not_before, self.headers.clone());
        for batch in kept {
            self.not_before = batch.not_before();
            self.headers(batch.headers());
            for piece in batch.pieces().filter(|piece| piece.seq >= settled) {
                self.add(&piece.body, piece.first, piece.last);
            }
        }
        self.not_before = not_before;
        self.headers(headers);
        if let Some(kind) = end {
            self.end(kind);
        }
        if is_known {
            self.events.push(Event::NewItem { lost, session });
        }
    }

    fn forget_item(&mut self) {
        self.connection.renew();
        (self.kept_bytes, self.sent, self.open_bodies, self.end) = (0, 0, 0, None);
        self.open = BatchBuilder::new(self.session, Epoch(1), Seq(0)).headers(self.headers.clone());
        (self.digest, self.ack, self.count, self.in_record) =
            (ItemDigest::default(), Ack::default(), RecordCount::default(), false);
    }

    fn fail(&mut self, error: Error) {
        let known = self.progress();
        let text = if known.settled < known.records {
            format!("{} ({} of {} records are known to be stored)", error.text(), known.settled, known.records)
        } else {
            error.text().to_owned()
        };
        self.failure.get_or_insert((error.code(), text));
        self.connection.close();
    }
}
