//! Queues and broadcasts against models of what they promise: writers, readers, a log that syncs late, crashes.

mod broadcast;
mod long;
mod queue;
mod world;
