//! Requests and replies: two repliers share the questions, and one of them gives up now and then.

use std::error::Error as StdError;
use std::time::Duration;

use skypipe_core::{BrokerPipe, Client, Env, LocalBroker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    // `connect("squares").await?` in life.
    let squares = Client::over(LocalBroker::in_memory(Env::system())?).pipe("squares")?;
    tokio::spawn(answer("anna", squares.clone(), true));
    tokio::spawn(answer("ben", squares.clone(), false));

    let requester = squares.requester().await?;
    for number in 1..=6_u64 {
        let reply = requester.request(number.to_string().as_bytes(), Duration::from_secs(10)).await?;
        println!("{number}: {}", String::from_utf8_lossy(&reply));
        assert!(reply.starts_with((number * number).to_string().as_bytes()));
    }
    Ok(())
}

async fn answer(who: &str, squares: BrokerPipe, is_moody: bool) -> Result<(), skypipe_core::Error> {
    let mut replier = squares.replier().await?;
    while let Some(request) = replier.next().await? {
        let number: u64 = String::from_utf8_lossy(request.body()).parse().unwrap_or_default();
        if is_moody && number.is_multiple_of(3) {
            // Dropped without a reply: somebody else is asked.
            continue;
        }
        request.reply(format!("{} says {who}", number * number).as_bytes()).await?;
    }
    Ok(())
}
