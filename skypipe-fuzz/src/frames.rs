//! Bytes into frames: in any split the same, and a length allocates nothing before it is checked.

use bytes::BufMut;
use skypipe_core::Code;
use skypipe_core::wire::constants::{HEADER_BYTES, PAYLOAD_BYTES_MAX};
use skypipe_core::wire::{Decoder, Frame, Outbox};

use crate::allocated::{STRANGER_BYTES_MAX, within};

/// The frames that were whole, what was wrong then, and whether one was begun.
type Decoded = (Vec<Frame>, Option<Code>, bool);

pub(crate) fn run(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let trusted = first & 1 != 0;
    // A buffer is replaced only when a part of it was used: all together stay in proportion to what came.
    let fixed = STRANGER_BYTES_MAX + if trusted { 2 * PAYLOAD_BYTES_MAX } else { 0 };
    let whole = within(fixed + 64 * bytes.len(), || decoded(bytes, trusted, &[bytes.len().max(1)]));
    for pieces in [&[1][..], &[3, 1], &[7], &[usize::from(first >> 1) + 1], &[HEADER_BYTES, 4096]] {
        assert!(decoded(bytes, trusted, pieces) == whole, "pieces of {pieces:?} give other frames than the whole");
    }
    let mut outbox = Outbox::new();
    for frame in &whole.0 {
        assert!(outbox.push(frame.clone()).is_ok(), "what was decoded can be encoded");
    }
    let again = decoded(&outbox.to_vec(), true, &[usize::MAX]);
    assert_eq!(again, (whole.0, None, false), "frames survive their encoding");
}

/// The frames of `bytes`, which come in pieces of these lengths, over and over.
pub(crate) fn decoded(bytes: &[u8], trusted: bool, pieces: &[usize]) -> Decoded {
    let (mut decoder, mut frames, mut rest) = (Decoder::new(), Vec::new(), bytes);
    if trusted {
        decoder.trust();
    }
    let mut failed = None;
    for piece in pieces.iter().cycle() {
        let (mut input, tail) = rest.split_at((*piece).min(rest.len()));
        rest = tail;
        while failed.is_none() && !input.is_empty() {
            failed = step(&mut decoder, &mut input, &mut frames).err();
        }
        if failed.is_some() || rest.is_empty() {
            break;
        }
    }
    let torn = failed.is_none() && decoder.is_torn();
    (frames, failed, torn)
}

fn step(decoder: &mut Decoder, input: &mut &[u8], frames: &mut Vec<Frame>) -> Result<(), Code> {
    let before = input.len();
    decoder.feed(input).map_err(|e| e.code())?;
    assert!(input.len() < before, "a decoder that takes nothing would wait for ever");
    while let Some(frame) = decoder.frame().map_err(|e| e.code())? {
        frames.push(frame);
    }
    Ok(())
}

/// One frame with this head and payload; none when it is too long.
pub(crate) fn frame(kind: u8, flags: u8, payload: &[u8]) -> Option<Frame> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.put_u32_le(u32::try_from(payload.len()).ok()?);
    bytes.put_u8(kind);
    bytes.put_u8(flags);
    bytes.put_u16_le(0);
    bytes.put_slice(payload);
    decoded(&bytes, true, &[usize::MAX]).0.pop()
}

/// The same frame, as it comes out of the bytes that it is sent as.
pub(crate) fn through_bytes(frame: Frame) -> Frame {
    let mut outbox = Outbox::new();
    assert!(outbox.push(frame).is_ok(), "what was understood can be sent");
    let mut frames = decoded(&outbox.to_vec(), true, &[usize::MAX]).0;
    assert!(frames.len() == 1, "one frame stays one");
    frames.remove(0)
}
