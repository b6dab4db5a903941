use axum::{
    Router,
    extract::{Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use flumen_flow::file::{Tail, TailFrom};
use flumen_stream::Event;
use flumen_wire::transport::Sse;
use futures_util::stream;
use serde::Deserialize;

use super::{FileError, Root};

/// A router that follows files below a root: `GET /tail?file=<path>&from=start|end` answers with an event for each line, as
/// they come, without end. `from` is `end` unless said otherwise.
pub fn tails(root: Root) -> Router {
    Router::new().route("/tail", get(tail)).with_state(root)
}

#[derive(Deserialize)]
struct Asked {
    file: String,
    #[serde(default)]
    from: From,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum From {
    Start,
    #[default]
    End,
}

async fn tail(State(root): State<Root>, Query(asked): Query<Asked>) -> Result<Response, FileError> {
    // For its own error: the tail knows only that it cannot be opened.
    root.file(&asked.file).await?;
    let from = match asked.from {
        From::Start => TailFrom::Start,
        From::End => TailFrom::End,
    };
    let path = asked.file;
    let follow = Tail::follow(from, move || {
        let (root, path) = (root.clone(), path.clone());
        Box::pin(async move { Ok(root.file(&path).await?.0) })
    });
    let follow = follow.await?;
    let lines = stream::unfold(follow, |mut follow| async move {
        let event = follow.next().await.map(|line| {
            // A line of a log may hold anything; an event carries text.
            Event::data(String::from_utf8_lossy(&line).into_owned())
        });
        Some((event, follow))
    });
    Ok(Sse::new(lines).into_response())
}
