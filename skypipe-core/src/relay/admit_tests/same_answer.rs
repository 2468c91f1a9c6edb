//! A pipe that is forbidden and one that is not there: the same frames, after the same time.

use std::time::Instant;

use futures::{SinkExt, StreamExt};
use skypipe_test::proof::{Proof, cases};

use super::*;
use crate::broker::{ReaderAttach, Take, WriterAttach, WriterResume};
use crate::id::{Epoch, SessionId};
use crate::name::{PipeName, PipeRef};
use crate::wire::{Frame, Hello, Message, Request, carry};

/// A difference that stays is one in every round; what else the machine does differs from round to round.
const ROUNDS: usize = 5;
/// The medians of a round differ by less.
const DIFFERENCE_MAX: Duration = Duration::from_micros(50);

/// What key 4 may not tell apart, of pipes that it may not open: key 2's secret, which holds something, what key 2 does not have, what
/// it might see if it were there, and what somebody has whom nobody knows.
const PIPES: [(u8, &str); 4] = [(2, "secret"), (2, "no-such"), (2, "shared/no-such"), (9, "no-such")];

async fn rig(name: &str) -> (Rig, RemoteBroker) {
    let rig = Rig::new(name);
    rig.knows(2, None);
    rig.knows(4, Some(vec![grant(owner(2), "shared/**", Rights { read: true, ..Rights::NONE })]));
    write(rig.client(2), "secret").await.unwrap();
    let client = rig.client(4);
    client.admitted().await.unwrap();
    (rig, client)
}

fn pipe((seed, name): (u8, &str)) -> PipeRef {
    PipeRef { owner: owner(seed), path: PipeName::new(name).unwrap().path() }
}

/// Everything that can be asked of one pipe.
fn questions(pipe: &PipeRef) -> Vec<Request> {
    let session = SessionId([5; 16]);
    let reads = |no_wait| ReaderAttach {
        session,
        epoch: Epoch(1),
        mode: None,
        take: Take::Any,
        keep: false,
        no_wait,
        credit: 1 << 20,
        mid_record: false,
        resume: None,
        tape: Default::default(),
    };
    let writes =
        |epoch, resume| WriterAttach { session, epoch: Epoch(epoch), mode: None, resume, settings: Default::default() };
    vec![
        Request::Stat(pipe.clone()),
        Request::Remove(pipe.clone()),
        Request::AttachReader(pipe.clone(), reads(false)),
        Request::AttachReader(pipe.clone(), reads(true)),
        Request::AttachWriter(pipe.clone(), writes(1, None)),
        Request::AttachWriter(pipe.clone(), writes(2, Some(WriterResume::default()))),
    ]
}

/// All that the relay says to a question, until it closes the stream.
async fn answer(client: &RemoteBroker, question: Request) -> Vec<Frame> {
    let (_link, stream) = client.stream().await.unwrap();
    let (mut sink, source) = carry(stream);
    sink.feed(Hello::new(SoftwareVersion::CURRENT, Default::default()).into_frame()).await.unwrap();
    sink.send(question.into_frame()).await.unwrap();
    source.map(Result::unwrap).collect().await
}

#[tokio::test]
async fn forbidden_and_unknown_are_the_same_frames() {
    let (_rig, client) = rig("same-frames").await;
    let mut answers = Vec::new();
    for place in PIPES {
        let mut all = Vec::new();
        for question in questions(&pipe(place)) {
            all.push(answer(&client, question).await);
        }
        assert!(all.iter().all(|frames| frames.len() == 2), "a hello and a refusal: {all:?}");
        answers.push(all);
    }
    assert!(answers.iter().all(|all| *all == answers[0]), "{answers:?}");
}

/// Questions of each kind in one round: as many as asked for.
#[tokio::test]
async fn proof_p13_forbidden_and_unknown_take_the_same_time() {
    let tries = cases(2_000, 10_000, 100_000) as usize;
    let (proof, mut failures) = (Proof::begin("P13", "tries of each kind of answer"), Vec::new());
    let (_rig, client) = rig("same-time").await;
    let forbidden = pipe(PIPES[0]);
    for other in &PIPES[1..] {
        let mut differences = Vec::new();
        while differences.last().is_none_or(|last| *last >= DIFFERENCE_MAX) {
            if differences.len() >= ROUNDS {
                failures.push(format!("{other:?} is told from what is forbidden: {differences:?}"));
                break;
            }
            differences.push(difference(&client, [&forbidden, &pipe(*other)], tries).await);
        }
        println!("{other:?}: {differences:?}");
    }
    proof.end(tries as u64 * PIPES.len() as u64, &failures);
}

/// By how much the medians of the times differ that answers about two pipes take. Asked in turn, so that both meet the same machine.
async fn difference(client: &RemoteBroker, pipes: [&PipeRef; 2], tries: usize) -> Duration {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..tries {
        for (pipe, times) in pipes.iter().zip(&mut times) {
            let start = Instant::now();
            answer(client, Request::Stat((*pipe).clone())).await;
            times.push(start.elapsed());
        }
    }
    let [a, b] = times.map(|mut times| {
        times.sort_unstable();
        times[tries / 2]
    });
    a.abs_diff(b)
}
