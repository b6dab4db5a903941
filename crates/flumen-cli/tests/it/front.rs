//! The gateway called by gRPC, on the same port as HTTP.

use std::{net::SocketAddr, time::Duration};

use flumen_rpc::{
    Call, Client as Rpc, Code, Encoding, Exchange, Status,
    generation::{self, Ask, ClientMessage, Message, Pause, Resume, Say, ServerMessage, Start, Stop},
    grpc,
};
use flumen_wire::client::{Dialer, Endpoint, Options, Protocol};
use serde_json::json;

use crate::support::{Gateway, Service, soon};

const SIM: &str = "[upstreams.s]\nkind = \"sim\"\nfirst_token = \"1ms\"\ntokens_per_second = 1000\n[models.\"*\"]\nupstream = \"s\"\n";

fn client(address: SocketAddr, encoding: Encoding) -> Rpc {
    let endpoint: Endpoint = format!("http://{address}").parse().unwrap();
    let dialer = Dialer::new(endpoint.protocol(Protocol::Http2), Options::default()).unwrap();
    Rpc::Grpc(grpc::Client::new(vec![dialer], encoding, grpc::Options::default()))
}

struct Conversation {
    exchange: Exchange,
    encoding: Encoding,
    _client: Rpc,
}

impl Conversation {
    async fn begin(
        address: SocketAddr,
        encoding: Encoding,
        start: Start,
        edit: impl FnOnce(Call) -> Call,
    ) -> Self {
        let client = client(address, encoding);
        let exchange = soon(client.stream(&edit(generation::call(encoding)))).await.unwrap();
        let mut conversation = Self { exchange, encoding, _client: client };
        conversation.say(Ask::Start(start)).await;
        conversation
    }

    async fn say(&mut self, ask: Ask) {
        soon(self.exchange.outbound.send(ClientMessage::from(ask).encode(self.encoding))).await.unwrap();
    }

    async fn hear(&mut self) -> Option<Result<ServerMessage, Status>> {
        let message = soon(self.exchange.inbound.next()).await?;
        Some(message.map(|message| ServerMessage::decode(message, self.encoding).unwrap()))
    }

    async fn collect(mut self) -> Result<Vec<ServerMessage>, Status> {
        let mut all = Vec::new();
        while let Some(message) = self.hear().await {
            all.push(message?);
        }
        Ok(all)
    }
}

fn typed(model: &str) -> Start {
    let messages = vec![Message { role: "user".into(), content: "hello".into(), ..Message::default() }];
    Start { model: model.into(), messages, stream: true, ..Start::default() }
}

fn raw(model: &str, stream: bool) -> Start {
    let body = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hello"}]});
    Start { raw: body.to_string().into(), stream, ..Start::default() }
}

#[tokio::test]
async fn a_conversation_is_answered_in_the_words_of_the_contract() {
    let gateway = Gateway::start(SIM).await;
    for encoding in [Encoding::Proto, Encoding::Thrift] {
        let conversation =
            Conversation::begin(gateway.address, encoding, typed("sim:tokens=20"), |call| call).await;
        let says: Vec<_> =
            conversation.collect().await.unwrap().into_iter().filter_map(|say| say.message).collect();
        assert!(matches!(&says[0], Say::Accepted(accepted) if !accepted.id.is_empty()));
        let text: String = says
            .iter()
            .filter_map(|say| if let Say::Delta(delta) = say { Some(&*delta.text) } else { None })
            .collect();
        assert!(text.len() > 20, "{text}");
        assert!(says.iter().any(|say| matches!(say, Say::Usage(usage) if usage.completion_tokens == 20)));
        assert!(
            matches!(says.last(), Some(Say::Finish(finish)) if finish.reason == "stop" || finish.reason == "length")
        );
    }
}

#[tokio::test]
async fn raw_requests_get_the_frames_of_their_dialect() {
    let gateway = Gateway::start(SIM).await;
    for stream in [true, false] {
        let conversation =
            Conversation::begin(gateway.address, Encoding::Proto, raw("sim:tokens=5", stream), |call| call)
                .await;
        let says = conversation.collect().await.unwrap();
        let frames: Vec<serde_json::Value> = says
            .iter()
            .filter_map(|say| match &say.message {
                Some(Say::Delta(delta)) => Some(serde_json::from_slice(&delta.frame).unwrap()),
                _ => None,
            })
            .collect();
        let object = if stream { "chat.completion.chunk" } else { "chat.completion" };
        assert!(!frames.is_empty() && frames.iter().all(|frame| frame["object"] == object), "{frames:?}");
        assert!(matches!(says.last().unwrap().message, Some(Say::Finish(_))));
    }
}

#[tokio::test]
async fn errors_are_statuses_with_a_reason() {
    let config = format!(
        "{}\n[models.known]\nupstream = \"s\"\n",
        SIM.replace("[models.\"*\"]\nupstream = \"s\"\n", "")
    );
    let gateway = Gateway::start(&config).await;
    for (start, code, reason) in [
        (typed("unknown"), Code::NotFound, "model_not_found"),
        (Start { raw: "no json".into(), ..Start::default() }, Code::InvalidArgument, "bad_request"),
    ] {
        let conversation = Conversation::begin(gateway.address, Encoding::Proto, start, |call| call).await;
        let status = conversation.collect().await.unwrap_err();
        assert_eq!((status.code, status.reason().as_deref()), (code, Some(reason)), "{status:?}");
    }
    let start = Start { dialect: "latin".into(), ..typed("known") };
    let status =
        Conversation::begin(gateway.address, Encoding::Proto, start, |call| call).await.collect().await;
    assert_eq!(status.unwrap_err().code, Code::InvalidArgument);
}

#[tokio::test]
async fn keys_are_asked_for_as_over_http() {
    let key = "sk-flumen-test-key-0123456789abcdef";
    let hash = format!("blake3:{}", blake3::hash(key.as_bytes()).to_hex());
    let config = format!("{SIM}[keys.k]\nhash = \"{hash}\"\ntenant = \"acme\"\n");
    let mut gateway = Gateway::start(&config).await;
    let without =
        Conversation::begin(gateway.address, Encoding::Proto, typed("sim:tokens=2"), |call| call).await;
    assert_eq!(without.collect().await.unwrap_err().code, Code::Unauthenticated);
    let with = |call: Call| call.with("authorization", format!("Bearer {key}")).with("x-request-id", "mine");
    let conversation =
        Conversation::begin(gateway.address, Encoding::Proto, typed("sim:tokens=2"), with).await;
    conversation.collect().await.unwrap();
    let line = loop {
        let line = gateway.asked().await;
        if line["status"] == 200 {
            break line;
        }
    };
    assert_eq!((&line["tenant"], &line["request_id"]), (&json!("acme"), &json!("mine")));
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
}

#[tokio::test]
async fn pause_resume_and_stop_reach_the_model() {
    let mut gateway = Gateway::start(SIM).await;
    let mut conversation =
        Conversation::begin(gateway.address, Encoding::Proto, typed("sim:tokens=endless"), |call| call).await;
    for _ in 0..5 {
        conversation.hear().await.unwrap().unwrap();
    }
    conversation.say(Ask::Pause(Pause {})).await;
    let silence = Duration::from_millis(300);
    while tokio::time::timeout(silence, conversation.exchange.inbound.next()).await.is_ok() {}
    conversation.say(Ask::Resume(Resume {})).await;
    conversation.hear().await.unwrap().unwrap();
    conversation.say(Ask::Stop(Stop { cause: "enough".into() })).await;
    let last = conversation.collect().await.unwrap();
    assert!(matches!(&last.last().unwrap().message, Some(Say::Finish(finish)) if finish.reason == "stopped"));
    assert_eq!(gateway.asked().await["cause"], "client_gone");
}

#[tokio::test]
async fn a_stream_that_is_kept_is_resumed_after_the_last_message() {
    let gateway = Gateway::start(SIM).await;
    let resuming = |call: Call| call.with("flumen-resume", "1");
    let mut first =
        Conversation::begin(gateway.address, Encoding::Proto, typed("sim:tokens=30"), resuming).await;
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let message = first.hear().await.unwrap().unwrap();
        if let Some(Say::Delta(delta)) = message.message {
            seen.push((message.id, delta.text));
        }
    }
    drop(first);
    let after = Start { resume_after: seen[9].0.clone(), ..typed("sim:tokens=30") };
    let second = Conversation::begin(gateway.address, Encoding::Proto, after, resuming).await;
    let rest = second.collect().await.unwrap();
    let texts = rest.into_iter().filter_map(|message| match message.message {
        Some(Say::Delta(delta)) => Some(delta.text),
        _ => None,
    });
    let resumed: String = seen.into_iter().map(|(_, text)| text).chain(texts).collect();
    let whole =
        Conversation::begin(gateway.address, Encoding::Proto, typed("sim:tokens=30"), |call| call).await;
    let whole: String = whole
        .collect()
        .await
        .unwrap()
        .into_iter()
        .filter_map(
            |message| if let Some(Say::Delta(delta)) = message.message { Some(delta.text) } else { None },
        )
        .collect();
    assert_eq!(resumed, whole, "a seam shows");
}

#[tokio::test]
async fn the_deadline_of_a_caller_travels_on_unless_the_stream_outlives_it() {
    let mut service = Service::start();
    let gateway = Gateway::start(&service.config("grpc", "")).await;
    let patience = Duration::from_secs(20);
    for kept in [false, true] {
        let conversation = Conversation::begin(gateway.address, Encoding::Proto, typed("count:1"), |call| {
            let call = call.within(patience);
            if kept { call.with("flumen-resume", "1") } else { call }
        });
        conversation.await.collect().await.unwrap();
        let left = service.asked().await.call.left().unwrap();
        // A little more, so that it is not the service that gives up.
        assert_eq!(left > patience + Duration::from_secs(5), kept, "{left:?}");
    }
}

#[tokio::test]
async fn a_caller_whose_time_is_up_is_no_fault_of_the_service() {
    let mut service = Service::start();
    let mut gateway = Gateway::start(&service.config("grpc", "")).await;
    for model in ["silent", "endless"] {
        let impatient = |call: Call| call.within(Duration::from_millis(200));
        let conversation =
            Conversation::begin(gateway.address, Encoding::Proto, typed(model), impatient).await;
        assert_eq!(conversation.collect().await.unwrap_err().code, Code::DeadlineExceeded, "{model}");
        let line = gateway.asked().await;
        assert_eq!(
            (&line["cause"], &line["attempts"]),
            (&json!("client_gone"), &json!(null)),
            "{model}: {line}"
        );
        service.dropped().await.expect("it is cancelled");
        service.asked().await;
    }
}
