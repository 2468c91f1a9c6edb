//! When to attach, when to try again, when to give up: the same for writers and readers.

use std::time::Duration;

use crate::error::{Code, Error};
use crate::event::Event;
use crate::id::{Epoch, SessionId};
use crate::time::Time;

/// The first pause before another try: a local relay is back within a few of them.
pub const RETRY_AFTER_MIN: Duration = Duration::from_millis(10);
/// The longest pause: what a person waits at most after a relay is back.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// An attach that was not answered for so long is tried again.
pub const ATTACH_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a session that never was connected tries.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a session that lost its link tries: as long as a broker keeps its last numbers.
pub const GIVE_UP: Duration = Duration::from_secs(24 * 60 * 60);
/// A link over which no message came proves nothing by having been there for less than this: a path that carries an attach and then nothing
/// is found out much sooner.
pub const PROVEN_AFTER: Duration = Duration::from_secs(60);
/// When the application is told that there is no link: soon for a terminal, later for a log.
pub const SAY_AFTER: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];

/// How long a session tries to get a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// When it never had one.
    pub connect_timeout: Duration,
    /// When it lost the one it had.
    pub give_up: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect_timeout: CONNECT_TIMEOUT, give_up: GIVE_UP }
    }
}

/// What chance brings to one step of a session: drawn anew for each.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Any number, for jitter.
    pub jitter: u64,
    /// A session id nobody guesses, should the session start over.
    pub session: SessionId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting { until: Time },
    Attaching { until: Time },
    Attached,
    Over,
}

/// The life of a session's links.
#[derive(Debug)]
pub struct Connection {
    patience: Patience,
    state: State,
    epoch: Epoch,
    /// Failures since a link last proved good by a message.
    failures: u32,
    /// Whether there ever was a link.
    ever: bool,
    /// Whether the broker ever confirmed this session.
    confirmed: bool,
    /// Since when there is none that proved good: links that break again and again without a message are no link.
    away_since: Time,
    /// When the link there is was attached, and whether a message came over it.
    attached_at: Time,
    good: bool,
    /// How many of [`SAY_AFTER`] were said.
    said: usize,
    last_code: Code,
    last_text: String,
}

impl Connection {
    /// A session that attaches at once.
    pub fn new(patience: Patience, now: Time) -> Self {
        Self {
            patience,
            state: State::Waiting { until: now },
            epoch: Epoch(0),
            failures: 0,
            ever: false,
            confirmed: false,
            away_since: now,
            attached_at: now,
            good: false,
            said: 0,
            last_code: Code::Unreachable,
            last_text: "nobody answered yet".to_owned(),
        }
    }

    /// The attach that is under way or was last.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether there is a link.
    pub fn is_attached(&self) -> bool {
        self.state == State::Attached
    }

    /// Whether an attach is under way.
    pub fn is_attaching(&self) -> bool {
        matches!(self.state, State::Attaching { .. })
    }

    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether there ever was a link.
    pub fn was_attached(&self) -> bool {
        self.ever
    }

    /// Whether the broker ever confirmed this session: losing one that it never did is no news to anybody.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Whether it is time to attach.
    pub fn is_due(&self, now: Time) -> bool {
        matches!(self.state, State::Waiting { until } if until <= now)
    }

    /// The next moment at which [`Connection::tick`] or [`Connection::is_due`] has something new to say.
    pub fn deadline(&self) -> Option<Time> {
        let next = match self.state {
            State::Waiting { until } | State::Attaching { until } => until,
            State::Attached | State::Over => return None,
        };
        let say = SAY_AFTER.get(self.said).map(|&after| self.away_since.plus(after));
        Some(say.map_or(next, |say| say.min(next)).min(self.gives_up_at()))
    }

    /// An attach begins; gives its epoch.
    pub fn begin(&mut self, now: Time) -> Epoch {
        self.epoch = Epoch(self.epoch.0.saturating_add(1));
        self.state = State::Attaching { until: now.plus(ATTACH_TIME_MAX) };
        self.epoch
    }

    /// The attach succeeded. Gives what to tell the application.
    pub fn attached(&mut self, now: Time) -> Option<Event> {
        let again = self.ever.then(|| Event::Connected { away: now.since(self.away_since) });
        self.state = State::Attached;
        (self.attached_at, self.good) = (now, false);
        (self.ever, self.confirmed) = (true, true);
        self.said = 0;
        again
    }

    /// A message came: the link is good, the next loss is a fresh one.
    pub fn is_good(&mut self) {
        self.failures = 0;
        self.good = true;
    }

    /// Whether the session goes on after this error. A relay that heard nothing in time sits at the other end of a link that carries
    /// nothing: the next one may. A relay that holds its lock and does not answer ends a command that has nothing to lose yet; a session
    /// that was attached waits for it as for any other.
    pub fn survives(&self, error: &Error) -> bool {
        let may_pass = error.is_disconnected() || matches!(error.code(), Code::Busy | Code::Timeout);
        may_pass || (self.confirmed && error.code() == Code::Locked)
    }

    /// The link broke, or the attach failed in a way that may pass.
    pub fn lost(&mut self, error: &Error, now: Time, jitter: u64) {
        if self.is_over() {
            return;
        }
        if self.is_attached() && (self.good || now.since(self.attached_at) >= PROVEN_AFTER) {
            self.away_since = now;
        }
        self.last_code = error.code();
        error.text().clone_into(&mut self.last_text);
        self.state = State::Waiting { until: now.plus(self.pause(jitter)) };
        self.failures = self.failures.saturating_add(1);
    }

    /// Time passed. Gives what to tell the application, or the error with which the session gives up.
    ///
    /// # Errors
    /// `E_UNREACHABLE`, or `E_BUSY` when that is what the broker said last.
    pub fn tick(&mut self, now: Time, jitter: u64) -> Result<Option<Event>, Error> {
        if matches!(self.state, State::Attached | State::Over) {
            return Ok(None);
        }
        if now >= self.gives_up_at() {
            self.state = State::Over;
            return Err(self.gave_up());
        }
        if matches!(self.state, State::Attaching { until } if until <= now) {
            let error = Error::new(Code::Unreachable, "the relay did not answer");
            self.lost(&error, now, jitter);
        }
        Ok(self.say(now))
    }

    /// The session starts over with a new id.
    pub fn renew(&mut self) {
        (self.epoch, self.confirmed) = (Epoch(0), false);
    }

    /// The session is over.
    pub fn close(&mut self) {
        self.state = State::Over;
    }

    fn say(&mut self, now: Time) -> Option<Event> {
        let away = now.since(self.away_since);
        let passed = SAY_AFTER.iter().filter(|&&after| away >= after).count();
        let news = passed > self.said;
        self.said = self.said.max(passed);
        news.then(|| Event::NotConnected { away, reason: self.last_text.clone() })
    }

    fn gives_up_at(&self) -> Time {
        self.away_since.plus(if self.ever { self.patience.give_up } else { self.patience.connect_timeout })
    }

    /// Doubles with each failure; half of it is chance, so that many clients do not come back in one moment.
    fn pause(&self, jitter: u64) -> Duration {
        let whole = RETRY_AFTER_MIN.saturating_mul(1 << self.failures.min(16)).min(RETRY_AFTER_MAX);
        let half = u64::try_from(whole.as_micros() / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half + jitter % (half + 1))
    }

    fn gave_up(&self) -> Error {
        let code = if self.last_code == Code::Busy { Code::Busy } else { Code::Unreachable };
        let tried = if self.ever { self.patience.give_up } else { self.patience.connect_timeout };
        Error::new(code, format!("gave up after {tried:?} without a link to the relay: {}", self.last_text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Error {
        Error::new(Code::Disconnected, "cut")
    }

    /// Fails every attach until the connection gives up; gives the moments of the tries and of the end.
    fn fail_for_ever(connection: &mut Connection, mut now: Time) -> (Vec<Time>, Time, usize) {
        let (mut tries, mut said) = (Vec::new(), 0);
        loop {
            match connection.tick(now, 7) {
                Ok(event) => said += usize::from(event.is_some()),
                Err(error) => {
                    assert_eq!(error.code(), Code::Unreachable);
                    return (tries, now, said);
                }
            }
            if connection.is_due(now) {
                tries.push(now);
                connection.begin(now);
                connection.lost(&broken(), now, 7);
            }
            now = now.max(connection.deadline().expect("it goes on"));
        }
    }

    #[test]
    fn never_connected_gives_up_after_ten_seconds() {
        let mut connection = Connection::new(Patience::default(), Time(5));
        let (tries, end, said) = fail_for_ever(&mut connection, Time(5));
        assert_eq!(end, Time(5).plus(CONNECT_TIMEOUT));
        assert_eq!(tries[0], Time(5));
        assert!((9..20).contains(&tries.len()), "{}", tries.len());
        assert_eq!(said, 1);
        assert!(connection.is_over() && connection.deadline().is_none());
    }

    #[test]
    fn lost_gives_up_after_a_day_and_says_so_twice() {
        let mut connection = Connection::new(Patience::default(), Time(0));
        connection.begin(Time(0));
        assert_eq!(connection.attached(Time(0)), None);
        let cut = Time(0).plus(Duration::from_secs(3600));
        connection.lost(&broken(), cut, 0);
        let (tries, end, said) = fail_for_ever(&mut connection, cut);
        assert_eq!(end, cut.plus(GIVE_UP));
        assert_eq!(said, 2);
        assert!(tries[0].since(cut) <= RETRY_AFTER_MIN);
        assert!(tries.windows(2).all(|pair| pair[1].since(pair[0]) <= RETRY_AFTER_MAX));
    }

    #[test]
    fn links_that_carry_an_attach_and_nothing_else_use_up_its_patience() {
        let patience = Patience { connect_timeout: CONNECT_TIMEOUT, give_up: Duration::from_secs(40) };
        let mut connection = Connection::new(patience, Time(0));
        let mut now = Time(0);
        for _ in 0..3 {
            connection.begin(now);
            connection.attached(now);
            now = now.plus(Duration::from_secs(15));
            connection.lost(&broken(), now, 0);
        }
        assert!(connection.tick(now, 0).is_err(), "three links in 45 s that carried nothing");
        let mut connection = Connection::new(patience, Time(0));
        let mut now = Time(0);
        for lives in [15, 15, 70] {
            connection.begin(now);
            connection.attached(now);
            if lives == 15 {
                connection.is_good();
            }
            now = now.plus(Duration::from_secs(lives));
            connection.lost(&broken(), now, 0);
            assert!(connection.tick(now, 0).is_ok(), "a message came, or it was there for long");
        }
    }

    #[test]
    fn an_attach_without_answer_is_tried_again() {
        let mut connection = Connection::new(Patience { connect_timeout: GIVE_UP, give_up: GIVE_UP }, Time(0));
        connection.begin(Time(0));
        let late = Time(0).plus(ATTACH_TIME_MAX);
        assert!(connection.tick(late, 0).is_ok());
        assert!(!connection.is_attaching() && connection.deadline().is_some());
        assert_eq!(connection.begin(late), Epoch(2));
    }
}
