//! The relay that is measured, and pipes there that nobody else knows.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use skypipe_core::{Code, Env, Error, Events, Pipe as _, Reader, ReaderOptions, Target, Writer, WriterOptions};
use tokio::time::{sleep, timeout};

use crate::broker::Relay;
use crate::notices;

/// A measurement whose link breaks goes on when it is mended within this time: what it lost is in its figures. Later it is over.
const AWAY_MAX: Duration = Duration::from_secs(10);
/// Writers that attach at the same time: half of what a relay lets one address begin at a time, so none is refused.
const ATTACHING_MAX: usize = 8;
/// How long the removal of a pipe may take, its last parties included.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);
/// Between two tries to remove it.
const REMOVE_EVERY: Duration = Duration::from_millis(10);

/// One run's place at a relay.
pub(super) struct Own {
    relay: Relay,
    /// In the names of all its pipes: nobody guesses it.
    id: String,
}

impl Own {
    pub(super) fn new(relay: Relay) -> Self {
        let mut id = [0; 8];
        Env::system().random.fill(&mut id);
        Self { relay, id: data_encoding::HEXLOWER.encode(&id) }
    }

    /// The relay.
    pub(super) fn relay(&self) -> &Relay {
        &self.relay
    }

    /// A pipe of this run.
    ///
    /// # Errors
    /// None that can come: it is a good name.
    pub(super) fn pipe(&self, word: &str) -> Result<Target, Error> {
        Target::for_writers(&format!("bench/{}/{word}", self.id))
    }

    /// A writer, over a link of its own as another program would have.
    pub(super) async fn writer(&self, pipe: &Target) -> Result<Writer, Error> {
        let mut options = WriterOptions::default();
        // A writer that waits for room measures nothing.
        (options.no_wait, options.patience.give_up) = (true, AWAY_MAX);
        options.events = Some(events());
        self.relay.over_another_link()?.pipe(pipe).writer_with(options).await
    }

    /// So many of them.
    pub(super) async fn writers(&self, pipe: &Target, count: usize) -> Result<Vec<Writer>, Error> {
        let each = stream::iter(0..count).map(|_| self.writer(pipe));
        each.buffer_unordered(ATTACHING_MAX).try_collect().await
    }

    /// A reader, over a link of its own.
    pub(super) async fn reader(&self, pipe: &Target) -> Result<Reader, Error> {
        self.reader_with(pipe, ReaderOptions::default()).await
    }

    /// The same, with options.
    pub(super) async fn reader_with(&self, pipe: &Target, mut options: ReaderOptions) -> Result<Reader, Error> {
        options.patience.give_up = AWAY_MAX;
        options.events = Some(events());
        self.relay.over_another_link()?.pipe(pipe).reader_with(options).await
    }

    /// Whether all that will be done may be done: to read a pipe, to remove it, to write. Whatever is refused, nothing is left.
    ///
    /// # Errors
    /// What stands in the way; of a key that may not do all of it, what is needed.
    pub(super) async fn may(&self, pipe: &Target) -> Result<(), Error> {
        let tried = async {
            let reader = self.reader(pipe).await?;
            // Now there is something to remove: that there is none looks as if it were forbidden.
            if let Err(error) = self.relay.pipe(pipe).remove().await {
                // One that is dropped may be waited for, and its pipe be there for as long.
                reader.leave(false).await?;
                return Err(error);
            }
            self.writer(pipe).await?.abort().await;
            Ok(())
        };
        tried.await.map_err(|error: Error| match error.code() {
            Code::Access => {
                let what = "a benchmark writes, reads and removes pipes of its own, named bench/…";
                Error::new(Code::Access, format!("{what}: {}", error.text())).because(error)
            }
            _ => error,
        })
    }

    /// Removes a pipe of this run, if there is one, whoever is still attached. Other errors than that there is none are tried again.
    ///
    /// # Errors
    /// `E_UNKNOWN` when the pipe may be left.
    pub(super) async fn remove(&self, pipe: &Target) -> Result<(), Error> {
        let removed = async {
            // Gone is what cannot be removed once more: a party that was on its way may have begun it anew.
            while !matches!(self.relay.pipe(pipe).remove().await, Err(error) if error.code() == Code::Access) {
                sleep(REMOVE_EVERY).await;
            }
        };
        timeout(REMOVED_WITHIN, removed).await.map_err(|_| may_be_left(pipe))
    }
}

/// What to do about a pipe whose removal did not succeed.
pub(super) fn may_be_left(pipe: &Target) -> Error {
    Error::new(Code::Unknown, format!("a pipe of this benchmark may be left: `skypipe rm {pipe}`"))
}

fn events() -> Events {
    // Of what people want to know, only that there is no connection: the rest is how it is measured.
    let told = notices::events();
    Arc::new(move |event| {
        use skypipe_core::Event::{Connected, NotConnected};
        if matches!(event, NotConnected { .. } | Connected { .. }) {
            told(event);
        }
    })
}
