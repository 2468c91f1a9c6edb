//! Across machines, on one: two homes, a relay that listens, and nothing between them but keys.

mod check;
mod counted;
mod impostor;
mod invite_join;
mod keys;
mod last_words;
mod listen;
mod modes;
mod quotas;
mod refused;
pub mod sky;
mod strangers;
