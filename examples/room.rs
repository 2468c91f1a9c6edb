//! Both ways over one pipe: three in a room, each hears the two others, all in one order.

use std::error::Error as StdError;

use skypipe_core::{BrokerPipe, Client, Env, LocalBroker, Pipe, Until};

const NAMES: [&str; 3] = ["anna", "ben", "cleo"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    // `connect("room").await?` in life; `skypipe chat room` joins in.
    let room = Client::over(LocalBroker::in_memory(Env::system())?).pipe("room")?;
    let everybody_is_there = std::sync::Arc::new(tokio::sync::Barrier::new(NAMES.len()));
    let ends: Vec<_> = NAMES.map(|name| tokio::spawn(sit(name, room.clone(), everybody_is_there.clone()))).into();
    for end in ends {
        end.await??;
    }
    Ok(())
}

async fn sit(
    name: &str,
    room: BrokerPipe,
    everybody: std::sync::Arc<tokio::sync::Barrier>,
) -> Result<(), skypipe_core::Error> {
    let mut end = room.duplex().await?;
    everybody.wait().await;
    end.send(format!("{name} says hello").as_bytes()).await?;
    for _ in 1..NAMES.len() {
        let Some(heard) = end.next().await? else { break };
        println!("{name} hears: {}", String::from_utf8_lossy(&heard));
        assert!(!heard.starts_with(name.as_bytes()), "nobody hears himself");
    }
    end.end(Until::Stored).await.map(drop)
}
