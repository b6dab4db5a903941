//! Asks `MySQL` (or `MariaDB`) two things at the same time, over its client's own pool:
//! `cargo run --bin mysql -- mysql://root@127.0.0.1/mysql`.

use std::time::Duration;

use flumen::flow::{Context, Result, Task, parallel, task};
use mysql_async::{Pool, prelude::Queryable};

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or("mysql://root@127.0.0.1/mysql".into());
    let pool = Pool::from_url(&url)?;
    let ask = |sql: &'static str| {
        task(move |_, pool: Pool| async move {
            let mut connection = pool.get_conn().await?;
            Ok(connection.query_first::<i64, _>(sql).await?.unwrap_or_default())
        })
    };
    let both = parallel((ask("SELECT SLEEP(0.2) + 20").named("slow"), ask("SELECT 1 + 21").named("fast")));
    let flow = both.timeout(Duration::from_secs(10)).then(|_, (slow, fast)| async move { Ok(slow + fast) });
    println!("the answers sum up to {}", flow.run(&Context::new(), pool.clone()).await?);
    pool.disconnect().await?;
    Ok(())
}
