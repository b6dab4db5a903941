//! An answer that survives a lost connection: `curl -N -X POST http://127.0.0.1:3000` begins one and says where it is; `curl -N
//! http://127.0.0.1:3000/<stream>?after=5` goes on after its fifth word, while it is made and after.

use std::{
    env,
    sync::Arc,
    time::{Duration, SystemTime},
};

use flumen::{
    Event, Router, Sse,
    axum::{
        extract::{Path, Query, State},
        http::StatusCode,
    },
    futures_util::{Stream, StreamExt},
    get, post, serve,
    store::{About, Ending, Limits, MemoryStore, Producer, Reader, Store, StreamId},
    stream::Cause,
};

const SAID: &str = "Upon those who step into the same river, different and again different waters flow.";

async fn begin(State(store): State<Arc<dyn Store>>) -> Result<String, StatusCode> {
    let id = StreamId::random().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let about = About {
        owner: String::new(),
        dialect: "words".into(),
        model: String::new(),
        created: SystemTime::now(),
    };
    let mut producer =
        Producer::create(&store, id, about).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    // It belongs to nobody's connection.
    tokio::spawn(async move {
        for word in SAID.split_inclusive(' ') {
            tokio::time::sleep(Duration::from_millis(100)).await;
            producer.append(vec![word.into()]).await?;
        }
        producer.end(Ending::of(Cause::Complete)).await
    });
    Ok(format!("/{id}\n"))
}

#[derive(serde::Deserialize)]
struct Place {
    #[serde(default)]
    after: u64,
}

async fn read(
    State(store): State<Arc<dyn Store>>,
    Path(id): Path<String>,
    Query(place): Query<Place>,
) -> Result<Sse<impl Stream<Item = Result<Event, flumen::store::Refused>>>, StatusCode> {
    let id = id.parse().map_err(|_| StatusCode::NOT_FOUND)?;
    let reader = Reader::attach(&store, id, place.after).map_err(|_| StatusCode::NOT_FOUND)?;
    Ok(Sse::new(reader.map(|item| {
        item.map(|item| Event::data(format!("{} {}", item.at.seq, String::from_utf8_lossy(&item.frame))))
    })))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Limits::default()));
    let router = Router::new().route("/", post(begin)).route("/{id}", get(read)).with_state(store);
    serve(env::args().nth(1).as_deref().unwrap_or("127.0.0.1:3000"), router).await
}
