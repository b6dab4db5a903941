//! Writes messages to a topic of Kafka and reads them back as a stream of events:
//! `cargo run --bin kafka -- 127.0.0.1:9092`.

use std::collections::BTreeMap;

use flumen::{
    Event,
    flow::{Context, Result, Task, task},
    futures_util::StreamExt,
};
use rskafka::{
    client::{
        ClientBuilder,
        consumer::{StartOffset, StreamConsumerBuilder},
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};

const MESSAGES: usize = 100;

#[tokio::main]
async fn main() -> Result<()> {
    let broker = std::env::args().nth(1).unwrap_or("127.0.0.1:9092".into());
    let open = task(|_, broker: String| async move {
        let client = ClientBuilder::new(vec![broker]).build().await?;
        let topic = format!("rivers-{}", std::process::id());
        client.controller_client()?.create_topic(&topic, 1, 1, 5_000).await?;
        Ok(client.partition_client(topic, 0, UnknownTopicHandling::Retry).await?)
    });
    let write = |_, partition: PartitionClient| async move {
        let record = |n| Record {
            key: None,
            value: Some(format!("river {n}").into_bytes()),
            headers: BTreeMap::new(),
            timestamp: chrono::DateTime::UNIX_EPOCH,
        };
        partition.produce((0..MESSAGES).map(record).collect(), Compression::NoCompression).await?;
        Ok(partition)
    };
    let read = |cx: Context, partition: PartitionClient| async move {
        let mut records = StreamConsumerBuilder::new(partition.into(), StartOffset::Earliest).build();
        for _ in 0..MESSAGES {
            let Some(record) = records.next().await else { break };
            cx.out().send(Event::data(record?.0.record.value.unwrap_or_default())).await?;
        }
        Ok(())
    };
    let flow = open.named("open").then(write).then(read).named("read");
    let mut events = flow.stream::<Event>(&Context::new(), broker);
    let (mut count, mut last) = (0, String::new());
    while let Some(event) = events.next().await {
        last = String::from_utf8_lossy(&event?.payload()).into_owned();
        count += 1;
    }
    println!("{count} messages, the last is {last:?}");
    Ok(())
}
