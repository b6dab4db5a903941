//! One answer, streamed or whole.

use std::future::pending;

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};

use crate::{
    answer::Answer,
    directives::Plan,
    error::ApiError,
    fault::{Breakage, Fault},
    frames::{Frames, Shape},
    reply::{Cut, Reply, ReplyBody},
    request::{Prompt, Request},
    schedule::Schedule,
    settings::Settings,
    stats::Ticket,
    stream::Events,
};

/// The most bytes of text that an answer has which is not streamed.
const LARGEST_WHOLE: usize = 64 << 20;
/// Events between two chances for other tasks.
const EVENTS_AT_ONCE: u64 = 1024;

/// Bytes that make sense in no protocol here, with line breaks and half a character among them.
pub(crate) const GARBAGE: &[u8] =
    b"\xff\xfe\x00\x01\xc3(\n\x80\x81data\xf0\x9f\x8c\x00\r\n\n{\"\xed\xa0\x80\xde\xad\xbe\xef\n\n";

/// An answer that is ready to be given.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) answer: Answer,
    pub(crate) frames: Frames,
    pub(crate) schedule: Schedule,
    pub(crate) fault: Option<(Breakage, u64)>,
    pub(crate) split: bool,
    pub(crate) ticket: Ticket,
}

/// What an answer is made from.
pub(crate) struct Order<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) plan: Plan,
    pub(crate) model: &'a str,
    pub(crate) request: &'a Request,
    pub(crate) prompt: Prompt,
    pub(crate) shape: Shape,
    /// The text of the answer, if it is not to be made up.
    pub(crate) text: Option<String>,
    /// The beginning of the answer, which is not given again.
    pub(crate) spoken: String,
    pub(crate) started: Instant,
}

impl Order<'_> {
    /// Answers.
    pub(crate) async fn fill(self, ticket: Ticket) -> Reply {
        let Self { settings, mut plan, model, request, prompt, shape, text, spoken, started } = self;
        plan.language = plan.language.or(prompt.language);
        let own_seed = plan.seed.or(request.seed.map(i64::cast_unsigned));
        let seed = own_seed.unwrap_or(crate::hash::mix(settings.seed) ^ prompt.hash);
        let cap = request.max_completion_tokens.or(request.max_tokens);
        let mut answer = match (text, &shape) {
            (Some(text), Shape::ToolCall { .. }) => Answer::given(&plan, text, cap).unpadded(),
            (Some(text), Shape::Chat | Shape::Text) => Answer::given(&plan, text, cap),
            (None, _) => Answer::prose(&plan, seed, cap),
        };
        answer.skip(&spoken);
        let include_usage =
            request.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false);
        let generation = Generation {
            answer,
            frames: Frames::new(shape, model, ticket.number(), prompt.tokens, include_usage, plan.stamp),
            schedule: Schedule::new(&plan, started, seed),
            fault: match plan.fault {
                Some(Fault::After(breakage, events)) => Some((breakage, events)),
                Some(Fault::Status(_)) | None => None,
            },
            split: plan.split,
            ticket,
        };
        if request.stream.unwrap_or(false) {
            let body = Events::new(generation).into_body();
            Reply::new(StatusCode::OK, "text/event-stream", body)
        } else {
            generation.whole().await
        }
    }
}

impl Generation {
    /// Waits until the answer is complete, and gives it in one piece.
    async fn whole(mut self) -> Reply {
        let (mut text, mut piece, mut events) = (String::new(), String::new(), 0_u64);
        let fault = loop {
            if let Some((breakage, _)) = self.fault.filter(|(_, after)| *after == events) {
                break Some(breakage);
            }
            if self.answer.is_over() {
                break None;
            }
            self.answer.next_event(&mut piece);
            text.push_str(&piece);
            events += 1;
            if text.len() > LARGEST_WHOLE {
                let message = format!("an answer of more than {LARGEST_WHOLE} bytes must be streamed");
                return Reply::from(ApiError::invalid("stream", message)).completing(self.ticket);
            }
            if events.is_multiple_of(EVENTS_AT_ONCE) {
                yield_now().await;
            }
        };
        // A fault comes with the event that it takes the place of, the answer with its last one.
        let last = if fault.is_some() { events } else { events.saturating_sub(1) };
        sleep_until(self.schedule.due(last)).await;
        self.ticket.generated(self.answer.tokens());
        let finish_reason = self.answer.finish_reason(self.frames.shape().finish_reason());
        let body = Bytes::from(self.frames.whole(&text, finish_reason, self.answer.tokens()));
        let half = body.len() / 2;
        let reply = match fault {
            None if self.split => {
                let (first, second) = halves(body);
                let parts = [Ok(first), Ok(second)];
                let parts = stream::unfold(parts.into_iter(), |mut parts| async move {
                    // Time for the first half to leave on its own.
                    yield_now().await;
                    Some((parts.next()?, parts))
                });
                Reply::new(StatusCode::OK, "application/json", ReplyBody::new(parts))
            }
            None => Reply::json(StatusCode::OK, body),
            Some(Breakage::Stall) => pending().await,
            Some(Breakage::Cut) => {
                let parts = stream::iter([Ok(body.slice(..half)), Err(Cut)]);
                Reply::new(StatusCode::OK, "application/json", ReplyBody::new(parts))
            }
            Some(Breakage::End | Breakage::Unterminated) => Reply::json(StatusCode::OK, body.slice(..half)),
            Some(Breakage::Error) => ApiError::fault(StatusCode::INTERNAL_SERVER_ERROR).into(),
            Some(Breakage::Garbage) => Reply::json(StatusCode::OK, GARBAGE),
        };
        reply.completing(self.ticket)
    }
}

/// Cuts a chunk through its first character of several bytes, or in the middle if there is none.
pub(crate) fn halves(mut chunk: Bytes) -> (Bytes, Bytes) {
    let inside = chunk.iter().position(|byte| byte & 0b1100_0000 == 0b1000_0000);
    let second = chunk.split_off(inside.unwrap_or(chunk.len() / 2));
    (chunk, second)
}
