//! A gateway at work, for the tests.

use serde_json::{Value, from_value, json};
use tokio::time::Instant;

use super::model::{List, Snapshot};

/// Names that are long, foreign, and up to no good.
pub(super) const EVIL: &str = "\u{1b}]0;owned\u{7}\u{202e}x";

fn stream(id: &str, state: &str, more: Value) -> Value {
    let mut stream = json!({
        "id": id, "request_id": "3f0000000000", "stream_id": "ab12cd34", "tenant": "acme", "key": "k1",
        "model": "gpt-4o", "pool": "large", "upstream": null, "dialect": "openai-chat", "state": state,
        "position": null, "age_ms": 5120, "queue_ms": 12, "first_token_ms": null, "events": 0, "tokens": 0,
        "kept": false, "seams": 0
    });
    let (Value::Object(all), Value::Object(more)) = (&mut stream, more) else { return stream };
    all.extend(more);
    stream
}

fn upstream(name: &str, state: &str, breaker: &str) -> Value {
    json!({"name": name, "state": state, "breaker": breaker, "in_flight": 5, "concurrency": 64,
           "requests": 1000, "failures": 30, "first_token_ms": 215.3})
}

fn list<T: serde::de::DeserializeOwned>(value: Value) -> Vec<T> {
    from_value::<List<T>>(value).unwrap().data
}

pub(super) fn snapshot() -> Snapshot {
    let overview = json!({
        "version": "0.1.0", "uptime_ms": 12_345_678, "draining": false, "connections": 12,
        "streams": {"queued": 1, "waiting": 1, "streaming": 2}, "requests": 4711, "failed": 12,
        "tokens_in": 1000, "tokens_out": 20_000, "kept": {"streams": 5, "bytes": 81_920}
    });
    let streams = json!({"data": [
        stream("4", "streaming", json!({"upstream": "local", "events": 101, "tokens": 100,
               "first_token_ms": 210, "kept": true})),
        stream("5", "streaming", json!({"tenant": "万物皆流有限公司及其所有子公司的长名字", "model": "a/".repeat(100)})),
        stream("6", "waiting", json!({"tenant": EVIL, "model": EVIL, "upstream": EVIL})),
        stream("7", "queued", json!({"tenant": null, "position": 3})),
    ]});
    let tenant = |name: &str, share: f64| {
        json!({"tenant": name, "pool": "large", "weight": 2.0, "waiting": 3, "running": 4,
               "oldest_wait_ms": 1200, "service": 123_456.0, "share": share})
    };
    let tenants = json!({"data": [
        tenant("acme", 0.66), tenant("万物皆流有限公司及其所有子公司的长名字", 0.34), tenant(EVIL, 0.0)
    ]});
    let pools = json!({"data": [
        {"pool": "large", "slots": 64, "running": 7, "waiting": 3, "drain_rate": 1.5, "adaptive": null,
         "upstreams": [upstream("local", "up", "closed"), upstream("remote", "broken", "open"),
                       upstream(EVIL, "draining", "half-open")]},
        {"pool": "unlimited", "slots": null, "running": 0, "waiting": 0, "drain_rate": null, "upstreams": []}
    ]});
    Snapshot {
        at: Instant::now(),
        overview: from_value(overview).unwrap(),
        streams: list(streams),
        tenants: list(tenants),
        pools: list(pools),
    }
}
