//! The operator sees what happens, and never what was said.

use serde_json::{Value, json};

use crate::support::{Client, Gateway, Upstream, chat, event, post};

#[tokio::test]
async fn one_line_per_request_tells_everything_but_secrets() {
    const SAID: &str = "the-answer-itself";
    let upstream = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(event(SAID).as_bytes()).await;
        conn.chunk(b"data: [DONE]\n\n").await;
        conn.finish().await;
    })
    .await;
    let mut gateway = Gateway::before(upstream.address, "").await;
    let mut body = chat("renamed");
    body["messages"][0]["content"] = json!("the-prompt-itself");
    let answer = post(gateway.address, "/v1/chat/completions", &body).await;
    let line = gateway.access().await;
    for (key, value) in [
        ("method", json!("POST")),
        ("path", json!("/v1/chat/completions")),
        ("status", json!(200)),
        ("dialect", json!("openai-chat")),
        ("model", json!("renamed")),
        ("upstream", json!("actor")),
        ("tenant", Value::Null),
        ("cause", json!("complete")),
        ("stream", json!(true)),
        ("frames", json!(2)),
        ("body_bytes_in", json!(body.to_string().len())),
        ("body_bytes_out", json!(answer.body.len())),
        ("upstream_reused", json!(false)),
        ("upstream_body_bytes_in", json!(answer.body.len())),
        ("request_id", json!(answer.header("x-request-id").unwrap())),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    for key in [
        "connect_ms",
        "header_ms",
        "first_byte_ms",
        "first_token_ms",
        "total_ms",
        "largest_gap_ms",
        "paused_ms",
    ] {
        assert!(line[key].is_f64(), "{key} in {line}");
    }
    for key in
        ["header_bytes_in", "header_bytes_out", "upstream_header_bytes_in", "upstream_header_bytes_out"]
    {
        assert!(line[key].as_u64().unwrap() > 50, "{key} in {line}");
    }
    let shown = line.to_string() + &gateway.metrics().await;
    for secret in ["sk-very-secret", "the-prompt-itself", SAID] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn every_metric_is_there_and_counts() {
    let upstream = Upstream::start(|mut conn| async move {
        conn.stream_head().await;
        conn.chunk(event("a").as_bytes()).await;
        tokio::task::yield_now().await;
        conn.chunk(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n")
            .await;
        conn.chunk(b"data: [DONE]\n\n").await;
        conn.finish().await;
    })
    .await;
    let by_name = format!(
        "[upstreams.actor]\nbase_url = \"http://localhost:{}\"\n[models.\"*\"]\nupstream = \"actor\"\n",
        upstream.address.port()
    );
    let mut gateway = Gateway::start(&by_name).await;
    post(gateway.address, "/v1/chat/completions", &chat("m")).await;
    post(gateway.address, "/v1/chat/completions", &json!({})).await;
    gateway.access().await;
    gateway.access().await;
    let metrics = gateway.metrics().await;
    for line in [
        "flumen_stream_requests_total{model=\"*\",upstream=\"actor\",status=\"200\",cause=\"complete\"} 1",
        "flumen_stream_requests_total{model=\"\",upstream=\"\",status=\"400\",cause=\"rejected\"} 1",
        "flumen_errors_total{cause=\"rejected\",code=\"bad_request\"} 1",
        "flumen_stream_duration_seconds_count{model=\"*\",upstream=\"actor\"} 1",
        "flumen_stream_duration_seconds_bucket{le=\"600.0\",model=\"*\",upstream=\"actor\"} 1",
        "flumen_stream_first_token_seconds_count{model=\"*\",upstream=\"actor\"} 1",
        "flumen_active_streams{model=\"*\",upstream=\"actor\"} 0",
        "flumen_frames_in_total{model=\"*\",upstream=\"actor\"} 2",
        "flumen_frames_out_total{model=\"*\",upstream=\"actor\"} 2",
        "flumen_tokens_total{model=\"*\",upstream=\"actor\",kind=\"completion\"} 5",
        "flumen_upstream_connect_seconds_count{upstream=\"actor\"} 1",
        "flumen_upstream_header_seconds_count{upstream=\"actor\"} 1",
        "flumen_upstream_first_byte_seconds_count{upstream=\"actor\"} 1",
        "flumen_client_disconnects_total 0",
        "flumen_buffered_bytes 0",
        "flumen_open_connections 1",
        "# EOF",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in:\n{metrics}");
    }
    for name in [
        "flumen_stream_gap_seconds",
        "flumen_paused_seconds",
        "flumen_bytes_in",
        "flumen_bytes_out",
        "flumen_upstream_dns_seconds",
    ] {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "{name}");
    }
}

#[tokio::test]
async fn health_is_told() {
    let gateway = Gateway::start("").await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(Client::get(gateway.address, path).await.status, 200);
    }
    let metrics = Client::get(gateway.address, "/metrics").await;
    assert_eq!(
        metrics.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
}

#[tokio::test]
async fn a_path_cannot_forge_a_line_for_people() {
    let mut gateway = Gateway::start("[log]\naccess = \"json\"\n").await;
    Client::get(gateway.address, "/x%0a%22y").await;
    assert_eq!(gateway.access().await["path"], "/x%0a%22y");
}
