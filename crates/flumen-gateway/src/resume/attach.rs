use std::sync::Arc;

use flumen_store::{EventId, Reader, Refused, Status, Store, StreamId};
use http::StatusCode;

use super::wish::bad_cursor;
use crate::error::Failure;

/// A place in a stream where somebody wants to go on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// After the event with this number.
    After(u64),
    /// After this event.
    Event(EventId),
}

/// What a reader finds at its place.
#[derive(Debug)]
pub(crate) enum Found {
    /// Something to read, now or later. Also says the stream's model, whose pace holds for readers, too.
    Reader(Box<Reader>, String),
    /// The end of this stream: the reader has seen everything.
    End(StreamId),
}

/// A stream's status, for its owner only.
///
/// # Errors
/// 404 for anybody else, as if it did not exist.
pub(super) async fn status(store: &Arc<dyn Store>, id: StreamId, owner: &str) -> Result<Status, Failure> {
    let status = store.status(id).await.map_err(|refused| refusal(&refused))?;
    if status.about.owner == owner { Ok(status) } else { Err(not_found()) }
}

/// Goes on after an event.
///
/// # Errors
/// See [`find`].
pub(crate) async fn attach(store: &Arc<dyn Store>, last: EventId, owner: &str) -> Result<Found, Failure> {
    find(store, last.stream, Place::Event(last), owner).await
}

/// Finds a reader its place.
///
/// # Errors
/// 404, 409 or 410, as `docs/streams.md` says.
pub(super) async fn find(
    store: &Arc<dyn Store>,
    id: StreamId,
    place: Place,
    owner: &str,
) -> Result<Found, Failure> {
    let status = status(store, id, owner).await?;
    let after = match place {
        Place::After(seq) => seq,
        Place::Event(event) if event.stream != id => return Err(bad_cursor()),
        Place::Event(event) => {
            agree(store, &status, event).await?;
            event.at.seq
        }
    };
    if after > status.last {
        return Err(beyond(status.last));
    }
    if after + 1 < status.first {
        return Err(too_old(status.first));
    }
    if status.ending.is_some() && after == status.last {
        return Ok(Found::End(id));
    }
    let reader = Reader::attach(store, id, after).map_err(|refused| refusal(&refused))?;
    Ok(Found::Reader(Box::new(reader), status.about.model))
}

/// Whether the event that a reader saw is the one that the store has: after a writer was lost, events that it had sent and not
/// kept may have been followed by others with the same number.
async fn agree(store: &Arc<dyn Store>, status: &Status, event: EventId) -> Result<(), Failure> {
    if event.at.epoch > status.epoch {
        return Err(beyond(status.last));
    }
    let kept = (status.first..=status.last).contains(&event.at.seq);
    if status.epoch > 1 && kept {
        let page = store.read(status.id, event.at.seq - 1, 1).await.map_err(|refused| refusal(&refused))?;
        if page.first.epoch != event.at.epoch {
            return Err(beyond(page.first.seq - 1));
        }
    }
    Ok(())
}

/// What a store's refusal is to a client.
pub(super) fn refusal(refused: &Refused) -> Failure {
    match refused {
        Refused::Unknown => not_found(),
        Refused::TooOld { first } => too_old(*first),
        Refused::Beyond { last } => beyond(*last),
        _ => crate::sink::store_failed(refused).into(),
    }
}

pub(super) fn not_found() -> Failure {
    Failure::rejected(
        StatusCode::NOT_FOUND,
        "stream_not_found",
        "there is no such stream, or it is no longer kept",
    )
}

fn beyond(last: u64) -> Failure {
    let message = format!("the cursor is beyond the stream's last event, which is number {last}");
    Failure::rejected(StatusCode::CONFLICT, "cursor_beyond_tail", message).detail("last", last)
}

fn too_old(first: u64) -> Failure {
    let message =
        format!("the events after the cursor are no longer kept; the first that is has the number {first}");
    Failure::rejected(StatusCode::GONE, "cursor_too_old", message).detail("first", first)
}
