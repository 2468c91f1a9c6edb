//! skypipe over QUIC: the crate that will hold a [`Transport`](skypipe_core::Transport) on quinn.
//!
//! **It holds nothing yet.** There is no `install()` to call, and a `quic://` URL is an unknown scheme:
//!
//! ```
//! use skypipe_core::{Client, Code};
//!
//! let refused = Client::at("quic://relay.example:7473").err().expect("no transport speaks quic");
//! assert_eq!(refused.code(), Code::Scheme);
//! ```
//!
//! What there is today works on one machine: [`skypipe_core::local_socket`] between processes, [`skypipe_core::mem`] within one. The
//! crate exists so that the architecture is visible: it points at `skypipe-core`, and nothing but the command line will know it.
