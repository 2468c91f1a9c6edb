//! A link whose streams are cut without end.

use super::*;
/// Streams that one minute allows (`over.rs`), and those that are under way when it has been enough.
const CUTS: std::ops::RangeInclusive<usize> = 1_001..=1_400;

#[tokio::test]
async fn streams_cut_without_end_end_their_link_and_its_sessions_go_on() {
    let rig = Rig::new("floods");
    rig.knows(2, None);
    rig.knows(3, None);
    let (flooder, other) = (Arc::new(rig.client(2)), Arc::new(rig.client(3)));
    let mut sessions = Vec::new();
    for client in [&flooder, &other] {
        let mut writer = Client::over(client.clone()).pipe("p").unwrap().writer().await.unwrap();
        writer.send(b"before").await.unwrap();
        sessions.push(writer);
    }
    let link_of = async |client: &RemoteBroker| client.stream().await.unwrap().0;
    let (first, others) = (link_of(&flooder).await, link_of(&other).await);
    // One was cut to look at the link.
    let mut cuts = 1;
    // Each is opened and dropped.
    while flooder.stream().await.is_ok_and(|(link, _cut)| Arc::ptr_eq(&link, &first)) {
        cuts += 1;
        // So that the relay has seen nearly all of them when it says that it was enough.
        tokio::task::yield_now().await;
        assert!(cuts <= *CUTS.end(), "nothing ends it");
    }
    assert!(CUTS.contains(&cuts), "{cuts}");
    assert!(Arc::ptr_eq(&link_of(&other).await, &others), "nobody else's link ends");
    // What the flooder wrote in earnest goes on over its next link.
    for mut writer in sessions {
        writer.send(b"after").await.unwrap();
        writer.end(crate::Until::Stored).await.unwrap();
    }
}

#[tokio::test]
async fn answers_that_nobody_waits_for_are_cut_streams() {
    let rig = Rig::new("not-waited-for");
    rig.knows(2, None);
    let client = rig.client(2);
    let (first, _stream) = client.stream().await.unwrap();
    let mut asked = 0;
    while client.stream().await.is_ok_and(|(link, _stream)| Arc::ptr_eq(&link, &first)) {
        // Few enough looks at the link that they are no flood by themselves.
        for _ in 0..10 {
            assert!(client.ping(Bytes::new()).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        asked += 10;
        assert!(asked <= 2 * CUTS.end(), "nothing ends it");
    }
    assert!(asked >= 900, "{asked}");
}

#[tokio::test]
async fn streams_that_are_answered_are_no_flood() {
    let rig = Rig::new("no-flood");
    rig.knows(2, None);
    let client = rig.client(2);
    let (first, _stream) = client.stream().await.unwrap();
    for _ in 0..2 * CUTS.end() {
        client.ping(Bytes::new()).await.unwrap();
    }
    assert!(Arc::ptr_eq(&client.stream().await.unwrap().0, &first));
}
