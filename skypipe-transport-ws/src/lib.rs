//! skypipe over WebSocket: the crate that will hold a [`Transport`](skypipe_core::Transport) on tokio-tungstenite.
//!
//! **It holds nothing yet.** There is no `install()` to call, and `ws://` and `wss://` URLs are unknown schemes:
//!
//! ```
//! use skypipe_core::{Client, Code};
//!
//! let refused = Client::at("wss://relay.example/pipes").err().expect("no transport speaks wss");
//! assert_eq!(refused.code(), Code::Scheme);
//! ```
//!
//! What there is today works on one machine: [`skypipe_core::local_socket`] between processes, [`skypipe_core::mem`] within one. The
//! crate exists so that the architecture is visible: it points at `skypipe-core`, and nothing but the command line will know it.
