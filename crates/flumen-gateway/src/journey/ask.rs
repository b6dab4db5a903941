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
    provider::{Call, Upstream, openai},
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
        if to_token && begins {
            first_token(&mut response.body).await?;
        }
        Ok(response)
    };
    let result = match timeout_at(until, exchange).await {
        Err(_) => Err(Trouble::Late),
        Ok(Err(error)) => Err(Trouble::Failed(error)),
        Ok(Ok(response)) if is_elsewhere(response.status) => Err(Trouble::Refused(Box::new(response))),
        Ok(Ok(response)) => Ok(response),
    };
    Answer { attempt, result }
}

/// Statuses that concern this upstream and this moment, not the request.
fn is_elsewhere(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504 | 529)
}

/// What may be read ahead while waiting for a token, in bytes.
const AHEAD: usize = 16 * 1024;

/// Waits for the first token, and puts back what was read.
async fn first_token(body: &mut Body) -> Result<(), client::Error> {
    let (mut decoder, mut read) = (Decoder::new(AHEAD), BytesMut::new());
    let failed = loop {
        let piece = match body.piece().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) if read.is_empty() => return Err(error),
            // What it said before it failed is said; the relay meets the end again.
            Some(Err(_)) | None => break true,
        };
        read.extend_from_slice(&piece);
        decoder.push(piece);
        let spoke = std::iter::from_fn(|| decoder.next())
            .any(|event| event.is_ok_and(|event| event.has_data() && openai::is_token(&event)));
        if spoke || read.len() >= AHEAD {
            break false;
        }
    };
    if failed {
        return Err(client::Error::new(ErrorKind::Truncated, "the upstream ended before its first token"));
    }
    body.put_back(Bytes::from(read));
    Ok(())
}

impl Trouble {
    /// Its name in logs and metrics.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Failed(error) => error.kind().as_str(),
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
        matches!(self, Self::Refused(_) | Self::Late)
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
