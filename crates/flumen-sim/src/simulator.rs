//! From a request to its reply.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::{
    chat, completions,
    directives::Plan,
    embeddings,
    error::ApiError,
    fault::Fault,
    models,
    reply::Reply,
    request,
    settings::Settings,
    stats::{Counters, Stats, Ticket},
};

/// A simulated language model. Clones share their counters.
#[derive(Clone, Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    counters: Arc<Counters>,
}

/// What a path stands for.
enum Endpoint<'a> {
    Chat,
    Completions,
    Embeddings,
    Models,
    Model(&'a str),
    Stats,
    Aborts,
    Control,
}

impl<'a> Endpoint<'a> {
    fn at(path: &'a str) -> Option<Self> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let path = path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(path);
        Some(match path {
            "/chat/completions" => Self::Chat,
            "/completions" => Self::Completions,
            "/embeddings" => Self::Embeddings,
            "/models" => Self::Models,
            "/sim" => Self::Control,
            "/sim/stats" => Self::Stats,
            "/sim/aborts" => Self::Aborts,
            _ => Self::Model(path.strip_prefix("/models/").filter(|id| !id.is_empty())?),
        })
    }

    fn method(&self) -> Method {
        match self {
            Self::Chat | Self::Completions | Self::Embeddings => Method::POST,
            Self::Models | Self::Model(_) | Self::Stats | Self::Aborts | Self::Control => Method::GET,
        }
    }
}

impl Simulator {
    /// A simulator with these settings.
    pub fn new(settings: Settings) -> Self {
        let (settings, counters) = (settings.within_range(), Arc::default());
        Self { shared: Arc::new(Shared { settings, counters }) }
    }

    /// What this simulator has done so far.
    pub fn stats(&self) -> Stats {
        self.shared.counters.stats()
    }

    /// Answers one request. Errors are replies too, in OpenAI's form.
    ///
    /// The path may have a query, which is ignored, and may lack its `/v1`. The directives count as if they stood in
    /// the model's name, after its own. The future completes when the reply's
    /// header is due, which for an answer that is not streamed is after the last token; dropping it stops generating.
    /// Needs a tokio runtime with time.
    pub async fn handle(&self, method: &Method, path: &str, directives: &str, body: Bytes) -> Reply {
        let started = Instant::now();
        let endpoint = Endpoint::at(path);
        if let Some(reply) = endpoint.as_ref().filter(|_| method == Method::GET).and_then(|at| self.watch(at))
        {
            return reply;
        }
        let ticket = Ticket::new(self.shared.counters.clone());
        let Some(endpoint) = endpoint else {
            let message = format!("nothing is served at {path}");
            return Reply::from(ApiError::new(StatusCode::NOT_FOUND, "unknown_url", message))
                .completing(ticket);
        };
        let right = endpoint.method();
        if method != right {
            let message = format!("{path} takes {right}, not {method}");
            let mut reply =
                Reply::from(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message));
            let allow = HeaderValue::from_static(if right == Method::GET { "GET" } else { "POST" });
            reply.headers.insert(header::ALLOW, allow);
            return reply.completing(ticket);
        }
        // Boxed, so that callers do not carry the state of an answer around on their stacks.
        Box::pin(self.answer(endpoint, directives, body, started, ticket)).await
    }

    /// What shows the simulator itself, and does not count as a request.
    fn watch(&self, endpoint: &Endpoint<'_>) -> Option<Reply> {
        let counters = &self.shared.counters;
        Some(match endpoint {
            Endpoint::Control => Reply::html(include_str!("control.html")),
            Endpoint::Stats => Reply::json(StatusCode::OK, json!(counters.overview()).to_string()),
            Endpoint::Aborts => Reply::json(StatusCode::OK, json!(counters.aborts()).to_string()),
            _ => return None,
        })
    }

    async fn answer(
        &self,
        endpoint: Endpoint<'_>,
        directives: &str,
        body: Bytes,
        started: Instant,
        mut ticket: Ticket,
    ) -> Reply {
        let settings = &self.shared.settings;
        let result = match endpoint {
            Endpoint::Models => Ok(models::list(&settings.models)),
            Endpoint::Model(id) => models::one(&settings.models, id),
            Endpoint::Stats | Endpoint::Aborts | Endpoint::Control => {
                Err(ApiError::fault(StatusCode::NOT_FOUND))
            }
            Endpoint::Embeddings => self.embed(&body, directives, started).await,
            Endpoint::Chat | Endpoint::Completions => {
                let mut request = match request::parse::<request::Request>(&body) {
                    Ok(request) => request,
                    Err(error) => return Reply::from(error).completing(ticket),
                };
                drop(body);
                ticket.begin(request.model.as_deref().unwrap_or_default(), request.user.as_deref());
                let order = if matches!(endpoint, Endpoint::Chat) {
                    chat::order(settings, &request, directives, started)
                } else {
                    let prompts = request.prompt.take().map(request::Input::into_texts).unwrap_or_default();
                    completions::order(settings, &request, &prompts, directives, started)
                };
                match order {
                    Ok(order) => match before(&order.plan, started).await {
                        Ok(()) => return order.fill(ticket).await,
                        Err(error) => Err(error),
                    },
                    Err(error) => Err(error),
                }
            }
        };
        result.unwrap_or_else(Reply::from).completing(ticket)
    }

    /// Embeddings know the directives `header` and `fault=status`; the others have no meaning there.
    async fn embed(&self, body: &[u8], directives: &str, started: Instant) -> Result<Reply, ApiError> {
        let request = request::parse::<embeddings::Request>(body)?;
        let plan =
            Plan::new(&self.shared.settings, request.model.as_deref().unwrap_or_default(), directives)?;
        before(&plan, started).await?;
        embeddings::reply(request).await
    }
}

/// Waits until the header is due, and fails if the plan says so.
async fn before(plan: &Plan, started: Instant) -> Result<(), ApiError> {
    if !plan.header.is_zero() {
        sleep_until(started + plan.header).await;
    }
    match plan.fault {
        Some(Fault::Status(status)) => Err(ApiError::fault(status)),
        Some(Fault::After(..)) | None => Ok(()),
    }
}
