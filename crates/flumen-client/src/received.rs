use bytes::Bytes;
use flumen_stream::Event;

use crate::Id;

/// An event, and where it stands in its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// The event, with the bytes it came as.
    pub event: Event,
    /// Its number, from 1, where a gateway of ours gave it one.
    pub seq: Option<u64>,
    /// What to show to go on after this event: its own id, or the last one before it.
    pub id: Option<Id>,
}

/// How the end of a stream is told from a connection that ended.
///
/// Besides, 204 and the end of a WebSocket stream or a long poll always are the end.
///
/// ```
/// use flumen_client::End;
///
/// let openai = End::mark("[DONE]");
/// let anthropic = End::name("message_stop");
/// # let _ = (openai, anthropic);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Whatever fits the server. The payload `[DONE]` is the end. When a body ends without it: a gateway of ours is asked whether
    /// there is more; the stream of a GET that has ids is an `EventSource` and goes on with the next connection; anything else
    /// is over.
    #[default]
    Auto,
    /// The end of a body.
    Body,
    /// An event with this payload. A body that ends before it counts as broken.
    Mark(Bytes),
    /// An event of this type. A body that ends before it counts as broken.
    Name(String),
    /// Only 204, as for `EventSource`: after each end of a body comes the next connection.
    Never,
}

impl End {
    /// An event with this payload.
    pub fn mark(payload: impl Into<Bytes>) -> Self {
        Self::Mark(payload.into())
    }

    /// An event of this type.
    pub fn name(name: impl Into<String>) -> Self {
        Self::Name(name.into())
    }

    pub(crate) fn is(&self, event: &Event) -> bool {
        match self {
            Self::Auto => *event.payload() == *b"[DONE]",
            Self::Mark(mark) => *event.payload() == **mark,
            Self::Name(name) => event.name() == Some(name.as_bytes()),
            Self::Body | Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told() {
        let (done, other) = (Event::data("[DONE]"), Event::data("{}"));
        let stop = Event::builder().name("message_stop").data("{}").build().unwrap();
        let told = |end: End| [&done, &other, &stop].map(|event| end.is(event));
        assert_eq!(told(End::Auto), [true, false, false]);
        assert_eq!(told(End::mark("{}")), [false, true, true]);
        assert_eq!(told(End::name("message_stop")), [false, false, true]);
        assert_eq!(told(End::Body), [false; 3]);
        assert_eq!(told(End::Never), [false; 3]);
    }
}
