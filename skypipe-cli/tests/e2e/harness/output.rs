//! What a process writes, collected while it runs.

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::PATIENCE;
use super::data::{Digest, Summer};

/// Collects one stream to its end on a thread of its own.
#[derive(Clone)]
pub struct Output {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    count: u64,
    bytes: Vec<u8>,
    summer: Option<Summer>,
    closed: bool,
}

impl Output {
    /// Collects all bytes of `source`.
    pub fn keeping(source: impl Read + Send + 'static) -> Self {
        Self::start(source, None)
    }

    /// Collects count and SHA-256 of `source` and forgets the bytes.
    pub fn summing(source: impl Read + Send + 'static) -> Self {
        Self::start(source, Some(Summer::default()))
    }

    /// An output that cannot be seen from here.
    pub fn none() -> Self {
        let state = State { closed: true, ..State::default() };
        Self { shared: Arc::new((Mutex::new(state), Condvar::new())) }
    }

    /// How many bytes came so far.
    pub fn count(&self) -> u64 {
        self.shared.0.lock().unwrap().count
    }

    /// A copy of the bytes so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.shared.0.lock().unwrap().bytes.clone()
    }

    /// Waits until the state meets `condition`, or the stream has ended. Returns whether it was met in time.
    pub fn wait(&self, mut condition: impl FnMut(u64, &[u8]) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.0.lock().unwrap();
        loop {
            if condition(state.count, &state.bytes) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return false;
            }
            state = self.shared.1.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for the end of the stream; false when somebody still holds it open.
    pub fn wait_closed(&self) -> bool {
        self.wait(|_, _| false);
        self.shared.0.lock().unwrap().closed
    }

    /// Count and sum of all that came.
    pub fn digest(&self) -> Digest {
        let state = self.shared.0.lock().unwrap();
        state.summer.as_ref().map_or_else(|| Digest::of(&state.bytes), Summer::digest)
    }

    fn start(mut source: impl Read + Send + 'static, summer: Option<Summer>) -> Self {
        let output = Self { shared: Arc::new((Mutex::new(State { summer, ..State::default() }), Condvar::new())) };
        let shared = output.shared.clone();
        std::thread::spawn(move || {
            let mut chunk = vec![0; 256 * 1024];
            loop {
                // The end of a terminal is an error (EIO) instead of 0.
                let count = source.read(&mut chunk).unwrap_or(0);
                let mut state = shared.0.lock().unwrap();
                state.count += count as u64;
                match &mut state.summer {
                    Some(summer) => summer.write_all(&chunk[..count]).unwrap(),
                    None => state.bytes.extend_from_slice(&chunk[..count]),
                }
                state.closed = count == 0;
                shared.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        output
    }
}
