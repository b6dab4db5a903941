use std::{
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use serde::de::DeserializeOwned;

use crate::{Error, ErrorKind, EventStream, Received};

/// A stream of values instead of events; see [`EventStream::json`].
#[derive(Debug)]
pub struct JsonStream<T> {
    events: EventStream,
    value: PhantomData<fn() -> T>,
}

/// A value, and the event it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Typed<T> {
    /// What the payload says.
    pub value: T,
    /// The event, with its seq and id.
    pub received: Received,
}

impl<T: DeserializeOwned> JsonStream<T> {
    pub(crate) fn new(events: EventStream) -> Self {
        Self { events, value: PhantomData }
    }

    /// The next value. Cancel-safe.
    ///
    /// # Errors
    /// As for [`EventStream::next`], and [`ErrorKind::Json`] for a payload that is something else; the stream goes on after
    /// that one.
    pub async fn next(&mut self) -> Option<Result<Typed<T>, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The stream of events below.
    pub fn events(&self) -> &EventStream {
        &self.events
    }

    /// The stream of events below, to cut or to stop it.
    pub fn events_mut(&mut self) -> &mut EventStream {
        &mut self.events
    }
}

impl<T: DeserializeOwned> Stream for JsonStream<T> {
    type Item = Result<Typed<T>, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let received = match ready!(Pin::new(&mut this.events).poll_next(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(received)) => received,
            };
            let value = serde_json::from_slice(&received.event.payload());
            // An end mark carries no value.
            if value.is_err() && this.events.is_end(&received.event) {
                continue;
            }
            return Poll::Ready(Some(match value {
                Ok(value) => Ok(Typed { value, received }),
                Err(error) => {
                    let message = format!("a payload is not what was expected: {error}");
                    Err(Error::new(ErrorKind::Json, message).with(error))
                }
            }));
        }
    }
}
