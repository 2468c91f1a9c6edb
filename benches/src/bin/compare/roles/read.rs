//! The reading end of a contender with a client of its own.

use futures::{StreamExt, TryStreamExt, stream};

use super::Post;
use crate::Failure;
use crate::contender::Receiver;
use crate::control::Report;
use crate::record::Arrivals;
use crate::task::Pace;

/// Attaches, says so, and takes everything until all is there.
pub(crate) async fn read<R: Receiver>(
    post: Post<'_>,
    connect: impl AsyncFn() -> Result<R, Failure>,
) -> Result<Report, Failure> {
    if post.task.pace == Pace::Idle {
        return hold(post, connect).await;
    }
    let mut arrivals = Arrivals::of(post.task);
    let mut receiver = connect().await?;
    post.control.ready().await?;
    let begin = crate::now();
    let mut goes_on = true;
    while goes_on && !arrivals.is_complete() {
        goes_on = receiver.receive(&mut arrivals).await?;
    }
    let end = crate::now();
    if goes_on {
        receiver.finish(&mut arrivals).await?;
    }
    Ok(Report { begin, ..Report::read(arrivals, end) })
}

/// Connections that are made at once.
const AT_ONCE: usize = 8;

/// Holds so many readers until told to go.
async fn hold<R: Receiver>(post: Post<'_>, connect: impl AsyncFn() -> Result<R, Failure>) -> Result<Report, Failure> {
    let connecting = stream::iter(0..post.task.records).map(|_| connect()).buffer_unordered(AT_ONCE);
    let held: Vec<R> = connecting.try_collect().await?;
    post.control.ready().await?;
    post.control.go().await?;
    drop(held);
    Ok(Report::default())
}
