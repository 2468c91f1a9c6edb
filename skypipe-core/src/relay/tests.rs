//! What can be shown only from inside. What every transport must do is shown in `tests/conformance.rs`.

use futures::StreamExt;

use super::*;
use crate::error::Code;
use crate::local_broker::LocalBroker;
use crate::mem::{MemListener, MemTransport};
use crate::remote::next;
use crate::transport::Transport;
use crate::wire::{Answer, Hello, carry};

#[tokio::test(start_paused = true)]
async fn who_says_nothing_hears_why_it_is_dropped() {
    let broker = LocalBroker::in_memory(Env::system()).unwrap();
    let relay = Relay::new(broker).listen(Box::new(MemListener::bind("says nothing").unwrap()));
    tokio::spawn(async move { relay.serve().await });
    let link = MemTransport.connect("mem:says nothing").await.unwrap();
    let (_sink, mut source) = carry(link.open().await.unwrap());
    let start = tokio::time::Instant::now();
    let hello = next::<Hello>(&mut source).await.unwrap();
    assert!(hello.is_some() && start.elapsed() >= RelayLimits::default().handshake);
    assert_eq!(next::<Answer>(&mut source).await.unwrap_err().code(), Code::Timeout);
    assert!(source.next().await.is_none());
}
