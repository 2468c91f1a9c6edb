//! What a session tells its application beside the records.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::EndKind;
use crate::broker::{LeaseId, Notice};
use crate::id::{Position, Seq, SessionId};
use crate::name::PipePath;

/// Something that happened to a writer or reader. The session goes on by itself; people may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The broker has something to say.
    Notice(Notice),
    /// An item is over for this reader. Told when the application has been handed the item's last record.
    ItemEnded {
        /// The writer's session.
        writer: SessionId,
        /// How it ended.
        kind: EndKind,
        /// Whether this reader took it alone.
        alone: bool,
    },
    /// The broker cannot be reached for so long already; told after 2 s and after 60 s, the session keeps trying.
    NotConnected {
        /// How long by now.
        away: Duration,
        /// Why the last try failed, in words.
        reason: String,
    },
    /// Records of a queue or broadcast are gone. Told before the next record is handed over.
    Missing {
        /// Of which pipe.
        pipe: PipePath,
        /// Where the first one stood.
        from: Position,
        /// Where the next one stands that is not gone.
        to: Position,
        /// How many.
        records: u64,
    },
    /// What this reader said of a record of a queue came too late: its lease had lapsed, and somebody else has it or had it.
    LeaseLost {
        /// Of which pipe.
        pipe: PipePath,
        /// Which handing out.
        lease: LeaseId,
    },
    /// The broken link is replaced.
    Connected {
        /// How long there was none.
        away: Duration,
    },
    /// The broker had given up this writer's session: the writer went on with a new item.
    NewItem {
        /// The session of the item that was given up.
        lost: SessionId,
        /// The session of the new item.
        session: SessionId,
    },
    /// The broker had given up this reader's session: it went on as a new reader.
    NewReader,
    /// Records of this writer are gone. Told before the next record is handed over.
    Gap {
        /// The writer's session.
        writer: SessionId,
        /// First number that is missing.
        from: Seq,
        /// First number that is not.
        to: Seq,
    },
}

/// Called with each [`Event`], from the session's own task or from the call that hands over records. It must not
/// block and must not call the same session.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;
