//! Sorts numbers on all cores, in their turns: `cargo run --release -p flumen --example sort -- 10000000`.

use flumen::flow::{Result, executor::Executor};
use tokio::time::Instant;

#[tokio::main]
async fn main() -> Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(1_000_000), |count| count.parse())?;
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed
    };
    let numbers: Vec<u64> = (0..count).map(|_| next()).collect();
    let (mut alone, started) = (numbers.clone(), Instant::now());
    alone.sort_unstable();
    println!("{count} numbers alone:       {:.1?}", started.elapsed());
    let started = Instant::now();
    let sorted = Executor::compute().queue("sort").sort(numbers).await?;
    println!("{count} numbers in parallel: {:.1?}", started.elapsed());
    println!("{}", if sorted == alone { "the same" } else { "different!" });
    Ok(())
}
