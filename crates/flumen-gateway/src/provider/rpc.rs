//! Model services behind RPC: `flumen.generation.v1` over gRPC, Thrift over gRPC or TTHeader Streaming.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use flumen_rpc::{
    Client, Code, Encoding, Metadata, Status,
    generation::{self, Ask, Start},
};
use flumen_wire::client::{self, Body, ErrorKind, Response, Timings};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::Call;
use crate::config::{Rpc, RpcRequest};

mod conversation;
mod source;
mod translate;

use source::Source;
use translate::{Dialect, Translator};

/// A model service behind RPC.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    client: Client,
    settings: Arc<Rpc>,
}

impl Service {
    /// A service that is reached by this client.
    pub(crate) fn new(client: Client, settings: Rpc) -> Self {
        Self { client, settings: Arc::new(settings) }
    }

    /// Whether it can be asked how it is.
    pub(crate) fn has_check(&self) -> bool {
        self.settings.health_check
    }

    /// Asks the health service of gRPC.
    pub(crate) async fn check(&self) -> bool {
        /// `status: SERVING` in protocol buffers.
        const SERVING: [u8; 2] = [8, 1];
        let call = flumen_rpc::Call::new("grpc.health.v1.Health", "Check");
        let Ok(mut exchange) = self.client.stream(&call).await else { return false };
        if exchange.outbound.send(Bytes::new()).await.is_err() || exchange.outbound.close().await.is_err() {
            return false;
        }
        exchange.inbound.next().await.is_some_and(|answer| answer.is_ok_and(|answer| *answer == SERVING))
    }

    /// Begins a generation and waits until the service has taken it; of an answer that is no stream, until it is complete.
    pub(super) async fn send(&self, call: Call) -> Result<Response, client::Error> {
        let mut timings = Timings::new();
        timings.body_bytes_out = call.body.len() as u64;
        let begun = loop {
            match self.begun(&call).await {
                // A kept connection which the service had just closed. In the end there is a new one.
                Err(status) if status.connection == Some(ErrorKind::ClosedBeforeResponse) => {}
                begun => break begun,
            }
        };
        timings.header = Some(timings.started.elapsed());
        match begun {
            Ok(source) if call.stream => Ok(answer("text/event-stream", Body::of(source, timings))),
            Ok(source) => Ok(answer("application/json", Body::of(source, timings))),
            Err(status) => refusal(status, timings),
        }
    }

    async fn begun(&self, call: &Call) -> Result<Source, Status> {
        let mut source = self.begin(call).await?;
        poll_fn(|cx| source.poll_begun(cx)).await?;
        Ok(source)
    }

    async fn begin(&self, call: &Call) -> Result<Source, Status> {
        let encoding = self.client.encoding();
        let mut request = generation::call(encoding);
        if let Some(service) = &self.settings.service {
            request.service.clone_from(service);
        }
        request.deadline = call.deadline;
        request.metadata = self.metadata(&call.headers);
        let dialect = Dialect::of(call.path);
        let start = self.start(call, dialect);
        let translator = Translator::new(dialect, call.stream, &start.model);
        let mut exchange = self.client.stream(&request).await?;
        let start = generation::ClientMessage::from(Ask::Start(start)).encode(encoding);
        if let Err(status) = exchange.outbound.send(start).await {
            // Why it cannot be sent, the other direction knows better.
            return Err(exchange.inbound.next().await.and_then(Result::err).unwrap_or(status));
        }
        Ok(Source::new(exchange, encoding, translator, self.settings.pause, call.due))
    }

    fn start(&self, call: &Call, dialect: Dialect) -> Start {
        let start = Start {
            model: conversation::model(&call.body),
            dialect: dialect.as_str().to_owned(),
            raw: call.body.clone(),
            stream: call.stream,
            ..Start::default()
        };
        match self.settings.request {
            RpcRequest::Messages if dialect == Dialect::Chat => conversation::spell(&call.body, start),
            RpcRequest::Messages | RpcRequest::Raw => start,
        }
    }

    /// The operator's own metadata, and what travels with the request.
    fn metadata(&self, headers: &HeaderMap) -> Metadata {
        let mut metadata = Metadata::default();
        let text = |value: &HeaderValue| value.to_str().map(str::to_owned);
        for (name, value) in headers.iter().chain(&self.settings.headers) {
            if let Ok(value) = text(value) {
                metadata.plain.insert(name.as_str().to_owned(), value);
            }
        }
        if let Some(key) = &self.settings.key {
            metadata.plain.insert("authorization".to_owned(), format!("Bearer {}", key.expose()));
        }
        // Services of Kitex read what their framework carries from hop to hop.
        if self.client.encoding() == Encoding::Thrift {
            let carried = ["traceparent", "tracestate", "x-request-id"];
            metadata.persistent = carried
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), metadata.plain.get(*name)?.clone())))
                .collect();
        }
        metadata
    }
}

fn answer(content_type: &'static str, body: Body) -> Response {
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
    Response { status: StatusCode::OK, headers, body }
}

/// An answer that never began. What the service says of the request is an answer, too; that there is no service is an error.
fn refusal(status: Status, timings: Timings) -> Result<Response, client::Error> {
    if let Some(kind) = status.connection {
        return Err(client::Error::new(kind, status.message));
    }
    let (http, kind) = match status.code {
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => (400, "invalid_request_error"),
        Code::Unauthenticated => (401, "authentication_error"),
        Code::PermissionDenied => (403, "permission_error"),
        Code::NotFound => (404, "invalid_request_error"),
        Code::AlreadyExists | Code::Aborted => (409, "invalid_request_error"),
        Code::ResourceExhausted => (429, "rate_limit_error"),
        Code::Unavailable => (503, "server_error"),
        Code::DeadlineExceeded => (504, "server_error"),
        Code::Ok => {
            return Err(client::Error::new(ErrorKind::Truncated, "the service ended before it began"));
        }
        Code::Cancelled | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
            (502, "server_error")
        }
    };
    let code = status.business.as_ref().map(|business| business.code.to_string()).or_else(|| status.reason());
    let body = json!({"error": {"message": status.message, "type": kind, "param": null, "code": code}});
    let body = Bytes::from(body.to_string());
    let mut response = answer("application/json", Body::local(futures_util::stream::iter([Ok(body)])));
    if let Some(after) = status.retry_after() {
        response.headers.insert(header::RETRY_AFTER, after.as_secs().max(1).into());
    }
    *response.body.timings_mut() = timings;
    response.status = StatusCode::from_u16(http).unwrap_or(StatusCode::BAD_GATEWAY);
    Ok(response)
}
