//! The user's local relay: where it lives, and exactly one of it.

use std::sync::Arc;

use crate::broker::Broker;
use crate::error::{Code, Error};

/// The broker of this user on this machine, hosted here when nobody hosts it yet.
///
/// # Errors
/// `E_UNSUPPORTED` until the local relay is built.
pub async fn local_broker() -> Result<Arc<dyn Broker>, Error> {
    Err(Error::new(Code::Unsupported, "the local relay is not built yet: set SKYPIPE_RELAY"))
}
