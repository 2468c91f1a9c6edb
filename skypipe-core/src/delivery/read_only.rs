//! What is left of a pipe whose log failed: all that is there can be read, and nothing can be taken.
//!
//! The taking of records cannot be made durable any more, so acknowledgements count for nothing: who has read all ends with the error, and
//! the records are there again when the log is opened anew. Nobody is given an item for good, so it is free again when its reader goes.

use crate::broker::{ReaderDown, WriterDown};
use crate::error::{Code, Error};
use crate::id::SessionId;

use super::default::{DefaultPipe, EVERYBODY, Next, Pending};

/// The number of an entry that the log never gets.
pub(super) const NEVER: u64 = u64::MAX;

/// Why nothing can be stored any more.
#[derive(Debug)]
pub(super) struct ReadOnly {
    code: Code,
    text: String,
}

impl ReadOnly {
    pub(super) fn because(cause: &Error) -> Self {
        Self { code: cause.code(), text: cause.text().to_owned() }
    }

    pub(super) fn error(&self) -> Error {
        Error::new(self.code, self.text.clone())
    }
}

impl DefaultPipe {
    /// The log failed. Writers end with `cause` behind the last acknowledgement; readers too, behind the last byte there is for them.
    pub fn turn_read_only(&mut self, cause: &Error) {
        if self.read_only.is_some() {
            return;
        }
        self.read_only = Some(ReadOnly::because(cause));
        self.full = None;
        // Whoever took an item for good a moment ago does not hear that it did: the item is there again.
        for (_, pending) in std::mem::take(&mut self.pending) {
            if let Pending::Took(no, _) = pending {
                self.with_item(no, |item| item.taker = item.taker.filter(|taker| *taker != EVERYBODY));
            }
        }
        let sessions: Vec<SessionId> = self.writers.keys().chain(self.readers.keys()).copied().collect();
        sessions.into_iter().for_each(|session| self.wake(session));
        self.offer_aborts();
    }

    /// The error with which everything ends that has to be durable.
    pub(super) fn read_only_error(&self) -> Option<Error> {
        self.read_only.as_ref().map(ReadOnly::error)
    }

    /// What a writer hears that has heard everything else.
    pub(super) fn writer_waits(&self) -> Next<WriterDown> {
        self.read_only_error().map_or(Next::Wait, |error| Next::End(Some(error)))
    }

    /// What a reader hears for which there is nothing now. One without credit may be owed more.
    pub(super) fn reader_waits(&self, session: SessionId) -> Next<ReaderDown> {
        let may_get = self.readers.get(&session).is_some_and(|reader| reader.credit > 0 || reader.leaving.is_some());
        self.read_only_error().filter(|_| may_get).map_or(Next::Wait, |error| Next::End(Some(error)))
    }

    /// The reader goes, and leaves everything as it was.
    pub(super) fn put_back(&mut self, session: SessionId) {
        self.release(session);
        if let Some(reader) = self.readers.get_mut(&session) {
            reader.leaving = Some(NEVER);
        }
    }

    /// The link of a reader broke: it cannot go on with the next host of the log as the reader it was, so nothing waits for it.
    pub(super) fn reader_gone(&mut self, session: SessionId) {
        self.put_back(session);
        self.readers.remove(&session);
        self.vanish_if_empty();
    }
}
