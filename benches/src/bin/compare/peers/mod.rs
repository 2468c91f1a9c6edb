//! Everybody who is compared, a file each.

mod bare;
mod kernel_pipe;
mod mosquitto;
mod nats;
mod piping_server;
mod plain_file;
mod redis;
pub(crate) mod skypipe;
mod skypipe_commands;
mod socat;
mod ssh;
mod wire;

pub(crate) use bare::{Bare, serve as serve_bare};
pub(crate) use kernel_pipe::KernelPipe;
pub(crate) use mosquitto::Mosquitto;
pub(crate) use nats::Nats;
pub(crate) use piping_server::{PipingServer, installed as piping_server};
pub(crate) use plain_file::PlainFile;
pub(crate) use redis::Redis;
pub(crate) use skypipe::Skypipe;
pub(crate) use skypipe_commands::SkypipeCommands;
pub(crate) use socat::Socat;
pub(crate) use ssh::Ssh;

use crate::Failure;
use crate::contender::Contender;

/// Those with clients of their own here, which are roles of this program.
const ALL: [&dyn Contender; 17] = [
    &Skypipe::Local,
    &Skypipe::Ws,
    &Skypipe::Wss,
    &Skypipe::Quic,
    &Bare::Unix,
    &Bare::Tcp,
    &Bare::Tls,
    &Bare::Ws,
    &Bare::Wss,
    &Bare::Quinn,
    &Nats,
    &Redis::Publish,
    &Redis::Stream,
    &Mosquitto,
    &PipingServer,
    &PlainFile::Grouped,
    &PlainFile::Sequential,
];

/// The one of this name.
pub(crate) fn named(name: &str) -> Result<&'static dyn Contender, Failure> {
    ALL.into_iter().find(|contender| contender.name() == name).ok_or_else(|| format!("nobody is {name}").into())
}
