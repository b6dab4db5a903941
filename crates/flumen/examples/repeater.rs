//! A loop A -> B -> C without callbacks, which ends well when it is asked to: `cargo run -p flumen --example repeater`, then
//! Ctrl-C; or with a number of milliseconds after which it stops by itself.

use std::time::Duration;

use flumen::flow::{Backoff, Context, Error, Result, Task, task};

#[tokio::main]
async fn main() -> Result<()> {
    let limit = std::env::args().nth(1).and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
    let a = task(|_, round: u32| async move {
        println!("A: round {round}");
        Ok(round)
    });
    let b = task(|_, round: u32| async move {
        // Fails now and then: the round is repeated after a pause.
        if round % 5 == 4 && by_chance(round) {
            return Err(Error::failed("B: not now").retryable());
        }
        println!("B: round {round}");
        Ok(round)
    });
    let c = task(|_, round: u32| async move {
        println!("C: round {round}");
        Ok(round + 1)
    });
    let rounds = a.named("A").chain(b.named("B")).chain(c.named("C"));
    let backoff = Backoff::endless().pauses(Duration::from_millis(10), Duration::from_secs(1));
    let run = rounds.repeat().forever(backoff).every(Duration::from_millis(30)).start(&Context::new(), 1);
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = tokio::time::sleep(limit.unwrap_or(Duration::MAX)) => {}
    }
    println!("{}", run.tree());
    run.stop();
    println!("stopped before round {}", run.await?);
    Ok(())
}

/// Heads or tails.
fn by_chance(round: u32) -> bool {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(round).is_multiple_of(2)
}
