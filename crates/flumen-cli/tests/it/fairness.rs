//! Whoever asks much does not slow down whoever asks little: the order of turns, step by step.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Answer, Client, Gateway, Stepper, ask, chat, post_with, soon, until_metric};

/// Tenants with a key each; `more` belongs to the tenant.
fn tenants(of: &[(&str, &str)]) -> String {
    let all: Vec<String> = of
        .iter()
        .map(|(name, more)| {
            let hash = blake3::hash(key(name).as_bytes());
            format!(
                "[tenants.{name}]\n{more}\n[keys.{name}]\nhash = \"blake3:{hash}\"\ntenant = \"{name}\"\n"
            )
        })
        .collect();
    all.concat()
}

fn key(tenant: &str) -> String {
    format!("sk-{tenant}-{}", "0123456789".repeat(3))
}

fn bearer(tenant: &str) -> String {
    format!("Bearer {}", key(tenant))
}

/// A gateway with a pool of one place before a server that the test leads step by step.
async fn stepping(of: &[(&str, &str)], queue: &str) -> (Stepper, Gateway) {
    let stepper = Stepper::start().await;
    let pool = format!("concurrency = 1\n[pools.p.queue]\n{queue}");
    let server = [("s", stepper.upstream.address, "")];
    let mut gateway = Gateway::start(&crate::support::pooled(&server, &pool, &tenants(of))).await;
    gateway.key = Some(key(of[0].0));
    (stepper, gateway)
}

/// Requests that wait, in the order in which they came.
struct Line<'a> {
    gateway: &'a Gateway,
    waiting: usize,
    asking: JoinSet<Answer>,
}

impl<'a> Line<'a> {
    /// The place is taken by a request of this tenant, whose prompt is `plug`.
    async fn behind(gateway: &'a Gateway, stepper: &mut Stepper, tenant: &str) -> Self {
        let mut line = Self { gateway, waiting: 0, asking: JoinSet::new() };
        line.ask(tenant, "plug");
        assert_eq!(stepper.asked().await, "plug");
        line
    }

    fn ask(&mut self, tenant: &str, prompt: &str) {
        let (address, tenant, body) = (self.gateway.address, bearer(tenant), ask("m", prompt));
        self.asking.spawn(async move { post_with(address, &[("authorization", &tenant)], &body).await });
    }

    /// One more that waits. Its prompt is the tenant's name.
    async fn joins(&mut self, tenant: &str) {
        self.ask(tenant, tenant);
        self.waiting += 1;
        until_metric(self.gateway, &format!("flumen_queue_waiting{{pool=\"p\"}} {}", self.waiting)).await;
    }

    /// The order in which all that wait get their turns; all get whole answers.
    async fn order(mut self, stepper: &mut Stepper) -> String {
        let order = stepper.steps(self.waiting).await;
        stepper.go();
        while let Some(answer) = self.asking.join_next().await {
            let answer = answer.unwrap();
            assert!(answer.status == 200 && answer.text().contains("[DONE]"), "{}", answer.text());
        }
        until_metric(self.gateway, "flumen_pool_running{pool=\"p\"} 0").await;
        order.concat()
    }
}

#[tokio::test]
async fn who_asks_little_is_next_however_many_of_another_wait() {
    let (mut stepper, gateway) = stepping(&[("l", ""), ("s", "")], "").await;
    let mut line = Line::behind(&gateway, &mut stepper, "l").await;
    for _ in 0..30 {
        line.joins("l").await;
    }
    line.joins("s").await;
    let order = line.order(&mut stepper).await;
    assert_eq!(order, "s".to_owned() + &"l".repeat(30), "before all thirty that came before it");
}

#[tokio::test]
async fn tenants_take_turns_by_their_weights() {
    let of = [("a", "weight = 1.0"), ("b", "weight = 2.0"), ("c", "weight = 4.0"), ("x", "")];
    let (mut stepper, gateway) = stepping(&of, "").await;
    let mut line = Line::behind(&gateway, &mut stepper, "x").await;
    for (tenant, count) in [("a", 8), ("b", 16), ("c", 32)] {
        for _ in 0..count {
            line.joins(tenant).await;
        }
    }
    let order = line.order(&mut stepper).await;
    let count = |name: char| order[..42].chars().filter(|one| *one == name).count();
    for (name, expected) in [('a', 6), ('b', 12), ('c', 24)] {
        assert!(count(name).abs_diff(expected) <= 1, "{name}: {} in {order}", count(name));
    }
}

#[tokio::test]
async fn who_was_away_has_no_credit() {
    let (mut stepper, gateway) = stepping(&[("a", ""), ("b", "")], "").await;
    let mut line = Line::behind(&gateway, &mut stepper, "b").await;
    for _ in 0..20 {
        line.joins("a").await;
    }
    // Twelve turns of `a`, with nothing of `b` waiting; the thirteenth runs.
    assert_eq!(stepper.steps(12).await.concat(), "a".repeat(12));
    line.waiting = 8;
    for _ in 0..8 {
        line.joins("b").await;
    }
    let order = line.order(&mut stepper).await;
    for begin in [4, 8, 12] {
        let own = order[..begin].matches('b').count();
        assert!(own.abs_diff(begin / 2) <= 1, "they take turns: {order}");
    }
}

#[tokio::test]
async fn the_higher_class_goes_first_and_waiting_lifts_the_lower() {
    let of = [("i", "priority = \"interactive\""), ("n", ""), ("z", "priority = \"batch\""), ("x", "")];
    let (mut stepper, gateway) = stepping(&of, "ageing = \"1h\"").await;
    let mut line = Line::behind(&gateway, &mut stepper, "x").await;
    for tenant in ["z", "n", "i", "z", "n", "i"] {
        line.joins(tenant).await;
    }
    assert_eq!(line.order(&mut stepper).await, "iinnzz");

    let (mut stepper, gateway) = stepping(&of, "ageing = \"100ms\"").await;
    let mut line = Line::behind(&gateway, &mut stepper, "x").await;
    line.joins("z").await;
    // Twice the ageing at least makes it interactive; more does no harm.
    let oldest = "flumen_tenant_oldest_wait_seconds{pool=\"p\",tenant=\"z\"} ";
    soon(async {
        loop {
            let metrics = gateway.metrics().await;
            let wait =
                metrics.split_once(oldest).and_then(|(_, rest)| rest.lines().next()?.parse::<f64>().ok());
            if wait.is_some_and(|wait| wait > 0.25) {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..2 {
        line.joins("i").await;
    }
    assert_eq!(line.order(&mut stepper).await, "zii");
}

#[tokio::test]
async fn the_queue_is_bounded_and_says_when_to_come_back() {
    let queue = "length = 3\nper_tenant = 2\nwait = \"20s\"";
    let (mut stepper, gateway) = stepping(&[("a", ""), ("b", ""), ("c", "")], queue).await;
    let mut line = Line::behind(&gateway, &mut stepper, "a").await;
    line.joins("a").await;
    line.joins("a").await;
    let refused = async |tenant: &str| {
        let answer = post_with(gateway.address, &[("authorization", &bearer(tenant))], &chat("m")).await;
        let after: u32 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=20).contains(&after), "{after} s");
        (answer.status, answer.code())
    };
    assert_eq!(refused("a").await, (429, "tenant_queue_full".into()));
    line.joins("b").await;
    assert_eq!(refused("c").await, (503, "queue_full".into()));
    assert_eq!(line.order(&mut stepper).await, "baa");

    let (mut stepper, gateway) = stepping(&[("a", "")], "wait = \"200ms\"").await;
    let line = Line::behind(&gateway, &mut stepper, "a").await;
    let answer = post_with(gateway.address, &[("authorization", &bearer("a"))], &chat("m")).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "queue_timeout"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    until_metric(&gateway, "flumen_queue_waiting{pool=\"p\"} 0").await;
    assert_eq!(line.order(&mut stepper).await, "");
}

#[tokio::test]
async fn who_leaves_the_queue_is_gone_at_once() {
    let (mut stepper, mut gateway) = stepping(&[("a", "")], "").await;
    let mut line = Line::behind(&gateway, &mut stepper, "a").await;
    let mut leaving = Client::connect(gateway.address).await;
    let authorization = bearer("a");
    let headers = [("authorization", authorization.as_str())];
    leaving.request("POST", "/v1/chat/completions", &headers, &ask("m", "left").to_string()).await;
    line.waiting = 1;
    until_metric(&gateway, "flumen_queue_waiting{pool=\"p\"} 1").await;
    line.joins("a").await;
    drop(leaving);
    until_metric(&gateway, "flumen_queue_waiting{pool=\"p\"} 1").await;
    line.waiting = 1;
    assert_eq!(line.order(&mut stepper).await, "a", "the next one moved up");
    assert!(stepper.is_idle());
    let mut causes = Vec::new();
    for _ in 0..3 {
        causes.push(gateway.asked().await["cause"].as_str().unwrap().to_owned());
    }
    causes.sort();
    assert_eq!(causes, ["client_gone", "complete", "complete"]);
}

#[tokio::test]
async fn a_stream_that_is_stopped_while_it_waits_is_never_asked_for() {
    let (mut stepper, gateway) = stepping(&[("a", "")], "announce = \"20ms\"").await;
    let line = Line::behind(&gateway, &mut stepper, "a").await;
    let authorization = bearer("a");
    let headers = [("authorization", authorization.as_str()), ("flumen-resume", "1")];
    let mut client = Client::connect(gateway.address).await;
    client.request("POST", "/v1/chat/completions", &headers, &ask("m", "stopped").to_string()).await;
    let head = client.head().await;
    let stream = head.lines().find_map(|line| line.strip_prefix("flumen-stream-id: ")).unwrap();
    until_metric(&gateway, "flumen_queue_waiting{pool=\"p\"} 1").await;
    let mut other = Client::connect(gateway.address).await;
    other.request("DELETE", &format!("/v1/streams/{stream}"), &headers[..1], "").await;
    let answer = other.answer().await;
    assert!(answer.status < 300, "{} {}", answer.status, answer.text());
    until_metric(&gateway, "flumen_queue_waiting{pool=\"p\"} 0").await;
    client.until("0\r\n\r\n").await;
    assert_eq!(line.order(&mut stepper).await, "");
    assert!(stepper.is_idle());
}

#[tokio::test]
async fn who_waits_is_told_in_comments_and_parsers_do_not_mind() {
    for resumable in ["0", "1"] {
        let (mut stepper, gateway) = stepping(&[("a", "")], "announce = \"50ms\"").await;
        let mut line = Line::behind(&gateway, &mut stepper, "a").await;
        line.joins("a").await;
        let mut client = Client::connect(gateway.address).await;
        let authorization = bearer("a");
        let mut headers = vec![("authorization", authorization.as_str())];
        if resumable == "1" {
            headers.push(("flumen-resume", "1"));
        }
        client.request("POST", "/v1/chat/completions", &headers, &ask("m", "mine").to_string()).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        assert_eq!(head.contains("flumen-stream-id"), resumable == "1");
        let mut text = client.until(": queued 2\n").await;
        assert!(stepper.is_idle(), "it was told before its turn");
        assert_eq!(stepper.steps(2).await, ["a", "mine"]);
        // Its upstream has it and thinks: it is not in the queue any more.
        text += &client.until(": waiting\n").await;
        client.until(": waiting\n").await;
        stepper.go();
        let rest = client.until("[DONE]").await;
        assert!(!rest.contains(": queued"), "{rest}");
        let mut decoder = flumen_stream::codec::sse::Decoder::new(1 << 20);
        // Without the framing of chunks, as a parser gets it.
        let lines = (text + &rest + "\n\n").replace("\r\n", "\n");
        let unframed: String = lines
            .split_inclusive('\n')
            .filter(|line| u32::from_str_radix(line.trim(), 16).is_err() || line.trim().is_empty())
            .collect();
        decoder.push(unframed.into_bytes().into());
        let events: Vec<_> = std::iter::from_fn(|| decoder.next())
            .map(Result::unwrap)
            .filter(flumen_stream::Event::has_data)
            .map(|event| String::from_utf8(event.payload().to_vec()).unwrap())
            .collect();
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(events[0].contains("mine") && events[1] == "[DONE]");
        stepper.go();
        while line.asking.join_next().await.is_some() {}
    }
}

#[tokio::test]
async fn an_answer_after_an_announced_wait_that_fails_is_an_error_event() {
    let refusing = crate::support::Upstream::start(|mut conn| async move {
        if conn.json()["model"] == "hold" {
            conn.stream_head().await;
            conn.chunk(crate::support::event("a").as_bytes()).await;
            return conn.closed().await;
        }
        conn.json_answer("500 Internal Server Error", "", "{}").await;
    })
    .await;
    let pool = "concurrency = 1\n[pools.p.queue]\nannounce = \"50ms\"\n";
    let gateway = Gateway::start(&crate::support::pooled(&[("s", refusing.address, "")], pool, "")).await;
    for headers in [&[][..], &[("flumen-resume", "1")]] {
        let (mut plug, _) = Client::open(gateway.address, &chat("hold")).await;
        plug.until("\"a\"").await;
        let mut client = Client::connect(gateway.address).await;
        client.request("POST", "/v1/chat/completions", headers, &chat("m").to_string()).await;
        client.until(": queued 1\n").await;
        drop(plug);
        let rest = client.until("}}").await;
        assert!(rest.contains("\"code\":\"upstream_refused\""), "{rest}");
        let rest = client.until("0\r\n\r\n").await;
        assert!(!rest.contains("[DONE]") && !rest.contains("data:"), "{rest}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_the_same_where_waits_are_announced() {
    let page = crate::support::Upstream::page().await;
    for queue in ["", "[pools.p.queue]\nannounce = \"20s\"\n"] {
        let gateway = Gateway::start(&crate::support::pooled(&[("s", page.address, "")], queue, "")).await;
        let answer = post_with(gateway.address, &[], &chat("m")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hi"), "{queue}");
    }
}

#[tokio::test]
async fn tokens_are_shared_by_weight_while_all_wait() {
    let of = [("a", "weight = 1.0"), ("b", "weight = 2.0"), ("c", "weight = 4.0"), ("x", "")];
    let config = format!(
        "{}[upstreams.sim]\nkind = \"sim\"\ntokens_per_second = 0\nfirst_token = \"1ms\"\n\
         [models.\"*\"]\npool = \"p\"\n[pools.p]\nupstreams = [\"sim\"]\nconcurrency = 1\n\
         [pools.p.queue]\ninput_weight = 0\noutput_weight = 1\n",
        tenants(&of)
    );
    let mut gateway = Gateway::start(&config).await;
    gateway.key = Some(key("x"));
    let mut plug = Client::connect(gateway.address).await;
    let body = chat("sim:tokens=endless,tps=50").to_string();
    plug.request("POST", "/v1/chat/completions", &[("authorization", &bearer("x"))], &body).await;
    plug.until("data: ").await;
    // Answers of different lengths: it is tokens that are shared, not requests.
    let mut asking = JoinSet::new();
    for (tenant, tokens, count) in [("a", 10, 60), ("b", 20, 60), ("c", 30, 80)] {
        for _ in 0..count {
            let (address, body) = (gateway.address, chat(&format!("sim:tokens={tokens}")));
            asking.spawn(async move {
                post_with(address, &[("authorization", &bearer(tenant))], &body).await.status
            });
        }
    }
    until_metric(&gateway, "flumen_queue_waiting{pool=\"p\"} 200").await;
    drop(plug);
    assert!(asking.join_all().await.into_iter().all(|status| status == 200));
    let mut served = BTreeMap::new();
    // The heaviest has 2400 tokens waiting: while it has got no more than 2000, everybody waits.
    while served.get("c").is_none_or(|tokens| *tokens < 2000) {
        let line = gateway.asked().await;
        let tenant = line["tenant"].as_str().unwrap().to_owned();
        if tenant != "x" {
            *served.entry(tenant).or_insert(0) += line["completion_tokens"].as_u64().unwrap();
        }
    }
    let unit = f64::from(u32::try_from(served["c"]).unwrap()) / 4.0;
    for (tenant, weight) in [("a", 1.0), ("b", 2.0)] {
        let share = f64::from(u32::try_from(served[tenant]).unwrap()) / unit;
        assert!((share / weight - 1.0).abs() <= 0.05, "{tenant} got {share} of {weight}: {served:?}");
    }
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("flumen_tenant_service{pool=\"p\",tenant=\"c\"} 2400"), "{metrics}");
}

#[tokio::test]
async fn no_place_stays_empty_while_somebody_waits() {
    let (mut stepper, gateway) = stepping(&[("a", ""), ("b", "weight = 100.0")], "").await;
    let mut line = Line::behind(&gateway, &mut stepper, "b").await;
    for _ in 0..5 {
        line.joins("a").await;
    }
    // Nobody of the heavy tenant waits: the light one has it all.
    assert_eq!(soon(line.order(&mut stepper)).await, "aaaaa");
    let answer = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
    stepper.go();
    let whole = post_with(gateway.address, &[("authorization", &bearer("a"))], &answer).await;
    assert_eq!(whole.status, 200);
}
