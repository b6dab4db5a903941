//! The full chain: client, gateway, streaming RPC, model service; and a pause that reaches the model.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};

use crate::support::{Client, Gateway, Service, chat, post};

const KINDS: [&str; 3] = ["grpc", "thrift-grpc", "ttheader"];

/// The text of a stream of chat chunks.
fn said(body: &str) -> String {
    let payloads = body.lines().filter_map(|line| line.strip_prefix("data: "));
    let text = payloads.filter_map(|payload| {
        let chunk: Value = serde_json::from_str(payload).ok()?;
        Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned())
    });
    text.collect()
}

fn counted(to: u64) -> String {
    (0..to).flat_map(|number| [number.to_string(), " ".to_owned()]).collect()
}

#[tokio::test]
async fn an_answer_comes_whole_and_in_order_over_every_protocol() {
    for kind in KINDS {
        let mut service = Service::start();
        let mut gateway = Gateway::start(&service.config(kind, "")).await;
        let mut body = chat("count:2000");
        body["stream_options"] = json!({"include_usage": true});
        let answer = post(gateway.address, "/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
        assert_eq!(said(&answer.text()), counted(2000), "{kind}");
        assert!(
            answer.text().ends_with("data: [DONE]\n\n")
                && answer.text().contains("\"completion_tokens\":2000")
        );
        let request = service.asked().await;
        assert_eq!(serde_json::from_slice::<Value>(&request.start.raw).unwrap()["model"], "count:2000");
        let line = gateway.asked().await;
        assert_eq!(
            (&line["cause"], &line["completion_tokens"]),
            (&json!("complete"), &json!(2000)),
            "{kind}"
        );
        assert!(line["service_first_token_ms"].is_number() && line["service_total_ms"].is_number(), "{line}");
        // And the same answer as a whole.
        let mut body = chat("count:3");
        body["stream"] = false.into();
        let answer = post(gateway.address, "/v1/chat/completions", &body).await.json();
        assert_eq!(answer["choices"][0]["message"]["content"], counted(3), "{kind}: {answer}");
        assert_eq!(answer["usage"]["total_tokens"], 8);
    }
}

#[tokio::test]
async fn trace_and_request_id_reach_the_service() {
    for kind in KINDS {
        let mut service = Service::start();
        let gateway = Gateway::start(&service.config(kind, "")).await;
        let mut client = Client::connect(gateway.address).await;
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let headers =
            [("traceparent", trace), ("x-request-id", "mine-7"), ("content-type", "application/json")];
        client.request("POST", "/v1/chat/completions", &headers, &chat("count:1").to_string()).await;
        let answer = client.answer().await;
        assert_eq!(answer.header("x-request-id"), Some("mine-7"));
        let request = service.asked().await;
        assert_eq!((request.traceparent(), request.request_id()), (Some(trace), Some("mine-7")), "{kind}");
        if kind != "ttheader" {
            // TTHeader Streaming of Kitex carries no deadline; ours does, but its services need not heed it.
            assert!(request.call.deadline.is_some(), "{kind}");
        }
    }
}

#[tokio::test]
async fn frames_of_the_service_pass_byte_for_byte() {
    let service = Service::start();
    let gateway = Gateway::start(&service.config("grpc", "")).await;
    let answer = post(gateway.address, "/v1/chat/completions", &chat("frames")).await;
    let expected = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}], \"own\": 1.0}\n\ndata: {\"choices\":[]}\n\ndata: [DONE]\n\n";
    assert_eq!(answer.text(), expected);
}

#[tokio::test]
async fn what_the_service_refuses_is_a_real_status() {
    for kind in KINDS {
        let service = Service::start();
        let gateway = Gateway::start(&service.config(kind, "")).await;
        let answer = post(gateway.address, "/v1/chat/completions", &chat("bad")).await;
        assert_eq!(answer.status, 400, "{kind}: {}", answer.text());
        assert!(answer.text().contains("the prompt is bad"), "{kind}: {}", answer.text());
        let answer = post(gateway.address, "/v1/chat/completions", &chat("busy")).await;
        if kind == "ttheader" {
            // It has no place for details.
            assert_eq!(answer.status, 429, "{kind}");
            continue;
        }
        assert_eq!(
            (answer.status, &*answer.code(), answer.header("retry-after")),
            (429, "slow_down", Some("7")),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_generation_that_breaks_off_is_an_error_and_never_a_finished_answer() {
    for kind in KINDS {
        let service = Service::start();
        let gateway = Gateway::start(&service.config(kind, "")).await;
        for (model, code) in [("breaks", "upstream_"), ("forgets", "upstream_truncated")] {
            let answer = post(gateway.address, "/v1/chat/completions", &chat(model)).await;
            assert_eq!(
                (answer.status, &*said(&answer.text())),
                (200, "a "),
                "{kind} {model}: {}",
                answer.text()
            );
            assert!(
                answer.text().contains("\"error\"") && answer.text().contains(code),
                "{kind}: {}",
                answer.text()
            );
            assert!(!answer.text().contains("[DONE]"), "{kind} {model}");
        }
    }
}

#[tokio::test]
async fn a_service_that_dies_in_the_middle_is_an_explicit_error() {
    for kind in KINDS {
        let service = Service::start();
        let mut gateway = Gateway::start(&service.config(kind, "")).await;
        let (mut client, _) = Client::open(gateway.address, &chat("endless")).await;
        client.until("data: ").await;
        service.shutdown.abort();
        let rest = client.until("\r\n0\r\n\r\n").await;
        assert!(rest.contains("\"error\"") && !rest.contains("[DONE]"), "{kind}: {rest}");
        assert_eq!(gateway.asked().await["cause"], "upstream_error", "{kind}");
    }
}

#[tokio::test]
async fn a_slow_client_pauses_the_model_and_loses_nothing() {
    for kind in KINDS {
        let service = Service::start();
        let mut gateway = Gateway::start(&service.config(kind, "")).await;
        let (mut client, _) = Client::open(gateway.address, &chat("endless:400")).await;
        client.until("data: ").await;
        // Nobody reads any more. The model is told, and stands still.
        stalled(&service, 1).await;
        let produced = service.produced.load(SeqCst);
        // What is on its way: the gateway's log, the client's socket with its receive buffer, and little more.
        assert!(produced < 8 << 20, "{kind}: {produced} bytes for nobody");
        let mut text = String::new();
        let far = produced + (1 << 20);
        while (text.len() as u64) < far {
            text.push_str(&client.until("\n\n").await);
        }
        let said = said(&text);
        let numbers = said.split(['.', ' ']).filter(|part| !part.is_empty()).map(str::parse::<u64>);
        let numbers: Vec<_> = numbers.map_while(Result::ok).collect();
        // The first event was read before.
        assert!(numbers.len() > 100 && numbers.windows(2).all(|two| two[1] == two[0] + 1), "{kind}");
        drop(client);
        let line = gateway.asked().await;
        assert!(line["paused_ms"].as_f64().unwrap() > 0.0, "{kind}: {line}");
        assert!(service.stats.paused_for() > std::time::Duration::ZERO);
    }
}

#[tokio::test]
async fn flow_control_alone_pauses_a_service_that_is_not_told() {
    for kind in KINDS {
        let service = Service::start();
        let config = service.config(kind, "").replace("[models", "pause = false\n[models");
        let gateway = Gateway::start(&config).await;
        let (mut client, _) = Client::open(gateway.address, &chat("endless:400")).await;
        client.until("data: ").await;
        stalled(&service, 1).await;
        assert!(service.produced.load(SeqCst) < 10 << 20, "{kind}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_model_and_says_why() {
    for kind in KINDS {
        let mut service = Service::start();
        let mut gateway = Gateway::start(&service.config(kind, "")).await;
        let (mut client, _) = Client::open(gateway.address, &chat("endless")).await;
        client.until("data: ").await;
        drop(client);
        let reason = service.dropped().await.expect("a reason");
        assert_eq!(reason.reason, "client_gone", "{kind}");
        assert_eq!(gateway.asked().await["cause"], "client_gone");
        // Before the first token as well.
        let mut client = Client::connect(gateway.address).await;
        client.post("/v1/chat/completions", &chat("silent").to_string()).await;
        service.asked().await;
        while service.asked().await.model() != "silent" {}
        drop(client);
        assert!(service.dropped().await.is_some(), "{kind}");
    }
}

#[tokio::test]
async fn clocks_of_the_gateway_reach_the_service_with_their_names() {
    for kind in KINDS {
        let mut service = Service::start();
        let gateway = Gateway::start(&service.config(kind, "[timeouts]\ntotal = \"300ms\"\n")).await;
        let answer = post(gateway.address, "/v1/chat/completions", &chat("endless")).await;
        assert!(answer.text().contains("total_timeout") || answer.text().contains("deadline"), "{kind}");
        assert!(service.dropped().await.is_some(), "{kind}");
    }
}

#[tokio::test]
async fn requests_can_be_spelt_out() {
    let mut service = Service::start();
    let config = service.config("grpc", "").replace("[models", "request = \"messages\"\n[models");
    let gateway = Gateway::start(&config).await;
    let mut body = chat("count:1");
    body["messages"] = json!([{"role": "user", "content": "hello"}]);
    body["max_tokens"] = 9.into();
    post(gateway.address, "/v1/chat/completions", &body).await;
    let start = service.asked().await.start;
    assert_eq!((&*start.messages[0].content, start.sampling.unwrap().max_tokens), ("hello", Some(9)));
    assert!(start.raw.starts_with(b"{"), "and nothing of it is lost");
}

#[tokio::test]
async fn an_answer_goes_on_at_another_service_when_its_own_dies() {
    let (one, two) = (Service::start(), Service::start());
    let config = format!(
        "[upstreams.one]\nkind = \"grpc\"\nendpoints = \"http://{}\"\n\
         [upstreams.two]\nkind = \"grpc\"\nendpoints = \"http://{}\"\n\
         [pools.both]\nupstreams = [\"one\", \"two\"]\n[models.\"*\"]\npool = \"both\"\n",
        one.address, two.address
    );
    let gateway = Gateway::start(&config).await;
    one.shutdown.abort();
    for _ in 0..4 {
        let answer = post(gateway.address, "/v1/chat/completions", &chat("count:3")).await;
        assert_eq!((answer.status, said(&answer.text())), (200, counted(3)));
    }
}

#[tokio::test]
async fn an_unwell_service_is_noticed_by_its_health_check() {
    let service = Service::start();
    let config = service.config("grpc", "[health]\ncheck_interval = \"100ms\"\n");
    let config = config.replace("[models", "health_check = true\n[models");
    let mut gateway = Gateway::start(&config).await;
    let answer = post(gateway.address, "/v1/chat/completions", &chat("count:3")).await;
    assert_eq!(answer.status, 200);
    service.shutdown.abort();
    gateway.message("does not answer its health checks").await;
}

#[tokio::test]
async fn memory_stays_flat_for_hundreds_of_clients_that_do_not_read() {
    const STREAMS: usize = 300;
    for kind in ["grpc", "ttheader"] {
        let service = Service::start();
        let gateway = Gateway::start(&service.config(kind, "")).await;
        // What every process needs once is not counted.
        let (_warm, _) = Client::open(gateway.address, &chat("endless:400")).await;
        let before = gateway.resident();
        let mut clients = Vec::new();
        for _ in 0..STREAMS {
            clients.push(Client::open(gateway.address, &chat("endless:400")).await);
        }
        stalled(&service, STREAMS as u64 + 1).await;
        let produced = service.produced.load(SeqCst);
        let grown = gateway.resident().saturating_sub(before);
        println!(
            "{kind}: {} KiB of memory, {} KiB produced per stream",
            grown / STREAMS / 1024,
            produced / 1024 / 1001
        );
        assert!(grown < STREAMS * 256 * 1024, "{kind}: {grown} bytes for {STREAMS} streams");
        // The gateway's share, and what the kernel holds of two connections.
        assert!(produced < (STREAMS as u64 + 1) << 20, "{kind}: {produced} bytes for nobody");
    }
}

/// Waits until so many generations wait for their readers, and what they have produced stands still. Hundreds of streams on two busy
/// cores take their time.
async fn stalled(service: &Service, generations: u64) {
    let standing = async {
        let (mut last, mut still) = (0, 0);
        while still < 10 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let now = service.produced.load(SeqCst);
            let stands = service.stats.paused() >= generations && now == last;
            still = if stands { still + 1 } else { 0 };
            last = now;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), standing)
        .await
        .expect("it stands still within a minute");
}
