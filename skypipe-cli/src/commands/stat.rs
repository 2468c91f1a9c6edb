//! `skypipe stat NAME [--watch]`

use skypipe_core::{Error, Pipe as _};

use super::{on_this_thread, print};
use crate::args::StatArgs;
use crate::broker::{Relay, to_read};
use crate::exit::Exit;
use crate::looks::{self, Shown};
use crate::pipe_line::PipeLine;
use crate::rates::LastLooks;

pub(crate) fn run(relay: Option<&str>, args: StatArgs) -> Result<Exit, Error> {
    let pipe = to_read(&args.name)?;
    let relay = Relay::find(relay)?;
    let json = args.json.json;
    on_this_thread(async move {
        let Some(every) = args.watch.every() else {
            let stat = relay.pipe(&pipe).stat().await?;
            let line = PipeLine::with_readers(&pipe.owner, &stat);
            return print(&if json { line.json() } else { line.text() });
        };
        let mut looks = LastLooks::default();
        looks::repeat(every, Shown::new(json), async || {
            looks.begin();
            let stat = relay.pipe(&pipe).stat().await?;
            let mut line = PipeLine::with_readers(&pipe.owner, &stat);
            (line.rates, line.at_ms) = (looks.look(&stat), Some(looks::wall_ms()));
            Ok(if json { line.json() } else { line.text() })
        })
        .await
    })
}
