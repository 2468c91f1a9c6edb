//! skypipe over QUIC: the crate that will hold a [`Transport`](skypipe_core::Transport) on quinn.
//!
//! It offers nothing yet: its links come with the next release, and until then a `quic://` relay is
//! refused by `skypipe-core` as an unknown scheme. The crate exists so that the architecture is visible
//! and its name is taken.
