//! The numbers of the wire, beside `docs/wire.md`.

use crate::batch::BATCH_BYTES_MAX;

/// The first four bytes of the first payload each way.
pub const MAGIC: [u8; 4] = *b"skyp";
/// Lowest protocol version spoken here.
pub const VERSION_MIN: u16 = 1;
/// Highest protocol version spoken here.
pub const VERSION_MAX: u16 = 1;

/// Bytes of a frame's header: `u32` payload length, `u8` kind, `u8` flags, `u16` reserved.
pub const HEADER_BYTES: usize = 8;
/// A receiver that does not know the frame's kind passes it over.
pub const FLAG_SKIPPABLE: u8 = 1;

/// Most bytes a frame puts before the batch it carries: a number and a position.
pub const BATCH_PREFIX_BYTES_MAX: usize = 1024;
/// Longest payload in bytes: a batch and what stands before it.
pub const PAYLOAD_BYTES_MAX: usize = BATCH_BYTES_MAX + BATCH_PREFIX_BYTES_MAX;
/// Longest payload before the hello was understood: a stranger gets no larger buffer.
pub const HELLO_BYTES_MAX: usize = 4096;
/// Longest payload of a ping, in bytes: enough that its time tells the rate of a path and not only its round trip.
pub const PING_BYTES_MAX: usize = 32 * 1024;
/// Longest position in bytes.
pub const POSITION_BYTES_MAX: usize = 16;
/// Longest name of a durable cursor in bytes.
pub const CURSOR_NAME_BYTES_MAX: usize = 64;
/// Most leases a returning reader of a queue names: as many as it may hold.
pub const LEASES_MAX: usize = 4096;
/// Most cursors a returning reader names: with 24 bytes each they fit one payload.
pub const CURSORS_MAX: usize = 16 * 1024;

/// Read at once from a stream that says little: an idle stream costs no more than this.
pub const READ_BYTES_MIN: usize = 4 * 1024;
/// Read at once from a stream of many small frames. A longer frame gets a buffer of its own length.
pub const READ_BYTES_MAX: usize = 64 * 1024;
/// Bytes that may wait to be written before a sender waits: one whole batch is always on its way while the next is made.
pub const OUTBOX_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// Slices given to one write: two for each of 64 batches.
pub const WRITE_SLICES_MAX: usize = 128;

/// The pipe or call has no mode of its own to ask for.
pub const MODE_ANY: u8 = 255;

/// Reader's attach: go on after the end.
pub const ATTACH_KEEP: u8 = 1;
/// Reader's attach: do not wait.
pub const ATTACH_NO_WAIT: u8 = 2;
/// Reader's attach: cursors follow.
pub const ATTACH_RESUME: u8 = 4;
/// Flag of AttachReader: half a record of the first cursor's writer is there.
pub const ATTACH_MID_RECORD: u8 = 8;

/// Right of an invitation: to read.
pub const RIGHT_READ: u8 = 1;
/// Right of an invitation: to write.
pub const RIGHT_WRITE: u8 = 2;

/// Feature bit of a hello: queues.
pub const FEATURE_QUEUE: u64 = 1;
/// Feature bit of a hello: broadcasts.
pub const FEATURE_BROADCAST: u64 = 2;
/// Feature bit of a hello: says `stored`.
pub const FEATURE_STORED: u64 = 4;
/// Feature bit of a hello: says `delivered`.
pub const FEATURE_DELIVERED: u64 = 8;
/// Nothing can be stored or taken: its disk failed.
pub const FEATURE_READ_ONLY: u64 = 16;
/// Feature bit of a hello: readers of patterns.
pub const FEATURE_PATTERNS: u64 = 32;

/// Of a pipe's figures: something of it could not be read back.
pub const STAT_DAMAGED: u8 = 1;
/// Of a pipe's figures: nothing can be stored in it or taken from it.
pub const STAT_READ_ONLY: u8 = 2;
/// Numbered figures of a pipe: records of a queue that are ready, delayed, released.
pub const STAT_QUEUE: u16 = 1;
/// Numbered figures of a pipe: the reader furthest behind.
pub const STAT_LAG: u16 = 2;
/// Numbered figures of a pipe: what went through it.
pub const STAT_TRAFFIC: u16 = 3;
/// Numbered figures of a pipe: its readers.
pub const STAT_READERS: u16 = 4;
/// Bytes of a lag that nobody knows.
pub const LAG_BYTES_UNKNOWN: u64 = u64::MAX;

/// Extension of a hello: the sender's fresh challenge.
pub const EXTENSION_CHALLENGE: u16 = 1;
/// Extension of a hello: the sender's public key.
pub const EXTENSION_KEY: u16 = 2;
/// Extension of a relay's hello, the last one: its signature over all before it, the client's hello, and the channel.
pub const EXTENSION_SIGNATURE: u16 = 3;
/// Extension of a relay's hello: 1 where a secured channel ends at the relay itself, so that its exporter is signed; else 0.
pub const EXTENSION_CHANNEL: u16 = 4;

/// Most lines a list of keys has on the wire, and most keys a relay knows.
pub const KEYS_MAX: usize = 4096;
/// Most bytes that the lines of the keys a relay knows may have, with [`KEY_LINE_PREFIX_BYTES`] each: what one frame carries behind
/// their count. A relay that knew more could not list them.
pub const KEYS_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 2;
/// What stands before each line of a list: its length.
pub const KEY_LINE_PREFIX_BYTES: usize = 2;
/// Most patterns an invitation names.
pub const INVITE_PATTERNS_MAX: usize = 64;
/// Most access checks between a reader of a pattern and its pipes: relays in front of relays.
pub const CHECKS_MAX: usize = 8;
/// Most patterns that one of them allows: more than a key's lines grant.
pub const ALLOWED_MAX: usize = 512;

/// The kinds of frames.
pub mod kind {
    /// First frame each way.
    pub const HELLO: u8 = 0x01;
    /// Second frame of a client on the first stream of a link between machines: proof of its key.
    pub const PROVE: u8 = 0x02;
    /// The answer to it.
    pub const ADMITTED: u8 = 0x03;

    /// Request: attach a writer.
    pub const ATTACH_WRITER: u8 = 0x10;
    /// Request: attach a reader.
    pub const ATTACH_READER: u8 = 0x11;
    /// Request: a page of pipes.
    pub const LIST: u8 = 0x12;
    /// Request: one pipe's figures.
    pub const STAT: u8 = 0x13;
    /// Request: remove a pipe.
    pub const REMOVE: u8 = 0x14;
    /// Request: an echo.
    pub const PING: u8 = 0x15;
    /// Request: make way for a newer relay.
    pub const STEP_DOWN: u8 = 0x16;
    /// Request: make a ticket.
    pub const INVITE: u8 = 0x17;
    /// Request: the keys that are known.
    pub const KEYS: u8 = 0x18;
    /// Request: make a key known.
    pub const ADD_KEY: u8 = 0x19;
    /// Request: forget keys.
    pub const REVOKE_KEY: u8 = 0x1a;
    /// Request: attach a reader of all pipes that match.
    pub const ATTACH_PATTERN_READER: u8 = 0x1b;

    /// Answer: the writer is attached.
    pub const WRITER_WELCOME: u8 = 0x20;
    /// Answer: the reader is attached.
    pub const READER_WELCOME: u8 = 0x21;
    /// Answer: a page of pipes.
    pub const PAGE: u8 = 0x22;
    /// Answer: one pipe's figures.
    pub const STAT_OF: u8 = 0x23;
    /// Answer: done.
    pub const DONE: u8 = 0x24;
    /// Answer: the echo.
    pub const PONG: u8 = 0x25;
    /// Answer: the ticket.
    pub const INVITED: u8 = 0x26;
    /// Answer: the keys.
    pub const KEYS_ARE: u8 = 0x27;
    /// Answer: so many.
    pub const COUNT: u8 = 0x28;
    /// Answer: no, and why.
    pub const REFUSED: u8 = 0x2f;

    /// Writer up: records.
    pub const WRITER_BATCH: u8 = 0x30;
    /// Writer up: gives its item up.
    pub const WRITER_ABORT: u8 = 0x31;

    /// Writer down: how far the records are.
    pub const WRITER_ACK: u8 = 0x40;
    /// Writer down: more may be sent.
    pub const WRITER_CREDIT: u8 = 0x41;
    /// Writer down: something for a person.
    pub const WRITER_NOTICE: u8 = 0x42;
    /// Writer down: the first reader is there.
    pub const WRITER_HAS_READER: u8 = 0x43;

    /// Reader up: more may be sent.
    pub const READER_CREDIT: u8 = 0x50;
    /// Reader up: taken this far.
    pub const READER_ACK: u8 = 0x51;
    /// Reader up: leaves.
    pub const READER_LEAVE: u8 = 0x52;
    /// Reader up: taken up to this place of a broadcast.
    pub const READER_ACK_TO: u8 = 0x53;
    /// Reader up: what became of a record of a queue.
    pub const READER_SETTLE: u8 = 0x54;
    /// Reader up: takes so many records of a queue at a time.
    pub const READER_PREFETCH: u8 = 0x55;
    /// Reader of a pattern up: what follows is of this pipe.
    pub const READER_OF: u8 = 0x56;
    /// Reader of a pattern up: what it has of a pipe.
    pub const READER_HAD: u8 = 0x57;
    /// Reader of a pattern up: that is all it has.
    pub const READER_HAD_ALL: u8 = 0x58;

    /// Reader down: records.
    pub const READER_BATCH: u8 = 0x60;
    /// Reader down: an item is over.
    pub const READER_ITEM_END: u8 = 0x61;
    /// Reader down: records are gone.
    pub const READER_GAP: u8 = 0x62;
    /// Reader down: something for a person.
    pub const READER_NOTICE: u8 = 0x63;
    /// Reader down: done.
    pub const READER_FINISHED: u8 = 0x64;
    /// Down: that the reader took a writer's whole item is durable.
    pub const READER_TAKEN: u8 = 0x65;
    /// Reader down: a record of a queue.
    pub const READER_LEASED: u8 = 0x66;
    /// Reader down: that is known now.
    pub const READER_SETTLED: u8 = 0x67;
    /// Reader down: records of a queue or broadcast are gone.
    pub const READER_MISSING: u8 = 0x68;
    /// Reader of a pattern down: a pipe joins.
    pub const READER_JOINS: u8 = 0x69;
    /// Reader of a pattern down: all that there were have joined.
    pub const READER_ALL_JOINED: u8 = 0x6a;
    /// Reader of a pattern down: what follows is of this pipe.
    pub const READER_FROM: u8 = 0x6b;
    /// Reader of a pattern down: a pipe is gone.
    pub const READER_GONE: u8 = 0x6c;

    /// Either way: why the stream ends.
    pub const ERROR: u8 = 0x7f;
}
