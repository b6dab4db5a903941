use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use flumen_store::{Ending, Producer, State, Store, StreamId};
use flumen_stream::{Cause, End};
use futures_util::FutureExt;
use tokio::time::interval;

use super::Keys;
use crate::provider::openai;

/// Ends the streams that ran when the last process died: their readers are told, and nobody waits for what will not come.
pub(crate) async fn end_orphans(store: &Arc<dyn Store>) {
    let orphans = store.list(None).await.unwrap_or_default();
    for orphan in orphans.into_iter().filter(|status| status.state() == State::Open) {
        let end = End::new(Cause::Internal, "the server was lost while it generated this answer");
        end_orphan(store, orphan.id, &end.with_code("stream_lost")).await;
    }
}

async fn end_orphan(store: &Arc<dyn Store>, id: StreamId, end: &End) {
    let words = openai::error_event(end).into_wire();
    let ended = async {
        let mut heir = Producer::take_over(store, id).await?;
        heir.append(vec![words]).await?;
        heir.end(Ending::LOST).await
    };
    if let Err(refused) = ended.await {
        tracing::warn!(stream = ?id, "a stream without a writer cannot be ended: {refused}");
    }
}

/// Runs what generates a stream. If it panics, the stream's readers are told: nobody else would end it.
pub(super) async fn guarded(store: Arc<dyn Store>, id: StreamId, generation: impl Future<Output = ()>) {
    if AssertUnwindSafe(generation).catch_unwind().await.is_err() {
        let end = End::new(Cause::Internal, "the server failed while it generated this answer");
        end_orphan(&store, id, &end).await;
    }
}

/// Forgets what need not be kept any longer, for as long as it is polled.
pub(crate) async fn tidy(store: Arc<dyn Store>, keys: Arc<Keys>) {
    let mut ticks = interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        if let Err(refused) = store.expire().await {
            tracing::error!("streams whose time is over cannot be forgotten: {refused}");
        }
        keys.tidy(&*store);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use flumen_store::{About, Limits, MemoryStore, Reader};

    use super::*;

    #[tokio::test]
    async fn a_generation_that_panics_ends_its_stream_with_a_word() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Limits::default()));
        let text = String::new;
        let about = About { owner: text(), dialect: text(), model: text(), created: SystemTime::now() };
        let id = StreamId::random().unwrap();
        let mut producer = Producer::create(&store, id, about).await.unwrap();
        let mut reader = Reader::attach(&store, id, 0).unwrap();
        let generation = async move {
            producer.append(vec!["data: 1\n\n".into()]).await.unwrap();
            panic!("a fault of this program");
        };
        guarded(Arc::clone(&store), id, generation).await;
        assert_eq!(reader.next().await.unwrap().unwrap().frame, "data: 1\n\n");
        let word = reader.next().await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&word.frame).contains("\"internal\""), "{word:?}");
        assert!(reader.next().await.is_none());
        assert_eq!(reader.ending(), Some(Ending::LOST));
    }
}
