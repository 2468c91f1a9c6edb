//! The bare library: a relay of a few lines that only forwards bytes, with the settings that skypipe has. What skypipe takes longer is
//! what skypipe costs.

mod client;
mod relay;
mod stream;

pub(crate) use relay::serve;
use stream::Duplex;

use std::process::Command;

use crate::Failure;
use crate::contender::{Contender, Side, Work};
use crate::ground::{Ground, Server};
use crate::process::{Process, role};
use crate::roles::{self, Post};

/// What bytes are forwarded over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bare {
    Unix,
    Tcp,
    Tls,
    Ws,
    Wss,
    Quinn,
}

/// What is read at once, and the length of a WebSocket message: a batch of skypipe.
const CHUNK_BYTES: usize = 256 * 1024;
/// The first byte of a reader, and of a writer.
const READER: u8 = b'r';
const WRITER: u8 = b'w';
/// What the relay answers: a reader is attached, or all that a writer sent was forwarded.
const DONE: u8 = b'!';

impl Bare {
    fn named(name: &str) -> Result<Self, Failure> {
        let all = [Self::Unix, Self::Tcp, Self::Tls, Self::Ws, Self::Wss, Self::Quinn];
        all.into_iter().find(|way| way.library() == name).ok_or_else(|| format!("no way: {name}").into())
    }

    fn library(self) -> &'static str {
        match self {
            Self::Unix => "Unix socket",
            Self::Tcp => "TCP",
            Self::Tls => "TCP with TLS",
            Self::Ws => "tungstenite",
            Self::Wss => "tungstenite with TLS",
            Self::Quinn => "quinn",
        }
    }

    fn has_messages(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

impl Contender for Bare {
    fn name(&self) -> String {
        format!("bare {}", self.library())
    }

    fn acknowledgement(&self) -> &'static str {
        "forwarded"
    }

    fn serve(&self, ground: &Ground) -> Result<Server, Failure> {
        let socket = ground.socket("bare").display().to_string();
        let mut relay = role(&["bare-relay", self.library(), &socket])?;
        let (process, at) = Process::start_and_hear("bare relay", &mut relay, |_| true)?;
        Ok(Server::at(process, at))
    }

    fn write<'a>(&'a self, post: Post<'a>) -> Work<'a> {
        let at = post.at;
        if self.has_messages() {
            return Box::pin(roles::write(post, async move || client::Messages::connect(*self, at, WRITER).await));
        }
        Box::pin(roles::write(post, async move || client::Bytes::connect(*self, at, WRITER).await))
    }

    fn read<'a>(&'a self, post: Post<'a>) -> Work<'a> {
        let at = post.at;
        if self.has_messages() {
            return Box::pin(roles::read(post, async move || client::Messages::connect(*self, at, READER).await));
        }
        Box::pin(roles::read(post, async move || client::Bytes::connect(*self, at, READER).await))
    }

    /// The trivial program, over the Unix socket.
    fn command(&self, _: Side, server: &Server, _: &Ground) -> Result<Command, Failure> {
        let program = std::env::current_exe()?.with_file_name("trivial");
        if !program.exists() {
            return Err(format!("{} is not built", program.display()).into());
        }
        let mut once = Command::new(program);
        once.arg(&server.at);
        Ok(once)
    }
}
