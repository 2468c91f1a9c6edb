//! `skypipe stat NAME`

use serde::Serialize;
use skypipe_core::{Error, Owner, OwnerPrefix, Pipe as _, PipeStat};

use super::{on_this_thread, print};
use crate::args::NameArgs;
use crate::broker::{Relay, to_read};
use crate::exit::Exit;

pub(crate) fn run(relay: Option<&str>, args: NameArgs) -> Result<Exit, Error> {
    let pipe = to_read(&args.name)?;
    let relay = Relay::find(relay)?;
    on_this_thread(async move {
        let stat = relay.pipe(&pipe).stat().await?;
        let line = PipeLine::new(&pipe.owner, &stat);
        print(&if args.json.json { line.json() } else { line.text() })
    })
}

/// A pipe as programs see it. The names of the fields are a promise.
#[derive(Debug, Serialize)]
pub(crate) struct PipeLine {
    /// Its name, with its owner where that is another.
    pub(crate) name: String,
    /// `default`, `queue` or `broadcast`.
    pub(crate) mode: &'static str,
    /// Items that are not wholly taken; of a queue or broadcast, records.
    pub(crate) items: u64,
    /// Those of them that have ended.
    pub(crate) ended: u64,
    /// Bytes that wait.
    pub(crate) bytes: u64,
    /// Writers attached or away.
    pub(crate) writers: u32,
    /// Readers attached or away.
    pub(crate) readers: u32,
    /// Records of a queue in readers' hands.
    pub(crate) leased: u64,
    /// Something of it could not be read back from the relay's disk.
    pub(crate) damaged: bool,
    /// Nothing can be stored in it or taken from it: the relay's disk failed.
    pub(crate) read_only: bool,
}

impl PipeLine {
    /// A pipe of `owner`.
    pub(crate) fn new(owner: &Owner, stat: &PipeStat) -> Self {
        Self {
            name: format!("{}{}", OwnerPrefix(owner), stat.path.display()),
            mode: stat.mode.word(),
            items: stat.items,
            ended: stat.ended,
            bytes: stat.bytes,
            writers: stat.writers,
            readers: stat.readers,
            leased: stat.leased,
            damaged: stat.damaged,
            read_only: stat.read_only,
        }
    }

    /// One JSON object on a line.
    pub(crate) fn json(&self) -> String {
        json_line(self)
    }

    fn text(&self) -> String {
        let Self { mode, items, ended, bytes, writers, readers, leased, .. } = self;
        let name = crate::escape::line(&self.name);
        let what = match *mode {
            "default" => format!("items    {items}, {ended} of them ended"),
            "queue" => format!("records  {items}, {leased} of them in readers' hands"),
            _ => format!("records  {items}"),
        };
        let text = format!(
            "name     {name}\nmode     {mode}\n{what}\nbytes    {bytes}\nwriters  {writers}\nreaders  {readers}\n"
        );
        text + if self.damaged { "damaged  a part cannot be read back, its readers are told which\n" } else { "" }
            + if self.read_only { "log      read-only: the relay's disk failed\n" } else { "" }
    }
}

/// One JSON object on a line.
pub(crate) fn json_line(object: &impl Serialize) -> String {
    // Structs of text and numbers have no way to fail.
    let json = serde_json::to_string(object).unwrap_or_default();
    crate::escape::json(&json) + "\n"
}
