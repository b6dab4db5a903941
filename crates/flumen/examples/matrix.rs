//! Multiplies matrices on a queue of its own, so that other work gets its turns meanwhile:
//! `cargo run --release -p flumen --example matrix -- 400`.

use std::sync::Arc;

use flumen::flow::{Context, Error, Result, Task, executor::Executor, task};

/// Rows of equal length.
type Matrix = Vec<Vec<f64>>;

#[tokio::main]
async fn main() -> Result<()> {
    let size = std::env::args().nth(1).map_or(Ok(200), |size| size.parse())?;
    let queue = Executor::compute().queue("matrix");
    let rows = queue.clone();
    let multiply = task(move |_, (a, b): (Matrix, Matrix)| {
        let rows = rows.clone();
        async move {
            if a.iter().any(|row| row.len() != b.len()) {
                return Err(Error::failed("the first must have as many columns as the second has rows"));
            }
            let b = Arc::new(b);
            let columns = b.first().map_or(0, Vec::len);
            let row = move |row: Vec<f64>| {
                (0..columns).map(|to| row.iter().zip(&*b).map(|(x, other)| x * other[to]).sum()).collect()
            };
            rows.map(a, row).await
        }
    });
    let identity = |row| (0..size).map(|column| f64::from(u8::from(row == column))).collect();
    let numbers: Matrix =
        (0..size).map(|row| (0..size).map(|column| f64::from(row * column % 7)).collect()).collect();
    let product: Matrix = multiply
        .named("multiply")
        .run(&Context::new(), (numbers.clone(), (0..size).map(identity).collect()))
        .await?;
    println!("{size} x {size}: {}", if product == numbers { "A x 1 = A" } else { "wrong!" });
    let stats = queue.stats();
    println!(
        "queue {}: turns of {:.1?} at the median, {:.1?} at most",
        stats.name, stats.run.p50, stats.run.max
    );
    Ok(())
}
