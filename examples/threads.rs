//! Without a runtime: a program of plain threads.

use std::error::Error as StdError;
use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use skypipe_core::{Client, Env, LocalBroker, Until, blocking};

fn main() -> Result<(), Box<dyn StdError>> {
    // `blocking::connect("lines")?` in life.
    let broker = blocking::block_on(async { LocalBroker::in_memory(Env::system()) })??;
    let lines = blocking::Pipe::from(Client::over(broker).pipe("lines")?);

    let writing = {
        let lines = lines.clone();
        std::thread::spawn(move || -> Result<(), skypipe_core::Error> {
            let mut writer = lines.writer()?;
            for number in 1..=3 {
                writer.send(format!("line {number}\n").as_bytes())?;
            }
            writer.end(Until::Stored).map(drop)
        })
    };
    let mut count = 0;
    for line in BufReader::new(lines.reader()?).lines() {
        println!("{}", line?);
        count += 1;
    }
    assert_eq!(count, 3);
    writing.join().map_err(|_| "the writer panicked")??;
    assert!(blocking::finish(Duration::from_secs(10))?);
    Ok(())
}
