//! `skypipe redrive NAME`: the dead letters of a queue are handed out once more.

use skypipe_core::{Code, Error, Mode, Pipe as _, ReaderOptions, Until, WriterOptions};

use super::on_this_thread;
use crate::args::RedriveArgs;
use crate::broker::{Relay, to_read, to_write};
use crate::exit::{Exit, say};
use crate::notices;
use crate::signals::Watch;

pub(crate) fn run(relay: Option<&str>, args: RedriveArgs) -> Result<Exit, Error> {
    let pipe = to_write(&args.name)?;
    let mut dead = args.name.clone();
    dead.push("/dead");
    let dead = to_read(&dead)?;
    let relay = Relay::find(relay)?;
    on_this_thread(async move {
        let mut watch = Watch::new(args.timeout)?;
        let mut moved = 0;
        let moving = async {
            let mut options = ReaderOptions::default();
            (options.mode, options.no_wait, options.events) = (Some(Mode::Queue), true, Some(notices::events()));
            let mut reader = match relay.pipe(&dead).reader_with(options).await {
                Err(error) if error.code() == Code::Empty => return Ok(()),
                reader => reader?,
            };
            let mut options = WriterOptions::default();
            (options.mode, options.events) = (Some(Mode::Queue), Some(notices::events()));
            let mut writer = relay.pipe(&pipe).writer_with(options).await?;
            while let Some(lease) = reader.begin_lease().await? {
                // On disk in the queue before it leaves the dead letters: what goes wrong in between leaves it in both.
                writer.headers(lease.headers().clone());
                writer.send_part(lease.body(), true, lease.is_whole()).await?;
                if !lease.is_whole() {
                    while let Some(part) = reader.more().await? {
                        writer.send_part(&part, false, false).await?;
                    }
                    writer.send_part(b"", false, true).await?;
                }
                writer.settled().await?;
                lease.done();
                moved += 1;
            }
            reader.settled().await?;
            writer.end(Until::Stored).await.map(drop)
        };
        let moved_all = watch.idle(moving).await;
        let records = if moved == 1 { "record is" } else { "records are" };
        say(&format!("{moved} {records} handed out again"));
        match moved_all {
            Ok(done) => done.map(|()| Exit::Done),
            Err(stop) => stop.exit("the others are where they were"),
        }
    })
}
