//! One request to one upstream.

use bytes::{Bytes, BytesMut};
use flumen_stream::{End, codec::sse::Decoder};
use flumen_wire::client::{self, Body, ErrorKind, Response};
use http::StatusCode;
use tokio::time::{Instant, timeout_at};

use crate::{
    dispatch::is_stream,
    error::Failure,
    pool::Attempt,
    provider::{
        Call, Upstream,
        openai::{self, Look},
    },
};

/// What came of asking an upstream.
pub(super) struct Answer {
    pub(super) attempt: Attempt,
    pub(super) result: Result<Response, Trouble>,
}

impl Answer {
    /// Whether no other upstream would do better: it is what was asked for, or says what is wrong with the request.
    pub(super) fn settles(&self) -> bool {
        self.result.as_ref().is_ok_and(|response| {
            let status = response.status;
            status.is_success()
                || status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 404 | 407 | 408)
        })
    }
}

/// Why an upstream's answer is none, or not one that a client should get while another may do better.
pub(super) enum Trouble {
    /// No answer.
    Failed(client::Error),
    /// It has too much to do, or those behind it are not there.
    Refused(Box<Response>),
    /// Nothing in time.
    Late,
}

/// Asks. `to_token` waits for the first token instead of the head of the answer.
pub(super) async fn ask(
    upstream: Option<Upstream>,
    attempt: Attempt,
    call: Call,
    to_token: bool,
    until: Instant,
) -> Answer {
    let stream = call.stream;
    let exchange = async {
        let upstream =
            upstream.ok_or_else(|| client::Error::new(ErrorKind::Configuration, "no such upstream"))?;
        let mut response = upstream.send(call).await?;
        let begins = stream && response.status.is_success() && is_stream(&response.headers) == Ok(true);
        let told = to_token && begins && first_token(&mut response.body).await? == First::Error;
        Ok((response, told))
    };
    let result = match timeout_at(until, exchange).await {
        Err(_) => Err(Trouble::Late),
        Ok(Err(error)) => Err(Trouble::Failed(error)),
        // An upstream that reports an error instead of a token has not answered.
        Ok(Ok((response, told))) if told || is_elsewhere(response.status) => {
            Err(Trouble::Refused(Box::new(response)))
        }
        Ok(Ok((response, _))) => Ok(response),
    };
    Answer { attempt, result }
}

/// Statuses that concern this upstream and this moment, not the request.
fn is_elsewhere(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504 | 529)
}

/// What may be read ahead while waiting for a token, in bytes.
const AHEAD: usize = 16 * 1024;

/// What an answer begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Token,
    Error,
}

/// Waits for the first token, and puts back what was read.
async fn first_token(body: &mut Body) -> Result<First, client::Error> {
    let (mut decoder, mut read) = (Decoder::new(AHEAD), BytesMut::new());
    let first = loop {
        let piece = match body.piece().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Err(error),
            None => {
                let message = "the upstream ended before its first token";
                return Err(client::Error::new(ErrorKind::Truncated, message));
            }
        };
        read.extend_from_slice(&piece);
        decoder.push(piece);
        let found = std::iter::from_fn(|| decoder.next()).find_map(|event| {
            let event = event.ok().filter(flumen_stream::Event::has_data)?;
            match openai::look(&event) {
                Look::Error => Some(First::Error),
                _ => openai::is_token(&event).then_some(First::Token),
            }
        });
        match found {
            Some(first) => break first,
            None if read.len() >= AHEAD => break First::Token,
            None => {}
        }
    };
    body.put_back(Bytes::from(read));
    Ok(first)
}

impl Trouble {
    /// Its name in logs and metrics.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Failed(error) => error.kind().as_str(),
            Self::Refused(response) if response.status.is_success() => "upstream_told",
            Self::Refused(response) if response.status == StatusCode::TOO_MANY_REQUESTS => {
                "upstream_rate_limited"
            }
            Self::Refused(_) => "upstream_overloaded",
            Self::Late => "first_token_timeout",
        }
    }

    /// Whether another upstream can be asked without harm: no client has seen anything, and the request is not to blame.
    pub(super) fn may_go_elsewhere(&self) -> bool {
        match self {
            Self::Failed(error) => error.kind() != ErrorKind::Configuration,
            Self::Refused(_) => true,
            Self::Late => false,
        }
    }

    /// Whether the upstream has too much to do.
    pub(super) fn is_overload(&self) -> bool {
        match self {
            Self::Refused(response) => !response.status.is_success(),
            Self::Late => true,
            Self::Failed(_) => false,
        }
    }

    /// What the client gets when nobody else is asked.
    ///
    /// # Errors
    /// When there was no answer.
    pub(super) fn into_answer(self, late: &End) -> Result<Response, Failure> {
        match self {
            Self::Failed(error) => Err(error.into()),
            Self::Refused(response) => Ok(*response),
            Self::Late => Err(late.clone().into()),
        }
    }
}
