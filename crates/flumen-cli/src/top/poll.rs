//! Asks the gateway, and tells it what an operator wants.

use std::{fmt, time::Duration};

use bytes::Bytes;
use flumen_wire::client::{Client, Endpoint, ErrorKind, Options, Request, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::{
    model::{List, Snapshot},
    text::{Text, shorten},
};

/// The longest answer that is read, in bytes. A thousand streams take less than half a megabyte.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Why the gateway could not be asked, and what can be done, in one line without anything that commands a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Problem {
    fn from(problem: &str) -> Self {
        Self(Text::from(problem).to_string())
    }
}

/// What an operator can want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Stops a stream, by its id.
    Stop(Text),
    Drain(Text),
    Undrain(Text),
    /// Holds the breaker of an upstream open.
    Open(Text),
    Close(Text),
}

impl Order {
    fn request(&self) -> (Method, String) {
        let upstream = |name, what| (Method::POST, format!("/admin/upstreams/{}/{what}", segment(name)));
        match self {
            Self::Stop(id) => (Method::DELETE, format!("/admin/streams/{}", segment(id))),
            Self::Drain(name) => upstream(name, "drain"),
            Self::Undrain(name) => upstream(name, "undrain"),
            Self::Open(name) => upstream(name, "open"),
            Self::Close(name) => upstream(name, "close"),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop(id) => write!(f, "stop stream {id}"),
            Self::Drain(name) => write!(f, "drain {name}"),
            Self::Undrain(name) => write!(f, "undrain {name}"),
            Self::Open(name) => write!(f, "open the breaker of {name}"),
            Self::Close(name) => write!(f, "close the breaker of {name}"),
        }
    }
}

/// The admin API of one gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    client: Client,
    endpoint: Endpoint,
    headers: HeaderMap,
    patience: Duration,
}

impl Admin {
    pub(super) fn new(
        endpoint: Endpoint,
        authorization: Option<HeaderValue>,
        patience: Duration,
    ) -> Result<Self, Problem> {
        let client = Client::new(endpoint.clone(), Options::default());
        let client = client.map_err(|error| Problem(error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        Ok(Self { client, endpoint, headers, patience })
    }

    /// Everything that is shown. One question after the other, so that looking on costs the gateway one connection.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, Problem> {
        let overview = self.get("/admin/overview").await?;
        let at = Instant::now();
        let streams: List<_> = self.get("/admin/streams").await?;
        let tenants: List<_> = self.get("/admin/tenants").await?;
        let pools: List<_> = self.get("/admin/pools").await?;
        Ok(Snapshot { at, overview, streams: streams.data, tenants: tenants.data, pools: pools.data })
    }

    /// Does what an operator wants.
    pub(super) async fn order(&self, order: &Order) -> Result<(), Problem> {
        let (method, path) = order.request();
        match self.ask(method, path).await? {
            (status, _) if status.is_success() => Ok(()),
            (status, body) => Err(self.refused(status, &body, true)),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let (status, body) = self.ask(Method::GET, path.to_owned()).await?;
        if !status.is_success() {
            return Err(self.refused(status, &body, false));
        }
        serde_json::from_slice(&body).map_err(|error| {
            // The error may quote what the server sent.
            let error = Text::from(&*error.to_string());
            Problem(format!(
                "{}{path} does not answer as the admin API of a gateway would ({}): {}",
                self.endpoint,
                "is it another server, or another version?",
                shorten(&error.to_string(), 200)
            ))
        })
    }

    async fn ask(&self, method: Method, path: String) -> Result<(StatusCode, Vec<u8>), Problem> {
        let request = Request { method, path, headers: self.headers.clone(), body: Bytes::new() };
        let answer = timeout(self.patience, self.exchange(&request)).await;
        answer.map_err(|_| {
            Problem(format!("{} gave no answer within {:?} (--timeout)", self.endpoint, self.patience))
        })?
    }

    async fn exchange(&self, request: &Request) -> Result<(StatusCode, Vec<u8>), Problem> {
        let Response { status, mut body, .. } =
            self.client.send(request).await.map_err(|error| self.failed(&error))?;
        let mut whole = Vec::new();
        while let Some(piece) = body.piece().await {
            let piece = piece.map_err(|error| self.failed(&error))?;
            if whole.len() + piece.len() > MAX_ANSWER {
                let limit = MAX_ANSWER / (1024 * 1024);
                return Err(Problem(format!(
                    "{}{} answers with more than {limit} MiB: it is no gateway's admin API",
                    self.endpoint, request.path
                )));
            }
            whole.extend_from_slice(&piece);
        }
        Ok((status, whole))
    }

    fn failed(&self, error: &flumen_wire::client::Error) -> Problem {
        let hint = match error.kind() {
            ErrorKind::Connect | ErrorKind::ConnectTimeout => {
                ": is the gateway running, and is [admin] listen configured? --admin says where it is"
            }
            ErrorKind::Resolve => ": --admin says where the admin API is",
            _ => "",
        };
        Problem(format!("{}: {}{hint}", self.endpoint, Text::from(&*error.to_string())))
    }

    fn refused(&self, status: StatusCode, body: &[u8], order: bool) -> Problem {
        let error = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
        let message = Text::from(error["error"]["message"].as_str().unwrap_or_default()).to_string();
        let hint = match status {
            StatusCode::UNAUTHORIZED if self.headers.contains_key(header::AUTHORIZATION) => {
                "the token is not the one of [admin] token_env or token_file"
            }
            StatusCode::UNAUTHORIZED => "it wants a token; say where it is with --token-env or --token-file",
            StatusCode::NOT_FOUND if !order => {
                "no admin API is there; is it the address of [admin] listen, rather than that of the gateway itself?"
            }
            _ if message.is_empty() => "no reason was given",
            _ => return Problem(format!("{} answers {status}: {}", self.endpoint, shorten(&message, 200))),
        };
        Problem(format!("{} answers {status}: {hint}", self.endpoint))
    }
}

/// A name as one segment of a path, whatever it is made of.
fn segment(name: &Text) -> String {
    let mut segment = String::new();
    for byte in name.raw().bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            segment.push(byte.into());
        } else {
            segment += &format!("%{byte:02X}");
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_name_what_they_mean_whatever_it_is_called() {
        let order = Order::Drain("a/b ?万\r\n".into());
        assert_eq!(
            order.request(),
            (Method::POST, "/admin/upstreams/a%2Fb%20%3F%E4%B8%87%0D%0A/drain".to_owned())
        );
        assert_eq!(order.to_string(), "drain a/b ?万\u{fffd}\u{fffd}");
        assert_eq!(Order::Stop("7".into()).request(), (Method::DELETE, "/admin/streams/7".to_owned()));
    }
}
