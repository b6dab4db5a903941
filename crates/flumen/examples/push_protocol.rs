//! A protocol of one's own with server push: a client subscribes with a line, the server pushes numbered messages until
//! the client leaves. Runs both: `cargo run -p flumen --example push_protocol`.

use std::time::Duration;

use flumen::{
    flow::Result,
    futures_util::{SinkExt, StreamExt},
    push::{Server, Shutdown},
    task::tcp,
    wire::boundary::Lines,
};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::bind("127.0.0.1:0").await?;
    let address = server.local_addr()?.expect("TCP has an address").to_string();
    let shutdown = Shutdown::new();
    let serving = tokio::spawn(server.serve(
        Lines::new,
        |mut peer| async move {
            let Some(topic) = peer.next().await? else { return Ok(()) };
            for number in 1.. {
                peer.push(format!("{topic} {number}")).await?;
                peer.unless_left(sleep(Duration::from_millis(20))).await?;
            }
            Ok(())
        },
        shutdown.clone(),
    ));
    let mut client = tcp::connect(&address).await?.framed(Lines::new());
    client.send("river").await?;
    for _ in 0..5 {
        if let Some(message) = client.next().await {
            println!("{}", message?);
        }
    }
    drop(client);
    shutdown.drain();
    serving.await?;
    println!("the server has seen the client leave, and stopped");
    Ok(())
}
