//! `skypipe join [TICKET]`

use skypipe_core::{Code, Error};
use skypipe_keys::Ticket;

use super::on_this_thread;
use crate::args::JoinArgs;
use crate::broker::Relay;
use crate::exit::{Exit, say};
use crate::{switch, ticket_source};

pub(crate) fn run(relay: Option<&str>, args: JoinArgs) -> Result<Exit, Error> {
    if relay.is_some() {
        return Err(Error::new(Code::Usage, "a ticket says which relay it is for: leave --relay out"));
    }
    let ticket: Ticket = ticket_source::ticket(&args)?.parse()?;
    let relay = Relay::with_ticket(&ticket.urls, ticket.token)?;
    on_this_thread(async move {
        // The first answer is the proof: the key is in the relay's list from then on.
        let pong = relay.broker.ping(bytes::Bytes::new()).await?;
        say(&format!("joined over {}", pong.path));
        switch::switch_to(&ticket.urls).await?;
        Ok(Exit::Done)
    })
}
