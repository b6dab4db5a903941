//! A stream that is cut anywhere comes whole.

use flumen_client::Transport;

use crate::{
    fast, read_all,
    server::{Asked, Reply, Server},
};

const PAYLOADS: [&str; 4] = ["{\"n\":1}", "two\nlines", "{\"n\":3}", "[DONE]"];

/// The events after the one that the request says it saw.
fn answer(asked: &Asked) -> Option<Reply> {
    let seen: usize =
        asked.header("last-event-id").map_or(0, |id| id.strip_prefix("5f0c.1-").unwrap().parse().unwrap());
    let ndjson = asked.header("accept") == Some("application/x-ndjson");
    let events: String = PAYLOADS
        .iter()
        .zip(1..)
        .skip(seen)
        .map(|(payload, seq)| {
            let id = format!("5f0c.1-{seq}");
            if ndjson {
                let data =
                    if payload.starts_with('{') { (*payload).to_owned() } else { format!("{payload:?}") };
                format!("{{\"id\":\"{id}\",\"seq\":{seq},\"data\":{data}}}\n")
            } else {
                format!("data: {}\nid: {id}\n\n", payload.replace('\n', "\ndata: "))
            }
        })
        .collect();
    let kind = if ndjson { "application/x-ndjson" } else { "text/event-stream" };
    (seen < PAYLOADS.len()).then(|| Reply::resumable(kind, &events))
}

fn answer_or_end(asked: &Asked) -> Reply {
    answer(asked).unwrap_or_else(|| Reply::new("204 No Content", "", ""))
}

async fn cut_at_every_byte(transport: Transport) {
    let first = Asked {
        method: "POST".into(),
        path: String::new(),
        headers: [(
            "accept".into(),
            if transport == Transport::Sse { "" } else { "application/x-ndjson" }.into(),
        )]
        .into(),
        body: String::new(),
    };
    for at in 0..answer(&first).unwrap().len() {
        let server = Server::start(move |number, asked| {
            let reply = answer_or_end(asked);
            if number == 1 { reply.cut(at) } else { reply }
        })
        .await;
        let client = fast(&server.url).transports([transport]).build().unwrap();
        let mut stream = client.post("/v1/chat/completions", "{}").stream();
        assert_eq!(read_all(&mut stream).await, PAYLOADS, "cut at {at}");
        let asked = server.asked();
        // Before the head was whole, the same POST; after it, the stream by its name.
        if let Some(second) = asked.get(1) {
            if second.method == "POST" {
                assert_eq!(second.header("idempotency-key"), asked[0].header("idempotency-key"));
                assert_eq!((second.header("last-event-id"), second.body.as_str()), (None, "{}"));
            } else {
                assert_eq!((second.method.as_str(), second.path.as_str()), ("GET", "/v1/streams/5f0c"));
            }
        }
        assert_eq!(stream.stats().repeats, 0);
        assert_eq!(stream.stats().events, 4);
    }
}

#[tokio::test]
async fn events_come_once_wherever_the_stream_is_cut() {
    cut_at_every_byte(Transport::Sse).await;
}

#[tokio::test]
async fn lines_come_once_wherever_the_stream_is_cut() {
    cut_at_every_byte(Transport::Ndjson).await;
}

#[tokio::test]
async fn a_stream_that_is_cut_all_the_time_gets_there() {
    let server = Server::start(|number, asked| {
        let reply = answer_or_end(asked);
        // Each answer brings a little more than the head, and not always an event.
        let most = 130 + 13 * (number % 5);
        reply.cut(most)
    })
    .await;
    let client = fast(&server.url).build().unwrap();
    let mut stream = client.post("/v1/chat/completions", "{}").stream();
    assert_eq!(read_all(&mut stream).await, PAYLOADS);
    let stats = stream.stats();
    assert_eq!(stats.connections, server.asked().len() as u64);
    assert!(stats.resumes >= 3, "{stats:?}");
}
