//! What a stranger's bytes must not do here; the bodies of two targets of `skypipe-fuzz`. No part of the crate's interface.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use skypipe_core::Time;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::REQUEST_BYTES_MAX;
use crate::mux::{Mux, Side, StreamId, Wake};
use crate::upgrade::{Doorman, Refusal, refuse, upgrade};

/// Longest message that a fuzzer writes: bounds of length are tried by tests of their own.
const MESSAGE_BYTES: usize = 64;

/// Messages of a stranger to the multiplexer, between what its own side does.
pub fn mux(bytes: &[u8]) {
    let Some((&first, mut rest)) = bytes.split_first() else { return };
    let side = if first & 1 == 0 { Side::Relay } else { Side::Client };
    let (mut mux, mut now, mut held) = (Mux::new(side, Time(0)), Time(0), Vec::new());
    while let Some((&op, tail)) = rest.split_first() {
        rest = tail;
        now = Time(now.0 + u64::from(op) * 1000);
        if op & 0x80 == 0 {
            let (message, tail) = rest.split_at(usize::from(op).min(MESSAGE_BYTES).min(rest.len()));
            rest = tail;
            if mux.take(Bytes::copy_from_slice(message), now).is_err() {
                mux.break_off();
            }
        } else {
            let id = held.get(usize::from(op >> 4 & 3)).copied().unwrap_or(StreamId::from(op & 7));
            own(&mut mux, op, id, &mut held, now);
        }
        mux.wakes().for_each(|wake: Wake| drop(format!("{wake:?}")));
        mux.assert_bounds();
    }
    held.into_iter().for_each(|id| mux.drop_stream(id));
    mux.deafen();
    mux.assert_bounds();
    while mux.next().is_some() {
        mux.flushed();
    }
}

/// What this side does: nothing of it may fail worse than with a word.
fn own(mux: &mut Mux, op: u8, id: StreamId, held: &mut Vec<StreamId>, now: Time) {
    match op & 0x0f {
        0 => held.extend(mux.open(now).ok().flatten()),
        1 | 2 => held.extend(mux.accept()),
        3 | 4 => drop(mux.read(id, usize::from(op), |_| {}, now)),
        5 => drop(mux.read(id, usize::MAX, |_| {}, now)),
        6 | 7 => drop(mux.write(id, &[op; 300])),
        8 => drop(mux.finish(id)),
        9 => mux.flush(id),
        10 => {
            held.retain(|&other| other != id);
            mux.drop_stream(id);
        }
        11 => mux.admit(),
        12 => drop(mux.pinged(now)),
        _ => {
            drop(mux.next());
            mux.flushed();
        }
    }
}

/// A stranger's HTTP request: whole and in pieces it is answered in the same way, and an answer is one of HTTP.
pub fn upgrade_request(bytes: &[u8]) {
    let Some((&first, request)) = bytes.split_first() else { return };
    let doorman = match first & 1 {
        0 => Doorman::default(),
        _ => Doorman { origins: vec!["https://good.example".to_owned()], hosts: vec!["relay.example".to_owned()] },
    };
    let whole = answer(request, request.len(), &doorman);
    for piece in [1, 2, usize::from(first >> 1) + 1] {
        let pieces = answer(request, piece, &doorman);
        // Behind a whole request nothing may come; in pieces, what comes behind it comes too late to be seen.
        assert!(pieces == whole || whole.starts_with(b"HTTP/1.1 400"), "pieces of {piece} are answered in another way");
    }
    assert!(whole.is_empty() || whole.starts_with(b"HTTP/1.1 ") && whole.windows(4).any(|w| w == b"\r\n\r\n"));
    assert!(whole.len() < REQUEST_BYTES_MAX);
}

/// What is sent back for these bytes.
fn answer(request: &[u8], piece: usize, doorman: &Doorman) -> Vec<u8> {
    let mut stream = Pieces { left: request, piece: piece.max(1), answer: Vec::new() };
    let answered = upgrade(&mut stream, doorman).now_or_never();
    if let Some(Err(Some(refusal))) = answered {
        let refusal: Refusal = refusal;
        let _ = refuse(&mut stream, &refusal).now_or_never();
    }
    stream.answer
}

/// A stream that is always ready: gives its bytes in pieces, and keeps what is written.
struct Pieces<'a> {
    left: &'a [u8],
    piece: usize,
    answer: Vec<u8>,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = self.piece.min(self.left.len()).min(buffer.remaining());
        let (now, later) = self.left.split_at(count);
        buffer.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
