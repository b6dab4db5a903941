use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::{
    answer::{Answer, Api},
    directives::{Directives, Fault},
    embeddings::embeddings,
    generate,
    reply::Reply,
    request::Asked,
    settings::Settings,
    stats::{Counters, Stats},
};

/// A simulated model server. Cheap to clone; clones share their [`Stats`].
#[derive(Clone, Debug)]
pub struct Simulator {
    settings: Arc<Settings>,
    counters: Arc<Counters>,
}

impl Simulator {
    /// A simulator with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), counters: Arc::default() }
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.counters.stats()
    }

    /// Answers one request. The path may leave out the leading `/v1`.
    ///
    /// An answer that is not streamed takes as long as the streamed one would. Dropping the future, or the body of
    /// its reply, stops the generation.
    pub async fn handle(&self, method: &Method, path: &str, body: Bytes) -> Reply {
        self.counters.requests.fetch_add(1, Relaxed);
        let path = path.strip_prefix("/v1").unwrap_or(path);
        let wanted = match path {
            "/chat/completions" | "/completions" | "/embeddings" => Method::POST,
            "/models" => Method::GET,
            _ if path.starts_with("/models/") => Method::GET,
            _ => {
                return Reply::error(
                    StatusCode::NOT_FOUND,
                    "not_found",
                    "the simulator has nothing at this path",
                );
            }
        };
        if *method != wanted {
            let message = format!("this path takes {wanted}");
            return Reply::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
        }
        match path {
            "/chat/completions" => self.answer(Api::Chat, &body).await,
            "/completions" => self.answer(Api::Completions, &body).await,
            "/embeddings" => embeddings(&body),
            "/models" => {
                let data: Vec<_> = self.settings.models.iter().map(|name| model(name)).collect();
                Reply::json(&json!({"object": "list", "data": data}))
            }
            path => Reply::json(&model(path.trim_start_matches("/models/"))),
        }
    }

    async fn answer(&self, api: Api, body: &Bytes) -> Reply {
        let start = Instant::now();
        let bad = |message: &str| Reply::error(StatusCode::BAD_REQUEST, "invalid_request", message);
        let asked: Asked = match serde_json::from_slice(body) {
            Ok(asked) => asked,
            Err(error) => return bad(&format!("the request body is not valid: {error}")),
        };
        let Some(model) = &asked.model else { return bad("the field `model` is required") };
        match api {
            Api::Chat if asked.messages.is_none() => return bad("the field `messages` is required"),
            Api::Completions if asked.prompt.is_none() => return bad("the field `prompt` is required"),
            _ => {}
        }
        let directives = match Directives::parse(model, &self.settings) {
            Ok(directives) => directives,
            Err(error) => return bad(&error.to_string()),
        };
        sleep_until(start + directives.header).await;
        if let Some(Fault::Status(status)) = directives.fault {
            return Reply::error(status, "sim_fault", "the simulator was told to answer with this status");
        }
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let answer = Answer::new(api, &asked, &directives, self.settings.seed, created);
        let answering = self.counters.begin();
        if asked.stream.unwrap_or(false) {
            Reply::stream(generate::streamed(answer, &directives, start, answering))
        } else {
            generate::whole(answer, &directives, start, answering).await
        }
    }
}

fn model(name: &str) -> serde_json::Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "flumen-sim"})
}

#[cfg(test)]
mod tests;
