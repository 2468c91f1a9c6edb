//! redis-server over its Unix socket, the faster of its two ways: publish and subscribe, and streams synced at every write.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::wire::{Incoming, Outgoing, number};
use crate::Failure;
use crate::contender::{Contender, Receiver, Sender, Side, Work};
use crate::ground::{Ground, Server};
use crate::process::{Process, command};
use crate::record::Arrivals;
use crate::roles::{self, Post};

/// A reader that lags is never cut off, so that no record is lost.
const SETTINGS: [&str; 8] =
    ["--port", "0", "--save", "", "--client-output-buffer-limit", "pubsub 0 0 0", "--daemonize", "no"];
/// Entries of a stream that are read at once.
const PAGE: usize = 512;

/// How redis is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redis {
    Publish,
    Stream,
}

impl Contender for Redis {
    fn name(&self) -> String {
        match self {
            Self::Publish => "redis pub/sub".to_owned(),
            Self::Stream => "redis stream, fsync always".to_owned(),
        }
    }

    fn programs(&self) -> &'static [&'static str] {
        &["redis-server", "redis-cli"]
    }

    fn acknowledgement(&self) -> &'static str {
        match self {
            Self::Publish => "received (reply to PUBLISH)",
            Self::Stream => "stored (reply to XADD)",
        }
    }

    fn serve(&self, ground: &Ground) -> Result<Server, Failure> {
        let socket = ground.socket("redis");
        let mut server = command("redis-server");
        server.args(SETTINGS).arg("--unixsocket").arg(&socket).arg("--dir").arg(ground.data());
        if *self == Self::Stream {
            server.args(["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]);
        }
        Server::at_socket(Process::start("redis-server", server.stdout(Stdio::null()))?, &socket)
    }

    fn write<'a>(&'a self, post: Post<'a>) -> Work<'a> {
        let at = post.at;
        Box::pin(roles::write(post, async move || Client::connect(at, *self).await))
    }

    fn read<'a>(&'a self, post: Post<'a>) -> Work<'a> {
        let at = post.at;
        match self {
            Self::Publish => Box::pin(roles::read(post, async move || Subscriber::subscribe(at).await)),
            Self::Stream => Box::pin(roles::read(post, async move || Pages::open(at).await)),
        }
    }

    fn command(&self, _: Side, server: &Server, _: &Ground) -> Result<Command, Failure> {
        let mut once = Command::new("redis-cli");
        once.args(["-s", &server.at, "-x", "PUBLISH", "p"]);
        Ok(once)
    }
}

struct Client {
    outgoing: Outgoing<OwnedWriteHalf>,
    way: Redis,
    sent: u64,
    replies: Arc<Replies>,
    _counting: Counting,
}

/// What came back so far.
#[derive(Default)]
struct Replies {
    count: AtomicU64,
    /// It went up, or will not any more.
    news: Notify,
    is_over: AtomicU64,
}

struct Counting(JoinHandle<()>);

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    async fn connect(at: &str, way: Redis) -> Result<Self, Failure> {
        let (incoming, outgoing) = UnixStream::connect(at).await?.into_split();
        let replies = Arc::new(Replies::default());
        let counting = tokio::spawn(count(Incoming::new(incoming), way, replies.clone()));
        Ok(Self { outgoing: Outgoing::new(outgoing), way, sent: 0, replies, _counting: Counting(counting) })
    }
}

/// Counts replies until one is an error.
async fn count(mut incoming: Incoming<OwnedReadHalf>, way: Redis, replies: Arc<Replies>) {
    loop {
        let is_good = match (incoming.line().await, way) {
            (Ok(line), Redis::Publish) => line.starts_with(b":"),
            (Ok(line), Redis::Stream) => line.starts_with(b"$") && incoming.line().await.is_ok(),
            (Err(_), _) => false,
        };
        if !is_good {
            replies.is_over.store(1, Ordering::Release);
            return replies.news.notify_one();
        }
        replies.count.fetch_add(1, Ordering::Release);
        if !incoming.has_line() {
            replies.news.notify_one();
        }
    }
}

impl Sender for Client {
    async fn send(&mut self, record: &[u8]) -> Result<(), Failure> {
        self.outgoing.put(match self.way {
            Redis::Publish => b"*3\r\n$7\r\nPUBLISH\r\n$1\r\np\r\n$",
            Redis::Stream => b"*5\r\n$4\r\nXADD\r\n$1\r\np\r\n$1\r\n*\r\n$1\r\nd\r\n$",
        });
        self.outgoing.put_number(record.len());
        self.outgoing.put(b"\r\n");
        self.outgoing.record(record).await?;
        self.outgoing.put(b"\r\n");
        self.sent += 1;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        self.outgoing.flush().await
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        self.flush().await?;
        while self.replies.count.load(Ordering::Acquire) < self.sent {
            if self.replies.is_over.load(Ordering::Acquire) > 0 {
                return Err("redis refused a record".into());
            }
            self.replies.news.notified().await;
        }
        Ok(())
    }
}

struct Subscriber {
    incoming: Incoming<OwnedReadHalf>,
    _outgoing: Outgoing<OwnedWriteHalf>,
}

impl Subscriber {
    async fn subscribe(at: &str) -> Result<Self, Failure> {
        let (incoming, outgoing) = UnixStream::connect(at).await?.into_split();
        let (mut incoming, mut outgoing) = (Incoming::new(incoming), Outgoing::new(outgoing));
        outgoing.put(b"SUBSCRIBE p\r\n");
        outgoing.flush().await?;
        // `*3`, `subscribe` and `p` with their lengths, and the count.
        for _ in 0..6 {
            incoming.line().await?;
        }
        Ok(Self { incoming, _outgoing: outgoing })
    }
}

impl Receiver for Subscriber {
    async fn receive(&mut self, arrivals: &mut Arrivals) -> Result<bool, Failure> {
        loop {
            // `*3`, `message` and `p` with their lengths.
            for _ in 0..5 {
                self.incoming.line().await?;
            }
            bulk(&mut self.incoming, arrivals).await?;
            if !self.incoming.has_line() {
                return Ok(true);
            }
        }
    }
}

/// Reads a stream from its beginning.
struct Pages {
    incoming: Incoming<OwnedReadHalf>,
    outgoing: Outgoing<OwnedWriteHalf>,
    /// Behind which entry.
    behind: String,
}

impl Pages {
    async fn open(at: &str) -> Result<Self, Failure> {
        let (incoming, outgoing) = UnixStream::connect(at).await?.into_split();
        Ok(Self { incoming: Incoming::new(incoming), outgoing: Outgoing::new(outgoing), behind: "-".to_owned() })
    }
}

impl Receiver for Pages {
    async fn receive(&mut self, arrivals: &mut Arrivals) -> Result<bool, Failure> {
        self.outgoing.put(format!("XRANGE p {} + COUNT {PAGE}\r\n", self.behind).as_bytes());
        self.outgoing.flush().await?;
        let entries = number(&self.incoming.line().await?[1..])?;
        for _ in 0..entries {
            // `*2`, the length of the entry's number, and the number itself.
            self.incoming.line().await?;
            self.incoming.line().await?;
            self.behind = format!("({}", String::from_utf8_lossy(self.incoming.line().await?));
            // `*2`, and `d` with its length.
            for _ in 0..3 {
                self.incoming.line().await?;
            }
            bulk(&mut self.incoming, arrivals).await?;
        }
        Ok(entries > 0)
    }
}

async fn bulk(incoming: &mut Incoming<OwnedReadHalf>, arrivals: &mut Arrivals) -> Result<(), Failure> {
    let length = number(&incoming.line().await?[1..])?;
    incoming.record(length, arrivals).await?;
    incoming.skip(2).await
}
