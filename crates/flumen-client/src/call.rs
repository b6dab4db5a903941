use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, uri::PathAndQuery};

use crate::{
    Client, End, Error, ErrorKind, EventStream, Id, Reconnect, Transport,
    client::{Settings, Shared, header},
    position::Position,
};

/// A request that is answered by a stream of events; see [`Client::get`] and [`Client::post`].
///
/// ```
/// use flumen_client::{Client, Transport};
///
/// let client = Client::new("http://localhost:8080").unwrap();
/// let answer = client
///     .post("/v1/chat/completions", r#"{"model":"sim","messages":[],"stream":true}"#)
///     .transports([Transport::WebSocket, Transport::Sse])
///     .idempotency_key("order-17")
///     .stream();
/// # drop(answer);
/// ```
#[derive(Clone, Debug)]
pub struct Call {
    shared: Arc<Shared>,
    ask: Ask,
    position: Position,
    invalid: Option<String>,
}

/// What is asked for, the same at each attempt.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) body: Bytes,
    /// Makes the same POST twice one; only where resuming is on.
    pub(crate) key: Option<String>,
    pub(crate) settings: Settings,
}

impl Call {
    pub(crate) fn new(client: &Client, method: Method, target: String, body: Bytes) -> Self {
        let settings = client.settings().clone();
        let ask = Ask { method, target, body, key: None, settings };
        Self { shared: Arc::clone(client.shared()), ask, position: Position::default(), invalid: None }
    }

    pub(crate) fn resume(client: &Client, stream: &str) -> Self {
        let mut call = Self::new(client, Method::GET, String::new(), Bytes::new());
        if is_stream_id(stream) {
            call.ask.target = format!("{}/streams/{stream}", call.shared.api_root(""));
            call.position.stream = Some(stream.into());
        } else {
            call.invalid = Some("the id of a stream is made of letters, digits, `-` and `_`".to_owned());
        }
        call
    }

    /// A header of every request for this stream. `last-event-id` and `idempotency-key` are those of
    /// [`last_event_id`](Self::last_event_id) and [`idempotency_key`](Self::idempotency_key).
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match header(name, value) {
            Ok((name, _)) if name == "last-event-id" => return self.last_event_id(value),
            Ok((name, _)) if name == "idempotency-key" => return self.idempotency_key(value),
            Ok((name, value)) => _ = self.ask.settings.headers.insert(name, value),
            Err(problem) => self.invalid = Some(problem),
        }
        self
    }

    /// Goes on after an event that was seen earlier, perhaps by another process.
    pub fn last_event_id(mut self, id: impl Into<Id>) -> Self {
        self.position.last_id = Some(id.into()).filter(|id| !id.as_str().is_empty());
        self
    }

    /// Goes on after the event with this seq, where the stream is known ([`Client::resume`]).
    pub fn starting_after(mut self, seq: u64) -> Self {
        self.position.last_seq = Some(seq);
        self
    }

    /// The key under which a gateway runs this POST only once. One of 128 random bits is made unless it is said.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.ask.key = Some(key.into());
        self
    }

    /// The transports to use, the best first; [`Transport::Sse`] unless said otherwise. The next is taken when the current
    /// one failed twice in a row before any byte came.
    pub fn transports(mut self, transports: impl IntoIterator<Item = Transport>) -> Self {
        self.ask.settings.transports = transports.into_iter().collect();
        self
    }

    /// Uses another transport at every connection, in turn. For tests.
    pub fn rotate(mut self, rotate: bool) -> Self {
        self.ask.settings.rotate = rotate;
        self
    }

    /// When and how often to connect again.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.ask.settings.reconnect = reconnect;
        self
    }

    /// How the stream's end is told; [`End::Auto`] unless said otherwise.
    pub fn end(mut self, end: End) -> Self {
        self.ask.settings.end = end;
        self
    }

    /// How long nothing may come before the connection counts as broken; 2 minutes unless said otherwise. Comments and pings are
    /// signs of life, and time in which the stream is not polled does not count.
    pub fn idle(mut self, idle: Option<Duration>) -> Self {
        self.ask.settings.idle = idle;
        self
    }

    /// Whether a POST asks for a stream that can be resumed; it does unless said otherwise.
    ///
    /// It then carries `Flumen-Resume: 1` and an `Idempotency-Key`, and is sent again with the same key when the connection
    /// breaks before an answer began. A server that ignores the key may then run it twice: switch this off for such a one.
    pub fn resumable(mut self, resume: bool) -> Self {
        self.ask.settings.resume = resume;
        self
    }

    /// Whether a POST whose answer began may be sent again with `Last-Event-ID`, to a server that is not a gateway of ours but
    /// understands it. It is sent again only after an id was seen, or before any event was.
    pub fn repost(mut self, repost: bool) -> Self {
        self.ask.settings.repost = repost;
        self
    }

    /// The longest event, in bytes; 1 MiB unless said otherwise.
    pub fn max_event(mut self, bytes: usize) -> Self {
        self.ask.settings.max_event = bytes;
        self
    }

    /// The stream of events. It connects when it is first polled.
    ///
    /// What is wrong with the call comes as the stream's only item.
    pub fn stream(self) -> EventStream {
        let Self { shared, mut ask, mut position, mut invalid } = self;
        if ask.target.parse::<PathAndQuery>().is_err() {
            invalid.get_or_insert_with(|| "the path is not one of a URL".to_owned());
        }
        let visible =
            |key: &String| (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        if ask.key.as_ref().is_some_and(|key| !visible(key)) {
            invalid.get_or_insert_with(|| "an idempotency key has 1 to 255 visible characters".to_owned());
        }
        if ask.method == Method::POST && ask.settings.resume {
            ask.key.get_or_insert_with(random_key);
        } else {
            ask.key = None;
        }
        if position.stream.is_some() && position.last_seq.is_none() {
            position.last_seq = match &position.last_id {
                None => Some(0),
                id => position.seq_of(id.as_ref()),
            };
        }
        let invalid = invalid.map(|problem| Error::new(ErrorKind::Configuration, problem));
        EventStream::new(shared, Arc::new(ask), position, invalid)
    }
}

/// Whether a text can stand in a path as the id of a stream.
pub(crate) fn is_stream_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn random_key() -> String {
    let mut bits = [0; 16];
    if getrandom::fill(&mut bits).is_err() {
        bits = fastrand::u128(..).to_be_bytes();
    }
    format!("{:032x}", u128::from_be_bytes(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(call: Call) -> Option<ErrorKind> {
        call.stream().invalid().map(Error::kind)
    }

    #[test]
    fn what_is_unusable_is_told_by_the_stream() {
        let client = Client::new("http://h").unwrap();
        let post = || client.post("/x", "{}");
        assert_eq!(problem(post()), None);
        for call in [
            client.get("/a b"),
            client.get("/a\r\nx: y"),
            client.resume("../x"),
            client.resume(""),
            post().idempotency_key(""),
            post().idempotency_key("a b"),
            post().header("content-length", "7"),
        ] {
            assert_eq!(problem(call), Some(ErrorKind::Configuration));
        }
    }

    #[test]
    fn keys_are_random_and_only_where_they_are_wanted() {
        let client = Client::new("http://h").unwrap();
        let (one, two) = (random_key(), random_key());
        assert!(one.len() == 32 && one != two);
        let key = |call: Call| call.stream().ask().key.clone();
        assert_eq!(key(client.post("/x", "{}")).map(|key| key.len()), Some(32));
        assert_eq!(key(client.post("/x", "{}").header("Idempotency-Key", "k")).as_deref(), Some("k"));
        assert_eq!(key(client.post("/x", "{}").resumable(false)), None);
        assert_eq!(key(client.get("/x")), None);
    }
}
