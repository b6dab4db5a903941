//! One line per request, for people or for programs. Never a key, a prompt or an answer.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write, stdout},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flumen_stream::Cause;
use flumen_wire::client::Remote;
use serde::Serialize;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::record::Facts;
use crate::config::AccessFormat;

/// Where lines go. Cheap to clone. Lines are written by a thread of their own: a blocked standard output never blocks
/// a stream; when it stays blocked for thousands of lines, further lines are dropped.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    out: Option<Arc<Mutex<NonBlocking>>>,
    json: bool,
}

impl AccessLog {
    /// A log to standard output. The guard writes what is left when it is dropped.
    pub(crate) fn to_stdout(format: AccessFormat) -> (Self, Option<WorkerGuard>) {
        let json = match format {
            AccessFormat::Off => return (Self { out: None, json: false }, None),
            AccessFormat::Json => true,
            AccessFormat::Text => false,
            AccessFormat::Auto => !stdout().is_terminal(),
        };
        let (out, guard) =
            NonBlockingBuilder::default().buffered_lines_limit(8192).lossy(true).finish(stdout());
        (Self { out: Some(Arc::new(Mutex::new(out))), json }, Some(guard))
    }

    pub(super) fn write(&self, facts: &Facts, cause: Cause, total: Duration) {
        let Some(out) = &self.out else { return };
        let line = Line::new(facts, cause, total);
        let mut text = if self.json { serde_json::to_string(&line).unwrap_or_default() } else { line.text() };
        text.push('\n');
        // A closed standard output is no reason to stop serving.
        let _ = out.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes());
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: &'a str,
    peer: &'a str,
    method: &'a str,
    path: &'a str,
    status: Option<u16>,
    dialect: Option<&'a str>,
    model: Option<&'a str>,
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<Attempt<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    seams: u32,
    queue_ms: Option<f64>,
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_id: Option<&'a str>,
    cause: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    header_bytes_in: u64,
    body_bytes_in: u64,
    header_bytes_out: u64,
    body_bytes_out: u64,
    upstream_header_bytes_out: Option<u64>,
    upstream_body_bytes_out: Option<u64>,
    upstream_header_bytes_in: Option<u64>,
    upstream_body_bytes_in: Option<u64>,
    upstream_reused: Option<bool>,
    dns_ms: Option<f64>,
    connect_ms: Option<f64>,
    tls_ms: Option<f64>,
    header_ms: Option<f64>,
    first_byte_ms: Option<f64>,
    transfer_ms: Option<f64>,
    first_token_ms: Option<f64>,
    total_ms: f64,
    frames: u64,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    largest_gap_ms: f64,
    paused_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_queue_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_first_token_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_total_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_paused_ms: Option<f64>,
}

/// One upstream that was asked.
#[derive(Serialize)]
struct Attempt<'a> {
    upstream: &'a str,
    outcome: &'a str,
    ms: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Milliseconds with three decimals: microseconds are what can be measured.
fn ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

impl<'a> Line<'a> {
    fn new(facts: &'a Facts, cause: Cause, total: Duration) -> Self {
        let timings = facts.timings.as_ref();
        let phase =
            |pick: fn(&flumen_wire::client::Timings) -> Option<Duration>| timings.and_then(pick).map(ms);
        let remote = |pick: fn(&Remote) -> Duration| {
            timings.and_then(|timings| timings.remote.as_ref()).map(|remote| ms(pick(remote)))
        };
        Self {
            time: humantime::format_rfc3339_millis(facts.time).to_string(),
            request_id: &facts.request_id,
            peer: &facts.peer,
            method: facts.method.as_str(),
            path: &facts.path,
            status: facts.status.map(|status| status.as_u16()),
            dialect: facts.dialect,
            model: facts.model.as_deref(),
            upstream: facts.upstream.as_deref(),
            attempts: facts
                .tried
                .iter()
                .map(|tried| Attempt {
                    upstream: &tried.upstream,
                    outcome: tried.outcome,
                    ms: ms(tried.took),
                })
                .collect(),
            seams: facts.seams,
            queue_ms: facts.queued.map(ms),
            tenant: facts.tenant.as_deref().map(|tenant| &*tenant.name).filter(|name| !name.is_empty()),
            key: facts.key.as_deref(),
            stream: facts.stream,
            stream_id: facts.stream_id.as_deref(),
            cause: cause.as_str(),
            code: facts.code,
            header_bytes_in: facts.header_in,
            body_bytes_in: facts.body_in,
            header_bytes_out: facts.header_out,
            body_bytes_out: facts.body_out,
            upstream_header_bytes_out: timings.map(|timings| timings.header_bytes_out),
            upstream_body_bytes_out: timings.map(|timings| timings.body_bytes_out),
            upstream_header_bytes_in: timings.map(|timings| timings.header_bytes_in),
            upstream_body_bytes_in: timings.map(|timings| timings.body_bytes_in),
            upstream_reused: timings.map(|timings| timings.reused),
            dns_ms: phase(|timings| timings.dns),
            connect_ms: phase(|timings| timings.connect),
            tls_ms: phase(|timings| timings.tls),
            header_ms: phase(|timings| timings.header),
            first_byte_ms: phase(|timings| timings.first_byte),
            transfer_ms: phase(|timings| timings.transfer),
            first_token_ms: facts.first_token.map(ms),
            total_ms: ms(total),
            frames: facts.meter.frames(),
            prompt_tokens: facts.usage.map(|usage| usage.prompt_tokens),
            completion_tokens: facts.usage.map(|usage| usage.completion_tokens),
            largest_gap_ms: ms(facts.meter.largest_gap()),
            paused_ms: ms(facts.paused),
            service_queue_ms: remote(|remote| remote.queued),
            service_first_token_ms: remote(|remote| remote.first_token),
            service_total_ms: remote(|remote| remote.total),
            service_paused_ms: remote(|remote| remote.paused),
        }
    }

    /// The same for people: fixed things first, then whatever is known, as `key=value`.
    fn text(&self) -> String {
        let status = self.status.map_or("-".to_owned(), |status| status.to_string());
        let mut text = format!(
            "{} {} {} {status} {} {:.0}ms",
            self.time,
            self.method,
            // A path is the client's text; it must not forge a line.
            self.path.escape_debug(),
            self.cause,
            self.total_ms
        );
        let mut put = |key: &str, value: Option<&dyn std::fmt::Display>| {
            if let Some(value) = value {
                // Writing to a String does not fail.
                let _ = write!(text, " {key}={value}");
            }
        };
        put("code", self.code.as_ref().map(|code| code as _));
        put("dialect", self.dialect.as_ref().map(|dialect| dialect as _));
        put("model", self.model.as_ref().map(|model| model as _));
        put("upstream", self.upstream.as_ref().map(|upstream| upstream as _));
        let tried: Vec<_> =
            self.attempts.iter().map(|tried| format!("{}:{}", tried.upstream, tried.outcome)).collect();
        put("attempts", (!tried.is_empty()).then_some(&tried.join(",") as _));
        put("queue_ms", self.queue_ms.as_ref().map(|queued| queued as _));
        put("stream_id", self.stream_id.as_ref().map(|id| id as _));
        put("tenant", self.tenant.as_ref().map(|tenant| tenant as _));
        put("key", self.key.as_ref().map(|key| key as _));
        put("in", Some(&format_args!("{}+{}B", self.header_bytes_in, self.body_bytes_in)));
        put("out", Some(&format_args!("{}+{}B", self.header_bytes_out, self.body_bytes_out)));
        for (key, value) in [
            ("dns_ms", self.dns_ms),
            ("connect_ms", self.connect_ms),
            ("tls_ms", self.tls_ms),
            ("header_ms", self.header_ms),
            ("first_token_ms", self.first_token_ms),
        ] {
            put(key, value.as_ref().map(|value| value as _));
        }
        if self.frames > 0 {
            put("frames", Some(&self.frames));
            put("largest_gap_ms", Some(&self.largest_gap_ms));
            put("paused_ms", Some(&self.paused_ms));
        }
        put("service_first_token_ms", self.service_first_token_ms.as_ref().map(|span| span as _));
        put("service_paused_ms", self.service_paused_ms.as_ref().map(|span| span as _));
        put("prompt_tokens", self.prompt_tokens.as_ref().map(|tokens| tokens as _));
        put("completion_tokens", self.completion_tokens.as_ref().map(|tokens| tokens as _));
        put("request_id", Some(&self.request_id));
        put("peer", Some(&self.peer));
        text
    }
}
