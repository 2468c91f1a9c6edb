//! How a role says that it is ready, is told to go, and reports.

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::Failure;
use crate::record::{Arrivals, Digest};

/// What a role says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// A writer is connected, or a reader is attached.
    Ready,
    /// It is done.
    Done(Report),
    /// It failed.
    Failed(String),
}

/// What a role did. Times are nanoseconds of the monotonic clock, which all processes of a machine share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Before a writer's first record.
    pub(crate) begin: u64,
    /// After a writer's acknowledgement, or a reader's last byte.
    pub(crate) end: u64,
    /// What a reader got.
    pub(crate) digest: Option<Digest>,
    /// See [`Arrivals`].
    pub(crate) times: Vec<u64>,
}

impl Report {
    pub(crate) fn written(begin: u64) -> Self {
        Self { begin, end: crate::now(), ..Self::default() }
    }

    pub(crate) fn read(arrivals: Arrivals, end: u64) -> Self {
        Self { begin: 0, end, digest: Some(arrivals.digest()), times: arrivals.into_times() }
    }
}

/// A role's end.
pub(crate) struct Control {
    stream: BufReader<UnixStream>,
}

impl Control {
    pub(crate) async fn join(socket: &str) -> Result<Self, Failure> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(socket).await?) })
    }

    pub(crate) async fn ready(&mut self) -> Result<(), Failure> {
        self.say(&Word::Ready).await
    }

    /// Waits for the word to go.
    pub(crate) async fn go(&mut self) -> Result<(), Failure> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await? {
            0 => Err("nobody says go".into()),
            _ => Ok(()),
        }
    }

    pub(crate) async fn done(&mut self, outcome: Result<Report, Failure>) -> Result<(), Failure> {
        self.say(&outcome.map_or_else(|e| Word::Failed(e.to_string()), Word::Done)).await
    }

    async fn say(&mut self, word: &Word) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(word)?;
        line.push(b'\n');
        Ok(self.stream.write_all(&line).await?)
    }
}
