//! Long poll: exchange after exchange, each with a few events.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use flumen_stream::Event;
use flumen_wire::client::{Request, Timings};
use futures_util::{FutureExt, future::BoxFuture};
use http::Method;
use serde::Deserialize;

use super::{
    Class, Fault, Item, Link, Opened, Plan,
    answer::{is_of, read_whole, refusal, stream_of, wrong_type},
    body,
    envelope::Envelope,
};
use crate::{Error, ErrorKind, call::is_stream_id};

/// The longest wait that is asked for.
const WAIT: Duration = Duration::from_secs(25);
/// What one answer may hold besides one event of the largest size, which JSON may make six times as long.
const ANSWER: usize = 1024 * 1024;

pub(crate) struct PollLink {
    plan: Plan,
    stream: Arc<str>,
    after: u64,
    ready: VecDeque<(Event, Option<u64>)>,
    asking: Option<BoxFuture<'static, Result<Answer, Fault>>>,
    timings: Timings,
    /// Whether the next exchange is the first since the link was opened.
    first: bool,
}

struct Answer {
    timings: Timings,
    /// `None`: there is nothing more.
    batch: Option<Batch>,
}

struct Batch {
    events: VecDeque<(Event, Option<u64>)>,
    last: u64,
}

/// The state of a stream; only its id is of use here.
#[derive(Deserialize)]
struct State {
    id: String,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    events: Vec<Envelope<'a>>,
    last: u64,
}

/// Begins a stream, if it is not known yet. No poll is sent before the first poll of the link.
pub(super) async fn open(plan: Plan) -> Result<Opened, Fault> {
    if let Some(stream) = plan.position.stream.clone() {
        return Ok(opened(plan, stream, Timings::new(), true));
    }
    if plan.ask.method != Method::POST || plan.ask.key.is_none() {
        let message = "a long poll begins with a resumable POST or reads a stream that is known";
        return Err(not_this_way(&plan, message));
    }
    let mut response = plan.shared.wire.send(&plan.begin_apart()).await?;
    match response.status.as_u16() {
        202 => {
            let named = stream_of(&response.headers);
            let state = read_whole(&mut response.body, ANSWER).await?;
            let named = named.or_else(|| {
                let state: State = serde_json::from_slice(&state).ok()?;
                is_stream_id(&state.id).then(|| state.id.into())
            });
            let stream = named.ok_or_else(|| Fault::protocol("the server accepted, but named no stream"))?;
            let timings = response.body.timings().clone();
            Ok(opened(plan, stream, timings, false))
        }
        // It prefers to answer at once, which is as good.
        200 => body::link(&plan, response),
        204 => Ok(Opened::Finished),
        _ => Err(refusal(response).await),
    }
}

/// A transport that cannot do what is asked: the next one may.
pub(super) fn not_this_way(plan: &Plan, message: &str) -> Fault {
    let class = if plan.others { Class::Unsent } else { Class::Final };
    Fault::new(class, Error::new(ErrorKind::Configuration, message))
}

fn opened(plan: Plan, stream: Arc<str>, timings: Timings, first: bool) -> Opened {
    let after = plan.position.last_seq.unwrap_or(0);
    let ready = VecDeque::new();
    Opened::Link(Link::Poll(Box::new(PollLink { plan, stream, after, ready, asking: None, timings, first })))
}

impl PollLink {
    pub(super) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        if let Some((event, seq)) = self.ready.pop_front() {
            return Poll::Ready(Item::Event(event, seq));
        }
        if self.asking.is_none() {
            self.asking = Some(self.ask());
            let before = std::mem::take(&mut self.timings);
            if !std::mem::take(&mut self.first) {
                return Poll::Ready(Item::Leg(Box::new(before)));
            }
        }
        let Some(asking) = &mut self.asking else { return Poll::Pending };
        let answer = ready!(asking.as_mut().poll(cx));
        self.asking = None;
        Poll::Ready(match answer {
            Ok(Answer { timings, batch }) => {
                self.timings = timings;
                match batch {
                    None => Item::Finished,
                    Some(Batch { events, last }) => {
                        self.ready = events;
                        self.after = self.after.max(last);
                        Item::Life
                    }
                }
            }
            Err(fault) => Item::Fault(fault),
        })
    }

    fn ask(&self) -> BoxFuture<'static, Result<Answer, Fault>> {
        let settings = &self.plan.ask.settings;
        let wait = settings.idle.map_or(WAIT, |idle| WAIT.min(idle / 2)).as_secs().max(1);
        let (root, stream, after) = (self.plan.api_root(), &self.stream, self.after);
        let path = format!("{root}/streams/{stream}/poll?after={after}&wait={wait}s");
        let request = self.plan.beside(Method::GET, path);
        let most = ANSWER + 6 * settings.max_event;
        exchange(self.plan.shared.wire.clone(), request, most).boxed()
    }

    pub(super) fn timings(&self) -> &Timings {
        &self.timings
    }

    pub(super) fn stream(&self) -> &Arc<str> {
        &self.stream
    }
}

async fn exchange(wire: flumen_wire::client::Client, request: Request, most: usize) -> Result<Answer, Fault> {
    let mut response = wire.send(&request).await?;
    match response.status.as_u16() {
        204 => Ok(Answer { timings: response.body.timings().clone(), batch: None }),
        200 if is_of(&response.headers, &["application/json"]) => {
            let body = read_whole(&mut response.body, most).await?;
            Ok(Answer { timings: response.body.timings().clone(), batch: Some(read(&body)?) })
        }
        200 => Err(wrong_type(&response.headers)),
        _ => Err(refusal(response).await),
    }
}

fn read(body: &[u8]) -> Result<Batch, Fault> {
    let document: Document<'_> = serde_json::from_slice(body)
        .map_err(|error| Fault::protocol(format!("the answer to a poll cannot be read: {error}")))?;
    let last = document.last;
    let events = document.events.into_iter().map(|envelope| {
        let seq = envelope.seq;
        envelope.event().map(|event| (event, seq))
    });
    let events: Result<_, _> = events.collect();
    Ok(Batch { events: events.map_err(|error| Fault::protocol(error.to_string()))?, last })
}

impl fmt::Debug for PollLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollLink")
            .field("stream", &self.stream)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_read() {
        let body = r#"{"stream":"s","state":"open","events":[{"id":"s.1-13","seq":13,"data":{}}],"last":13}"#;
        let batch = read(body.as_bytes()).unwrap_or_else(|fault| panic!("{fault:?}"));
        assert_eq!((batch.last, batch.events.len(), batch.events[0].1), (13, 1, Some(13)));
        assert!(read(b"{}").is_err());
    }
}
