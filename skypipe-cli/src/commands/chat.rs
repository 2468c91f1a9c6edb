//! `skypipe chat NAME`: both ways over one pipe.

use std::io::IsTerminal as _;

use skypipe_core::{DuplexOptions, Error, Others, Pipe as _, Record, Target, Until};

use super::on_this_thread;
use super::read::write_failed;
use super::write::{Next, Sending, interrupt};
use crate::args::ChatArgs;
use crate::broker::{Relay, to_write};
use crate::exit::{Exit, say};
use crate::notices;
use crate::signals::{Stop, Watch};
use crate::stdout::{Stdout, WriteError};

pub(crate) fn run(relay: Option<&str>, args: ChatArgs) -> Result<Exit, Error> {
    let pipe = to_write(&args.name)?;
    let relay = Relay::find(relay)?;
    on_this_thread(chat(relay, pipe, args))
}

async fn chat(relay: Relay, pipe: Target, args: ChatArgs) -> Result<Exit, Error> {
    let Some(mut stdout) = Stdout::look() else { return Ok(Exit::StdoutClosed) };
    let mut watch = Watch::new(args.timeout)?;
    let mut options = DuplexOptions::default();
    (options.echo, options.start) = (args.echo, args.from.unwrap_or_default());
    options.events = Some(notices::events());
    let duplex = match watch.idle(async { relay.pipe(&pipe).duplex_with(options).await }).await {
        Ok(duplex) => duplex?,
        Err(stop) => return stop.exit("nothing was sent"),
    };
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        say(&format!("in {pipe}: all others get each line, Ctrl-D leaves"));
    }
    let (writer, mut others) = duplex.split();
    let mut sending = Sending::lines(writer);
    let end = talk(&mut sending, &mut others, &mut stdout, args.count, &mut watch).await;
    if matches!(end, Ok(End::Enough | End::CannotWrite(_) | End::Stopped(_))) {
        sending.what_was_read(None, &mut watch).await?;
    }
    match end? {
        End::Stopped(Stop::Timeout) => Stop::Timeout.exit("what was read before is sent"),
        End::Stopped(stop) => interrupt(sending.writer, stop, &mut watch).await,
        End::Enough => leave(sending, &mut watch).await,
        End::CannotWrite(error) => {
            leave(sending, &mut watch).await?;
            write_failed(error)
        }
    }
}

/// Why it ended.
enum End {
    /// stdin at a terminal ended, or as many records came as were wanted.
    Enough,
    /// A signal, or time.
    Stopped(Stop),
    /// stdout takes no more.
    CannotWrite(WriteError),
}

/// What happens next.
enum Step {
    Typed(Next),
    Heard(Option<Record>),
}

/// Carries lines both ways until something ends it. At the end of an stdin that is no terminal it goes on listening.
async fn talk(
    sending: &mut Sending,
    others: &mut Others,
    stdout: &mut Stdout,
    mut left: Option<u64>,
    watch: &mut Watch,
) -> Result<End, Error> {
    let mut typing = true;
    while left != Some(0) {
        let step = async {
            tokio::select! {
                biased;
                record = others.next() => record.map(Step::Heard),
                next = sending.next(), if typing => next.map(Step::Typed),
            }
        };
        let heard = match watch.idle(step).await {
            Err(stop) => return Ok(End::Stopped(stop)),
            Ok(step) => match step? {
                Step::Heard(Some(record)) => record,
                Step::Heard(None) => return Ok(End::Enough),
                Step::Typed(next) => {
                    typing = !sending.take(next, watch).await?;
                    match watch.stopped() {
                        Some(stop) => return Ok(End::Stopped(stop)),
                        None if !typing && std::io::stdin().is_terminal() => return Ok(End::Enough),
                        None => continue,
                    }
                }
            },
        };
        match watch.idle(stdout.write(heard.body)).await {
            Ok(Ok(())) => left = left.map(|left| left - 1),
            Ok(Err(error)) => return Ok(End::CannotWrite(error)),
            Err(stop) => return Ok(End::Stopped(stop)),
        }
    }
    Ok(End::Enough)
}

async fn leave(sending: Sending, watch: &mut Watch) -> Result<Exit, Error> {
    match watch.finish(sending.writer.end(Until::Stored)).await {
        Ok(receipt) => receipt.map(|_| Exit::Done),
        Err(stop) => stop.exit("whether all of it is stored is not known"),
    }
}
