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
pub(crate) const LOCAL_TAKES_NOTHING: Duration = Duration::from_secs(30);

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

#[cfg(test)]
mod tests {
    use futures::SinkExt;

    use super::*;
    use crate::transport::LinkStream;
    use crate::wire::{Frame, carry};

    async fn sends_for(memory: &Memory, patience: Duration) -> Option<Duration> {
        let (_peer, own) = tokio::io::duplex(1024);
        let (sink, _source) = carry(LinkStream::bytes(own));
        let mut sink = sink.within(Outflow::new(memory.clone(), patience));
        let start = tokio::time::Instant::now();
        let sending = sink.send(Frame::new(1, vec![0; 4096]));
        let sent = tokio::time::timeout(Duration::from_secs(3600), sending).await;
        sent.ok().map(|sent| {
            assert_eq!(sent.unwrap_err().code(), Code::Disconnected);
            start.elapsed()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_let_go_only_where_memory_is_short() {
        let memory = Memory::default();
        assert_eq!(sends_for(&memory, TAKES_NOTHING).await, None);
        let _others = memory.reads.hold(memory.reads.bytes_max());
        assert_eq!(sends_for(&memory, TAKES_NOTHING).await, Some(TAKES_NOTHING));
        assert_eq!(sends_for(&memory, LOCAL_TAKES_NOTHING).await, Some(LOCAL_TAKES_NOTHING));
    }
}
