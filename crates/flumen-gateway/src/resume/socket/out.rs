use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use flumen_store::EventId;
use flumen_stream::Event;
use futures_util::{SinkExt, stream::SplitSink};
use tokio::time::timeout;

use super::Over;
use crate::resume::envelope;

/// The sending half. A client that takes nothing for too long has left.
pub(super) struct Out {
    pub(super) sender: SplitSink<WebSocket, Message>,
    pub(super) stall: Duration,
}

impl Out {
    pub(super) async fn send(&mut self, message: Message) -> Result<(), Over> {
        match timeout(self.stall, self.sender.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Over::Closed),
        }
    }

    /// A sign of life, for the machine at the other end and, since pages cannot see it, for the page.
    pub(super) async fn beat(&mut self) -> Result<(), Over> {
        self.send(Message::Ping(Bytes::new())).await?;
        self.text(r#"{"type":"ping"}"#.to_owned()).await
    }

    pub(super) async fn text(&mut self, text: String) -> Result<(), Over> {
        self.send(Message::Text(text.into())).await
    }

    pub(super) async fn event(&mut self, name: u32, event: &Event, id: EventId) -> Result<(), Over> {
        let mut text = format!(r#"{{"type":"event","ref":{name},"#).into_bytes();
        envelope::put(event, Some(id), &mut text);
        // What the event takes of the credit, so that the client can give it back.
        text.extend_from_slice(format!(",\"bytes\":{}}}", event.wire().len()).as_bytes());
        // Envelopes are UTF-8, unless the model's payload is not.
        self.text(
            String::from_utf8(text)
                .unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned()),
        )
        .await
    }
}
