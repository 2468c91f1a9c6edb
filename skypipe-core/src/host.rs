//! The user's local relay: where it lives, and exactly one of it.
