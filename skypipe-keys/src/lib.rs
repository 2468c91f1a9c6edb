//! Keys of skypipe: key files, the OpenSSH agent, `authorized_keys` and tickets; everything about keys that the core need not know.
//!
//! A program that reaches relays on other machines says once who it is:
//!
//! ```no_run
//! # async fn f() -> Result<(), skypipe_core::Error> {
//! skypipe_keys::install()?;
//! let logs = skypipe_core::connect("logs").await?;
//! # Ok(())
//! # }
//! ```
//!
//! A relay lets in who stands in its folder's `authorized_keys`:
//!
//! ```no_run
//! # async fn f() -> Result<(), skypipe_core::Error> {
//! # use skypipe_core::Env;
//! let me = skypipe_keys::install()?.key();
//! let keys = skypipe_keys::KeyFolder::open("/srv/skypipe".as_ref(), Some((me, "me".into())), vec![], Env::system())?;
//! # Ok(())
//! # }
//! ```
//!
//! | | |
//! |---|---|
//! | who this user is | [`identity`], [`key_file`], [`AgentKey`], [`install()`] |
//! | keys as text | [`public_line`], [`parse_public`], [`fingerprint`] |
//! | who may come in | [`Entry`], [`AllowList`] |
//! | tickets | [`Ticket`] |
//! | all of a relay's | [`KeyFolder`] |
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
#![forbid(unsafe_code)]

// Who this user is.
mod openssh;
pub use openssh::{LINE_BYTES_MAX, fingerprint, parse_public, public_line};

pub mod key_file;

mod agent;
pub use agent::AgentKey;

pub mod identity;

mod install;
pub use install::install;

// Who may come in.
mod expiry;
mod options;
mod pattern;

mod size;
pub use size::parse_size;

mod entry;
pub use entry::{ActsFor, Entry, KeyLimits, PATTERNS_MAX, PipesOf};

mod allow_list;
pub use allow_list::{Admitted, AllowList, LIST_BYTES_MAX};

// Tickets.
mod token;

mod ticket;
pub use ticket::{TICKET_TEXT_BYTES_MAX, Ticket, URL_BYTES_MAX, URLS_MAX};

mod join;
mod ticket_book;

// All of a relay's.
mod key_folder;
pub use key_folder::KeyFolder;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
