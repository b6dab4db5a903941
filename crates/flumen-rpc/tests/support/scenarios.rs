//! Calls of the contract, and what must come of them, whoever serves it.

use std::time::Duration;

use bytes::Bytes;
use flumen_rpc::{Call, Cancel, Client, Code, Encoding, Exchange, Metadata, Status};

use super::{Message, Plan, Summary, Wire, within};

pub fn call(method: &str) -> Call {
    Call::new("echo.Echo", method)
}

pub async fn begin(client: &Client, call: &Call) -> Exchange {
    within(client.stream(call)).await.unwrap()
}

/// Begins a download: the plan is sent and this side closed.
pub async fn download(client: &Client, call: &Call, plan: &Plan) -> Exchange {
    let mut exchange = begin(client, call).await;
    exchange.outbound.send(plan.to_wire(client.encoding())).await.unwrap();
    exchange
}

pub async fn next(exchange: &mut Exchange, encoding: Encoding) -> Option<Result<Message, Status>> {
    let message = within(exchange.inbound.next()).await?;
    Some(message.and_then(|message| Message::of_wire(message, encoding)))
}

/// Reads messages until the end; they must come in order. Returns how many came, and the end.
pub async fn drain(exchange: &mut Exchange, encoding: Encoding, from: i64) -> (i64, Option<Status>) {
    let mut count = from;
    loop {
        match next(exchange, encoding).await {
            Some(Ok(message)) => {
                assert_eq!(message.seq, count, "a message is lost, doubled or out of order");
                count += 1;
            }
            Some(Err(status)) => return (count, Some(status)),
            None => return (count, None),
        }
    }
}

pub async fn ten_thousand_in_order(client: &Client) -> Metadata {
    let plan = Plan { count: 10_000, size: 64, ..Plan::default() };
    let mut exchange = download(client, &call("Download"), &plan).await;
    let (count, end) = drain(&mut exchange, client.encoding(), 0).await;
    assert_eq!((count, end), (10_000, None));
    exchange.inbound.trailer().clone()
}

pub async fn both_directions_at_once(client: &Client) {
    let Exchange { mut outbound, mut inbound } = begin(client, &call("Bidi")).await;
    let encoding = client.encoding();
    let sending = tokio::spawn(async move {
        for seq in 0..10_000 {
            let message = Message { seq, payload: Bytes::from_static(&[b'y'; 100]) };
            outbound.send(message.to_wire(encoding)).await.unwrap();
        }
        outbound.close().await.unwrap();
    });
    let mut count = 0;
    while let Some(message) = within(inbound.next()).await {
        let message = Message::of_wire(message.unwrap(), encoding).unwrap();
        assert_eq!((message.seq, message.payload.len()), (count, 100));
        count += 1;
    }
    assert_eq!(count, 10_000);
    sending.await.unwrap();
}

pub async fn half_close_leaves_the_answers(client: &Client) {
    let mut exchange = begin(client, &call("Bidi")).await;
    let encoding = client.encoding();
    for seq in 0..100 {
        exchange.outbound.send(Message { seq, payload: Bytes::new() }.to_wire(encoding)).await.unwrap();
    }
    let Exchange { outbound, mut inbound } = exchange;
    outbound.close().await.unwrap();
    for seq in 0..100 {
        let message = within(inbound.next()).await.unwrap().unwrap();
        assert_eq!(Message::of_wire(message, encoding).unwrap().seq, seq);
    }
    assert!(within(inbound.next()).await.is_none());
}

pub async fn upload(client: &Client) {
    let mut exchange = begin(client, &call("Upload")).await;
    let encoding = client.encoding();
    for seq in 0..10_000 {
        let message = Message { seq, payload: Bytes::from_static(b"0123456789") };
        within(exchange.outbound.send(message.to_wire(encoding))).await.unwrap();
    }
    let Exchange { outbound, mut inbound } = exchange;
    outbound.close().await.unwrap();
    let summary = within(inbound.next()).await.unwrap().unwrap();
    let summary = Summary::of_wire(summary, encoding).unwrap();
    assert_eq!(summary, Summary { count: 10_000, bytes: 100_000, in_order: true });
    assert!(within(inbound.next()).await.is_none());
}

/// An error after five messages. Returns it.
pub async fn error_after_five(client: &Client, biz_code: i32, interval_us: i32) -> Status {
    let plan = Plan { count: 10, fail_after: 5, biz_code, interval_us, ..Plan::default() };
    let mut exchange = download(client, &call("Download"), &plan).await;
    let (count, end) = drain(&mut exchange, client.encoding(), 0).await;
    assert_eq!(count, 5);
    end.expect("an error")
}

/// An endless download that is cancelled after ten messages, with this reason.
pub async fn cancel_after_ten(client: &Client, cancel: &Cancel) {
    let plan = Plan { endless: true, size: 10, interval_us: 1000, ..Plan::default() };
    let mut exchange = download(client, &call("Download"), &plan).await;
    for seq in 0..10 {
        assert_eq!(next(&mut exchange, client.encoding()).await.unwrap().unwrap().seq, seq);
    }
    exchange.inbound.cancel(cancel);
}

pub async fn deadline(client: &Client) {
    let plan = Plan { endless: true, size: 10, interval_us: 1000, ..Plan::default() };
    let call = call("Download").within(Duration::from_millis(300));
    let mut exchange = download(client, &call, &plan).await;
    let (_, end) = drain(&mut exchange, client.encoding(), 0).await;
    assert_eq!(end.unwrap().code, Code::DeadlineExceeded);
}

/// Reads slowly, and everything comes.
pub async fn slow_reader(client: &Client) {
    let plan = Plan { count: 3000, size: 1024, ..Plan::default() };
    let mut exchange = download(client, &call("Download"), &plan).await;
    for seq in 0..3000 {
        assert_eq!(next(&mut exchange, client.encoding()).await.unwrap().unwrap().seq, seq);
        if seq % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(next(&mut exchange, client.encoding()).await.is_none());
}

/// A call with metadata of all kinds.
pub fn with_metadata(method: &str) -> Call {
    let mut call = call(method).with("x-request-id", "r-7").with("traceparent", "00-1-2-01");
    call.metadata.transient.insert("tkey".into(), "tval".into());
    call.metadata.persistent.insert("pkey".into(), "pval".into());
    call
}
