//! Several ways to one relay, tried at once: the better one of those that work is kept.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use crate::error::{Code, Error};
use crate::registry;
use crate::transport::{Link, Transport};

/// What stands between the URLs of one relay.
pub const RACE_SEPARATOR: char = ',';
/// Most ways to one relay: its addresses times its transports.
pub const WAYS_MAX: usize = 16;
/// How long a link waits for a better one that was not made yet. Two round trips around the world; with the better way blocked,
/// a user is connected within three tenths of a second all the same.
pub const BETTER_WITHIN: Duration = Duration::from_millis(200);

/// A transport for URLs joined by commas, the better ones first: `quic://KEY@host:7473,wss://KEY@host:7473`.
///
/// All are tried at once. The first in order that works within [`BETTER_WITHIN`] is kept, else whichever works first; the others
/// are dropped. A relay that is not the pinned one ends the race: nobody should talk past that.
pub struct Race {
    ways: Vec<(String, Arc<dyn Transport>)>,
}

impl Race {
    /// The ways of `urls`, each over the transport that is installed for it.
    ///
    /// # Errors
    /// `E_SCHEME` and `E_USAGE`, as [`registry::lookup`]; `E_USAGE` for more than [`WAYS_MAX`].
    pub fn new(urls: &str) -> Result<Self, Error> {
        let urls: Vec<&str> = urls.split(RACE_SEPARATOR).map(str::trim).filter(|url| !url.is_empty()).collect();
        if urls.is_empty() || urls.len() > WAYS_MAX {
            return Err(Error::new(Code::Usage, format!("a relay has one URL or up to {WAYS_MAX}, joined by commas")));
        }
        let way = |url: &&str| Ok(((*url).to_owned(), registry::lookup(url)?));
        Ok(Self { ways: urls.iter().map(way).collect::<Result<_, Error>>()? })
    }
}

#[async_trait]
impl Transport for Race {
    /// Tries all ways; `url` was taken apart when the race was made.
    async fn connect(&self, _: &str) -> Result<Box<dyn Link>, Error> {
        let end = Instant::now() + BETTER_WITHIN;
        let mut running: FuturesUnordered<_> = self.ways.iter().enumerate().map(attempt).collect();
        let mut race = Finish::new(self.ways.len());
        loop {
            if let Some(won) = race.winner(Instant::now() >= end) {
                return won;
            }
            tokio::select! {
                biased;
                Some((rank, result)) = running.next() => race.came(rank, result),
                () = sleep_until(end), if race.has_link() => {}
            }
        }
    }
}

async fn attempt(
    (rank, (url, transport)): (usize, &(String, Arc<dyn Transport>)),
) -> (usize, Result<Box<dyn Link>, Error>) {
    (rank, transport.connect(url).await)
}

/// Who came in, in order of rank.
struct Finish {
    came: Vec<Option<Result<Box<dyn Link>, Error>>>,
}

impl Finish {
    fn new(count: usize) -> Self {
        Self { came: (0..count).map(|_| None).collect() }
    }

    fn came(&mut self, rank: usize, result: Result<Box<dyn Link>, Error>) {
        self.came[rank] = Some(result);
    }

    fn has_link(&self) -> bool {
        self.came.iter().flatten().any(Result::is_ok)
    }

    /// The end of the race, if this is it. When the time for better ones is up, any link will do.
    fn winner(&mut self, time_is_up: bool) -> Option<Result<Box<dyn Link>, Error>> {
        let is_pin = |result: &Result<_, Error>| result.as_ref().is_err_and(|e| e.code() == Code::Pin);
        if let Some(at) = self.came.iter().position(|way| way.as_ref().is_some_and(is_pin)) {
            return self.came[at].take();
        }
        for at in 0..self.came.len() {
            match &self.came[at] {
                Some(Ok(_)) => return self.came[at].take(),
                Some(Err(_)) => {}
                None if time_is_up && self.has_link() => {}
                None => return None,
            }
        }
        Some(Err(self.failure()))
    }

    /// All failed: the error of the first is told with the others behind it.
    fn failure(&mut self) -> Error {
        let errors: Vec<Error> = self.came.iter_mut().filter_map(Option::take).filter_map(Result::err).collect();
        let code = errors.iter().map(Error::code).find(|&code| code != Code::Unreachable).unwrap_or(Code::Unreachable);
        let mut texts: Vec<&str> = errors.iter().map(Error::text).collect();
        texts.dedup();
        Error::new(code, texts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Peer;
    use crate::transport::LinkStream;

    /// Connects after a while, or fails then.
    struct Way {
        after: u64,
        fails: Option<Code>,
    }

    #[async_trait]
    impl Transport for Way {
        async fn connect(&self, url: &str) -> Result<Box<dyn Link>, Error> {
            tokio::time::sleep(Duration::from_millis(self.after)).await;
            match self.fails {
                Some(code) => Err(Error::new(code, format!("{url} failed"))),
                None => Ok(Box::new(Named(url.to_owned()))),
            }
        }
    }

    struct Named(String);

    #[async_trait]
    impl Link for Named {
        async fn open(&self) -> Result<LinkStream, Error> {
            Err(Error::new(Code::Unsupported, "a name only"))
        }
        async fn accept(&self) -> Result<Option<LinkStream>, Error> {
            Ok(None)
        }
        fn peer(&self) -> Peer {
            Peer::InProcess
        }
        fn path(&self) -> String {
            self.0.clone()
        }
    }

    /// Runs a race of these ways; gives who won or why nobody did, and when.
    async fn run(ways: &[(u64, Option<Code>)]) -> (Result<String, Error>, u64) {
        let way = |(at, &(after, fails)): (usize, &(u64, Option<Code>))| {
            (at.to_string(), Arc::new(Way { after, fails }) as Arc<dyn Transport>)
        };
        let race = Race { ways: ways.iter().enumerate().map(way).collect() };
        let start = Instant::now();
        let won = race.connect("").await.map(|link| link.path());
        (won, start.elapsed().as_millis() as u64)
    }

    #[tokio::test(start_paused = true)]
    async fn the_better_way_wins_if_it_is_not_much_slower() {
        for (ways, winner, at) in [
            (&[(100, None), (5, None)][..], "0", 100),
            (&[(30_000, None), (5, None)], "1", 200),
            (&[(30_000, None), (700, None)], "1", 700),
            (&[(50, Some(Code::Unreachable)), (5, None)], "1", 50),
            (&[(30_000, None), (150, None), (5, None)], "1", 200),
            (&[(250, None), (30_000, Some(Code::Unreachable))], "0", 250),
        ] {
            let (won, took) = run(ways).await;
            assert_eq!(won.unwrap(), winner, "{ways:?}");
            assert!(took.abs_diff(at) <= 2, "{ways:?} took {took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_each_is_told_and_a_wrong_relay_ends_it() {
        let (error, took) = run(&[(50, Some(Code::Unreachable)), (90, Some(Code::Unreachable))]).await;
        let error = error.unwrap_err();
        assert_eq!((error.code(), error.text(), took), (Code::Unreachable, "0 failed; 1 failed", took));
        let (error, took) = run(&[(30_000, None), (20, Some(Code::Pin)), (5, None)]).await;
        assert_eq!(error.unwrap_err().code(), Code::Pin);
        assert!(took <= 22);
        let (error, _) = run(&[(5, Some(Code::Unreachable)), (9, Some(Code::Access))]).await;
        assert_eq!(error.unwrap_err().code(), Code::Access);
    }

    #[test]
    fn urls_are_joined_by_commas() {
        assert_eq!(Race::new("mem:a, unix:/b,").unwrap().ways.len(), 2);
        for bad in [",", "mem:a,nonsense", &vec!["mem:a"; WAYS_MAX + 1].join(",")] {
            assert_eq!(Race::new(bad).err().unwrap().code(), Code::Usage, "{bad}");
        }
    }
}
