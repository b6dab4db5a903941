//! A client's events, a flow, a streaming call and a service: a slow client makes the service wait.
//! `cargo run -p flumen --example model_service`, then this, then `curl -N -d 'Tell me.' http://127.0.0.1:3000/ask`.

use flumen::{
    Router,
    flow::{Context, Task, task},
    post,
    rpc::{
        Client, Encoding,
        generation::{Ask, ClientMessage, Message, ServerMessage, Start, call},
        grpc,
    },
    serve,
    task::rpc::{rpc, text_event},
    wire::client::{Dialer, Options, Protocol},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = "http://127.0.0.1:50051".parse()?;
    let dialer =
        Dialer::new(flumen::wire::client::Endpoint::protocol(endpoint, Protocol::Http2), Options::default())?;
    let client = Client::Grpc(grpc::Client::new(vec![dialer], Encoding::Proto, grpc::Options::default()));
    let ask = task(|_: Context, prompt: String| async move {
        let messages = vec![Message { role: "user".into(), content: prompt, ..Message::default() }];
        Ok(ClientMessage::from(Ask::Start(Start { messages, stream: true, ..Start::default() })))
    });
    let flow = ask.chain(rpc::<_, ServerMessage, _>(client, call(Encoding::Proto), text_event));
    serve("127.0.0.1:3000", Router::new().route("/ask", post(serve::sse(flow)))).await?;
    Ok(())
}
