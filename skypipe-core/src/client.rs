//! The explicit client, and `connect`.
