use std::sync::Arc;

use flumen_wire::client::{Client, Endpoint, Error, Options, Request, Response};
use http::{HeaderMap, HeaderValue, Method, header};

use super::Call;

/// A server that speaks the OpenAI API.
#[derive(Clone, Debug)]
pub(crate) struct HttpServer {
    client: Client,
    /// What every request carries: the key and the operator's own headers.
    headers: Arc<HeaderMap>,
    /// Whom to ask whether it is well, and by which path.
    check: Option<(Client, String)>,
}

impl HttpServer {
    /// A server at an endpoint; `headers` go with every request. `health_path` is a path on the server, not below the base.
    ///
    /// # Errors
    /// When a root certificate is unusable.
    pub(crate) fn new(
        endpoint: Endpoint,
        options: Options,
        headers: HeaderMap,
        health_path: Option<&str>,
    ) -> Result<Self, Error> {
        let check = match health_path {
            Some(path) => Some((Client::new(endpoint.clone().root(), options.clone())?, path.to_owned())),
            None => None,
        };
        Ok(Self { client: Client::new(endpoint, options)?, headers: Arc::new(headers), check })
    }

    /// Whether it can be asked how it is.
    pub(crate) fn has_check(&self) -> bool {
        self.check.is_some()
    }

    /// Asks whether it is well.
    pub(crate) async fn check(&self) -> bool {
        let Some((client, path)) = &self.check else { return true };
        let headers = HeaderMap::clone(&self.headers);
        let request = Request { method: Method::GET, path: path.clone(), headers, body: bytes::Bytes::new() };
        client.send(&request).await.is_ok_and(|response| response.status.is_success())
    }

    pub(super) async fn send(&self, call: Call) -> Result<Response, Error> {
        let accept = if call.stream { "text/event-stream" } else { "application/json" };
        let mut headers = call.headers;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("flumen/", env!("CARGO_PKG_VERSION"))),
        );
        for (name, value) in &*self.headers {
            headers.insert(name, value.clone());
        }
        let request = Request { method: Method::POST, path: call.path.to_owned(), headers, body: call.body };
        self.client.send(&request).await
    }
}
