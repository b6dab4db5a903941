//! Not reading a WebSocket pauses the model.

use std::time::Duration;

use flumen_client::Transport;

use crate::{fast, gateway::Gateway};

const WINDOW: u64 = 64 * 1024;

#[tokio::test]
async fn credit_comes_only_as_events_are_taken() {
    let payloads: Vec<_> = (0..200).map(|n| format!("{n:05}{}", "x".repeat(4000))).collect();
    let size = (payloads[0].len() + "data: \n\n".len()) as u64;
    let gateway = Gateway::start(payloads.clone(), []).await;
    let client = fast(&gateway.url).transports([Transport::WebSocket]).build().unwrap();
    let mut stream = client.post("/v1/chat/completions", "{}").stream();
    let mut taken = 0;
    for payload in &payloads {
        let next = tokio::time::timeout(Duration::from_mins(1), stream.next());
        let received = next.await.unwrap().unwrap().unwrap();
        assert_eq!(&*received.event.payload(), payload.as_bytes());
        taken += size;
        // Give the server every chance to send too much.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let inner = gateway.state.lock().unwrap();
        assert!(inner.sent <= taken + WINDOW + size, "{} sent, {taken} taken", inner.sent);
        assert!(inner.credits.iter().sum::<u64>() <= taken);
    }
    assert!(stream.next().await.is_none());
    let credits = gateway.state.lock().unwrap().credits.clone();
    assert!(credits.len() >= 20 && credits.iter().all(|&bytes| bytes >= WINDOW / 2), "{credits:?}");
}

#[tokio::test]
async fn an_event_larger_than_the_window_comes_through() {
    let payloads = vec!["a".repeat(200_000), "b".repeat(200_000), "c".repeat(10)];
    let gateway = Gateway::start(payloads.clone(), []).await;
    let client = fast(&gateway.url).transports([Transport::WebSocket]).build().unwrap();
    let mut stream = client.post("/v1/chat/completions", "{}").stream();
    assert_eq!(crate::read_all(&mut stream).await, payloads);
}
