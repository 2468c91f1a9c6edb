//! `skypipe keys ls | add | revoke | own`

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use skypipe_core::{Code, Error, PublicKey};
use skypipe_keys::{ActsFor, Entry, fingerprint, public_line};

use super::{on_this_thread, print};
use crate::args::{KeysArgs, KeysVerb};
use crate::broker::{Relay, identity};
use crate::exit::{Exit, say};
use crate::pipe_line::json_line;

/// Longest file of keys that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(crate) fn run(relay: Option<&str>, args: KeysArgs) -> Result<Exit, Error> {
    match args.verb {
        None => list(relay, args.json.json, true),
        Some(KeysVerb::Ls(json)) => list(relay, json.json, false),
        Some(KeysVerb::Add { key }) => add(relay, &key),
        Some(KeysVerb::Revoke { who }) => revoke(relay, &who),
        Some(KeysVerb::Own) => print(&format!("{}\n", own_line(identity()?.key()))),
    }
}

/// This user's public key as whoever administers a relay needs it.
pub(crate) fn own_line(key: PublicKey) -> String {
    public_line(key, &own_comment())
}

/// Who this user is, for people who see the key in a list.
pub(crate) fn own_comment() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "skypipe".to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}")
}

fn list(relay: Option<&str>, json: bool, with_own: bool) -> Result<Exit, Error> {
    let relay = Relay::find(relay)?;
    on_this_thread(async move {
        let lines = relay.broker.keys().await.map_err(explain)?;
        let text: String = lines.iter().map(|line| shown(line, json)).collect();
        let printed = print(&text)?;
        if let Some(key) = relay.key.filter(|_| with_own) {
            say(&format!("your own key is {}", own_line(key)));
        }
        Ok(printed)
    })
}

/// A line as it stands in the relay's list, or what it says.
fn shown(line: &str, json: bool) -> String {
    match Entry::parse(line) {
        Ok(entry) if json => json_line(&KeyLine::from(&entry)),
        // A newer relay may know options that this version does not.
        Err(_) if json => json_line(&UnknownLine { line }),
        _ => format!("{}\n", crate::escape::line(line)),
    }
}

/// A key as programs see it. The names of the fields are a promise.
#[derive(Serialize)]
struct KeyLine {
    /// The key.
    key: String,
    /// The same as OpenSSH shows it.
    fingerprint: String,
    /// What stands behind it.
    comment: String,
    /// Whether it may invite, list, add and revoke.
    admin: bool,
    /// Whose pipes it means by a name without owner: `self`, `relay`, or a key.
    owner: String,
    /// Which pipes it may use; none means all of that owner.
    pipes: Vec<String>,
    /// Whether it may read.
    read: bool,
    /// Whether it may write.
    write: bool,
    /// Until when it is admitted, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

/// A line that this version does not understand.
#[derive(Serialize)]
struct UnknownLine<'a> {
    line: &'a str,
}

impl From<&Entry> for KeyLine {
    fn from(entry: &Entry) -> Self {
        Self {
            key: entry.key.to_string(),
            fingerprint: fingerprint(entry.key),
            comment: entry.comment.clone(),
            admin: entry.admin,
            owner: match entry.acts {
                ActsFor::Itself => "self".to_owned(),
                ActsFor::Relay => "relay".to_owned(),
                ActsFor::Key(key) => key.to_string(),
            },
            pipes: entry.pipes.iter().map(|pipes| pipes.to_text().unwrap_or_default()).collect(),
            read: entry.read,
            write: entry.write,
            expires: entry.expires.map(|at| at.0 / 1000),
        }
    }
}

fn add(relay: Option<&str>, key: &OsStr) -> Result<Exit, Error> {
    let lines = lines_of(key)?;
    let relay = Relay::find(relay)?;
    on_this_thread(async move {
        for line in &lines {
            relay.broker.add_key(line).await.map_err(explain)?;
        }
        Ok(Exit::Done)
    })
}

/// The lines to add, each looked at here first: nothing is sent that is none.
fn lines_of(key: &OsStr) -> Result<Vec<String>, Error> {
    let text = match key.to_str() {
        Some("-") => read_all(io::stdin(), "stdin")?,
        Some(line) if line.contains("ssh-") => line.to_owned(),
        Some(text) if text.parse::<PublicKey>().is_ok() => public_line(text.parse()?, ""),
        _ => {
            let name = key.to_string_lossy();
            let file = File::open(Path::new(key)).map_err(|e| unreadable(&name, &e))?;
            read_all(file, &name)?
        }
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines: Vec<String> = lines.map(|line| Entry::parse(line).map(|_| line.to_owned())).collect::<Result<_, _>>()?;
    if lines.is_empty() { Err(Error::new(Code::Key, "there is no key in it")) } else { Ok(lines) }
}

fn read_all(source: impl Read, name: &str) -> Result<String, Error> {
    let mut bytes = Vec::new();
    source.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| unreadable(name, &e))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if text.contains("PRIVATE KEY") {
        return Err(Error::new(
            Code::Key,
            format!("{name} is a private key: add the public one, in the file that ends in .pub"),
        ));
    }
    Ok(text)
}

fn unreadable(name: &str, error: &io::Error) -> Error {
    Error::new(Code::Key, format!("neither a line of authorized_keys nor a file of them: {name}: {error}"))
}

fn revoke(relay: Option<&str>, who: &str) -> Result<Exit, Error> {
    let who = who.to_owned();
    let relay = Relay::find(relay)?;
    on_this_thread(async move {
        let count = relay.broker.revoke_key(&who).await.map_err(explain)?;
        if count > 1 {
            say(&format!("{count} keys are revoked"));
        }
        Ok(Exit::Done)
    })
}

fn explain(error: Error) -> Error {
    if error.code() == Code::Unsupported {
        let text =
            "this relay serves its own machine alone: the operating system says who may use it, there are no keys";
        return Error::new(Code::Unsupported, text);
    }
    error
}
