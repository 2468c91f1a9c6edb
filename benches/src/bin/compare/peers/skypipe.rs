//! skypipe itself: the relay is the command that users have, the ends are its library.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skypipe_core::{
    BrokerPipe, Client, Env, KeyPair, Pipe, Reader, ReaderOptions, RemoteBroker, Until as EndsWhen, Writer, registry,
};
use skypipe_keys::key_file;

use crate::Failure;
use crate::contender::{Contender, Receiver, Sender, Side, Work};
use crate::ground::{Ground, Server};
use crate::process::{Process, command};
use crate::record::Arrivals;
use crate::roles::{self, Post};
use crate::task::{Pace, Task, Until};

/// The pipe of all runs.
pub(crate) const PIPE: &str = "p";
/// The relay's folder.
pub(crate) const DATA: &str = "relay";

/// How the ends reach the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skypipe {
    Local,
    Ws,
    Wss,
    Quic,
}

impl Skypipe {
    /// The medium as the table names it.
    pub(crate) fn medium(self) -> &'static str {
        match self {
            Self::Local => "local socket",
            way => way.scheme(),
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Local => "unix",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Quic => "quic",
        }
    }

    /// A relay with its data in this folder, for the owner of this key where it asks for one.
    fn relay(self, ground: &Ground, owner: &str) -> Result<(Process, String), Failure> {
        let listen = match self {
            Self::Local => format!("unix:{}", ground.socket("relay").display()),
            way => format!("{}:127.0.0.1:0", way.scheme()),
        };
        let mut relay = relay_command(&ground.data().join(DATA))?;
        relay.args(["--listen", &listen]);
        if self != Self::Local {
            relay.args(["--owner", owner]);
        }
        let is_url = |line: &str| line.starts_with(&format!("{}:", self.scheme()));
        Process::start_and_hear("skypipe relay", &mut relay, is_url)
    }
}

/// Where a relay is, and the file with the key of its owner.
pub(crate) struct Place {
    url: String,
    key: PathBuf,
}

impl Place {
    /// Of a relay at this URL that belongs to the owner of the run.
    pub(crate) fn at(ground: &Ground, url: String) -> Result<Self, Failure> {
        Ok(Self { url, key: owner(ground)?.0 })
    }

    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.url, self.key.display())
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let (url, key) = text.split_once(' ').ok_or("no key")?;
        Ok(Self { url: url.to_owned(), key: key.into() })
    }

    /// Tells a command of skypipe, which then looks at nothing of this user's.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.env("SKYPIPE_RELAY", &self.url).env("SKYPIPE_KEY", &self.key);
        command.env("XDG_CONFIG_HOME", self.key.parent().unwrap_or(&self.key));
    }

    pub(crate) fn broker(&self) -> Result<RemoteBroker, Failure> {
        skypipe_transport_quic::install();
        skypipe_transport_ws::install();
        let key = key_file::read(&self.key)?;
        Ok(RemoteBroker::new(registry::lookup(&self.url)?, &self.url).with_signer(Arc::new(key)))
    }

    fn pipe(&self, name: &str) -> Result<BrokerPipe, Failure> {
        Ok(Client::over(Arc::new(self.broker()?)).pipe(name)?)
    }
}

/// `skypipe relay` on this folder.
pub(crate) fn relay_command(data: &Path) -> Result<Command, Failure> {
    let mut relay = command(program()?);
    relay.arg("relay").arg("--data").arg(data).env("SKYPIPE_KEEP_FREE", "0").stderr(std::process::Stdio::null());
    Ok(relay)
}

/// The key of the owner of a run, and the file that it is in.
fn owner(ground: &Ground) -> Result<(PathBuf, KeyPair), Failure> {
    let file = ground.data().join("key");
    let key = key_file::read_or_make(&file, "compare", &Env::system())?;
    Ok((file, key))
}

/// The command `skypipe`, built beside this program.
pub(crate) fn program() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?.with_file_name("skypipe");
    if program.exists() { Ok(program) } else { Err(format!("{} is not built", program.display()).into()) }
}

impl Contender for Skypipe {
    fn name(&self) -> String {
        format!("skypipe, {}", self.medium())
    }

    fn acknowledgement(&self) -> &'static str {
        "delivered"
    }

    fn serve(&self, ground: &Ground) -> Result<Server, Failure> {
        let (file, key) = owner(ground)?;
        let (process, url) = self.relay(ground, &skypipe_keys::public_line(key.public(), "compare"))?;
        Ok(Server::at(process, Place { url, key: file }.text()))
    }

    fn write<'a>(&'a self, post: Post<'a>) -> Work<'a> {
        let (at, until) = (post.at, ends_when(post.task));
        Box::pin(roles::write(post, async move || {
            Ok(Sending { writer: Place::parse(at)?.pipe(PIPE)?.writer().await?, until })
        }))
    }

    fn read<'a>(&'a self, post: Post<'a>) -> Work<'a> {
        let (at, keep, is_idle) = (post.at, keeps(post.task), post.task.pace == Pace::Idle);
        let attached = AtomicU64::new(0);
        Box::pin(roles::read(post, async move || {
            // Who idles does so at a pipe of its own.
            let number = attached.fetch_add(1, Ordering::Relaxed);
            let name = if is_idle { format!("{PIPE}/{number}") } else { PIPE.to_owned() };
            let mut options = ReaderOptions::default();
            options.keep = keep;
            Ok(Receiving { reader: Place::parse(at)?.pipe(&name)?.reader_with(options).await?, keep })
        }))
    }

    fn command(&self, _: Side, server: &Server, _: &Ground) -> Result<Command, Failure> {
        let mut once = Command::new(program()?);
        once.arg(PIPE);
        Place::parse(&server.at)?.tell(&mut once);
        Ok(once)
    }
}

fn ends_when(task: &Task) -> EndsWhen {
    match task.until {
        Until::Delivered => EndsWhen::Delivered,
        Until::Stored => EndsWhen::Stored,
    }
}

/// Whether the reader has more than one item to take.
fn keeps(task: &Task) -> bool {
    task.pace == Pace::Awaited || task.until == Until::Stored && task.writers > 1
}

struct Sending {
    writer: Writer,
    until: EndsWhen,
}

impl Sender for Sending {
    async fn send(&mut self, record: &[u8]) -> Result<(), Failure> {
        Ok(self.writer.send(record).await?)
    }

    /// Nothing waits for company: what is ready goes.
    async fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        Ok(self.writer.settled().await?)
    }

    async fn end(self) -> Result<(), Failure> {
        Ok(self.writer.end(self.until).await.map(drop)?)
    }
}

struct Receiving {
    reader: Reader,
    keep: bool,
}

impl Receiver for Receiving {
    async fn receive(&mut self, arrivals: &mut Arrivals) -> Result<bool, Failure> {
        let Some(chunk) = self.reader.next_chunk().await? else { return Ok(false) };
        arrivals.take(&chunk.bodies());
        Ok(true)
    }

    /// A reader of one item waits until the relay knows that it has it.
    async fn finish(mut self, arrivals: &mut Arrivals) -> Result<(), Failure> {
        while !self.keep && self.receive(arrivals).await? {}
        Ok(())
    }
}
