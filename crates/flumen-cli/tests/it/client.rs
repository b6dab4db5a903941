//! The library's own client against the gateway, over a line that breaks all the time.

use flumen_client::{Client as Resuming, Reconnect, Transport};
use serde_json::{Value, json};

use crate::support::{Client, Cutter, Gateway, soon};

const MODEL: &str = "sim:ttft=1ms,tps=300,tokens=120,seed=3,lang=mix";

fn ask() -> String {
    json!({"model": MODEL, "stream": true, "messages": [{"role": "user", "content": "x"}]}).to_string()
}

async fn plain(gateway: &Gateway) -> String {
    let mut client = Client::connect(gateway.address).await;
    client.request("POST", "/v1/chat/completions", &[("accept", "text/plain")], &ask()).await;
    client.answer().await.text()
}

#[tokio::test]
async fn every_transport_gives_the_whole_answer_and_so_does_a_mix_of_them() {
    let gateway = Gateway::start("").await;
    let whole = plain(&gateway).await;
    let line = Cutter::before(gateway.address, 12_000).await;
    let all = [Transport::Sse, Transport::Ndjson, Transport::WebSocket, Transport::LongPoll];
    let each = all.map(|transport| vec![transport]);
    for transports in each.into_iter().chain([all.to_vec()]) {
        let before = line.cuts();
        let quick = Reconnect { base: std::time::Duration::from_millis(1), ..Reconnect::default() };
        let client = Resuming::builder(&format!("http://{}/v1", line.address))
            .transports(transports.clone())
            .rotate(transports.len() > 1)
            .reconnect(quick)
            .build()
            .unwrap();
        let mut stream = client.post("/chat/completions", ask()).stream();
        let (mut text, mut seq) = (String::new(), 0);
        while let Some(received) = soon(stream.next()).await {
            let received = received.unwrap_or_else(|error| panic!("{transports:?}: {error}"));
            seq += 1;
            assert_eq!(received.seq, Some(seq), "{transports:?}");
            if let Ok(chunk) = serde_json::from_slice::<Value>(&received.event.payload()) {
                text += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
            }
        }
        assert_eq!(text, whole, "{transports:?}");
        // A long poll has its own requests, small enough for the line now and then.
        assert!(line.cuts() > before + 1, "{transports:?}: {} cuts", line.cuts() - before);
    }
}

#[tokio::test]
async fn what_the_gateway_refuses_is_an_error_with_its_code() {
    let gateway = Gateway::start("").await;
    let client = Resuming::new(&format!("http://{}", gateway.address)).unwrap();
    let nobody = "0123456789abcdef0123456789abcdef";
    for transport in [Transport::Sse, Transport::Ndjson, Transport::WebSocket, Transport::LongPoll] {
        let mut stream = client.resume(nobody).transports([transport]).stream();
        let error = soon(stream.next()).await.unwrap().unwrap_err();
        assert_eq!((error.status(), error.code()), (Some(404), Some("stream_not_found")), "{transport:?}");
    }
    let mut stream = client.post("/v1/chat/completions", r#"{"model":"none","stream":true}"#).stream();
    let error = soon(stream.next()).await.unwrap().unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(404), Some("model_not_found")));
}
