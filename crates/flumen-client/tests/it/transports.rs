//! The same stream by every transport, and by all of them in turn.

use flumen_client::Transport;

use crate::{
    fast,
    gateway::{Gateway, STREAM},
    read_all,
};

const ALL: [Transport; 4] = [Transport::Sse, Transport::Ndjson, Transport::WebSocket, Transport::LongPoll];

fn payloads(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{{\"n\":{n}}}")).chain(["[DONE]".to_owned()]).collect()
}

#[tokio::test]
async fn each_transport_brings_the_same() {
    for transport in ALL {
        let gateway = Gateway::start(payloads(20), []).await;
        let client = fast(&gateway.url).transports([transport]).build().unwrap();
        let mut stream = client.post("/v1/chat/completions", "{}").stream();
        let mut seqs = Vec::new();
        let mut seen = Vec::new();
        while let Some(received) = stream.next().await {
            let received = received.unwrap();
            seqs.extend(received.seq);
            seen.push(crate::text(&received.event.payload()));
            assert_eq!(received.id.unwrap().stream_and_seq(), Some((STREAM, received.seq.unwrap())));
        }
        assert_eq!((seen, seqs), (payloads(20), (1..=21).collect()), "{transport}");
        assert_eq!((stream.stream_id(), stream.transport()), (Some(STREAM), transport));
        let stats = stream.stats();
        assert_eq!((stats.resumes, stats.events, stats.legs[0].transport), (0, 21, transport));
        assert!(stats.bytes > 200);
    }
}

#[tokio::test]
async fn each_transport_goes_on_after_cuts() {
    for transport in ALL {
        let gateway = Gateway::start(payloads(12), [0, 1, 2, 0, 5]).await;
        let client = fast(&gateway.url).transports([transport]).build().unwrap();
        let mut stream = client.post("/v1/chat/completions", "{}").stream();
        assert_eq!(read_all(&mut stream).await, payloads(12), "{transport}");
        assert_eq!(gateway.state.lock().unwrap().runs.len(), 1, "it ran once");
    }
}

#[tokio::test]
async fn each_connection_may_use_another() {
    for turn in 0..ALL.len() {
        let mut order = ALL;
        order.rotate_left(turn);
        let gateway = Gateway::start(payloads(20), [2, 2, 2, 2, 2, 2]).await;
        let client = fast(&gateway.url).transports(order).rotate(true).build().unwrap();
        let mut stream = client.post("/v1/chat/completions", "{}").stream();
        for n in 0..20 {
            let received = stream.next().await.unwrap().unwrap();
            assert_eq!(received.seq, Some(n + 1));
            if n % 7 == 6 {
                stream.cut();
            }
        }
        assert_eq!(read_all(&mut stream).await, ["[DONE]"]);
        let inner = gateway.state.lock().unwrap();
        assert_eq!(inner.runs.len(), 1, "it ran once");
        for kind in ["sse", "ndjson", "socket", "poll"] {
            assert!(inner.seen.iter().any(|(seen, _)| *seen == kind), "{kind} in {:?}", inner.seen);
        }
    }
}

#[tokio::test]
async fn a_known_stream_is_read_by_each() {
    for transport in ALL {
        let gateway = Gateway::start(payloads(6), []).await;
        let client = fast(&gateway.url).transports([transport]).build().unwrap();
        let whole = read_all(&mut client.resume(STREAM).stream()).await;
        assert_eq!(whole, payloads(6), "{transport}");
        let rest = read_all(&mut client.resume(STREAM).last_event_id(format!("{STREAM}.1-5")).stream()).await;
        assert_eq!(rest, payloads(6)[5..], "{transport}");
        let none = read_all(&mut client.resume(STREAM).starting_after(7).stream()).await;
        assert_eq!(none, [""; 0], "{transport}");
        assert_eq!(gateway.state.lock().unwrap().runs.len(), 0);
    }
}
