//! What a reader wants, and what it got.

use crate::broker::{Mode, OnTape, Take};
use crate::headers::Filter;
use crate::name::PipePath;
use crate::session::connection::Patience;
use crate::session::reader::READER_WINDOW_BYTES;

/// What a reader wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderWants {
    /// Which pipe; none for all queues and broadcasts that match a pattern.
    pub pipe: Option<PipePath>,
    /// The mode the pipe must have; none means the one it has.
    pub mode: Option<Mode>,
    /// What it takes.
    pub take: Take,
    /// Go on after the end.
    pub keep: bool,
    /// Do not wait: what is there now, or `E_EMPTY`.
    pub no_wait: bool,
    /// Encoded bytes on their way or waiting.
    pub window_bytes: u64,
    /// How long it tries to get a link.
    pub patience: Patience,
    /// Which records it wants.
    pub filter: Filter,
    /// What it wants of a queue or broadcast.
    pub tape: OnTape,
}

impl Default for ReaderWants {
    fn default() -> Self {
        Self {
            pipe: Some(PipePath::default()),
            mode: None,
            take: Take::Any,
            keep: false,
            no_wait: false,
            window_bytes: READER_WINDOW_BYTES,
            patience: Patience::default(),
            filter: Filter::new(),
            tape: OnTape::default(),
        }
    }
}

/// What a reader got, and whether it was all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// Items whose end it saw.
    pub items: u64,
    /// Whole records handed over.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Whether an item was not whole: its writer vanished or, when it was taken alone, was interrupted; or it went to
    /// another reader while this one was lost.
    pub incomplete: bool,
    /// Whether records are gone that this reader was owed.
    pub gap: bool,
}
