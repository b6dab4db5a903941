//! A model service that tells the words of its prompt back, one by one, at the pace that its reader has:
//! `cargo run -p flumen --example model_service -- 127.0.0.1:50051`, then put a gateway before it (docs/rpc.md).

use std::{env, time::Duration};

use flumen::rpc::{
    Status,
    generation::Usage,
    service::{Generate, Request, Server, Writer},
};
use tokio::time::sleep;

struct Parrot;

impl Generate for Parrot {
    async fn generate(&self, request: Request, mut writer: Writer) -> Result<(), Status> {
        let (prompt, most) = (request.prompt(), request.max_tokens().unwrap_or(u64::MAX));
        let (mut said, mut words) = (0, prompt.split_inclusive(' ').cycle());
        while said < most && (request.model().ends_with("endless") || said < prompt.split(' ').count() as u64)
        {
            writer.text(words.next().unwrap_or_default()).await?; // waits while the reader is slow
            said += 1;
            sleep(Duration::from_millis(20)).await;
        }
        writer.usage(Usage { prompt_tokens: said, completion_tokens: said }).await?;
        writer.finish("stop").await
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    eprintln!("a model service on {address}");
    Server::new(Parrot).serve(&address).await
}
