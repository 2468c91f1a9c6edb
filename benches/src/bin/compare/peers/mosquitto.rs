//! mosquitto with QoS 1 both ways: MQTT 3.1.1, as much of it as that takes.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use super::wire::{Incoming, Outgoing};
use crate::Failure;
use crate::contender::{Contender, Receiver, Sender, Side, Work};
use crate::ground::{Ground, Server, free_port};
use crate::process::{Process, command};
use crate::record::Arrivals;
use crate::roles::{self, Post};

/// Nothing is thrown away because there is much of it.
const SETTINGS: &str = "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\n";
const PUBLISH_QOS_1: u8 = 0x32;
const PUBACK: u8 = 0x40;
/// Identifiers of packets run from 1 to this.
const IDENTIFIER_MAX: u16 = u16::MAX;

pub(crate) struct Mosquitto;

impl Contender for Mosquitto {
    fn name(&self) -> String {
        "mosquitto QoS 1".to_owned()
    }

    fn programs(&self) -> &'static [&'static str] {
        &["mosquitto", "mosquitto_pub"]
    }

    fn acknowledgement(&self) -> &'static str {
        "received (PUBACK)"
    }

    fn serve(&self, ground: &Ground) -> Result<Server, Failure> {
        let port = free_port()?;
        let settings = ground.file("mosquitto.conf", &format!("listener {port} 127.0.0.1\n{SETTINGS}"))?;
        let mut server = command("mosquitto");
        server.arg("-c").arg(settings).stdout(Stdio::null()).stderr(Stdio::null());
        Server::at_port(Process::start("mosquitto", &mut server)?, port)
    }

    fn write<'a>(&'a self, post: Post<'a>) -> Work<'a> {
        let at = post.at;
        Box::pin(roles::write(post, async move || Publisher::connect(at).await))
    }

    fn read<'a>(&'a self, post: Post<'a>) -> Work<'a> {
        let at = post.at;
        Box::pin(roles::read(post, async move || Subscriber::subscribe(at).await))
    }

    fn command(&self, _: Side, server: &Server, _: &Ground) -> Result<Command, Failure> {
        let (host, port) = server.at.split_once(':').ok_or("no port")?;
        let mut once = Command::new("mosquitto_pub");
        once.args(["-h", host, "-p", port, "-t", "p", "-q", "1", "-s"]);
        Ok(once)
    }
}

type Halves = (Incoming<OwnedReadHalf>, Outgoing<OwnedWriteHalf>);

async fn connect(at: &str, name: &[u8; 1]) -> Result<Halves, Failure> {
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    let (incoming, outgoing) = stream.into_split();
    let (mut incoming, mut outgoing) = (Incoming::new(incoming), Outgoing::new(outgoing));
    // A clean session that is never silent for too long.
    outgoing.put(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01");
    outgoing.put(name);
    outgoing.flush().await?;
    incoming.skip(4).await?;
    Ok((incoming, outgoing))
}

struct Publisher {
    outgoing: Outgoing<OwnedWriteHalf>,
    identifier: u16,
    sent: u64,
    acknowledged: Arc<(AtomicU64, Notify)>,
}

impl Publisher {
    async fn connect(at: &str) -> Result<Self, Failure> {
        let (mut incoming, outgoing) = connect(at, b"w").await?;
        let acknowledged = Arc::new((AtomicU64::new(0), Notify::new()));
        let counted = acknowledged.clone();
        tokio::spawn(async move {
            while incoming.skip(4).await.is_ok() {
                counted.0.fetch_add(1, Ordering::Release);
                counted.1.notify_one();
            }
        });
        Ok(Self { outgoing, identifier: 0, sent: 0, acknowledged })
    }
}

impl Sender for Publisher {
    async fn send(&mut self, record: &[u8]) -> Result<(), Failure> {
        self.identifier = self.identifier % IDENTIFIER_MAX + 1;
        self.sent += 1;
        self.outgoing.put(&[PUBLISH_QOS_1]);
        put_length(&mut self.outgoing, record.len() + 5);
        self.outgoing.put(b"\x00\x01p");
        self.outgoing.put(&self.identifier.to_be_bytes());
        self.outgoing.record(record).await
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        self.outgoing.flush().await
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        self.flush().await?;
        while self.acknowledged.0.load(Ordering::Acquire) < self.sent {
            self.acknowledged.1.notified().await;
        }
        Ok(())
    }
}

fn put_length(outgoing: &mut Outgoing<OwnedWriteHalf>, mut length: usize) {
    while length >= 128 {
        outgoing.put(&[(length % 128) as u8 | 0x80]);
        length /= 128;
    }
    outgoing.put(&[length as u8]);
}

struct Subscriber {
    incoming: Incoming<OwnedReadHalf>,
    outgoing: Outgoing<OwnedWriteHalf>,
}

impl Subscriber {
    async fn subscribe(at: &str) -> Result<Self, Failure> {
        let (mut incoming, mut outgoing) = connect(at, b"r").await?;
        outgoing.put(b"\x82\x06\x00\x01\x00\x01p\x01");
        outgoing.flush().await?;
        incoming.skip(5).await?;
        Ok(Self { incoming, outgoing })
    }

    async fn length(&mut self) -> Result<usize, Failure> {
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.incoming.byte().await?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return Ok(length);
            }
        }
    }
}

impl Receiver for Subscriber {
    async fn receive(&mut self, arrivals: &mut Arrivals) -> Result<bool, Failure> {
        let kind = self.incoming.byte().await?;
        let length = self.length().await?;
        if kind & 0xf6 != PUBLISH_QOS_1 {
            return Err(format!("not a message of QoS 1: {kind:#x}").into());
        }
        self.incoming.skip(3).await?;
        let identifier = [self.incoming.byte().await?, self.incoming.byte().await?];
        self.incoming.record(length - 5, arrivals).await?;
        self.outgoing.put(&[PUBACK, 2, identifier[0], identifier[1]]);
        self.outgoing.flush().await?;
        Ok(true)
    }
}
