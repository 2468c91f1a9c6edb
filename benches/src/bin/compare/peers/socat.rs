//! Two socats and a Unix socket between them. There is no relay: the reading one listens.

use std::process::Command;

use crate::Failure;
use crate::contender::{Contender, Ends, Side};
use crate::ground::{Ground, Server};
use crate::process::command;

/// What socat moves at once; its default is 8 KiB.
const BLOCK_BYTES: &str = "262144";

pub(crate) struct Socat;

impl Contender for Socat {
    fn name(&self) -> String {
        "socat to socat, Unix socket".to_owned()
    }

    fn programs(&self) -> &'static [&'static str] {
        &["socat"]
    }

    fn acknowledgement(&self) -> &'static str {
        "none"
    }

    fn serve(&self, ground: &Ground) -> Result<Server, Failure> {
        Ok(Server::none(&ground.socket("socat")))
    }

    fn ends(&self) -> Ends {
        Ends::Commands
    }

    fn command(&self, side: Side, server: &Server, _: &Ground) -> Result<Command, Failure> {
        let mut socat = command("socat");
        socat.args(["-b", BLOCK_BYTES, "-u"]);
        match side {
            Side::Write => socat.args(["STDIN", &format!("UNIX-CONNECT:{}", server.at)]),
            Side::Read => socat.args([&format!("UNIX-LISTEN:{}", server.at), "STDOUT"]),
        };
        Ok(socat)
    }
}
