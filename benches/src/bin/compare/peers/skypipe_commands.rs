//! skypipe as people at a shell use it: `generator | skypipe p`, and `skypipe read p | checker`.

use std::process::Command;

use super::Skypipe;
use super::skypipe::{PIPE, Place, program};
use crate::Failure;
use crate::contender::{Contender, Ends, Side};
use crate::ground::{Ground, Server};
use crate::process::command;

/// How the two commands reach the relay.
pub(crate) struct SkypipeCommands(pub(crate) Skypipe);

impl Contender for SkypipeCommands {
    fn name(&self) -> String {
        format!("skypipe commands, {}", self.0.medium())
    }

    fn acknowledgement(&self) -> &'static str {
        "stored or delivered (skypipe's exit)"
    }

    fn serve(&self, ground: &Ground) -> Result<Server, Failure> {
        self.0.serve(ground)
    }

    fn ends(&self) -> Ends {
        Ends::Commands
    }

    fn command(&self, side: Side, server: &Server, _: &Ground) -> Result<Command, Failure> {
        let mut skypipe = command(program()?);
        match side {
            Side::Write => skypipe.arg(PIPE),
            Side::Read => skypipe.args(["read", PIPE]),
        };
        Place::parse(&server.at)?.tell(&mut skypipe);
        Ok(skypipe)
    }
}
