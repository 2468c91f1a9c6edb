//! One verb, one file.

mod bare;
mod bench;
mod chat;
mod check;
mod completions;
mod down;
mod exec;
mod invite;
mod join;
mod keys;
mod ls;
mod man;
mod peek;
mod read;
mod redrive;
mod relay;
mod rm;
mod show;
mod stat;
mod top;
mod up;
mod write;

use std::pin::Pin;
use std::time::Duration;

use skypipe_core::{Code, Error};

use crate::args::{Cli, Verb};
use crate::exit::Exit;

/// Runs what the command line says.
pub(crate) fn run(cli: Cli) -> Result<Exit, Error> {
    let relay = cli.relay.as_deref();
    match cli.verb {
        None => bare::run(relay, cli.bare),
        Some(Verb::Write(args)) => write::run(relay, args),
        Some(Verb::Read(args)) => read::run(relay, args),
        Some(Verb::Ls(args)) => ls::run(relay, args),
        Some(Verb::Stat(args)) => stat::run(relay, args),
        Some(Verb::Top(args)) => top::run(relay, args),
        Some(Verb::Peek(args)) => peek::run(relay, args),
        Some(Verb::Chat(args)) => chat::run(relay, args),
        Some(Verb::Redrive(args)) => redrive::run(relay, args),
        Some(Verb::Rm(args)) => rm::run(relay, args),
        Some(Verb::Relay(args)) => relay::run(args),
        Some(Verb::Invite(args)) => invite::run(relay, args),
        Some(Verb::Join(args)) => join::run(relay, args),
        Some(Verb::Keys(args)) => keys::run(relay, args),
        Some(Verb::Up(args)) => up::run(&args),
        Some(Verb::Down(args)) => down::run(&args),
        Some(Verb::Check(args)) => check::run(relay, args),
        Some(Verb::Bench(args)) => bench::run(relay, args),
        Some(Verb::Completions(args)) => completions::run(args),
        Some(Verb::Man) => man::run(),
        Some(Verb::Version) => print(&format!("skypipe {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

/// How long a command that is done waits until the relay has heard its last words: a few round trips over a bad path. A relay that
/// did not hear them finds out by itself.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// Runs a command on this thread alone: it starts in no time, and one pipe needs no more.
fn on_this_thread(command: impl Future<Output = Result<Exit, Error>>) -> Result<Exit, Error> {
    on(tokio::runtime::Builder::new_current_thread(), Box::pin(command))
}

/// Runs a command whose parts are to work beside each other.
fn on_threads(command: impl Future<Output = Result<Exit, Error>>) -> Result<Exit, Error> {
    on(tokio::runtime::Builder::new_multi_thread(), Box::pin(command))
}

/// Takes all commands as one type: the program has the runtime's code once for each.
fn on(
    mut runtime: tokio::runtime::Builder,
    command: Pin<Box<dyn Future<Output = Result<Exit, Error>> + '_>>,
) -> Result<Exit, Error> {
    let runtime = runtime.enable_all().build();
    runtime.map_err(|e| Error::new(Code::Internal, "no runtime").because(e))?.block_on(async {
        let end = command.await;
        // The command's writers and readers are dropped, and what they have left to say goes out here.
        tokio::join!(
            skypipe_transport_quic::goodbye(LAST_WORDS_WITHIN),
            skypipe_transport_ws::goodbye(LAST_WORDS_WITHIN)
        );
        end
    })
}

/// Prints what a command was asked for. A reader of it that has seen enough is a quiet end.
fn print(text: &str) -> Result<Exit, Error> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Exit::Done),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::StdoutClosed),
        Err(e) => Err(Error::new(Code::Internal, format!("stdout cannot be written: {e}")).because(e)),
    }
}
