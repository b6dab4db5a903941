//! Pages of listed origins may use the gateway, others get nothing.

use crate::support::{Answer, Client, Gateway, Upstream, chat};

async fn ask(gateway: &Gateway, method: &str, headers: &[(&str, &str)]) -> Answer {
    let mut client = Client::connect(gateway.address).await;
    client.request(method, "/v1/chat/completions", headers, &chat("m").to_string()).await;
    client.answer().await
}

const LISTED: &str = "[cors]\norigins = [\"https://chat.example.com\"]\n";

async fn start(config: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::events(&["data: 1\n\n", "data: [DONE]\n\n"]).await;
    let gateway = Gateway::before(upstream.address, config).await;
    (upstream, gateway)
}

#[tokio::test]
async fn a_listed_page_may_ask_and_read() {
    let (_upstream, gateway) = start(LISTED).await;
    let origin = ("origin", "https://chat.example.com");
    let preflight = ask(
        &gateway,
        "OPTIONS",
        &[
            origin,
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "flumen-resume, content-type"),
        ],
    )
    .await;
    assert_eq!(preflight.status, 200);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://chat.example.com"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("flumen-resume, content-type"));
    assert!(preflight.header("access-control-allow-methods").unwrap().contains("DELETE"));
    assert_eq!(preflight.header("access-control-allow-credentials"), None);
    let answer = ask(&gateway, "POST", &[origin, ("flumen-resume", "1")]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://chat.example.com"));
    assert!(answer.header("access-control-expose-headers").unwrap().contains("flumen-stream-id"));
    assert!(answer.header("vary").unwrap().to_lowercase().contains("origin"));
}

#[tokio::test]
async fn a_page_that_is_not_listed_gets_no_data() {
    let (upstream, gateway) = start(LISTED).await;
    for origin in
        ["https://evil.example.com", "https://chat.example.com.evil.com", "http://chat.example.com", "null"]
    {
        let answer = ask(&gateway, "POST", &[("origin", origin)]).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "origin_not_allowed"), "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let preflight =
            ask(&gateway, "OPTIONS", &[("origin", origin), ("access-control-request-method", "POST")]).await;
        assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (403, None));
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn the_gateways_own_page_and_programs_need_no_list() {
    let (_upstream, gateway) = start("").await;
    assert_eq!(ask(&gateway, "POST", &[("origin", "http://test")]).await.status, 200, "its own host");
    assert_eq!(ask(&gateway, "POST", &[]).await.status, 200);
    assert_eq!(ask(&gateway, "POST", &[("origin", "http://test.evil.com")]).await.status, 403);
}

#[tokio::test]
async fn credentials_are_for_listed_pages_and_any_page_may_be_listed_without() {
    let (_upstream, gateway) = start(&format!("{LISTED}credentials = true\n")).await;
    let answer = ask(&gateway, "POST", &[("origin", "https://chat.example.com")]).await;
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    let (_upstream, gateway) = start("[cors]\norigins = \"*\"\n").await;
    let answer = ask(&gateway, "POST", &[("origin", "https://any.example.com")]).await;
    assert_eq!((answer.status, answer.header("access-control-allow-credentials")), (200, None));
}
