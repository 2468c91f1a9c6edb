//! Hosts that come and go.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::wire::SoftwareVersion;
use crate::{BrokerPipe, Code, Error, Pipe, PipeName, Until};

/// Starts a host on this test's runtime, of this very version, and counts how often.
#[derive(Default)]
struct Here {
    started: Mutex<Vec<tokio::task::JoinHandle<Result<(), Error>>>>,
}

impl Starter for Here {
    fn start(&self, folder: &LocalFolder) -> Result<(), Error> {
        let folder = folder.clone();
        self.started.lock().unwrap().push(tokio::spawn(async move { serve(&folder, HostOptions::default()).await }));
        Ok(())
    }
}

struct Rig {
    _temp: tempfile::TempDir,
    folder: LocalFolder,
    starter: Arc<Here>,
    broker: Arc<RemoteBroker>,
}

fn rig() -> Rig {
    let temp = tempfile::tempdir().unwrap();
    let folder = LocalFolder::at(temp.path().join("home")).unwrap();
    let starter = Arc::new(Here::default());
    let transport = LocalTransport::new(folder.clone(), starter.clone());
    Rig { _temp: temp, folder, starter, broker: Arc::new(RemoteBroker::new(Arc::new(transport), LOCAL_URL)) }
}

impl Rig {
    fn pipe(&self) -> BrokerPipe {
        BrokerPipe::new(self.broker.clone(), crate::Caller::in_process(), PipeName::new("p").unwrap())
    }

    /// Hosts with these options and waits until it accepts.
    async fn host(&self, mut options: HostOptions) -> tokio::task::JoinHandle<Result<(), Error>> {
        let (ready, accepts) = tokio::sync::oneshot::channel();
        options.ready = Some(Box::new(move |_| ready.send(()).unwrap_or_default()));
        let folder = self.folder.clone();
        let host = tokio::spawn(async move { serve(&folder, options).await });
        accepts.await.unwrap();
        host
    }
}

fn version(software: SoftwareVersion) -> HostOptions {
    HostOptions { software: Some(software), ..HostOptions::default() }
}

#[tokio::test]
async fn an_older_host_steps_down_and_sessions_go_on_at_the_next() {
    let rig = rig();
    let old = rig.host(version(SoftwareVersion::new(0, 0, 1))).await;
    // A client as old as the host: it writes and stays.
    let socket = RemoteBroker::new(Arc::new(crate::local_socket::LocalSocketTransport), &rig.folder.url());
    let socket = Arc::new(socket.with_version(SoftwareVersion::new(0, 0, 1)));
    let pipe = BrokerPipe::new(socket, crate::Caller::in_process(), PipeName::new("p").unwrap());
    let mut writer = pipe.writer().await.unwrap();
    writer.send(b"before\n").await.unwrap();
    writer.settled().await.unwrap();

    let pong = rig.broker.ping(Default::default()).await.unwrap();
    assert_eq!(pong.software, SoftwareVersion::CURRENT);
    old.await.unwrap().unwrap();

    writer.send(b"after\n").await.unwrap();
    writer.end(Until::Stored).await.unwrap();
    let mut reader = rig.pipe().reader().await.unwrap();
    let mut text = Vec::new();
    while let Some(record) = reader.next().await.unwrap() {
        text.extend_from_slice(&record.body);
    }
    assert_eq!(text, b"before\nafter\n");
}

#[tokio::test]
async fn a_newer_host_stays() {
    let rig = rig();
    let newer = SoftwareVersion::new(99, 0, 0);
    let _host = rig.host(version(newer)).await;
    assert_eq!(rig.broker.ping(Default::default()).await.unwrap().software, newer);
    assert!(rig.starter.started.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_idle_host_goes_and_the_next_client_starts_one() {
    let rig = rig();
    let idle = HostOptions { idle: Some(Duration::from_millis(1)), ..HostOptions::default() };
    let host = rig.host(idle).await;
    host.await.unwrap().unwrap();
    let mut writer = rig.pipe().writer().await.unwrap();
    writer.send(b"x").await.unwrap();
    writer.end(Until::Stored).await.unwrap();
    assert!(!rig.starter.started.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_host_drains_with_clients_attached() {
    let rig = rig();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stop_when = Box::pin(async move { drop(stopped.await) });
    let host = rig.host(HostOptions { stop: Some(stop_when), ..HostOptions::default() }).await;
    let pipe = rig.pipe();
    let mut reader = pipe.reader().await.unwrap();
    let mut writer = pipe.writer().await.unwrap();
    writer.send(b"one").await.unwrap();
    assert_eq!(&reader.next().await.unwrap().unwrap().body[..], b"one");
    drop(stop);
    host.await.unwrap().unwrap();
    // Both go on at the host that the session starts.
    writer.send(b"two").await.unwrap();
    assert_eq!(&reader.next().await.unwrap().unwrap().body[..], b"two");
    let (ended, last) = tokio::join!(writer.end(Until::Delivered), reader.next());
    ended.unwrap();
    assert!(last.unwrap().is_none());
}

#[tokio::test]
async fn one_folder_has_one_host() {
    let rig = rig();
    let _host = rig.host(HostOptions::default()).await;
    let error = serve(&rig.folder, HostOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Locked);
    assert!(error.text().contains(&std::process::id().to_string()), "{error}");
}
