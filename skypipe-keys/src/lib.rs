//! Keys of skypipe: everything about them that the core need not know.

mod openssh;
pub use openssh::{LINE_BYTES_MAX, fingerprint, parse_public, public_line};

pub mod key_file;

mod agent;
pub use agent::AgentKey;

pub mod identity;

// What stands in authorized_keys.
mod expiry;
mod options;
mod pattern;

mod entry;
pub use entry::{ActsFor, Entry, PATTERNS_MAX, PipesOf};
