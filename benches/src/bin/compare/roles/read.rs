//! The reading end of a contender with a client of its own.

use super::Post;
use crate::Failure;
use crate::contender::Receiver;
use crate::control::Report;
use crate::record::Arrivals;

/// Attaches, says so, and takes everything until all is there.
pub(crate) async fn read<R: Receiver>(
    post: Post<'_>,
    connect: impl AsyncFnOnce() -> Result<R, Failure>,
) -> Result<Report, Failure> {
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
