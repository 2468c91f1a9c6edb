//! Named pipes in the sky: what one process writes into a pipe, another reads from it, whenever it comes. Nobody reads yet? It is
//! stored, and the first reader takes it. Somebody reads already? Everybody who does gets it live.
//!
//! ```no_run
//! use skypipe_core::{Pipe, Until, connect};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), skypipe_core::Error> {
//!     let logs = connect("logs").await?;
//!
//!     let mut writer = logs.writer().await?;
//!     writer.send(b"one line\n").await?;
//!     writer.end(Until::Stored).await?;
//!
//!     let mut reader = logs.reader().await?;
//!     while let Some(record) = reader.next().await? {
//!         print!("{}", String::from_utf8_lossy(&record));
//!     }
//!     Ok(())
//! }
//! ```
//!
//! [`connect`] means the user's own pipes, those of the command `skypipe`. When no relay runs, this process hosts it.
//!
//! # The pipe
//!
//! A pipe is a log; a reader is a cursor; everything that holds pipes is a [`Broker`].
//!
//! ```text
//!                          the pipe `logs`
//!  Writer ─ batches ─▶ ┌──────────────────────┐
//!                      │ item 1  ▒▒▒▒▒▒▒▒▒▒■  │ ─▶ Reader   alone: takes item 1, and ends with it
//!  Writer ─ batches ─▶ │ item 2  ▒▒▒▒▒▒▒▒     │ ─▶ Reader ┐ live: each gets all that comes,
//!  Writer ─ batches ─▶ │ item 3  ▒▒▒▒▒        │ ─▶ Reader ┘ and ends with the last writer
//!                      └──────────────────────┘
//!           ◀─ Ack ───   ■ end mark              ◀─ Ack ───
//! ```
//!
//! * A *record* is the bytes of one [`send`](Writer::send). An *item* is all that one [`Writer`] writes, from attach to end.
//! * A [`Reader`] takes the oldest item that has ended, alone; or else it goes live. [`ReaderOptions`] has the other ways.
//! * Asking for the next record acknowledges the one before. What nobody acknowledged stays in the pipe.
//! * [`Until`] names what a writer waits for: `Stored` survives `kill -9` and power loss, `Delivered` was acknowledged by its readers.
//! * Links may break and relays be killed: sessions go on by themselves, with no loss and no duplicate. [`Event`]s tell of it.
//!
//! # Within one program
//!
//! The embedded broker needs no relay and no disk:
//!
//! ```
//! use skypipe_core::{Client, Env, LocalBroker, Pipe, Until};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), skypipe_core::Error> {
//!     let prices = Client::over(LocalBroker::in_memory(Env::system())?).pipe("market/prices")?;
//!     // Attached before the writer, so they are live: each gets a copy.
//!     let mut readers = [prices.reader().await?, prices.reader().await?];
//!
//!     let mut writer = prices.writer().await?;
//!     writer.send(b"42").await?;
//!     writer.end(Until::Stored).await?;
//!
//!     for reader in &mut readers {
//!         assert_eq!(reader.next().await?.as_deref(), Some(&b"42"[..]));
//!         assert_eq!(reader.next().await?, None, "the last writer has ended");
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # A relay of one's own
//!
//! ```
//! # use skypipe_core::{Env, LocalBroker, Relay, mem::MemListener};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), skypipe_core::Error> {
//! let broker = LocalBroker::in_memory(Env::system())?;
//! let relay = Relay::new(broker).listen(Box::new(MemListener::bind("here")?));
//! tokio::spawn(async move { relay.serve().await });
//! # let client = skypipe_core::Client::at("mem:here")?;
//! # assert_eq!(skypipe_core::Pipe::stat(&client.pipe("none")?).await.unwrap_err().code(), skypipe_core::Code::Access);
//! # Ok(())
//! # }
//! ```
//!
//! [`Relay`] serves any [`Broker`] over any [`Listener`]; a quota, a meter or an access check is a broker around a broker.
//! [`Client::at`] reaches one by its URL: `unix:PATH`, `mem:NAME`, and what the transport crates [install](registry).
//!
//! # Where things are
//!
//! In the order in which to read them. `docs/way.md` follows one record through all of it, `docs/design.md` says what is promised.
//!
//! | | |
//! |---|---|
//! | names and numbers | [`PipeName`], [`Target`], [`PipeRef`], [`Pattern`], [`SessionId`], [`Seq`], [`Time`], [`Error`] and its [`Code`] |
//! | who | [`PublicKey`], [`KeyPair`], [`Signer`], [`Caller`] with its [`Grant`]s |
//! | what travels | [`Batch`] and its [`Piece`]s; their [`Headers`]; [`Record`] and [`Chunk`] as applications get them |
//! | the three traits | [`Pipe`], [`Broker`], [`Transport`] with [`Listener`] and [`Link`] |
//! | proof of keys between machines | [`proof`] |
//! | for applications | [`connect`], [`Client`], [`Writer`], [`Reader`], [`Duplex`], [`Requester`], [`Replier`], [`Event`], [`Shutdown`]; [`blocking`] for those that do not await |
//! | the session that survives a broken link | [`session`]: plain state machines |
//! | the semantics | [`delivery`]: plain state machines |
//! | what waits on disk | [`log`] |
//! | the embedded broker | [`LocalBroker`] |
//! | the protocol | [`wire`], [`RemoteBroker`], [`Relay`] |
//! | links in this process and on this machine | [`mem`], [`local_socket`], [`registry`] |
//! | the user's local relay | [`host`] |
//!
//! # Features
//!
//! `host`, on by default, is everything that needs sockets, tasks, a clock or files. Without it the state machines and the codec
//! remain, and tokio is not needed.
//!
//! `typed` is records that are values, by serde, in JSON or postcard: `Pipe::typed`.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![forbid(unsafe_code)]

// Names and numbers.
mod name;
pub use name::*;

mod id;
pub use id::*;

mod time;
pub use time::*;

mod error;
pub use error::*;

mod identity;
pub use identity::*;

mod target;
pub use target::*;

mod caller;
pub use caller::*;

mod gatekeeper;
pub use gatekeeper::*;

// What travels.
mod codec;

mod batch;
mod buffers;
pub use batch::*;

mod headers;
pub use headers::*;

mod record;
pub use record::*;

// What it may cost.
mod bucket;
pub use bucket::*;
mod budget;
pub use budget::*;

mod memory;
pub use memory::*;

// The three traits.
#[cfg(feature = "host")]
mod pipe;
#[cfg(feature = "host")]
pub use pipe::*;

#[cfg(feature = "host")]
mod pattern;
#[cfg(feature = "host")]
pub use pattern::*;

mod broker;
pub use broker::*;

mod stat;
pub use stat::*;

#[cfg(feature = "host")]
mod frame_channel;
#[cfg(feature = "host")]
pub use frame_channel::*;

#[cfg(feature = "host")]
mod transport;
#[cfg(feature = "host")]
pub use transport::*;

// Proof of keys.
pub mod proof;

// For applications.
#[cfg(feature = "host")]
mod client;
#[cfg(feature = "host")]
pub use client::*;

#[cfg(feature = "host")]
mod writer;
#[cfg(feature = "host")]
pub use writer::*;

#[cfg(feature = "host")]
mod reader;
#[cfg(feature = "host")]
pub use reader::*;

#[cfg(feature = "host")]
mod duplex;
#[cfg(feature = "host")]
pub use duplex::*;

#[cfg(feature = "host")]
pub mod blocking;

#[cfg(feature = "host")]
mod shutdown;
#[cfg(feature = "host")]
pub use shutdown::*;

#[cfg(feature = "host")]
mod request;
#[cfg(feature = "host")]
pub use request::*;

#[cfg(feature = "typed")]
mod typed;
#[cfg(feature = "typed")]
pub use typed::*;

mod event;
pub use event::*;

#[cfg(feature = "host")]
mod env;
#[cfg(feature = "host")]
pub use env::*;

// The thinking.
pub mod session;
pub use session::{Outcome, Progress, Until};

pub mod delivery;

// The embedded broker and its log.
#[cfg(feature = "host")]
pub mod log;

#[cfg(feature = "host")]
mod local_broker;
#[cfg(feature = "host")]
pub use local_broker::*;

// A broker somewhere else, and the relay that serves one.
pub mod wire;

#[cfg(feature = "host")]
mod remote;
#[cfg(feature = "host")]
pub use remote::*;

mod access;
pub use access::*;

#[cfg(feature = "host")]
mod relay;
#[cfg(feature = "host")]
pub use relay::*;

// Links within this process and this machine.
#[cfg(feature = "host")]
pub mod mem;

#[cfg(feature = "host")]
pub mod local_socket;

#[cfg(feature = "host")]
pub mod descriptors;

#[cfg(feature = "host")]
pub mod registry;

#[cfg(feature = "host")]
mod race;
#[cfg(feature = "host")]
pub use race::*;

// The user's local relay.
#[cfg(feature = "host")]
pub mod host;
