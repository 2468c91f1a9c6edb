//! The task that drives one WebSocket: messages of the multiplexer out, messages of the peer in, and what is due by the clock.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Sink, SinkExt, Stream};
use skypipe_tls::LiveLink;
use tokio::time::{Instant, Sleep, timeout};
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

use crate::limits::{FAREWELL, FAREWELL_BYTES_MAX, MESSAGE, MESSAGE_BEFORE_PROOF, PING_AFTER, SILENCE};
use crate::mux::Breach;
use crate::shared::{Ended, Shared};
use crate::socket::Socket;

/// Messages taken in before some are given out, and the other way round.
const BURST: usize = 64;

/// Drives one connection until it is over.
pub(crate) struct Driver {
    socket: Socket,
    shared: Arc<Shared>,
    /// Something was given to the socket and not flushed.
    unflushed: bool,
    ping: Ping,
    clock: Clock,
    /// At a client.
    #[expect(dead_code, reason = "it counts for as long as it lives")]
    counted: Option<LiveLink>,
}

/// Where the next ping stands.
enum Ping {
    /// To be sent.
    Due,
    /// Sent then, and not answered.
    Sent(Instant),
    /// Nothing is under way.
    Quiet,
}

/// When what last happened.
struct Clock {
    timer: Pin<Box<Sleep>>,
    heard_bytes: u64,
    heard: Instant,
    message: Instant,
    sent: Instant,
    /// When the link is left whatever the socket takes still: nobody here needs it any more.
    leaves: Option<Instant>,
}

/// Why the driver stops.
enum Stop {
    /// Nobody here needs the link any more.
    Idle,
    /// The peer closed it.
    Closed,
    Breach(Breach),
    Broken(String),
}

impl From<Breach> for Stop {
    fn from(breach: Breach) -> Self {
        Self::Breach(breach)
    }
}

impl Driver {
    /// The first ping goes at once: it tells the round trip, by which windows grow.
    pub(crate) fn new(socket: Socket, shared: Arc<Shared>, counted: Option<LiveLink>) -> Self {
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(now + PING_AFTER));
        let clock =
            Clock { timer, heard_bytes: socket.heard.bytes(), heard: now, message: now, sent: now, leaves: None };
        Self { socket, shared, unflushed: false, ping: Ping::Due, clock, counted }
    }

    /// Until the link is over. Then everybody who waits hears of it, and the close leaves.
    pub(crate) async fn run(mut self) {
        let stop = poll_fn(|cx| self.poll(cx)).await;
        let (ended, close) = match stop {
            Stop::Idle => (Ended::Closed, Some(CloseCode::Normal)),
            Stop::Closed => (Ended::Closed, None),
            Stop::Breach(breach) => (Ended::Broken(told(breach)), Some(code(breach))),
            Stop::Broken(how) => (Ended::Broken(how), None),
        };
        self.shared.end(ended);
        let _ = timeout(FAREWELL, self.leave(close)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        self.shared.driver_waits(cx);
        loop {
            let (came, left) = match (self.take_in(cx), self.give_out(cx)) {
                (Err(stop), _) | (_, Err(stop)) => return Poll::Ready(stop),
                (Ok(came), Ok(left)) => (came, left),
            };
            if !came && !left {
                break;
            }
        }
        if self.is_idle() {
            return Poll::Ready(Stop::Idle);
        }
        match self.look_at_clock(cx) {
            Ok(()) => Poll::Pending,
            Err(stop) => Poll::Ready(stop),
        }
    }

    /// Whether nobody here needs the link any more and all has left. A peer that takes nothing is not waited for.
    fn is_idle(&mut self) -> bool {
        let (unheld, idle) = self.shared.driving(|state| (state.dropped && !state.mux.is_held(), state.mux.is_idle()));
        if unheld && self.clock.leaves.is_none() {
            let leaves = Instant::now() + FAREWELL;
            self.clock.leaves = Some(leaves);
            self.clock.timer.as_mut().reset(leaves);
        }
        unheld && idle && !self.unflushed
    }

    /// Takes what came; whether that was anything.
    fn take_in(&mut self, cx: &mut Context<'_>) -> Result<bool, Stop> {
        for taken in 0..BURST {
            if !self.shared.driving(|state| state.mux.wants_more()) {
                // Its silence is ours.
                self.clock.heard = Instant::now();
                self.clock.message = self.clock.heard;
                return Ok(taken > 0);
            }
            let Poll::Ready(next) = Pin::new(&mut self.socket.ws).poll_next(cx) else { return Ok(taken > 0) };
            match next {
                Some(Ok(message)) => self.take(message)?,
                Some(Err(error)) => return Err(failed(&error)),
                None => return Err(Stop::Broken("the link broke: the connection ended".to_owned())),
            }
        }
        Ok(true)
    }

    fn take(&mut self, message: Message) -> Result<(), Stop> {
        let now = self.shared.now();
        self.clock.message = Instant::now();
        match message {
            Message::Binary(bytes) => self.shared.driving(|state| state.mux.take(bytes, now))?,
            Message::Ping(_) => {
                self.shared.driving(|state| state.mux.pinged(now))?;
                // Its pong leaves by itself, with the next flush.
                self.clock.sent = Instant::now();
                self.unflushed = true;
            }
            Message::Pong(_) => {
                self.shared.driving(|state| state.mux.pinged(now))?;
                if let Ping::Sent(at) = self.ping {
                    self.ping = Ping::Quiet;
                    self.shared.took(at.elapsed());
                }
            }
            Message::Text(_) => return Err(Breach::Text.into()),
            Message::Close(frame) => return Err(closed(frame)),
            Message::Frame(_) => {}
        }
        Ok(())
    }

    /// Gives the socket what is to be sent; whether that was anything.
    fn give_out(&mut self, cx: &mut Context<'_>) -> Result<bool, Stop> {
        let mut given = false;
        for _ in 0..BURST {
            let Poll::Ready(ready) = Pin::new(&mut self.socket.ws).poll_ready(cx) else { break };
            ready.map_err(|e| failed(&e))?;
            let Some(message) = self.next() else { break };
            Pin::new(&mut self.socket.ws).start_send(message).map_err(|e| failed(&e))?;
            (given, self.unflushed) = (true, true);
        }
        if given {
            self.clock.sent = Instant::now();
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.socket.ws).poll_flush(cx)
        {
            flushed.map_err(|e| failed(&e))?;
            self.unflushed = false;
            self.shared.driving(|state| state.mux.flushed());
        }
        Ok(given)
    }

    fn next(&mut self) -> Option<Message> {
        if let Ping::Due = self.ping {
            self.ping = Ping::Sent(Instant::now());
            return Some(Message::Ping(Bytes::new()));
        }
        self.shared.driving(|state| state.mux.next()).map(Message::Binary)
    }

    /// Sends a ping, or finds the link broken, when it is time for that.
    fn look_at_clock(&mut self, cx: &mut Context<'_>) -> Result<(), Stop> {
        let bytes = self.socket.heard.bytes();
        if std::mem::replace(&mut self.clock.heard_bytes, bytes) != bytes {
            self.clock.heard = Instant::now();
        }
        while self.clock.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.clock.leaves.is_some_and(|leaves| now >= leaves) {
                return Err(Stop::Idle);
            }
            if now >= self.clock.heard + SILENCE {
                return Err(Stop::Broken(format!("nothing came over the link for {} s", SILENCE.as_secs())));
            }
            let message_limit = self.message_limit();
            if now >= self.clock.message + message_limit {
                return Err(Stop::Broken(format!("no whole message came for {} s", message_limit.as_secs())));
            }
            if now >= self.clock.sent + PING_AFTER && !matches!(self.ping, Ping::Due) {
                self.ping = Ping::Due;
                self.give_out(cx)?;
            }
            let next = self.next_look(now, message_limit);
            self.clock.timer.as_mut().reset(next);
        }
        Ok(())
    }

    /// All deadlines only move later, so to look at the earliest is enough.
    fn next_look(&self, now: Instant, message_limit: std::time::Duration) -> Instant {
        let broken = (self.clock.heard + SILENCE).min(self.clock.message + message_limit);
        let ping = if matches!(self.ping, Ping::Due) { now + PING_AFTER } else { self.clock.sent + PING_AFTER };
        broken.min(ping).min(self.clock.leaves.unwrap_or(broken))
    }

    fn message_limit(&self) -> std::time::Duration {
        let admitted = self.shared.driving(|state| state.mux.is_admitted());
        if admitted { MESSAGE } else { MESSAGE_BEFORE_PROOF }
    }

    /// Says why, and reads on for a moment: a connection that is closed with bytes unread is reset, and the peer might lose the
    /// close.
    async fn leave(&mut self, close: Option<CloseCode>) {
        let ws = &mut self.socket.ws;
        if let Some(code) = close {
            let _ = ws.send(Message::Close(Some(CloseFrame { code, reason: Default::default() }))).await;
        }
        let _ = ws.flush().await;
        let _ = tokio::io::AsyncWriteExt::shutdown(ws.get_mut()).await;
        // Not within the task itself, which every idle link has.
        let mut space = vec![0; 4096];
        for _ in 0..FAREWELL_BYTES_MAX / space.len() {
            match tokio::io::AsyncReadExt::read(ws.get_mut(), &mut space).await {
                Ok(1..) => {}
                _ => break,
            }
        }
    }
}

/// A runtime that ends takes its tasks with it: who waits for a stream must not wait for ever.
impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.end(Ended::Broken("the link broke: its runtime is gone".to_owned()));
    }
}

fn closed(frame: Option<CloseFrame>) -> Stop {
    match frame {
        None => Stop::Closed,
        Some(frame) if matches!(frame.code, CloseCode::Normal | CloseCode::Away | CloseCode::Status) => Stop::Closed,
        Some(frame) => Stop::Broken(format!("the other side closed the link with {}", u16::from(frame.code))),
    }
}

fn failed(error: &WsError) -> Stop {
    use tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    match error {
        WsError::ConnectionClosed | WsError::AlreadyClosed => Stop::Closed,
        WsError::Protocol(ResetWithoutClosingHandshake) => {
            Stop::Broken("the link broke: the connection ended".to_owned())
        }
        WsError::Protocol(_) => Stop::Breach(Breach::Protocol("a frame that is none")),
        WsError::Capacity(_) => Stop::Breach(Breach::TooLong),
        WsError::Utf8(_) => Stop::Breach(Breach::Text),
        WsError::Io(error) => Stop::Broken(format!("the link broke: {error}")),
        other => Stop::Broken(format!("the link broke: {other}")),
    }
}

fn told(breach: Breach) -> String {
    let what = match breach {
        Breach::Protocol(what) => what,
        Breach::TooLong => "a message is too long",
        Breach::Text => "a message is text",
        Breach::Flood(what) => return format!("the other side broke the rules: too many {what}"),
    };
    format!("the other side broke the rules: {what}")
}

fn code(breach: Breach) -> CloseCode {
    match breach {
        Breach::Protocol(_) => CloseCode::Protocol,
        Breach::TooLong => CloseCode::Size,
        Breach::Text => CloseCode::Unsupported,
        Breach::Flood(_) => CloseCode::Policy,
    }
}
