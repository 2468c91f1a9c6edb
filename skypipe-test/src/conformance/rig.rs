//! A broker behind a relay behind a link.

use std::path::Path;
use std::sync::Arc;

use skypipe_core::wire::SoftwareVersion;
use skypipe_core::{
    Batch, BatchBuilder, Broker, Caller, Epoch, KeyPair, OnTape, Peer, PipeName, PipeRef, ReaderAttach, ReaderHalves,
    Relay, RelayLimits, RemoteBroker, Seq, SessionId, Settings, Take, Transport, WriterAttach, WriterHalves,
};

use super::ends::{Between, made};
use super::{Ends, OneKey, Toy, client_key};

/// Who writes in the cases of single messages.
pub(super) const WRITER: SessionId = SessionId([1; 16]);
/// What the relay calls itself.
pub(super) const VERSION: SoftwareVersion = SoftwareVersion::new(1, 2, 3);

/// A broker behind a relay, and a client of it.
pub struct Rig<B> {
    /// What is served.
    pub broker: Arc<B>,
    /// What serves it.
    pub relay: Relay,
    /// The client's side.
    pub remote: RemoteBroker,
    /// How clients come.
    pub transport: Arc<dyn Transport>,
    /// Where they come to.
    pub url: String,
    _folder: tempfile::TempDir,
}

impl Rig<Toy> {
    /// A toy.
    pub async fn toy(make: &impl AsyncFn(&Path) -> Ends) -> Self {
        Self::serving(Toy::new(), make, |_| {}).await
    }

    /// A reader of the toy's pipe.
    pub async fn reader(&self) -> ReaderHalves {
        self.remote.attach_reader(&Caller::in_process(), &pipe(), reader_attach()).await.unwrap()
    }

    /// A writer to the toy's pipe.
    pub async fn writer(&self) -> WriterHalves {
        self.remote.attach_writer(&Caller::in_process(), &pipe(), writer_attach()).await.unwrap()
    }
}

impl<B: Broker + 'static> Rig<B> {
    /// What kind of URL leads to it.
    pub fn scheme(&self) -> &str {
        self.url.split(':').next().unwrap_or_default()
    }

    /// Serves `broker`, with changed limits.
    pub async fn serving(
        broker: Arc<B>,
        make: &impl AsyncFn(&Path) -> Ends,
        limit: impl FnOnce(&mut RelayLimits),
    ) -> Self {
        let (folder, Ends { listener, transport }) = made(make).await;
        let mut limits = RelayLimits::default();
        limit(&mut limits);
        let url = listener.url();
        let relay = Relay::new(broker.clone()).with_limits(limits).with_version(VERSION);
        let relay = relay.with_gatekeeper(Arc::new(OneKey::new())).listen(listener);
        let serving = relay.clone();
        tokio::spawn(async move { serving.serve().await });
        let remote = remote(&transport, &url);
        Self { broker, relay, remote, transport, url, _folder: folder }
    }

    /// Another client.
    pub fn another(&self) -> RemoteBroker {
        remote(&self.transport, &self.url)
    }

    /// A client whose key the relay does not know.
    pub fn stranger(&self) -> RemoteBroker {
        let key = KeyPair::from_seed(&[0x57; 32]);
        RemoteBroker::new(self.transport.clone(), &self.url).with_signer(Arc::new(key))
    }

    /// Whether links come from other machines, as far as the relay knows.
    pub async fn is_network(&self) -> bool {
        let link = self.transport.connect(&self.url).await.unwrap();
        matches!(link.peer(), Peer::Network(_))
    }

    pub(super) fn between(&self) -> Between {
        Between::of(&self.url)
    }
}

/// A client that proves the key that relays under test know.
pub(super) fn remote(transport: &Arc<dyn Transport>, url: &str) -> RemoteBroker {
    RemoteBroker::new(transport.clone(), url).with_signer(Arc::new(client_key()))
}

/// The toy's pipe.
pub fn pipe() -> PipeRef {
    PipeRef::from(&PipeName::new("logs/web").unwrap())
}

pub(super) fn writer_attach() -> WriterAttach {
    WriterAttach { session: WRITER, epoch: Epoch(1), mode: None, settings: Settings::default(), resume: None }
}

pub(super) fn reader_attach() -> ReaderAttach {
    ReaderAttach {
        session: SessionId([2; 16]),
        epoch: Epoch(1),
        mode: None,
        take: Take::Any,
        keep: false,
        no_wait: false,
        credit: 1 << 20,
        mid_record: false,
        resume: None,
        tape: OnTape::default(),
    }
}

/// One record of so many bytes.
pub fn batch(first: u64, bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new(WRITER, Epoch(1), Seq(first));
    assert!(builder.push(&vec![first as u8; bytes], true, true), "{bytes} bytes are too many for one record");
    builder.build(None)
}
