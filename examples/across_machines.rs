//! A relay for other machines and a client of it, in one program: keys, a listener over QUIC, and the same pipes as ever.
//!
//! In life the two are far apart: the relay's machine keeps its folder of keys, and the client's `connect("logs")` finds the relay in
//! `SKYPIPE_RELAY`, once a program has called the two `install` lines.

use std::error::Error as StdError;
use std::sync::Arc;

use skypipe_core::{Client, Code, Env, Gatekeeper, KeyPair, Listener, LocalBroker, Pipe, Relay, Until, registry};
use skypipe_keys::KeyFolder;
use skypipe_transport_quic::QuicListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let me = KeyPair::from_seed(&[7; 32]);
    let url = serve(&me).await?;

    // The client. `skypipe_keys::install()` would take this user's own key.
    skypipe_transport_quic::install();
    registry::install_signer(Arc::new(me));
    let logs = Client::at(&url)?.pipe("logs")?;

    let mut writer = logs.writer().await?;
    writer.send(b"from far away\n").await?;
    writer.end(Until::Stored).await?;

    let mut reader = logs.reader().await?;
    while let Some(record) = reader.next().await? {
        print!("{}", String::from_utf8_lossy(&record));
    }

    // Who has another key gets nothing.
    registry::install_signer(Arc::new(KeyPair::from_seed(&[8; 32])));
    let refused = Client::at(&url)?.pipe("logs")?.stat().await.err().map(|e| e.code());
    assert_eq!(refused, Some(Code::Access));
    Ok(())
}

/// A relay that lets `owner` in, on a port of its own; gives its URL, which has its key in it.
async fn serve(owner: &KeyPair) -> Result<String, Box<dyn StdError>> {
    let folder = tempfile::tempdir()?;
    let owner = Some((owner.public(), "me".to_owned()));
    let keys = Arc::new(KeyFolder::open(folder.path(), owner, Vec::new(), Env::system())?);
    let listener = QuicListener::bind("127.0.0.1:0".parse()?, keys.relay_key())?;
    let url = listener.url();
    let relay = Relay::new(LocalBroker::in_memory(Env::system())?).with_gatekeeper(keys).listen(Box::new(listener));
    tokio::spawn(async move {
        // The folder stays as long as the relay.
        let _folder = folder;
        relay.serve().await
    });
    Ok(url)
}
