//! Where the ticket of `skypipe join` comes from.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use skypipe_core::{Code, Error};

use crate::args::JoinArgs;
use crate::exit::say;

/// The file in which the ticket is, where nothing else says.
const TICKET_FILE_VARIABLE: &str = "SKYPIPE_TICKET_FILE";
/// Longest text in which a ticket is looked for, in bytes: a ticket is a line, not a document.
const TEXT_BYTES_MAX: u64 = 64 * 1024;
/// How every ticket begins.
const TICKET_START: &str = "sky1";

/// The ticket as text. It is a secret: it is in no error.
pub(crate) fn ticket(args: &JoinArgs) -> Result<String, Error> {
    if !args.ticket.is_empty() {
        say(
            "a ticket in the command line can be seen by everybody on this machine; `skypipe join < FILE` keeps it hidden",
        );
        let words: Vec<&str> = args.ticket.iter().filter_map(|w| w.to_str()).collect();
        return find(&words.join(" "));
    }
    let file = args.ticket_file.clone().map(OsString::from).or_else(|| std::env::var_os(TICKET_FILE_VARIABLE));
    match file.filter(|f| !f.is_empty()) {
        Some(path) => from_file(Path::new(&path)),
        None => from_stdin(),
    }
}

fn from_file(path: &Path) -> Result<String, Error> {
    let text = File::open(path).and_then(text_of);
    find(&text.map_err(|e| Error::new(Code::Ticket, format!("{} cannot be read: {e}", path.display())))?)
}

fn from_stdin() -> Result<String, Error> {
    if io::stdin().is_terminal() {
        say("paste the line that `skypipe invite` printed, then press Enter");
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(|e| unreadable(&e))?;
        return find(&line);
    }
    find(&text_of(io::stdin()).map_err(|e| unreadable(&e))?)
}

fn unreadable(error: &io::Error) -> Error {
    Error::new(Code::Ticket, format!("stdin cannot be read: {error}"))
}

fn text_of(source: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    source.take(TEXT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The ticket in what somebody copied: alone, or behind `skypipe join`.
fn find(text: &str) -> Result<String, Error> {
    let clean = |word: &str| word.trim_matches(['"', '\'', '`']).to_owned();
    let mut tickets = text.split_whitespace().map(clean).filter(|w| w.starts_with(TICKET_START));
    match (tickets.next(), tickets.next()) {
        (Some(ticket), None) => Ok(ticket),
        (Some(_), Some(_)) => Err(Error::new(Code::Ticket, "more than one ticket")),
        _ if text.trim().is_empty() => {
            Err(Error::new(Code::Ticket, "no ticket; `skypipe invite`, where the relay is used already, prints one"))
        }
        _ => Err(Error::new(Code::Ticket, "not a ticket: a ticket begins with sky1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_found_in_what_was_copied() {
        for text in ["sky1abc", "skypipe join sky1abc\n", "  'sky1abc' \r\n", "$ skypipe join `sky1abc`"] {
            assert_eq!(find(text).unwrap(), "sky1abc", "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_and_not_repeated() {
        for text in ["", " \n", "secret-thing", "skypipe join", "sky1a sky1b"] {
            let error = find(text).unwrap_err();
            assert!(error.code() == Code::Ticket && !error.text().contains("secret"), "{error}");
        }
    }
}
