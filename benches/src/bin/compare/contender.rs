//! What is compared: skypipe and everybody else, in the same terms.
//!
//! A new peer is one file in `peers`: a type with [`Contender`], and, if it has a client of its own here, a [`Sender`] and a [`Receiver`].

use std::pin::Pin;
use std::process::Command;
use std::time::Duration;

use tokio::time::timeout;

use crate::Failure;
use crate::control::Report;
use crate::ground::{Ground, Server};
use crate::record::Arrivals;
use crate::roles::Post;

/// A way for records from one process to another.
pub(crate) trait Contender: Sync {
    /// As the table names it; the roles find it by this.
    fn name(&self) -> String;

    /// The programs that it needs, found on the path.
    fn programs(&self) -> &'static [&'static str] {
        &[]
    }

    /// What a writer waits for, as the contender has it.
    fn acknowledgement(&self) -> &'static str;

    /// Starts what stands between the two ends and waits until it accepts.
    fn serve(&self, ground: &Ground) -> Result<Server, Failure>;

    /// How the two ends reach it.
    fn ends(&self) -> Ends {
        Ends::Own
    }

    /// The writer's end of [`Ends::Own`], in a process of its own.
    fn write<'a>(&'a self, _post: Post<'a>) -> Work<'a> {
        Box::pin(async { Err("has no client here".into()) })
    }

    /// The reader's end of [`Ends::Own`], in a process of its own.
    fn read<'a>(&'a self, _post: Post<'a>) -> Work<'a> {
        Box::pin(async { Err("has no client here".into()) })
    }

    /// The command of one end of [`Ends::Commands`], or what sends one record from its stdin in a cold start.
    fn command(&self, _side: Side, _server: &Server, _ground: &Ground) -> Result<Command, Failure> {
        Err("has no command here".into())
    }
}

/// How the two ends of a contender are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Clients in this program, in processes of their own, with records made and checked in memory.
    Own,
    /// Programs: a generator writes into the one's stdin, a checker reads from the other's stdout.
    Commands,
    /// A generator and a checker on one kernel pipe.
    Pipe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Write,
    Read,
}

/// A role at work.
pub(crate) type Work<'a> = Pin<Box<dyn Future<Output = Result<Report, Failure>> + 'a>>;

/// The sending end of a client.
pub(crate) trait Sender {
    /// Hands one record over, which may wait for company in a buffer.
    async fn send(&mut self, record: &[u8]) -> Result<(), Failure>;

    /// Lets go what waits in buffers.
    async fn flush(&mut self) -> Result<(), Failure>;

    /// Waits until all that was sent is acknowledged.
    async fn settle(&mut self) -> Result<(), Failure>;

    /// Settles and ends.
    async fn end(mut self) -> Result<(), Failure>
    where
        Self: Sized,
    {
        self.settle().await
    }
}

/// The receiving end of a client.
pub(crate) trait Receiver {
    /// Waits for more and hands it over; false when no more comes.
    async fn receive(&mut self, arrivals: &mut Arrivals) -> Result<bool, Failure>;

    /// All is there: waits for what should not come, or for the end, where there is one.
    async fn finish(mut self, arrivals: &mut Arrivals) -> Result<(), Failure>
    where
        Self: Sized,
    {
        match timeout(TOO_MANY_WITHIN, self.receive(arrivals)).await {
            Ok(more) => more.map(drop),
            Err(_) => Ok(()),
        }
    }
}

/// How long a reader waits for a record too many.
const TOO_MANY_WITHIN: Duration = Duration::from_millis(20);
