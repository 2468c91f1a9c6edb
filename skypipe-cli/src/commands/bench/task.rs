//! A party that works beside the others.

use futures::future::BoxFuture;
use skypipe_core::{Code, Error};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Ends with whoever waits for it.
pub(super) struct Task<T> {
    running: JoinHandle<()>,
    came: oneshot::Receiver<Result<T, Error>>,
}

impl<T: Send + 'static> Task<T> {
    pub(super) fn spawn(work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Self {
        let (tell, came) = oneshot::channel();
        // All of one type: the program has the runtime's code once for each.
        let work: BoxFuture<'static, ()> = Box::pin(async move { drop(tell.send(work.await)) });
        Self { running: tokio::spawn(work), came }
    }

    /// What came of it.
    pub(super) async fn done(mut self) -> Result<T, Error> {
        let cut_short = |e| Err(Error::new(Code::Internal, "a measurement was cut short").because(e));
        (&mut self.came).await.unwrap_or_else(cut_short)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.running.abort();
    }
}
