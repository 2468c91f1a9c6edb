//! The addresses of a host.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use skypipe_core::{Code, Error};
use tokio::sync::oneshot;

use crate::race::{ADDRESSES_MAX, alternate};

/// The addresses of `host`, in the order in which to try them: the system's, families in turn, at most [`ADDRESSES_MAX`].
///
/// # Errors
/// `E_UNREACHABLE` when there is none.
///
/// # Cancel safety
/// A dropped call leaves a thread that ends when the name servers answered or did not.
pub async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = look_up(host.to_owned(), port).await.map_err(|e| nowhere(host, Some(e)))?;
    let addresses = alternate(found);
    if addresses.is_empty() { Err(nowhere(host, None)) } else { Ok(addresses) }
}

/// Asks the system on a thread of its own, as it cannot be told to stop asking: a runtime waits for its blocking tasks when it
/// ends, so a name server that is silent would hold up the exit of a program.
#[expect(clippy::disallowed_methods, reason = "a thread that nothing waits for")]
async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let (found, answer) = oneshot::channel();
    std::thread::Builder::new().name("skypipe-resolve".to_owned()).spawn(move || {
        let addresses = (host.as_str(), port).to_socket_addrs().map(|all| all.take(4 * ADDRESSES_MAX).collect());
        // Nobody waits any more: then nobody needs it.
        let _ = found.send(addresses);
    })?;
    answer.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
}

fn nowhere(host: &str, error: Option<io::Error>) -> Error {
    match error {
        Some(error) => Error::new(Code::Unreachable, format!("no address is known of {host}: {error}")).because(error),
        None => Error::new(Code::Unreachable, format!("no address is known of {host}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_itself_and_a_name_has_some() {
        assert_eq!(resolve("192.0.2.1", 1).await.unwrap(), ["192.0.2.1:1".parse().unwrap()]);
        assert_eq!(resolve("2001:db8::1", 1).await.unwrap(), ["[2001:db8::1]:1".parse().unwrap()]);
        assert!(resolve("localhost", 7).await.unwrap().iter().all(|a| a.ip().is_loopback() && a.port() == 7));
    }

    #[tokio::test]
    async fn a_name_of_nobody_says_so() {
        let error = resolve("nobody.invalid", 1).await.unwrap_err();
        assert_eq!(error.code(), Code::Unreachable);
        assert!(error.text().contains("nobody.invalid"), "{error}");
    }
}
