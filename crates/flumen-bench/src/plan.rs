use std::time::Duration;

use flumen_wire::client::{Endpoint, Request};
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::json;

/// How streams follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// So many streams at any time.
    Closed {
        /// Concurrent streams.
        streams: usize,
    },
    /// So many new streams per second, whatever became of the earlier ones.
    Open {
        /// New streams per second.
        per_second: f64,
    },
}

/// When connections are cut on purpose; the streams go on over others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Chaos {
    /// Each stream after so many events.
    CutEvery {
        /// Events between two cuts.
        events: u64,
    },
    /// All streams at the same moment, each time such a span has passed.
    CutAll {
        /// Time between two moments.
        every: Duration,
    },
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The base URL of the API, such as `http://127.0.0.1:8080/v1`.
    pub endpoint: Endpoint,
    /// Sent as `authorization: Bearer`.
    pub key: Option<HeaderValue>,
    /// The model to ask.
    pub model: String,
    /// What to ask it.
    pub prompt: String,
    /// Sent as `max_tokens`.
    pub max_tokens: Option<u32>,
    /// How streams follow each other.
    pub load: Load,
    /// Time over which streams of a closed load begin.
    pub ramp: Duration,
    /// Time between the ramp and the measurement.
    pub settle: Duration,
    /// Time that is measured.
    pub duration: Duration,
    /// How long a stream may be silent.
    pub timeout: Duration,
    /// So many streams of a closed load read their first piece and nothing after it.
    pub stalled: usize,
    /// Streams are resumable, and go on when their connection breaks.
    pub resume: bool,
    /// When connections are cut on purpose; only for streams that are resumable.
    pub chaos: Option<Chaos>,
    /// Every stream is left after this time.
    pub leave_after: Option<Duration>,
    /// The simulator that generates behind the server, asked when it saw clients leave: its base URL without `/v1`.
    pub simulator: Option<Endpoint>,
    /// Processes whose CPU time and memory are sampled.
    pub pids: Vec<u32>,
    /// Threads of the load generator.
    pub threads: usize,
}

impl Plan {
    /// A plan with moderate numbers: 50 streams for 10 s.
    pub fn new(endpoint: Endpoint, model: impl Into<String>) -> Self {
        Self {
            endpoint,
            key: None,
            model: model.into(),
            prompt: "Tell me about the river.".to_owned(),
            max_tokens: None,
            load: Load::Closed { streams: 50 },
            ramp: Duration::from_secs(1),
            settle: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            timeout: Duration::from_mins(1),
            stalled: 0,
            resume: false,
            chaos: None,
            leave_after: None,
            simulator: None,
            pids: Vec::new(),
            threads: 1,
        }
    }

    /// The request for one stream. The user tells streams apart where the simulator reports who left.
    pub(crate) fn request(&self, user: &str) -> Request {
        let mut body = json!({
            "model": self.model,
            "stream": true,
            "user": user,
            "messages": [{"role": "user", "content": self.prompt}],
        });
        if let Some(tokens) = self.max_tokens {
            body["max_tokens"] = tokens.into();
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(key) = &self.key {
            headers.insert(header::AUTHORIZATION, key.clone());
        }
        Request {
            method: Method::POST,
            path: "/chat/completions".to_owned(),
            headers,
            body: body.to_string().into(),
        }
    }
}
