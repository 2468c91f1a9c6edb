//! The bounds of pipes, each with its reason.

use std::time::Duration;

use crate::id::ItemNo;

/// A live record that is not delivered within this time goes to the log, so that `stored` never waits for a reader. Long
/// enough that a reader which writes to a busy disk or a far network still counts as prompt.
pub const PROMPT: Duration = Duration::from_millis(250);
/// Encoded bytes of a pipe kept in memory for its live readers; past it the oldest go to the log.
pub const LIVE_WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// Encoded bytes that the writers of a pipe may have under way together. Less than [`LIVE_WINDOW_BYTES`], so that what prompt readers get
/// never reaches the disk.
pub const WRITER_CREDIT_BYTES: u64 = 2 * 1024 * 1024;
/// The same of a default pipe for items that go to the disk: what is written while the disk syncs what came before. Twice what a writer keeps of
/// its own, so that this side never makes it wait.
pub const STORED_CREDIT_BYTES: u64 = 8 * 1024 * 1024;
/// The same of each writer, however many they are, and while memory is short. One batch may overdraw it, so a writer goes on however little it is, and it is more than a batch of
/// lines that are written one by one.
pub const WRITER_CREDIT_BYTES_MIN: u64 = 64 * 1024;
/// Credit is given back in so many parts at most: a message per batch would cost a wake-up each.
pub const CREDIT_STEPS: u64 = 8;
/// The log is told in steps of so many numbers what of an item was delivered, which takes one fact, and forgets that then: few enough to
/// hold little room, 64 MiB of the longest pieces; enough that a reader of lines costs no write for each batch.
pub const FORGET_STEP: u64 = 256;
/// A session whose link broke is lost after this time.
pub const AWAY_LOST: Duration = Duration::from_secs(60);
/// An unfinished item that no reader waits for stays open this long while its writer is away.
pub const UNREAD_OPEN: Duration = Duration::from_secs(24 * 60 * 60);
/// A writer that waits for room says so after this time: shorter waits are over before somebody reads of them.
pub const SAY_FULL_AFTER: Duration = Duration::from_secs(1);
/// A reader that takes nothing for this long while a writer waits for room counts as lost.
pub const IDLE_READER_LOST: Duration = Duration::from_secs(10 * 60);
/// Bytes one pipe may have in the log, unless the broker is told otherwise.
pub const PIPE_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Bytes the pipes of one key may have in the log together, unless its line says otherwise: one pipe that is full. The relay's owner has the disk.
pub const OWNER_BYTES_MAX: u64 = PIPE_BYTES_MAX;
/// Room that an owner whose quota was used up must have again before its writers go on, where that is less than a sixteenth of the quota:
/// each change is a look at all its pipes.
pub const OWNER_ROOM_STEP: u64 = 4 * 1024 * 1024;
/// The last numbers of an ended session are known this long.
pub const CLOSED_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Most ended sessions whose last numbers are known: 64 bytes each, and more than end in the seconds a lost acknowledgement
/// takes to come back. The oldest go first.
pub const CLOSED_MAX: usize = 65_536;
/// Most readers of one pipe: an acknowledgement costs a look at each of them.
pub const READERS_MAX: usize = 16_384;
/// Most items of one pipe that are not wholly taken: each takes some 300 bytes of memory and some 120 of a snapshot, which must fit one
/// entry of the log (16 MiB).
pub const ITEMS_MAX: usize = 65_536;
/// Most cursors of all live readers of one pipe together: 16 bytes each in the same snapshot.
pub const CURSORS_MAX: usize = 262_144;
/// The item under which a tape stands in the log. Its numbers are places on the tape, not those of the writers.
pub const TAPE: ItemNo = ItemNo(u64::MAX);
/// How long a record of a queue is its reader's, unless the reader extends it.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often a record of a queue is handed out before it goes to the dead letters, unless the pipe is told otherwise.
pub const DELIVERIES_MAX: u32 = 20;
/// Most records of a queue that wait for their time, or to be handed out again: 64 bytes each. What comes behind them waits too.
pub const WAITING_MAX: usize = 262_144;
/// Most records of a queue that one reader has at a time: each takes 17 bytes of a fact and 100 of memory.
pub const PREFETCH_MAX: u32 = 4096;
/// Most records in parts on one tape: each takes 41 bytes of a snapshot, which must fit one entry of the log (16 MiB), and some 100 of memory. A
/// broadcast lets go of its oldest then.
pub const LONG_MAX: usize = 65_536;
/// Most durable cursors of a broadcast: some 100 bytes each in a snapshot.
pub const DURABLE_CURSORS_MAX: usize = 16_384;
