//! A relay somewhere else, as a broker.

use std::sync::Arc;

use async_trait::async_trait;

use crate::broker::{
    Broker, Features, ListPage, ListQuery, PipeStat, ReaderAttach, ReaderHalves, WriterAttach, WriterHalves,
};
use crate::caller::Caller;
use crate::error::{Code, Error};
use crate::name::PipeRef;
use crate::transport::Transport;

/// A relay at a URL.
pub struct RemoteBroker {
    url: String,
}

impl RemoteBroker {
    /// The relay at `url`, reached over `transport`.
    pub fn new(_transport: Arc<dyn Transport>, url: &str) -> Self {
        Self { url: url.to_owned() }
    }

    fn unsupported<T>(&self) -> Result<T, Error> {
        Err(Error::new(Code::Unsupported, format!("the wire protocol is not built yet: {}", self.url)))
    }
}

#[async_trait]
impl Broker for RemoteBroker {
    fn features(&self) -> Features {
        Features::default()
    }
    async fn attach_writer(&self, _: &Caller, _: &PipeRef, _: WriterAttach) -> Result<WriterHalves, Error> {
        self.unsupported()
    }
    async fn attach_reader(&self, _: &Caller, _: &PipeRef, _: ReaderAttach) -> Result<ReaderHalves, Error> {
        self.unsupported()
    }
    async fn list(&self, _: &Caller, _: ListQuery) -> Result<ListPage, Error> {
        self.unsupported()
    }
    async fn stat(&self, _: &Caller, _: &PipeRef) -> Result<PipeStat, Error> {
        self.unsupported()
    }
    async fn remove(&self, _: &Caller, _: &PipeRef) -> Result<(), Error> {
        self.unsupported()
    }
}
