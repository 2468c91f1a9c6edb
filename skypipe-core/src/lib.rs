//! Named pipes in the sky.

mod batch;
mod broker;
mod caller;
#[cfg(feature = "host")]
mod client;
mod codec;
pub mod delivery;
#[cfg(feature = "host")]
mod env;
mod error;
mod event;
#[cfg(feature = "host")]
pub mod host;
mod id;
#[cfg(feature = "host")]
mod local_broker;
#[cfg(feature = "host")]
pub mod local_socket;
#[cfg(feature = "host")]
pub mod log;
#[cfg(feature = "host")]
pub mod mem;
mod name;
#[cfg(feature = "host")]
mod pipe;
#[cfg(feature = "host")]
mod reader;
mod record;
#[cfg(feature = "host")]
pub mod registry;
#[cfg(feature = "host")]
mod relay;
#[cfg(feature = "host")]
mod remote;
pub mod session;
mod time;
#[cfg(feature = "host")]
mod transport;
pub mod wire;
#[cfg(feature = "host")]
mod writer;

pub use batch::*;
pub use broker::*;
pub use caller::*;
pub use error::*;
pub use event::*;
pub use id::*;
pub use name::*;
pub use record::*;
pub use session::{Outcome, Progress, Until};
pub use time::*;
#[cfg(feature = "host")]
pub use {client::*, env::*, local_broker::*, pipe::*, reader::*, relay::*, remote::*, transport::*, writer::*};
