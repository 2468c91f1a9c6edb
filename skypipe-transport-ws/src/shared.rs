//! What a link, its streams and its driver share: the multiplexer and who waits for what.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use skypipe_core::{Code, Error, Time};
use tokio::time::Instant;

use crate::mux::{Gone, Mux, Side, StreamId, Wake};

/// One end of a link.
pub(crate) struct Shared {
    /// The multiplexer's clock begins here.
    start: Instant,
    state: Mutex<State>,
}

/// What is behind the lock.
pub(crate) struct State {
    pub(crate) mux: Mux,
    /// No user holds the link itself; its streams may go on.
    pub(crate) dropped: bool,
    /// How the link ended, once it did.
    pub(crate) ended: Option<Ended>,
    driver: Option<Waker>,
    readers: HashMap<StreamId, Waker>,
    writers: HashMap<StreamId, Waker>,
    acceptors: Vec<Waker>,
    openers: Vec<Waker>,
}

/// How a link ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// One of the sides closed it.
    Closed,
    /// It broke, and how.
    Broken(String),
}

impl Ended {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Closed => "the other side closed the link",
            Self::Broken(how) => how,
        }
    }

    pub(crate) fn error(&self) -> Error {
        Error::new(Code::Disconnected, self.text())
    }
}

impl Shared {
    pub(crate) fn new(side: Side) -> Self {
        let state = State {
            mux: Mux::new(side, Time(0)),
            dropped: false,
            ended: None,
            driver: None,
            readers: HashMap::new(),
            writers: HashMap::new(),
            acceptors: Vec::new(),
            openers: Vec::new(),
        };
        Self { start: Instant::now(), state: Mutex::new(state) }
    }

    pub(crate) fn now(&self) -> Time {
        Time(0).plus(self.start.elapsed())
    }

    /// Does something that may give the driver work, and wakes it then.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        self.act(act, true)
    }

    /// The same for the driver itself, which looks again by itself.
    pub(crate) fn driving<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        self.act(act, false)
    }

    /// Whoever is to be woken is woken behind the lock.
    fn act<T>(&self, act: impl FnOnce(&mut State) -> T, wakes_driver: bool) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted_more = state.mux.wants_more();
        let done = act(&mut state);
        let mut woken = state.woken();
        let work = state.mux.has_next() || state.dropped || wanted_more != state.mux.wants_more();
        if wakes_driver && work {
            woken.extend(state.driver.take());
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        done
    }

    /// The next poll of the driver begins.
    pub(crate) fn driver_waits(&self, cx: &Context<'_>) {
        self.driving(|state| state.driver = Some(cx.waker().clone()));
    }

    /// The link is over; the first reason counts.
    pub(crate) fn end(&self, how: Ended) {
        self.driving(|state| {
            if state.ended.is_none() {
                state.ended = Some(how);
                state.mux.break_off();
            }
        });
    }

    pub(crate) fn took(&self, round_trip: Duration) {
        self.driving(|state| state.mux.took(round_trip));
    }

    pub(crate) fn poll_open(&self, cx: &Context<'_>) -> Poll<Result<StreamId, Error>> {
        let now = self.now();
        self.with(|state| match state.mux.open(now) {
            Ok(Some(id)) => Poll::Ready(Ok(id)),
            Ok(None) => wait(&mut state.openers, cx),
            Err(_) => Poll::Ready(Err(state.ended.as_ref().unwrap_or(&Ended::Closed).error())),
        })
    }

    pub(crate) fn poll_accept(&self, cx: &Context<'_>) -> Poll<Result<Option<StreamId>, Error>> {
        self.with(|state| match (state.mux.accept(), &state.ended) {
            (Some(id), _) => Poll::Ready(Ok(Some(id))),
            (None, Some(Ended::Closed)) => Poll::Ready(Ok(None)),
            (None, Some(broken)) => Poll::Ready(Err(broken.error())),
            (None, None) => wait(&mut state.acceptors, cx),
        })
    }
}

impl State {
    pub(crate) fn wait_to_read(&mut self, id: StreamId, cx: &Context<'_>) {
        note(&mut self.readers, id, cx);
    }

    pub(crate) fn wait_to_write(&mut self, id: StreamId, cx: &Context<'_>) {
        note(&mut self.writers, id, cx);
    }

    /// Nobody holds the stream any more.
    pub(crate) fn drop_stream(&mut self, id: StreamId) {
        self.readers.remove(&id);
        self.writers.remove(&id);
        self.mux.drop_stream(id);
    }

    /// The error of a stream that goes no further.
    pub(crate) fn gone(&self, gone: Gone) -> std::io::Error {
        match (gone, &self.ended) {
            (Gone::Reset, _) => {
                std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the other side dropped the stream")
            }
            (Gone::Link, Some(ended)) => std::io::Error::new(std::io::ErrorKind::ConnectionAborted, ended.text()),
            (Gone::Link, None) => std::io::ErrorKind::NotConnected.into(),
        }
    }

    fn woken(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        for wake in self.mux.wakes() {
            match wake {
                Wake::Read(id) => woken.extend(self.readers.remove(&id)),
                Wake::Write(id) => woken.extend(self.writers.remove(&id)),
                Wake::Accept => woken.append(&mut self.acceptors),
                Wake::Open => woken.append(&mut self.openers),
            }
        }
        woken
    }
}

fn wait<T>(waiting: &mut Vec<Waker>, cx: &Context<'_>) -> Poll<T> {
    if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
        waiting.push(cx.waker().clone());
    }
    Poll::Pending
}

fn note(waiting: &mut HashMap<StreamId, Waker>, id: StreamId, cx: &Context<'_>) {
    waiting.insert(id, cx.waker().clone());
}
