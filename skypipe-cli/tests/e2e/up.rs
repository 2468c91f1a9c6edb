//! `skypipe up` and `skypipe down`, over ssh.

mod binary;
mod fake_ssh;
mod host;
mod one_machine;
mod refused;
