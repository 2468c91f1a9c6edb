//! `skypipe top [PATTERN]`: all pipes live, full screen.
//!
//! ```text
//!   looker (a task) ── Event::Looked ──▶ ┌───────────┐
//!   keys (a thread) ── Event::Key ─────▶ │ state.rs  │ ──▶ view.rs ──▶ screen.rs: the terminal
//!                                        └───────────┘
//! ```

mod screen;
mod state;
mod view;

use std::io::IsTerminal as _;
use std::time::Duration;

use skypipe_core::{Code, Error, PipePath, PipeStat, TargetPattern};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use self::screen::Screen;
use self::state::{Event, Look, Then, Top};
use super::ls::Pages;
use super::on_this_thread;
use crate::args::TopArgs;
use crate::broker::{Relay, utf8};
use crate::exit::Exit;
use crate::looks;
use crate::signals::Watch;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A relay that does not answer within this time is shown as away.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Most pipes that are looked at: ten calls, and more rows than anybody goes through. How many there are beyond is not known.
const PIPES_MAX: usize = 10_000;
/// Events on their way: keys wait when there are more.
const EVENTS_MAX: usize = 64;

pub(crate) fn run(relay: Option<&str>, args: TopArgs) -> Result<Exit, Error> {
    let wanted = match &args.pattern {
        Some(text) => utf8(text)?.parse()?,
        None => TargetPattern::all(),
    };
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        let text = "`skypipe top` is for a terminal; programs and files take `skypipe ls --watch`";
        return Err(Error::new(Code::Usage, text));
    }
    let relay = Relay::find(relay)?;
    on_this_thread(show(relay, wanted))
}

async fn show(relay: Relay, wanted: TargetPattern) -> Result<Exit, Error> {
    let mut signals = Watch::new(None)?;
    // What is wrong from the start is said on the terminal as it is, not on a screen that goes away.
    let first = match signals.idle(look(&relay, &wanted, None)).await {
        Ok(first) => first?,
        Err(stop) => return stop.exit("nothing was changed"),
    };
    let mut top = Top::new(wanted.owner);
    top.happens(Event::Looked(first))?;

    let (events, mut happened) = mpsc::channel(EVENTS_MAX);
    let (opened, open) = watch::channel(None);
    let _looker = OnDrop(tokio::spawn(look_for_ever(relay, wanted, open, events.clone())));
    let mut screen = Screen::take(events)?;
    loop {
        screen.draw(&top)?;
        let Some(event) = (match signals.idle(happened.recv()).await {
            Ok(event) => event,
            Err(stop) => return stop.exit("nothing was changed"),
        }) else {
            return Ok(Exit::Done);
        };
        if top.happens(event)? == Then::Leave {
            return Ok(Exit::Done);
        }
        // A key that opens a pipe looks at it at once.
        opened.send_if_modified(|was| {
            let is_new = was.as_ref() != top.open();
            is_new.then(|| *was = top.open().cloned()).is_some()
        });
    }
}

/// Ends a task with who started it.
struct OnDrop(tokio::task::JoinHandle<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn look_for_ever(
    relay: Relay,
    wanted: TargetPattern,
    mut open: watch::Receiver<Option<PipePath>>,
    events: mpsc::Sender<Event>,
) {
    loop {
        let next = Instant::now() + LOOK_EVERY;
        let opened = open.borrow_and_update().clone();
        let event = match timeout(ANSWER_WITHIN, look(&relay, &wanted, opened)).await {
            Ok(Ok(look)) => Event::Looked(look),
            Ok(Err(error)) if looks::may_pass(&error) => Event::Away(error),
            Ok(Err(error)) => Event::Failed(error),
            Err(_) => Event::Away(Error::new(Code::Unreachable, "the relay does not answer")),
        };
        if events.send(event).await.is_err() {
            return;
        }
        tokio::select! {
            biased;
            opened = open.changed() => if opened.is_err() { return },
            () = sleep_until(next) => {}
        }
    }
}

/// All pipes, and the readers of one.
async fn look(relay: &Relay, wanted: &TargetPattern, open: Option<PipePath>) -> Result<Look, Error> {
    let (mut pages, mut pipes) = (Pages::new(relay, wanted), Vec::new());
    while let Some(page) = pages.next().await? {
        pipes.extend(page.into_iter().take(PIPES_MAX - pipes.len()));
        if pipes.len() >= PIPES_MAX {
            break;
        }
    }
    let more = pages.has_more();
    let open = match open {
        Some(path) => stat(relay, wanted, path).await?,
        None => None,
    };
    Ok(Look { pipes, more, open })
}

/// None of a pipe that is gone.
async fn stat(relay: &Relay, wanted: &TargetPattern, path: PipePath) -> Result<Option<PipeStat>, Error> {
    use skypipe_core::{Broker as _, Caller, PipeRef};
    let pipe = PipeRef { owner: wanted.owner, path };
    match relay.broker.stat(&Caller::in_process(), &pipe).await {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.code() == Code::Access => Ok(None),
        Err(error) => Err(error),
    }
}
