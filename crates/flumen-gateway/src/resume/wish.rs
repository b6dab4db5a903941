use flumen_store::EventId;
use http::HeaderMap;

use crate::error::Failure;

/// What a request says of resuming.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// What `Flumen-Resume` says.
    resume: Option<bool>,
    /// The stream is wanted, its answer is not: `Prefer: respond-async`.
    pub detached: bool,
    /// `Idempotency-Key`, as it was written.
    key: Option<String>,
    /// `Last-Event-ID`, as it was written.
    last: Option<String>,
    /// Who asks.
    pub owner: String,
}

impl Wish {
    /// Reads the headers of a request that `owner` makes.
    ///
    /// # Errors
    /// 400 for what cannot be understood.
    pub(crate) fn of(headers: &HeaderMap, owner: String) -> Result<Self, Failure> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let resume = match text("flumen-resume") {
            None => None,
            Some("1" | "true") => Some(true),
            Some("0" | "false") => Some(false),
            Some(_) => return Err(Failure::bad_request("the header `Flumen-Resume` must be 1 or 0")),
        };
        let key = text("idempotency-key").map(str::to_owned);
        let last = text("last-event-id").filter(|id| !id.is_empty()).map(str::to_owned);
        let detached = text("prefer").is_some_and(|prefer| {
            prefer.split([',', ';']).any(|item| item.trim().eq_ignore_ascii_case("respond-async"))
        });
        Ok(Self { resume, detached, key, last, owner })
    }

    /// The wish for a stream that is resumable, under a key if there is one.
    pub(super) fn resuming(self, key: Option<String>) -> Self {
        Self { resume: Some(true), key, ..self }
    }

    /// The event to go on after, if the stream was begun before. Where nothing is resumable, ids of others mean nothing.
    ///
    /// # Errors
    /// 400 for an id that is none of ours, where streams are resumable.
    pub(crate) fn last(&self, configured: bool) -> Result<Option<EventId>, Failure> {
        match self.last.as_deref().map(cursor) {
            Some(Err(_)) if !self.resumable(configured) => Ok(None),
            last => last.transpose(),
        }
    }

    /// The key under which the stream is begun once.
    ///
    /// # Errors
    /// 400 for a key that is none.
    pub(super) fn key(&self) -> Result<Option<&str>, Failure> {
        let visible =
            |key: &str| (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        match self.key.as_deref() {
            Some(key) if !visible(key) => {
                Err(Failure::bad_request("the idempotency key must have 1 to 255 visible characters"))
            }
            key => Ok(key),
        }
    }

    /// Whether the stream is to be resumable, where the configuration says this of its model.
    pub(crate) fn resumable(&self, configured: bool) -> bool {
        self.resume.unwrap_or(configured || self.detached)
    }
}

/// Reads an event's id.
///
/// # Errors
/// 400 when it is none of ours.
pub(super) fn cursor(text: &str) -> Result<EventId, Failure> {
    text.parse().map_err(|_| bad_cursor())
}

pub(super) fn bad_cursor() -> Failure {
    Failure::rejected(
        http::StatusCode::BAD_REQUEST,
        "bad_cursor",
        "the id is not that of an event of this stream",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(headers: &[(&'static str, &str)]) -> Result<Wish, Failure> {
        Wish::of(
            &headers.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect(),
            String::new(),
        )
    }

    #[test]
    fn the_request_decides_over_the_configuration() {
        let resumable =
            |headers: &[(&'static str, &str)], configured| wish(headers).unwrap().resumable(configured);
        assert!(!resumable(&[], false) && resumable(&[], true));
        assert!(resumable(&[("flumen-resume", "1")], false) && !resumable(&[("flumen-resume", "0")], true));
        assert!(resumable(&[("prefer", "wait=5, respond-async")], false));
        assert!(!resumable(&[("idempotency-key", "k")], false));
    }

    #[test]
    fn what_cannot_be_understood_is_refused_where_it_means_something() {
        assert_eq!(wish(&[("flumen-resume", "yes")]).unwrap_err().status, 400);
        for key in ["", "a b"] {
            assert_eq!(wish(&[("idempotency-key", key)]).unwrap().key().unwrap_err().status, 400, "{key:?}");
        }
        let foreign = wish(&[("last-event-id", "7")]).unwrap();
        assert_eq!(foreign.last(false), Ok(None));
        assert_eq!(foreign.last(true).unwrap_err().status, 400);
    }
}
