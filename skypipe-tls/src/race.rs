//! The first of several addresses that answers ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305), "happy eyeballs").

use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use skypipe_core::{Code, Error};
use tokio::time::{Instant, sleep_until};

/// How many addresses of one host are tried; who has more is reached at one of these.
pub const ADDRESSES_MAX: usize = 8;
/// How long an address may be silent before the next one is tried beside it: what RFC 8305, section 8, recommends.
pub const STAGGER: Duration = Duration::from_millis(250);

/// Tries `addresses` one after the other, the next when one has failed or was silent for [`STAGGER`], until the first succeeds.
/// It sets no end of its own to an attempt.
///
/// # Errors
/// That of the attempts which says most: a refused handshake (`E_PIN`, `E_VERSION`) before silence, else the last.
///
/// # Cancel safety
/// A dropped call drops all attempts, as do those that lose.
pub async fn race<T, F>(addresses: &[SocketAddr], mut attempt: impl FnMut(SocketAddr) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut waiting = addresses.iter().copied().take(ADDRESSES_MAX);
    let (mut running, mut failed) = (FuturesUnordered::new(), None);
    loop {
        match waiting.next() {
            Some(address) => running.push(attempt(address)),
            None if running.is_empty() => return Err(failed.unwrap_or_else(nothing_to_try)),
            None => {}
        }
        let next_at = (waiting.len() > 0).then(|| Instant::now() + STAGGER);
        tokio::select! {
            Some(ended) = running.next() => match ended {
                Ok(won) => return Ok(won),
                Err(error) => failed = Some(worse(failed, error)),
            },
            () = at(next_at) => {}
        }
    }
}

/// The families in turn, beginning with the one that the system put first.
pub(crate) fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::new();
    while all.len() < ADDRESSES_MAX && first.len() + second.len() > 0 {
        all.extend(first.next());
        all.extend(second.next());
    }
    all.truncate(ADDRESSES_MAX);
    all
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Of two failures the one to tell.
fn worse(told: Option<Error>, new: Error) -> Error {
    let is_refusal = |error: &Error| matches!(error.code(), Code::Pin | Code::Version);
    match told {
        Some(told) if is_refusal(&told) && !is_refusal(&new) => told,
        _ => new,
    }
}

fn nothing_to_try() -> Error {
    Error::new(Code::Unreachable, "there is no address to try")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns() {
        let of = |texts: &[&str]| texts.iter().map(|t| address(t)).collect::<Vec<_>>();
        let found = of(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]);
        assert_eq!(alternate(found), of(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]));
        assert_eq!(alternate(vec![address("1.1.1.1:1"); 50]).len(), ADDRESSES_MAX);
        assert!(alternate(Vec::new()).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_costs_a_quarter_of_a_second() {
        let start = Instant::now();
        let both = [address("1.1.1.1:1"), address("1.1.1.1:2")];
        let won =
            race(&both, |a| async move { if a.port() == 1 { std::future::pending().await } else { Ok(a.port()) } });
        assert_eq!(won.await.unwrap(), 2);
        assert_eq!(start.elapsed(), STAGGER);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusing_address_costs_nothing_and_the_telling_error_is_told() {
        let start = Instant::now();
        let all = [address("1.1.1.1:1"), address("1.1.1.1:2"), address("1.1.1.1:3")];
        let lost = race(&all, |a| async move {
            let code = if a.port() == 2 { Code::Pin } else { Code::Unreachable };
            Err::<(), _>(Error::new(code, "no"))
        });
        assert_eq!(lost.await.unwrap_err().code(), Code::Pin);
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(race(&[], |_| async { Ok(()) }).await.unwrap_err().code(), Code::Unreachable);
    }
}
