//! Frames into requests, answers and the messages of an attach, and back.

use std::fmt::Debug;

use skypipe_core::wire::constants::kind;
use skypipe_core::wire::{Answer, Hello, Message, Request};
use skypipe_core::{ReaderDown, ReaderUp, WriterDown, WriterUp};

use crate::allocated::{STRANGER_BYTES_MAX, within};
use crate::batch::mend;
use crate::frames::{frame, through_bytes};

/// Bytes of a position and what stands before it in a reader's batch.
const POSITION_AT: usize = 8;

pub(crate) fn requests(bytes: &[u8]) {
    let Some((kind, flags, payload)) = split(bytes) else { return };
    round_trip::<Hello>(kind::HELLO, flags, payload);
    round_trip::<Request>(kind, flags, payload);
    // A stranger's fuzzer should not have to find the kinds.
    round_trip::<Request>(kind::ATTACH_WRITER + kind % 11, 0, payload);
}

pub(crate) fn answers(bytes: &[u8]) {
    let Some((kind, flags, payload)) = split(bytes) else { return };
    round_trip::<Answer>(kind, flags, payload);
    let all = [kind::REFUSED, kind::ERROR].into_iter().chain(kind::WRITER_WELCOME..=kind::COUNT);
    if let Some(kind) = all.cycle().nth(kind.into()) {
        round_trip::<Answer>(kind, 0, payload);
    }
}

pub(crate) fn attached(bytes: &[u8]) {
    let Some((kind, flags, payload)) = split(bytes) else { return };
    let mut payload = payload.to_vec();
    // Only now and then a batch has a good checksum by chance.
    if flags & 2 != 0 {
        let before = match kind {
            kind::READER_BATCH => batch_at(&payload),
            _ => 0,
        };
        mend(payload.get_mut(before..).unwrap_or_default());
    }
    round_trip::<WriterUp>(kind, flags, &payload);
    round_trip::<WriterDown>(kind, flags, &payload);
    round_trip::<ReaderUp>(kind, flags, &payload);
    round_trip::<ReaderDown>(kind, flags, &payload);
}

fn split(bytes: &[u8]) -> Option<(u8, u8, &[u8])> {
    let (&[kind, flags], payload) = bytes.split_first_chunk()?;
    Some((kind, flags, payload))
}

fn batch_at(payload: &[u8]) -> usize {
    let length = payload.get(POSITION_AT..).and_then(|rest| rest.first_chunk::<2>());
    POSITION_AT + 2 + length.map_or(0, |length| usize::from(u16::from_le_bytes(*length)))
}

/// What is understood survives its encoding, and costs memory in proportion to its length.
pub(crate) fn round_trip<M: Message + PartialEq + Debug + Clone>(kind: u8, flags: u8, payload: &[u8]) {
    let Some(frame) = frame(kind, flags, payload) else { return };
    let read = within(STRANGER_BYTES_MAX + 64 * payload.len(), || M::from_frame(frame));
    let Ok(Some(message)) = read else { return };
    let again = M::from_frame(through_bytes(message.clone().into_frame()));
    assert_eq!(again, Ok(Some(message)), "a message survives its encoding");
}
