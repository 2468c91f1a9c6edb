//! The frames on the wire.
