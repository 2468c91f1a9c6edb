//! The end of an application, in order.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

/// Lets an application end without losing its last words: readers give no more, what is in hand is finished, and all that was said is heard.
/// Cheap to clone; everything that was given a clone ends together.
///
/// ```
/// use std::time::Duration;
/// use skypipe_core::{Client, Env, LocalBroker, Pipe, ReaderOptions, Shutdown, Until};
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), skypipe_core::Error> {
///     let shutdown = Shutdown::new();
///     let logs = Client::over(LocalBroker::in_memory(Env::system())?).with_shutdown(&shutdown).pipe("logs")?;
///
///     let (mut writer, mut reader) = (logs.writer().await?, logs.reader().await?);
///     let reading = tokio::spawn(async move {
///         let mut records = 0;
///         // `None` once the shutdown has begun, behind the record that is in hand.
///         while reader.next().await?.is_some() {
///             records += 1;
///         }
///         Ok::<_, skypipe_core::Error>(records)
///     });
///     writer.send(b"a line\n").await?;
///     writer.delivered().await?;
///
///     // A signal came, say.
///     shutdown.begin();
///     assert_eq!(reading.await.expect("no panic")?, 1);
///     writer.end(Until::Stored).await?;
///     assert!(shutdown.ended(Duration::from_secs(10)).await);
///     Ok(())
/// }
/// ```
#[derive(Clone, Default)]
pub struct Shutdown {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    begun: watch::Sender<bool>,
    /// Sessions that are not over.
    open: watch::Sender<usize>,
    readers: Mutex<Vec<Weak<dyn Stop>>>,
}

/// What hears that the shutdown has begun.
pub(crate) trait Stop: Send + Sync {
    fn stop(&self);
}

/// A session that is not over.
pub(crate) struct Open(Arc<State>);

impl Shutdown {
    /// One that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Readers give no more from now on: asked for the next record they acknowledge the last one, leave, and give `None`. An item that one of them had
    /// alone and not to its end goes back whole. A reader of a queue that leases records gives `None` at once; its leases count until it is dropped. Writers go on; requests under
    /// way hear of no reply any more.
    pub fn begin(&self) {
        self.state.begun.send_replace(true);
        let readers = std::mem::take(&mut *self.state.readers.lock().unwrap_or_else(PoisonError::into_inner));
        readers.iter().filter_map(Weak::upgrade).for_each(|reader| reader.stop());
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.state.begun.borrow()
    }

    /// Waits until it begins: for the application's own tasks.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn begun(&self) {
        let mut begun = self.state.begun.subscribe();
        let _ = begun.wait_for(|begun| *begun).await;
    }

    /// Begins, and waits until all writers and readers are over and their last words have left, at most so long. They are over when they are ended or
    /// dropped. False when some were not. Links to other machines have goodbyes of their own behind this, such as `skypipe_transport_quic::goodbye`.
    ///
    /// # Cancel safety
    /// A dropped call has begun.
    pub async fn ended(&self, within: Duration) -> bool {
        self.begin();
        let mut open = self.state.open.subscribe();
        let none = open.wait_for(|open| *open == 0);
        tokio::time::timeout(within, none).await.is_ok()
    }

    pub(crate) fn open(&self) -> Open {
        self.state.open.send_modify(|open| *open += 1);
        Open(self.state.clone())
    }

    /// From now on `reader` hears when it begins.
    pub(crate) fn tell(&self, reader: &Arc<impl Stop + 'static>) {
        let as_any: Arc<dyn Stop> = reader.clone();
        let mut readers = self.state.readers.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are gone make room before more is taken.
        if readers.len() == readers.capacity() {
            readers.retain(|reader| reader.strong_count() > 0);
        }
        readers.push(Arc::downgrade(&as_any));
        drop(readers);
        if self.has_begun() {
            reader.stop();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Mode;
    use crate::client::Client;
    use crate::env::Env;
    use crate::local_broker::LocalBroker;
    use crate::pipe::{BrokerPipe, Pipe, ReaderOptions, WriterOptions};
    use crate::session::Until;

    const SOON: Duration = Duration::from_secs(30);

    fn pipe(shutdown: &Shutdown) -> (BrokerPipe, BrokerPipe) {
        let client = Client::over(LocalBroker::in_memory(Env::system()).unwrap());
        (client.clone().with_shutdown(shutdown).pipe("p").unwrap(), client.pipe("p").unwrap())
    }

    async fn write(pipe: &BrokerPipe, mode: Mode, records: &[&str]) {
        let mut writer = pipe.writer_with(WriterOptions::default().with_mode(mode)).await.unwrap();
        for record in records {
            writer.send(record.as_bytes()).await.unwrap();
        }
        writer.end(Until::Stored).await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_told_at_once_and_what_it_has_is_acknowledged() {
        let shutdown = Shutdown::new();
        let (pipe, others) = pipe(&shutdown);
        write(&others, Mode::Queue, &["one", "two"]).await;
        let mut reader = pipe.reader().await.unwrap();
        assert_eq!(reader.next().await.unwrap().as_deref(), Some(&b"one"[..]));
        shutdown.begin();
        assert_eq!(reader.next().await.unwrap(), None);
        drop(reader);
        assert!(shutdown.ended(SOON).await);
        let options = ReaderOptions { no_wait: true, ..ReaderOptions::default() };
        let mut next = others.reader_with(options).await.unwrap();
        assert_eq!(next.next().await.unwrap().as_deref(), Some(&b"two"[..]), "one is done with");
        assert_eq!(next.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn leases_in_hand_are_finished_and_those_that_wait_go_to_others() {
        let shutdown = Shutdown::new();
        let (pipe, others) = pipe(&shutdown);
        write(&others, Mode::Queue, &["one", "two", "three"]).await;
        let mut reader = pipe.reader().await.unwrap();
        let lease = reader.next_lease().await.unwrap().unwrap();
        shutdown.begin();
        assert!(reader.next_lease().await.unwrap().is_none());
        // They are not held back until this one ends.
        let mut other = others.reader().await.unwrap();
        let mut got = [other.next().await.unwrap().unwrap().body, other.next().await.unwrap().unwrap().body];
        got.sort();
        assert_eq!(got, ["three", "two"]);
        lease.done();
        reader.settled().await.unwrap();
        drop(reader);
        assert!(shutdown.ended(SOON).await);
    }

    #[tokio::test]
    async fn an_item_taken_alone_goes_back_whole() {
        let shutdown = Shutdown::new();
        let (pipe, others) = pipe(&shutdown);
        write(&others, Mode::Default, &["one", "two"]).await;
        let mut reader = pipe.reader().await.unwrap();
        assert_eq!(reader.next().await.unwrap().as_deref(), Some(&b"one"[..]));
        shutdown.begin();
        assert_eq!(reader.next().await.unwrap(), None);
        let mut next = others.reader().await.unwrap();
        assert_eq!(next.next().await.unwrap().as_deref(), Some(&b"one"[..]));
    }

    #[tokio::test]
    async fn what_stays_open_is_told() {
        let shutdown = Shutdown::new();
        let (pipe, _) = pipe(&shutdown);
        let writer = pipe.writer().await.unwrap();
        assert!(!shutdown.ended(Duration::from_millis(100)).await);
        assert!(shutdown.has_begun());
        drop(writer);
        assert!(shutdown.ended(SOON).await);
        // Who comes late is told as well.
        assert_eq!(pipe.reader().await.unwrap().next().await.unwrap(), None);
    }
}
