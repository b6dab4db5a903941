//! One answer, from the question to its end.

use std::time::Duration;

use flumen_bench::{Failure, open};
use flumen_client::EventStream;
use flumen_stream::{Event, codec::sse::Decoder};
use flumen_wire::client::{Body, Request};
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    signal::ctrl_c,
    time::{Instant, timeout},
};

use super::{Chat, screen::Screen};

/// The longest event that is read, in bytes.
const MAX_EVENT: usize = 16 * 1024 * 1024;

/// What came of an answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) first_token: Option<Duration>,
    pub(super) total: Duration,
    /// As the server counts them, or the events that said something.
    pub(super) tokens: u64,
}

/// How an answer ended.
pub(super) enum Ended {
    Complete(Answer),
    /// By Ctrl-C.
    Cancelled(Answer),
    /// Nobody reads what is printed.
    NobodyReads,
    Failed(Failure, Answer),
}

/// Why reading stopped before the end mark.
enum Stop {
    Failure(Failure),
    NobodyReads,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Self {
        Self::NobodyReads
    }
}

/// Asks and prints the answer as it comes. Ctrl-C drops the request, which cancels the generation.
pub(super) async fn ask(chat: &Chat, messages: &[Value], screen: &mut Screen) -> Ended {
    let request = Request {
        method: Method::POST,
        path: "/chat/completions".to_owned(),
        headers: chat.headers.clone(),
        body: chat.body(messages).to_string().into(),
    };
    let (started, mut answer) = (Instant::now(), Answer::default());
    let outcome = if let Some(client) = &chat.resuming {
        let mut stream = resumable(client, &request);
        let outcome = tokio::select! {
            biased;
            _ = ctrl_c() => None,
            outcome = read_on(&mut stream, started, screen, &mut answer) => Some(outcome),
        };
        if outcome.is_none() {
            // Without a word the generation would go on for its grace. It may be over; then there is nothing to stop.
            let _ = timeout(Duration::from_secs(2), stream.stop()).await;
        }
        outcome
    } else {
        tokio::select! {
            biased;
            _ = ctrl_c() => None,
            outcome = read(chat, &request, started, screen, &mut answer) => Some(outcome),
        }
    };
    answer.total = started.elapsed();
    if screen.end_of_answer().is_err() {
        return Ended::NobodyReads;
    }
    match outcome {
        None => Ended::Cancelled(answer),
        Some(Ok(())) => Ended::Complete(answer),
        Some(Err(Stop::NobodyReads)) => Ended::NobodyReads,
        Some(Err(Stop::Failure(failure))) => Ended::Failed(failure, answer),
    }
}

async fn read(
    chat: &Chat,
    request: &Request,
    started: Instant,
    screen: &mut Screen,
    answer: &mut Answer,
) -> Result<(), Stop> {
    let mut body = open(&chat.client, request, chat.patience).await?;
    let mut decoder = Decoder::new(MAX_EVENT);
    loop {
        let Some(piece) = next(&mut body, chat.patience).await? else { return Err(truncated()) };
        screen.raw(&piece)?;
        decoder.push(piece);
        while let Some(event) = decoder.next() {
            let event = event.map_err(|error| Failure::new("event too long", error.to_string()))?;
            if event.has_data() && take(&event, started, screen, answer)? {
                return Ok(());
            }
        }
        screen.flush()?;
    }
}

fn resumable(client: &flumen_client::Client, request: &Request) -> EventStream {
    let mut call = client.post(&request.path, request.body.clone());
    for (name, value) in &request.headers {
        if let Ok(value) = value.to_str() {
            call = call.header(name.as_str(), value);
        }
    }
    call.stream()
}

/// Reads an answer over as many connections as it takes.
async fn read_on(
    stream: &mut EventStream,
    started: Instant,
    screen: &mut Screen,
    answer: &mut Answer,
) -> Result<(), Stop> {
    while let Some(received) = stream.next().await {
        let event = received.map_err(Failure::from)?.event;
        screen.raw(event.wire())?;
        if take(&event, started, screen, answer)? {
            return Ok(());
        }
        screen.flush()?;
    }
    Err(truncated())
}

/// Shows what an event says; whether it was the end mark.
fn take(event: &Event, started: Instant, screen: &mut Screen, answer: &mut Answer) -> Result<bool, Stop> {
    let payload = event.payload();
    if *payload == *b"[DONE]" {
        return Ok(true);
    }
    screen.json(&payload)?;
    say(&parse(&payload)?, started, screen, answer)?;
    Ok(false)
}

fn truncated() -> Stop {
    let message = "the answer ended without its end mark [DONE]; it may be incomplete";
    Failure::new("truncated", message).into()
}

async fn next(body: &mut Body, patience: Duration) -> Result<Option<bytes::Bytes>, Failure> {
    let piece = timeout(patience, body.piece()).await;
    let piece = piece.map_err(|_| Failure::new("timeout", format!("silence for {patience:?}")))?;
    Ok(piece.transpose()?)
}

fn parse(payload: &[u8]) -> Result<Chunk, Failure> {
    let chunk: Chunk = serde_json::from_slice(payload).map_err(|error| {
        Failure::new("garbage", format!("an event is not what the OpenAI API sends: {error}"))
    })?;
    let Some(problem) = chunk.error else { return Ok(chunk) };
    let text = |key: &str| problem.get(key).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    Err(Failure::new("error event", format!("{} ({})", text("message"), text("code"))))
}

fn say(chunk: &Chunk, started: Instant, screen: &mut Screen, answer: &mut Answer) -> Result<(), Stop> {
    if let Some(usage) = &chunk.usage {
        answer.tokens = usage.completion_tokens;
    }
    let Some(delta) = chunk.choices.first().and_then(|choice| choice.delta.as_ref()) else { return Ok(()) };
    let thought = delta.reasoning_content.as_deref().or(delta.reasoning.as_deref()).unwrap_or_default();
    let text = delta.content.as_deref().or(delta.refusal.as_deref()).unwrap_or_default();
    let called = delta.tool_calls.iter().flatten().filter_map(|call| call.function.as_ref());
    let call: String =
        called.flat_map(|call| [&call.name, &call.arguments]).flatten().map(String::as_str).collect();
    if thought.is_empty() && text.is_empty() && call.is_empty() {
        return Ok(());
    }
    answer.first_token.get_or_insert_with(|| started.elapsed());
    answer.tokens += 1;
    answer.text.push_str(text);
    screen.aside(thought)?;
    screen.aside(&call)?;
    screen.text(text)?;
    Ok(())
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Delta>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(Deserialize)]
struct ToolCall {
    #[serde(default)]
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    completion_tokens: u64,
}

/// The first model that the server lists, patterns aside.
pub(super) async fn first_model(chat: &Chat) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        id: String,
    }
    let request = Request {
        method: Method::GET,
        path: "/models".to_owned(),
        headers: chat.headers.clone(),
        body: bytes::Bytes::new(),
    };
    let silent = |_| Failure::new("timeout", format!("no answer within {:?}", chat.patience));
    let mut response = timeout(chat.patience, chat.client.send(&request)).await.map_err(silent)??;
    let mut list = Vec::new();
    while list.len() < MAX_EVENT
        && let Some(piece) = next(&mut response.body, chat.patience).await?
    {
        list.extend_from_slice(&piece);
    }
    if !response.status.is_success() {
        let message = format!("the server lists no models ({}); say which with --model", response.status);
        return Err(Failure::new("status", message));
    }
    let list: List = serde_json::from_slice(&list).map_err(|_| {
        Failure::new("garbage", "the list of models is not what the OpenAI API sends; say which with --model")
    })?;
    let first = list.data.into_iter().map(|model| model.id).find(|id| !id.contains('*'));
    first.ok_or_else(|| Failure::new("no model", "the server lists no models; say which with --model"))
}
