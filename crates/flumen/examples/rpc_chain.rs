//! A client's events, a flow, a streaming call and a service: a slow client makes the service wait.
//! `cargo run -p flumen --example model_service`, then this, then `curl -N -d 'Tell me.' http://127.0.0.1:3000/ask`.

use flumen::{
    Router,
    flow::{Context, Task, task},
    post,
    rpc::{
        Client, Encoding,
        generation::{Ask, ClientMessage, Message, ServerMessage, Start, call},
    },
    serve,
    task::rpc::{rpc, text_event},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = |at, default: &str| std::env::args().nth(at).unwrap_or_else(|| default.to_owned());
    let client = Client::grpc(&argument(1, "http://127.0.0.1:50051"), Encoding::Proto)?;
    let ask = task(|_: Context, prompt: String| async move {
        let messages = vec![Message { role: "user".into(), content: prompt, ..Message::default() }];
        Ok(ClientMessage::from(Ask::Start(Start { messages, stream: true, ..Start::default() })))
    });
    let flow = ask.chain(rpc::<_, ServerMessage, _>(client, call(Encoding::Proto), text_event));
    let router = Router::new().route("/ask", post(serve::sse(flow)));
    Ok(serve(&argument(2, "127.0.0.1:3000"), router).await?)
}
