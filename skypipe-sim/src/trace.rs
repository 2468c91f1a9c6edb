//! What happened, line by line: the same seed gives the same lines.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::SimClock;

/// How much of a trace is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Every line.
    Lines,
    /// Their checksum: a long simulation has too many of them.
    Sum,
}

/// All events of one simulation, in order.
pub struct Trace {
    clock: Arc<SimClock>,
    keep: Keep,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    sum: u32,
    count: u64,
}

impl Trace {
    /// An empty one.
    pub fn new(clock: Arc<SimClock>, keep: Keep) -> Self {
        Self { clock, keep, state: Mutex::default() }
    }

    /// Something happened to `who`.
    pub fn say(&self, who: impl Display, what: impl Display) {
        let line = format!("{:>14.6} {who} {what}", self.clock.elapsed().as_secs_f64());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sum = crc32c::crc32c_append(state.sum, line.as_bytes());
        state.count += 1;
        if self.keep == Keep::Lines {
            state.lines.push(line);
        }
    }

    /// The lines so far, and a last one that sums up all of them.
    pub fn text(&self) -> String {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = format!("{} events, checksum {:08x}", state.count, state.sum);
        state.lines.iter().map(String::as_str).chain([sum.as_str()]).collect::<Vec<_>>().join("\n")
    }
}
