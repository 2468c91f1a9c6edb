//! `skypipe rm NAME`

use serde::Serialize;
use skypipe_core::{Error, Pipe as _};

use super::{on_this_thread, print};
use crate::args::NameArgs;
use crate::broker::{Relay, to_read};
use crate::exit::Exit;
use crate::pipe_line::json_line;

/// The answer for programs.
#[derive(Serialize)]
struct Removed {
    /// The pipe that is no more.
    removed: String,
}

pub(crate) fn run(relay: Option<&str>, args: NameArgs) -> Result<Exit, Error> {
    let pipe = to_read(&args.name)?;
    let relay = Relay::find(relay)?;
    on_this_thread(async move {
        relay.pipe(&pipe).remove().await?;
        if args.json.json { print(&json_line(&Removed { removed: pipe.to_string() })) } else { Ok(Exit::Done) }
    })
}
