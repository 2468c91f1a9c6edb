//! `skypipe invite`

use std::time::{Duration, SystemTime};

use serde::Serialize;
use skypipe_core::{Code, Error, Invite, Pattern, Rights};
use skypipe_keys::Ticket;

use super::{on_this_thread, print};
use crate::addresses;
use crate::args::InviteArgs;
use crate::broker::{Relay, utf8};
use crate::exit::{Exit, say};
use crate::pipe_line::json_line;

/// What a user is told whose relay no other machine can reach.
const NOT_LISTENING: &str = "this relay serves its own machine alone; `skypipe up USER@HOST` puts one on a machine of yours, \
                             `skypipe relay --listen 0.0.0.0:7473` starts one that listens here";

/// The answer for programs. The names of the fields are a promise.
#[derive(Serialize)]
struct InvitedLine {
    /// The ticket: a secret until it is used.
    ticket: String,
    /// Until when it may be used.
    expires: String,
    /// How many machines may join with it.
    uses: u32,
    /// Where the relay is.
    urls: Vec<String>,
}

pub(crate) fn run(relay: Option<&str>, args: InviteArgs) -> Result<Exit, Error> {
    let invite = invite(&args)?;
    let relay = Relay::find(relay)?;
    on_this_thread(async move {
        let made = relay.broker.invite(invite).await.map_err(explain)?;
        let urls = addresses::for_ticket(relay.broker.url(), &made.urls, &args.address)?;
        if urls.is_empty() {
            return Err(Error::new(Code::Unsupported, NOT_LISTENING));
        }
        let ticket = Ticket::new(urls.clone(), made.token)?.to_string();
        if args.json.json {
            let line = InvitedLine { ticket, expires: until(args.expires), uses: args.uses, urls };
            return print(&json_line(&line));
        }
        let printed = print(&format!("skypipe join {ticket}\n"))?;
        explain_ticket(&args, &urls);
        Ok(printed)
    })
}

fn invite(args: &InviteArgs) -> Result<Invite, Error> {
    let pipes = args.pipe.iter().map(|text| Pattern::parse(utf8(text)?)).collect::<Result<_, _>>()?;
    let (read, write) = (args.read || !args.write, args.write || !args.read);
    let rights = Rights { read, write, ..Rights::NONE };
    Ok(Invite { pipes, rights, expires: args.expires, uses: args.uses })
}

fn explain(error: Error) -> Error {
    if error.code() == Code::Unsupported { Error::new(Code::Unsupported, NOT_LISTENING) } else { error }
}

/// What whoever passes it on must know.
fn explain_ticket(args: &InviteArgs, urls: &[String]) {
    let times = if args.uses == 1 { "once".to_owned() } else { format!("{} times", args.uses) };
    let expires = humantime::format_duration(whole_seconds(args.expires));
    say(&format!("run this on the other machine, {times}, within {expires}: {}", opens(args)));
    if addresses::are_private(urls) {
        say("it leads to an address inside your network; --address HOST names one that others reach");
    }
}

fn opens(args: &InviteArgs) -> String {
    let verb = match (args.read, args.write) {
        (true, false) => "may read",
        (false, true) => "may write",
        _ => "may read and write",
    };
    if args.pipe.is_empty() {
        return format!("its key becomes one of yours and {verb} all your pipes");
    }
    let pipes: Vec<_> = args.pipe.iter().map(|p| p.to_string_lossy()).collect();
    format!("it {verb} {}", pipes.join(", "))
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs().max(1))
}

fn until(expires: Duration) -> String {
    let end = SystemTime::now().checked_add(expires);
    end.map_or_else(String::new, |end| humantime::format_rfc3339_seconds(end).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::command;
    use clap::FromArgMatches as _;

    fn parsed(line: &str) -> InviteArgs {
        let matches = command().get_matches_from(line.split(' '));
        InviteArgs::from_arg_matches(matches.subcommand().unwrap().1).unwrap()
    }

    #[test]
    fn one_right_alone_excludes_the_other() {
        let rights = |line: &str| {
            let rights = invite(&parsed(line)).unwrap().rights;
            (rights.read, rights.write)
        };
        assert_eq!(rights("skypipe invite"), (true, true));
        assert_eq!(rights("skypipe invite --read"), (true, false));
        assert_eq!(rights("skypipe invite --write --pipe x"), (false, true));
        assert_eq!(rights("skypipe invite --write --read"), (true, true));
    }

    #[test]
    fn who_reads_along_knows_what_it_opens() {
        assert!(opens(&parsed("skypipe invite")).contains("all your pipes"));
        assert_eq!(opens(&parsed("skypipe invite --read --pipe logs/** --pipe x")), "it may read logs/**, x");
    }
}
