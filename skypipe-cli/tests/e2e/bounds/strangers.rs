//! Without a key that the relay knows nothing succeeds, on any listener (P13).

use std::sync::Arc;

use skypipe_core::{
    Broker as _, Caller, Code, Env, Epoch, Error, KeyPair, ListQuery, Owner, Pattern, RemoteBroker, registry,
};
use skypipe_core::{Invite, ReaderAttach, Rights, Take, WriterAttach};
use skypipe_test::proof::{Proof, cases};

use super::world::{World, pipe, runtime};

#[test]
fn proof_p13_strangers() {
    let operations = cases(50, 1_000, 100_000);
    let proof = Proof::begin("P13", "operations of strangers");
    let world = World::new(&[]);
    world.home.store("secret", "nobody's business\n");
    let mut failures = Vec::new();
    runtime().block_on(async {
        for number in 0..operations {
            let url = world.url(["quic:", "wss:"][number as usize % 2]);
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&(number + 1).to_le_bytes());
            let stranger = RemoteBroker::new(registry::lookup(url).unwrap(), url);
            let stranger = stranger.with_signer(Arc::new(KeyPair::from_seed(&seed)));
            match operation(&stranger, number / 2 % 9).await {
                Err(error) if error.code() == Code::Access => {}
                other => failures.push(format!("operation {number} over {url}: {other:?}")),
            }
        }
    });
    world.home.skypipe(["read", "secret"]).ok().gave("nobody's business\n");
    proof.end(operations, &failures);
}

async fn operation(stranger: &RemoteBroker, which: u64) -> Result<(), Error> {
    let (caller, secret) = (Caller::in_process(), pipe("secret"));
    let session = Env::system().session();
    match which {
        0 => stranger.ping(bytes::Bytes::new()).await.map(drop),
        1 => {
            let query = ListQuery { owner: Owner::SELF, pattern: Pattern::parse("**")?, after: None, limit: 10 };
            stranger.list(&caller, query).await.map(drop)
        }
        2 => stranger.stat(&caller, &secret).await.map(drop),
        3 => stranger.remove(&caller, &secret).await,
        4 => {
            let attach =
                WriterAttach { session, epoch: Epoch(1), mode: None, resume: None, settings: Default::default() };
            stranger.attach_writer(&caller, &secret, attach).await.map(drop)
        }
        5 => {
            let attach = ReaderAttach {
                session,
                epoch: Epoch(1),
                mode: None,
                take: Take::Peek,
                keep: false,
                no_wait: true,
                credit: 1 << 20,
                mid_record: false,
                resume: None,
                tape: Default::default(),
            };
            stranger.attach_reader(&caller, &secret, attach).await.map(drop)
        }
        6 => stranger.keys().await.map(drop),
        7 => {
            let expires = std::time::Duration::from_secs(60);
            stranger.invite(Invite { pipes: Vec::new(), rights: Rights::ALL, expires, uses: 1 }).await.map(drop)
        }
        _ => stranger.revoke_key("owner").await.map(drop),
    }
}
