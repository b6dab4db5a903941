//! Streams rows of `PostgreSQL` through a flow, with a retried connection:
//! `cargo run --bin postgres -- "host=/var/run/postgresql user=postgres"`.

use flumen::{
    Event,
    flow::{Backoff, Context, Frames, ResultExt, Task, task},
    futures_util::{StreamExt, pin_mut},
};

#[tokio::main]
async fn main() -> flumen::flow::Result<()> {
    let config = std::env::args().nth(1).unwrap_or("host=127.0.0.1 user=postgres".into());
    let connect = task(|_, config: String| async move {
        let (client, connection) =
            tokio_postgres::connect(&config, tokio_postgres::NoTls).await.or_retry()?;
        tokio::spawn(connection);
        Ok(client)
    });
    let rows = |cx: Context, client: tokio_postgres::Client| async move {
        let rows = client.query_raw("SELECT n * n FROM generate_series(1, 1000) AS n", [0_i32; 0]).await?;
        pin_mut!(rows);
        while let Some(row) = rows.next().await {
            // Waits while the reader is slow, and with it the rows.
            cx.out().send(Event::data(row?.get::<_, i32>(0).to_string())).await?;
        }
        Ok(())
    };
    let sum = task(|_, mut rows: Frames<Event>| async move {
        let mut sum = 0;
        while let Some(row) = rows.next().await {
            sum += String::from_utf8_lossy(&row?.payload()).parse::<i64>()?;
        }
        Ok(sum)
    });
    let flow = connect.retry(Backoff::attempts(5)).named("connect").then(rows).pipe(sum);
    println!("the first thousand squares sum up to {}", flow.run(&Context::new(), config).await?);
    Ok(())
}
