use std::{sync::Arc, time::Duration};

use flumen_store::{Ending, Producer, State, Store};
use flumen_stream::{Cause, End};
use tokio::time::interval;

use super::Keys;
use crate::provider::openai;

/// Ends the streams that ran when the last process died: their readers are told, and nobody waits for what will not come.
pub(crate) async fn end_orphans(store: &Arc<dyn Store>) {
    let orphans = store.list(None).await.unwrap_or_default();
    for orphan in orphans.into_iter().filter(|status| status.state() == State::Open) {
        let end = End::new(Cause::Internal, "the server was lost while it generated this answer");
        let words = openai::error_event(&end.with_code("stream_lost")).into_wire();
        let ended = async {
            let mut heir = Producer::take_over(store, orphan.id).await?;
            heir.append(vec![words]).await?;
            heir.end(Ending::LOST).await
        };
        if let Err(refused) = ended.await {
            tracing::warn!(stream = ?orphan.id, "a stream whose server was lost cannot be ended: {refused}");
        }
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
