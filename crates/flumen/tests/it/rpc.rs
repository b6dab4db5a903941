//! Calls as tasks, and flows that are called.

use std::net::SocketAddr;

use flumen::{
    Event,
    flow::{Context, ErrorKind, Task, task},
    futures_util::StreamExt,
    rpc::{
        Call, Client, Encoding, Metadata, Services, Status,
        generation::{Ask, ClientMessage, Message, Say, ServerMessage, Start, call},
        grpc,
        service::Server,
        thrift::{self, Malformed, Reader, Struct, Writer, message::Args},
        ttheader,
    },
    serve::generating,
    task::rpc::{Thrift, rpc, rpc_exchange, rpc_stream, text_event, unary},
    wire::{
        client::{Dialer, Endpoint, Options, Protocol},
        listen::{Listener, Shutdown},
    },
};

fn dialer(address: SocketAddr) -> Dialer {
    let endpoint: Endpoint = format!("http://{address}").parse().unwrap();
    Dialer::new(endpoint.protocol(Protocol::Http2), Options::default()).unwrap()
}

fn client(address: SocketAddr) -> Client {
    Client::Grpc(grpc::Client::new(vec![dialer(address)], Encoding::Proto, grpc::Options::default()))
}

fn start(prompt: &str) -> ClientMessage {
    let messages = vec![Message { role: "user".into(), content: prompt.into(), ..Message::default() }];
    ClientMessage::from(Ask::Start(Start { messages, stream: true, ..Start::default() }))
}

/// A flow that tells the words of its prompt, and fails at the word `fail`.
fn words() -> SocketAddr {
    let flow = task(|cx: Context, start: Start| async move {
        for word in start.messages[0].content.split_inclusive(' ') {
            if word == "fail" {
                return Err(flumen::flow::Error::failed("a secret of the flow"));
            }
            cx.out().send(Event::data(word)).await?;
        }
        Ok(())
    });
    serve(Server::new(generating(flow)))
}

fn serve<G: flumen::rpc::service::Generate>(server: Server<G>) -> SocketAddr {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server.serve_on(listener, Shutdown::new()));
    address
}

#[tokio::test]
async fn a_flow_is_called_and_its_events_are_the_answer() {
    let client = client(words());
    let mut answers: Vec<String> = Vec::new();
    let mut stream =
        rpc_stream::<_, ServerMessage>(&client, &call(Encoding::Proto), &start("panta rhei")).await.unwrap();
    let mut finished = false;
    while let Some(message) = stream.next().await {
        match message.unwrap().message.unwrap() {
            Say::Delta(delta) => answers.push(delta.text),
            Say::Finish(_) => finished = true,
            other => panic!("{other:?}"),
        }
    }
    assert!(finished && answers == ["panta ", "rhei"], "{answers:?}");
}

#[tokio::test]
async fn a_flow_that_fails_tells_its_kind_and_keeps_its_words_to_itself() {
    let client = client(words());
    let mut stream =
        rpc_stream::<_, ServerMessage>(&client, &call(Encoding::Proto), &start("a fail")).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let status = stream.next().await.unwrap().unwrap_err();
    assert!(!status.message.contains("secret"), "{status}");
}

#[tokio::test]
async fn a_call_is_a_task_that_emits() {
    let flow = rpc::<_, ServerMessage, _>(client(words()), call(Encoding::Proto), text_event);
    let mut events = flow.clone().stream::<Event>(&Context::new(), start("all is well"));
    let mut text = String::new();
    while let Some(event) = events.next().await {
        text.push_str(&String::from_utf8_lossy(&event.unwrap().payload()));
    }
    assert_eq!(text, "all is well");
    // Nobody there: an error of the flow that may be tried again.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let flow = rpc::<_, ServerMessage, Event>(client(nobody), call(Encoding::Proto), text_event);
    let error = flow.run(&Context::new(), start("x")).await.unwrap_err();
    assert!(error.is_retryable() && error.source_as::<Status>().is_some(), "{error}");
}

#[tokio::test]
async fn the_deadline_of_a_flow_is_that_of_its_calls() {
    let flow = task(|_: Context, _: Start| async move {
        std::future::pending::<()>().await;
        Ok(())
    });
    let address = serve(Server::new(generating(flow)));
    let flow = rpc::<_, ServerMessage, Event>(client(address), call(Encoding::Proto), text_event);
    let cx =
        Context::new().with_deadline(tokio::time::Instant::now() + std::time::Duration::from_millis(100));
    let error = flow.run(&cx, start("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

#[derive(Clone, Debug, PartialEq)]
struct Number {
    value: i64,
}

impl Struct for Number {
    fn write(&self, to: &mut Writer) {
        to.field(1, &self.value);
    }

    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        let mut value = None;
        from.fields(|from, field| match field.id {
            1 => from.set(field, &mut value),
            _ => from.skip(field.of),
        })?;
        Ok(Self { value: thrift::required(value, "Number", "value")? })
    }
}

/// Doubles numbers: one by one in a stream, or alone.
fn doubling() -> SocketAddr {
    let services = Services::new()
        .method("Double", "Stream", |mut incoming| async move {
            while let Some(message) = incoming.requests.next().await {
                let number: Number = thrift::decode(message?).unwrap();
                incoming.answers.send(thrift::encode(&Number { value: number.value * 2 })).await?;
            }
            Ok(Metadata::default())
        })
        .method("Double", "One", |mut incoming| async move {
            let message = incoming.requests.next().await.unwrap()?;
            let number: Args<Number> = thrift::decode(message).unwrap();
            let reply = thrift::message::Reply(Number { value: number.0.value * 2 });
            incoming.answers.send(thrift::encode(&reply)).await?;
            Ok(Metadata::default())
        });
    let nothing = task(|_: Context, _: Start| async move { Ok(()) });
    serve(Server::new(generating(nothing)).with(services))
}

#[tokio::test]
async fn both_directions_of_a_call_are_a_streams() {
    let address = doubling();
    for client in [
        Client::Grpc(grpc::Client::new(vec![dialer(address)], Encoding::Thrift, grpc::Options::default())),
        Client::TtHeader(ttheader::Client::new(dialer(address), ttheader::Options::default())),
    ] {
        let mut answers =
            rpc_exchange::<Thrift<Number>>(&client, &Call::new("Double", "Stream")).await.unwrap();
        for value in 0..10 {
            answers.send(&Thrift(Number { value })).await.unwrap();
            assert_eq!(answers.next().await.unwrap().unwrap().0.value, value * 2);
        }
        answers.close().await.unwrap();
        assert!(answers.next().await.is_none());
    }
}

#[tokio::test]
async fn a_unary_call_of_thrift_is_a_task() {
    let address = doubling();
    for framing in [ttheader::Framing::Framed, ttheader::Framing::TtHeader] {
        let options = ttheader::Options { unary: framing, ..ttheader::Options::default() };
        let client = ttheader::Client::new(dialer(address), options);
        let double = unary::<Number, Number>(client, Call::new("Double", "One"));
        let four_times = double.clone().chain(double);
        let answer = four_times.run(&Context::new(), Number { value: 5 }).await.unwrap();
        assert_eq!(answer, Number { value: 20 }, "{framing:?}");
    }
}
