//! Records that are values: a shop writes orders, a kitchen takes them one by one, and a shell could do either.

use std::error::Error as StdError;

use serde::{Deserialize, Serialize};
use skypipe_core::{Client, Env, LocalBroker, Mode, Pipe, ReaderOptions, Until, WriterOptions};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    table: u8,
    dish: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    // `connect("orders").await?` in life. There `skypipe write -q orders '{"table": 3, "dish": "soup"}'` is an order as well.
    let pipe = Client::over(LocalBroker::in_memory(Env::system())?).pipe("orders")?;
    let orders = pipe.typed::<Order>();

    let mut shop = orders.writer_with(WriterOptions::default().with_mode(Mode::Queue)).await?;
    for (table, dish) in [(3, "soup"), (4, "bread"), (3, "tea")] {
        shop.send(&Order { table, dish: dish.to_owned() }).await?;
    }
    shop.end(Until::Stored).await?;

    let mut options = ReaderOptions::default().with_mode(Mode::Queue);
    options.no_wait = true;
    let mut kitchen = orders.reader_with(options).await?;
    let mut cooked = 0;
    while let Some(order) = kitchen.next_lease().await? {
        println!("{} for table {}", order.dish, order.table);
        order.done();
        cooked += 1;
    }
    kitchen.reader().settled().await?;
    assert_eq!(cooked, 3);
    Ok(())
}
