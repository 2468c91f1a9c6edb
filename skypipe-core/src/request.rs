//! Requests and replies over pipes.
//!
//! ```text
//!  Requester ── request, its number ──▶ queue NAME ─────────── lease ──▶ Replier
//!            ◀──────────────────────── broadcast NAME/reply ◀── the number, reply
//! ```
//!
//! A request is a record of the queue `NAME`: it waits for a replier, goes to one at a time, and to another when that one dies. Replies are
//! records of the broadcast `NAME/reply`, which all requesters of that name read, each passing over what is not its own: a reply whose requester is gone
//! leaves nothing but a record that is forgotten soon, and no pipe. So whoever may read `NAME/reply` sees all replies.

mod replier;
mod requester;

use std::time::Duration;

use crate::error::{Code, Error};
use crate::pipe::BrokerPipe;

pub use replier::{Replier, ReplierOptions, Request};
pub use requester::Requester;

/// Header of a request: whose and which it is. Its reply carries it back in [`REPLY`].
const REQUEST: &str = "request";
/// Header of a reply.
const REPLY: &str = "reply";
/// Header of a request: when nobody waits for its reply any more, in milliseconds since 1970.
const DEADLINE: &str = "deadline";
/// The last segment of the pipe of replies.
const REPLIES: &str = "reply";
/// Replies are kept so long: a requester whose link broke reads them when it is back.
const REPLIES_KEPT: Duration = Duration::from_secs(300);

/// The pipe of replies to the requests of `pipe`.
fn replies(pipe: &BrokerPipe) -> Result<BrokerPipe, Error> {
    pipe.below(REPLIES)
}

pub(crate) fn late() -> Error {
    Error::new(Code::Timeout, "no reply came in time")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::Mode;
    use crate::client::Client;
    use crate::env::Env;
    use crate::local_broker::LocalBroker;
    use crate::pipe::{Pipe, WriterOptions};
    use crate::session::Until;

    fn pipe() -> BrokerPipe {
        Client::over(LocalBroker::in_memory(Env::system()).unwrap()).pipe("sums").unwrap()
    }

    /// Replies with twice the number, a thousand at most.
    async fn double(pipe: BrokerPipe) {
        let mut replier = pipe.replier().await.unwrap();
        while let Some(request) = replier.next().await.unwrap() {
            let number: u32 = std::str::from_utf8(request.body()).unwrap().parse().unwrap();
            tokio::spawn(async move { request.reply((2 * number).to_string().as_bytes()).await.unwrap() });
        }
    }

    const SOON: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn each_request_gets_its_reply_also_many_at_once() {
        let pipe = pipe();
        let working = [tokio::spawn(double(pipe.clone())), tokio::spawn(double(pipe.clone()))];
        let requester = Arc::new(pipe.requester().await.unwrap());
        let other = Arc::new(pipe.requester().await.unwrap());
        let ask = |number: u32| {
            let requester = if number.is_multiple_of(2) { requester.clone() } else { other.clone() };
            tokio::spawn(async move { requester.request(number.to_string().as_bytes(), SOON).await.unwrap().body })
        };
        let asked: Vec<_> = (0..100).map(ask).collect();
        for (number, reply) in asked.into_iter().enumerate() {
            assert_eq!(reply.await.unwrap(), (2 * number).to_string());
        }
        assert_eq!(pipe.request(b"21", SOON).await.unwrap().body, "42");
        working.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn a_request_that_one_replier_drops_goes_to_another() {
        let pipe = pipe();
        let requester = pipe.requester().await.unwrap();
        let asking = tokio::spawn(async move { requester.request(b"4", SOON).await });
        let mut careless = pipe.replier().await.unwrap();
        drop(careless.next().await.unwrap());
        drop(careless);
        let working = tokio::spawn(double(pipe));
        assert_eq!(asking.await.unwrap().unwrap().body, "8");
        working.abort();
    }

    #[tokio::test]
    async fn without_a_reply_in_time_it_is_an_error_and_the_late_reply_is_nobodys() {
        let pipe = pipe();
        let requester = pipe.requester().await.unwrap();
        let late = requester.request(b"1", Duration::from_millis(20)).await;
        assert_eq!(late.map(|_| ()).map_err(|error| error.code()), Err(Code::Timeout));
        let working = tokio::spawn(double(pipe));
        assert_eq!(requester.request(b"2", SOON).await.unwrap().body, "4", "not the reply to the first");
        working.abort();
    }

    #[tokio::test]
    async fn what_a_shell_writes_is_a_request_without_a_reply() {
        let pipe = pipe();
        let mut replier = pipe.replier().await.unwrap();
        let mut shell = pipe.writer_with(WriterOptions::default().with_mode(Mode::Queue)).await.unwrap();
        shell.send(b"hello").await.unwrap();
        shell.end(Until::Stored).await.unwrap();
        let request = replier.next().await.unwrap().unwrap();
        assert_eq!((&request.body()[..], request.deadline()), (&b"hello"[..], None));
        request.reply(b"to whom?").await.unwrap();
        replier.settled().await.unwrap();
        assert_eq!(pipe.stat().await.unwrap().items, 0);
    }

    #[tokio::test]
    async fn requests_that_nobody_waits_for_any_more_are_passed_over() {
        let pipe = pipe();
        let mut writer = pipe.writer_with(WriterOptions::default().with_mode(Mode::Queue)).await.unwrap();
        let now = Env::system().clock.wall().0;
        for (text, deadline) in [(&b"old"[..], now - 3_600_000), (b"new", now - 1_000)] {
            let headers = crate::Headers::new().with(DEADLINE, &deadline.to_string()).unwrap();
            writer.headers(headers);
            writer.send(text).await.unwrap();
        }
        writer.end(Until::Stored).await.unwrap();
        let mut replier = pipe.replier().await.unwrap();
        assert_eq!(&replier.next().await.unwrap().unwrap().body()[..], b"new", "clocks may differ by a little");
    }
}
