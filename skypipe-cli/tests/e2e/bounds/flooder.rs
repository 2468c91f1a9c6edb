//! One client that opens streams and cuts them as fast as it can, and others beside it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use skypipe_test::proof::{Proof, cases};

use super::world::{World, drain, flood, link, rate, read, runtime};

/// Others keep so much of their rate, in per cent.
const KEPT_MIN: f64 = 90.0;
/// How long each is looked at, in turns: what else the machine does falls on both alike.
const WINDOW: Duration = Duration::from_millis(500);

#[test]
fn proof_p6_a_flood_of_cut_streams() {
    let windows = cases(3, 30, 300);
    let proof = Proof::begin("P6", "half seconds beside a flood of cut streams");
    let (world, elsewhere) = (World::new(&[]), World::new(&[]));
    let runtime = runtime();
    let kept = runtime.block_on(async {
        let url = world.url("quic:").to_owned();
        let count = Arc::new(AtomicU64::new(0));
        let reader = read(&link(&url), "healthy", 4 << 20).await.unwrap();
        tokio::spawn(drain(reader, count.clone()));
        tokio::spawn(flood(url.clone(), "healthy"));
        rate(&count, WINDOW).await;
        let (mut alone, mut beside, mut control) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..windows {
            alone.push(rate(&count, WINDOW).await);
            for (relay, rates) in [(&world, &mut beside), (&elsewhere, &mut control)] {
                let flooder = tokio::spawn(cuts(relay.url("quic:").to_owned()));
                rates.push(rate(&count, WINDOW).await);
                flooder.abort();
            }
        }
        let [alone, beside, control] = [alone, beside, control].map(|r| median(r) / 1e6);
        println!("P6: {alone:.0} MB/s alone, {beside:.0} beside a flood, {control:.0} beside a flood of another relay");
        100.0 * beside / control
    });
    println!("P6: others kept {kept:.0} % of their rate beside a flood of cut streams");
    runtime.shutdown_background();
    let failures = (kept < KEPT_MIN).then(|| format!("others kept {kept:.0} %"));
    proof.end(windows, failures.as_slice());
}

/// Asks, and does not wait for the answer, for ever.
async fn cuts(url: String) {
    loop {
        let link = link(&url);
        while link.ping(Bytes::new()).await.is_ok() {
            for _ in 0..100 {
                let asked = link.ping(Bytes::new());
                drop(futures::FutureExt::now_or_never(asked));
            }
            tokio::task::yield_now().await;
        }
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
