//! How long a peer that takes nothing may hold what waits for it.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::Sleep;

use crate::error::{Code, Error};
use crate::memory::Memory;

/// A peer elsewhere that takes no byte for so long while memory is short loses its link. Its session resumes when it is there again.
pub(crate) const TAKES_NOTHING: Duration = Duration::from_secs(10);
/// The same for a process of this machine, which a person may have stopped for a moment: its closed link is the end of its session.
pub(crate) const LOCAL_TAKES_NOTHING: Duration = Duration::from_secs(60);

/// Watches one stream's way out.
pub(crate) struct Outflow {
    memory: Memory,
    patience: Duration,
    /// Boxed: it is there only while the stream is blocked.
    blocked: Option<Pin<Box<Sleep>>>,
}

impl Outflow {
    pub(crate) fn new(memory: Memory, patience: Duration) -> Self {
        Self { memory, patience, blocked: None }
    }

    /// Some bytes were taken.
    pub(super) fn moved(&mut self) {
        self.blocked = None;
    }

    /// Nothing is taken for now.
    ///
    /// # Errors
    /// `E_DISCONNECTED` when that is so for too long, and others need the memory.
    pub(super) fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let patience = self.patience;
        loop {
            let wait = self.blocked.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
            if wait.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            if self.memory.is_pressed() {
                return Err(Error::new(Code::Disconnected, "the other side takes nothing, and memory is short"));
            }
            self.blocked = None;
        }
    }
}
