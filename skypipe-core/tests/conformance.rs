//! The transports that core has built in do what every transport must.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::Path;

use futures::{SinkExt, StreamExt};
use skypipe_core::local_socket::{LocalSocketListener, LocalSocketTransport};
use skypipe_core::mem::{MemListener, MemTransport};
use skypipe_core::{ReaderDown, WriterUp};
use skypipe_test::conformance::{Ends, Rig, batch, run};

async fn mem_ends(folder: &Path) -> Ends {
    Ends::new(MemListener::bind(&folder.display().to_string()).unwrap(), MemTransport)
}

async fn unix_ends(folder: &Path) -> Ends {
    Ends::new(LocalSocketListener::bind(folder.join("s")).unwrap(), LocalSocketTransport)
}

skypipe_test::conformance!(mem: mem_ends);
skypipe_test::conformance!(unix: unix_ends);

#[test]
fn over_mem_a_batch_is_the_same_memory_at_both_ends() {
    run(async {
        let rig = Rig::toy(&mem_ends).await;
        let (mut reader, mut writer) = (rig.reader().await, rig.writer().await);
        let sent = batch(0, 1000);
        writer.up.send(WriterUp::Batch(sent.clone())).await.unwrap();
        let Some(Ok(ReaderDown::Batch { batch: got, .. })) = reader.down.next().await else { panic!("no batch") };
        assert_eq!(got.bodies().as_ptr(), sent.bodies().as_ptr());
    });
}
