//! piping-server between two curls: `npm install --prefix target/peers piping-server`, or on the path.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Failure;
use crate::contender::{Contender, Ends, Side};
use crate::ground::{Ground, Server, free_port};
use crate::process::{Process, command};
use crate::programs;

/// Where npm puts it, seen from the folder of this program.
const INSTALLED: &str = "../peers/node_modules/.bin/piping-server";

pub(crate) struct PipingServer;

impl Contender for PipingServer {
    fn name(&self) -> String {
        "piping-server, curl".to_owned()
    }

    fn programs(&self) -> &'static [&'static str] {
        if installed().is_some() { &["curl", "node"] } else { &["curl", "piping-server"] }
    }

    fn acknowledgement(&self) -> &'static str {
        "none"
    }

    fn serve(&self, _: &Ground) -> Result<Server, Failure> {
        let port = free_port()?;
        let mut server = command(installed().unwrap_or_else(|| "piping-server".into()));
        server.args(["--host", "127.0.0.1", "--http-port", &port.to_string()]);
        Server::at_port(Process::start("piping-server", server.stdout(Stdio::null()).stderr(Stdio::null()))?, port)
    }

    fn ends(&self) -> Ends {
        Ends::Commands
    }

    fn command(&self, side: Side, server: &Server, _: &Ground) -> Result<Command, Failure> {
        let mut curl = command("curl");
        curl.args(["--silent", "--show-error", "--no-buffer", "--noproxy", "*"]);
        if side == Side::Write {
            curl.args(["--upload-file", "-", "--output", "/dev/null"]);
        }
        curl.arg(format!("http://{}/p", server.at));
        Ok(curl)
    }
}

/// The one that npm put beside the build, or the one on the path.
pub(crate) fn installed() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.parent()?.join(INSTALLED);
    if beside.exists() { Some(beside) } else { programs::find("piping-server") }
}
