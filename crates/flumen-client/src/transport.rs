/// How a stream is read.
///
/// ```
/// use flumen_client::Transport;
///
/// assert_eq!(Transport::default(), Transport::Sse);
/// assert_eq!(Transport::WebSocket.to_string(), "websocket");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Server-sent events, from any server.
    #[default]
    Sse,
    /// Lines of JSON, from any server. From a gateway of ours each is an envelope with id and seq; from another each line is a
    /// payload.
    Ndjson,
    /// A WebSocket of a gateway of ours. It is given credit for 64 KiB, and more as events are taken, so not reading pauses
    /// the model.
    WebSocket,
    /// Request after request, each with a few events, from a gateway of ours. Works through every proxy.
    LongPoll,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sse => "sse",
            Self::Ndjson => "ndjson",
            Self::WebSocket => "websocket",
            Self::LongPoll => "longpoll",
        })
    }
}
