//! piping-server between two curls: `npm install --prefix target/peers piping-server`, or on the path.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failure;
use crate::contender::{Contender, Ends, Receiver, Side, Work};
use crate::ground::{Ground, Server, free_port};
use crate::process::{Process, command};
use crate::programs;
use crate::record::Arrivals;
use crate::roles::{self, Post};

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

    /// For cold starts, where the reader waits in a process of this program.
    fn read<'a>(&'a self, post: Post<'a>) -> Work<'a> {
        let at = post.at.to_owned();
        Box::pin(roles::read(post, async move || Ok(Fetching { stream: fetch(&at).await?, at: at.clone() })))
    }
}

/// Asks for what comes next; without chunks, as HTTP was at first.
async fn fetch(at: &str) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(format!("GET /p HTTP/1.0\r\nHost: {at}\r\n\r\n").as_bytes()).await?;
    Ok(stream)
}

struct Fetching {
    stream: TcpStream,
    at: String,
}

impl Receiver for Fetching {
    /// One answer to its end, and asks for the next one.
    async fn receive(&mut self, arrivals: &mut Arrivals) -> Result<bool, Failure> {
        let (mut answer, mut taken) = (Vec::new(), None);
        loop {
            let length = self.stream.read_buf(&mut answer).await?;
            taken = taken.or_else(|| memmem::find(&answer, b"\r\n\r\n").map(|at| at + 4));
            if let Some(from) = taken {
                arrivals.take(&answer[from..]);
                taken = Some(answer.len());
            }
            if length == 0 {
                break;
            }
        }
        self.stream = fetch(&self.at).await?;
        Ok(true)
    }
}

/// The one that npm put beside the build, or the one on the path.
pub(crate) fn installed() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.parent()?.join(INSTALLED);
    if beside.exists() { Some(beside) } else { programs::find("piping-server") }
}
