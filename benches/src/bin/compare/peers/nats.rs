//! nats-server, without its streams: what nobody takes is gone.

use tokio::io::split;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;

use super::wire::{Incoming, Outgoing, number};
use crate::Failure;
use crate::contender::{Contender, Receiver, Sender, Work};
use crate::ground::{Ground, Server, free_port};
use crate::process::{Process, command};
use crate::record::Arrivals;
use crate::roles::{self, Post};

/// A reader that lags is not cut off before it lags by so much, so that no record is lost.
const SETTINGS: &str = "max_pending: 4GB\nwrite_deadline: \"60s\"\nmax_payload: 8MB\n";

pub(crate) struct Nats;

impl Contender for Nats {
    fn name(&self) -> String {
        "nats-server".to_owned()
    }

    fn programs(&self) -> &'static [&'static str] {
        &["nats-server"]
    }

    fn acknowledgement(&self) -> &'static str {
        "received (PONG behind all)"
    }

    fn serve(&self, ground: &Ground) -> Result<Server, Failure> {
        let port = free_port()?;
        let settings = ground.file("nats.conf", &format!("listen: 127.0.0.1:{port}\n{SETTINGS}"))?;
        let mut server = command("nats-server");
        server.arg("-c").arg(settings).args(["-l", "/dev/null"]);
        Server::at_port(Process::start("nats-server", &mut server)?, port)
    }

    fn write<'a>(&'a self, post: Post<'a>) -> Work<'a> {
        let at = post.at;
        Box::pin(roles::write(post, async move || Client::connect(at).await))
    }

    fn read<'a>(&'a self, post: Post<'a>) -> Work<'a> {
        let at = post.at;
        Box::pin(roles::read(post, async move || {
            let mut client = Client::connect(at).await?;
            client.outgoing.put(b"SUB p 1\r\n");
            client.settle().await?;
            Ok(client)
        }))
    }
}

struct Client {
    incoming: Incoming<ReadHalf<TcpStream>>,
    outgoing: Outgoing<WriteHalf<TcpStream>>,
}

impl Client {
    async fn connect(at: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let (incoming, outgoing) = split(stream);
        let mut client = Self { incoming: Incoming::new(incoming), outgoing: Outgoing::new(outgoing) };
        client.incoming.line().await?;
        client.outgoing.put(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true}\r\n");
        client.settle().await?;
        Ok(client)
    }

    /// Takes what is no message.
    async fn other(line: &[u8], outgoing: &mut Outgoing<WriteHalf<TcpStream>>) -> Result<(), Failure> {
        match line {
            b"PING" => {
                outgoing.put(b"PONG\r\n");
                outgoing.flush().await
            }
            line if line.starts_with(b"-ERR") => Err(String::from_utf8_lossy(line).into()),
            _ => Ok(()),
        }
    }
}

impl Sender for Client {
    async fn send(&mut self, record: &[u8]) -> Result<(), Failure> {
        self.outgoing.put(b"PUB p ");
        self.outgoing.put_number(record.len());
        self.outgoing.put(b"\r\n");
        self.outgoing.record(record).await?;
        self.outgoing.put(b"\r\n");
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        self.outgoing.flush().await
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        self.outgoing.put(b"PING\r\n");
        self.outgoing.flush().await?;
        loop {
            match self.incoming.line().await? {
                b"PONG" => return Ok(()),
                line => Self::other(line, &mut self.outgoing).await?,
            }
        }
    }
}

impl Receiver for Client {
    async fn receive(&mut self, arrivals: &mut Arrivals) -> Result<bool, Failure> {
        loop {
            let line = self.incoming.line().await?;
            if line.starts_with(b"MSG ") {
                let digits = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
                let length = number(digits)?;
                self.incoming.record(length, arrivals).await?;
                self.incoming.skip(2).await?;
            } else {
                Self::other(line, &mut self.outgoing).await?;
            }
            if !self.incoming.has_line() {
                return Ok(true);
            }
        }
    }
}
