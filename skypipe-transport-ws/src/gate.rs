//! How many connections may be in the handshake: together, and of one source.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{HALF_OPEN_MAX, HALF_OPEN_PER_SOURCE_MAX};

/// Counts connections in the handshake.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    all: Arc<Semaphore>,
    of_source: Arc<Mutex<HashMap<Source, usize>>>,
}

/// What one customer of a network has: an IPv4 address, or 64 bits of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4([u8; 4]),
    V6([u16; 4]),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// A connection's place among those in the handshake, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    source: Source,
    of_source: Arc<Mutex<HashMap<Source, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of_source = self.of_source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                of_source.remove(&self.source);
            }
        }
    }
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(HALF_OPEN_MAX)), of_source: Arc::default() }
    }

    /// Waits until one more may come at all. None: never again.
    pub(crate) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.all.clone().acquire_owned().await.ok()
    }

    /// A place for a connection from there; none when that source has all it may have.
    pub(crate) fn enter(&self, permit: OwnedSemaphorePermit, from: IpAddr) -> Option<Place> {
        let source = Source::from(from);
        let mut of_source = self.of_source.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of_source.entry(source).or_default();
        if *count >= HALF_OPEN_PER_SOURCE_MAX {
            return None;
        }
        *count += 1;
        Some(Place { _permit: permit, source, of_source: self.of_source.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_has_so_many_places_and_gives_them_back() {
        let gate = Gate::new();
        let [one, same, other]: [IpAddr; 3] =
            ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        let mut places = Vec::new();
        for _ in 0..HALF_OPEN_PER_SOURCE_MAX {
            places.push(gate.enter(gate.room().await.unwrap(), one).unwrap());
        }
        assert!(gate.enter(gate.room().await.unwrap(), same).is_none());
        let other = gate.enter(gate.room().await.unwrap(), other).unwrap();
        places.pop();
        assert!(gate.enter(gate.room().await.unwrap(), same).is_some());
        drop((places, other));
        assert!(gate.of_source.lock().unwrap().is_empty());
        assert_eq!(gate.all.available_permits(), HALF_OPEN_MAX);
    }
}
