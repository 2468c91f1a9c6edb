//! `skypipe [NAME]`: reads or writes, as stdin says.

use std::ffi::OsStr;
use std::fmt::Display;

use skypipe_core::{Code, Error, Target};

use super::{on_this_thread, read, write};
use crate::args::BareArgs;
use crate::broker::{Relay, Source, to_read_many, to_write};
use crate::direction::{Direction, Stdin};
use crate::exit::Exit;
use crate::notices;
use crate::words::LATER;

pub(crate) fn run(relay: Option<&str>, args: BareArgs) -> Result<Exit, Error> {
    let stdin = Stdin::look();
    let name = args.name.as_deref();
    match stdin.direction() {
        Direction::Read => read_bare(relay, stdin, read_from(name)?, args),
        Direction::Write => write_bare(relay, stdin, write_to(name)?, args),
    }
}

fn read_bare(relay: Option<&str>, stdin: Stdin, source: Source, args: BareArgs) -> Result<Exit, Error> {
    if args.write.is_used() {
        return Err(wrong_way("--until and --null are for writing", stdin, "reads", "write", &source));
    }
    let relay = Relay::find(relay)?;
    on_this_thread(read::read(relay, read::Job { source, shared: args.shared, only: args.read }))
}

fn write_bare(relay: Option<&str>, stdin: Stdin, pipe: Target, args: BareArgs) -> Result<Exit, Error> {
    if args.read.is_used() {
        return Err(wrong_way("--keep and --count are for reading", stdin, "writes", "read", &pipe));
    }
    let relay = Relay::find(relay)?;
    let input = write::From::Stdin { only_with_data: stdin.may_be_nobody() };
    on_this_thread(write::write(
        relay,
        write::Job { pipe, input, shared: args.shared, only: args.write, room: notices::Room::default() },
    ))
}

fn read_from(name: Option<&OsStr>) -> Result<Source, Error> {
    name.map_or(Ok(Source::Pipe(Target::default())), |text| to_read_many(no_verb(text)))
}

fn write_to(name: Option<&OsStr>) -> Result<Target, Error> {
    name.map_or(Ok(Target::default()), |text| to_write(no_verb(text)))
}

fn no_verb(text: &OsStr) -> &OsStr {
    // Words that are verbs never get here: clap took them.
    debug_assert!(!LATER.iter().any(|w| text == *w));
    text
}

fn wrong_way(what: &str, stdin: Stdin, does: &str, verb: &str, pipe: &impl Display) -> Error {
    let text = format!("{what}; stdin is {}, so this {does}: use `skypipe {verb} {pipe}`", stdin.word());
    Error::new(Code::Usage, text)
}
