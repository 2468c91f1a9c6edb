//! Keys whose links flooded: their next ones are let in a little later.

use std::collections::HashMap;
use std::time::Duration;

use crate::identity::PublicKey;
use crate::time::Time;

/// How long after a flood. Less than the 5 s after which a client takes a link for a dead one; long enough that a thousand streams that
/// come to nothing each time are no work.
const LET_IN_AFTER: Duration = Duration::from_secs(3);

/// Until when each such key waits. There are no more than the relay knows.
#[derive(Debug, Default)]
pub(super) struct Flooders(HashMap<PublicKey, Time>);

impl Flooders {
    /// A link of this key flooded.
    pub(super) fn add(&mut self, key: PublicKey, now: Time) {
        self.0.retain(|_, until| *until > now);
        self.0.insert(key, now.plus(LET_IN_AFTER));
    }

    /// How long this key is to wait.
    pub(super) fn wait(&self, key: PublicKey, now: Time) -> Duration {
        self.0.get(&key).map_or(Duration::ZERO, |until| until.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_flooded_waits_alone_and_not_for_ever() {
        let (mut flooders, start) = (Flooders::default(), Time(7));
        flooders.add(PublicKey([1; 32]), start);
        assert_eq!(flooders.wait(PublicKey([1; 32]), start), LET_IN_AFTER);
        assert_eq!(flooders.wait(PublicKey([2; 32]), start), Duration::ZERO);
        let later = start.plus(LET_IN_AFTER);
        assert_eq!(flooders.wait(PublicKey([1; 32]), later), Duration::ZERO);
        flooders.add(PublicKey([2; 32]), later);
        assert_eq!(flooders.0.len(), 1, "what is over is forgotten");
    }
}
