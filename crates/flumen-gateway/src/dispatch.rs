//! A request on its way to an upstream: what is sent, and the rules that its answer is held to.

use std::{sync::Arc, time::Duration};

use flumen_stream::{Cause, Deadlines, End, Expired};
use flumen_wire::{client, listen::Shutdown};
use http::{HeaderMap, header};
use tokio::time::{Instant, timeout_at};

use crate::{
    error::Failure,
    observe::{Record, metrics::RouteMetrics},
    provider::{Call, Upstream},
    relay::{Relay, Rules, timed_out},
    sink::Sink,
};

/// A request to an upstream. It owns all it needs, so that it can outlive the connection that it came on.
pub(crate) struct Dispatch {
    pub upstream: Upstream,
    pub call: Call,
    pub rules: Rules,
    pub record: Arc<Record>,
    pub metrics: RouteMetrics,
    pub shutdown: Shutdown,
}

/// An answer that has begun, without its call.
pub(crate) struct Answering {
    pub response: client::Response,
    pub rules: Rules,
    pub record: Arc<Record>,
    pub metrics: RouteMetrics,
    pub shutdown: Shutdown,
}

const A_DAY: Duration = Duration::from_hours(24);

impl Dispatch {
    /// When the head of the answer, and of a stream also its first token, is due.
    pub(crate) fn answer_by(&self) -> Instant {
        let deadlines = &self.rules.deadlines;
        let patience = if self.call.stream { deadlines.first } else { deadlines.total };
        self.record.started() + patience.unwrap_or(A_DAY).min(deadlines.total.unwrap_or(A_DAY))
    }

    /// Sends the request and waits for the head of the answer.
    ///
    /// # Errors
    /// When no answer came; an answer with an error status is an answer.
    pub(crate) async fn send(self) -> Result<Answering, Failure> {
        let answer_by = self.answer_by();
        let late = expired(self.call.stream, &self.rules.deadlines);
        let Self { upstream, call, rules, record, metrics, shutdown } = self;
        let response = tokio::select! {
            biased;
            sent = timeout_at(answer_by, upstream.send(call)) => match sent {
                Ok(sent) => sent?,
                Err(_) => return Err(timed_out(late).into()),
            },
            () = shutdown.aborted() => {
                return Err(End::new(Cause::Shutdown, "the server is shutting down").into());
            }
        };
        Ok(Answering { response, rules, record, metrics, shutdown })
    }
}

impl Answering {
    /// Whether the answer is a stream of events.
    ///
    /// # Errors
    /// When it is one that cannot be read.
    pub(crate) fn is_stream(&self) -> Result<bool, Failure> {
        let headers = &self.response.headers;
        if !is_event_stream(headers) {
            return Ok(false);
        }
        if is_encoded(headers) {
            let problem = "upstream: the stream is compressed, though that was not asked for";
            return Err(End::new(Cause::UpstreamError, problem).with_code("upstream_encoding").into());
        }
        Ok(true)
    }

    /// Moves the events of the answer into a sink.
    pub(crate) fn relay(self, sink: Sink) -> Relay {
        Relay::new(self.response.body, sink, self.rules, self.record, self.metrics, &self.shutdown)
    }
}

fn expired(stream: bool, deadlines: &Deadlines) -> Expired {
    if stream && deadlines.first <= deadlines.total { Expired::First } else { Expired::Total }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().is_some_and(|mime| mime.trim().eq_ignore_ascii_case("text/event-stream"))
}
