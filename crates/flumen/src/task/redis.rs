//! Redis, by the `redis` crate (re-exported here): commands and pipelines on one shared connection, messages and stream
//! entries as streams on connections of their own.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use flumen_flow::{Error, Result};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::Mutex;

pub use ::redis::{self, Cmd, Pipeline, cmd, pipe};
use ::redis::{
    AsyncConnectionConfig, Client, FromRedisValue, Msg,
    aio::MultiplexedConnection,
    streams::{StreamId, StreamReadOptions, StreamReadReply},
};

/// A client of one server. Cheap to clone; connects when it is first used, and anew after its connection broke.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    config: AsyncConnectionConfig,
    shared: Mutex<Option<MultiplexedConnection>>,
}

impl Redis {
    /// A client for a URL such as `redis://127.0.0.1:6379/0`. Answers may take 5 s, connecting as well.
    ///
    /// # Errors
    /// When it is no URL of Redis.
    pub fn open(url: &str) -> Result<Self> {
        let client = Client::open(url)?;
        let patience = Some(Duration::from_secs(5));
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(patience).set_response_timeout(patience);
        Ok(Self { inner: Arc::new(Inner { client, config, shared: Mutex::new(None) }) })
    }

    async fn connection(&self) -> Result<MultiplexedConnection> {
        let mut shared = self.inner.shared.lock().await;
        if let Some(connection) = &*shared {
            return Ok(connection.clone());
        }
        let config = &self.inner.config;
        let connection = self.inner.client.get_multiplexed_async_connection_with_config(config).await;
        Ok(shared.insert(connection.map_err(failed)?).clone())
    }

    /// Runs a query on the shared connection. One that broke or timed out is not used again: an answer that comes late
    /// would be taken for that of another command.
    async fn on_shared<T, Fut>(&self, query: impl FnOnce(MultiplexedConnection) -> Fut) -> Result<T>
    where
        Fut: Future<Output = ::redis::RedisResult<T>>,
    {
        let answer = query(self.connection().await?).await;
        if answer.as_ref().is_err_and(|error| error.is_unrecoverable_error() || error.is_timeout()) {
            self.inner.shared.lock().await.take();
        }
        answer.map_err(failed)
    }

    /// Sends a command and reads its answer.
    ///
    /// ```no_run
    /// use flumen::task::redis::{Redis, cmd};
    ///
    /// # async fn run() -> flumen::flow::Result<()> {
    /// let redis = Redis::open("redis://127.0.0.1")?;
    /// redis.command::<()>(cmd("SET").arg("river").arg("Flumen")).await?;
    /// assert_eq!(redis.command::<String>(cmd("GET").arg("river")).await?, "Flumen");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the server says no, or cannot be reached (retryable), or the answer is of another type.
    pub async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.on_shared(|mut connection| async move { command.query_async(&mut connection).await }).await
    }

    /// Sends commands together and reads their answers.
    ///
    /// # Errors
    /// Like [`command`](Self::command).
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T> {
        self.on_shared(|mut connection| async move { pipeline.query_async(&mut connection).await }).await
    }

    /// The messages that are published to these channels from now on. Redis drops them when the reader is too slow;
    /// what must not be lost belongs into a stream ([`entries`](Self::entries)). Ends when the connection breaks.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn subscribe(&self, channels: &[&str]) -> Result<impl Stream<Item = Msg> + Send + use<>> {
        let mut subscription = self.inner.client.get_async_pubsub().await.map_err(failed)?;
        for channel in channels {
            subscription.subscribe(*channel).await.map_err(failed)?;
        }
        Ok(subscription.into_on_message())
    }

    /// The entries of a stream after an id (`0`: from the first, `$`: those to come), without end. Reads a hundred at a
    /// time, when they are asked for.
    ///
    /// # Errors
    /// When the server cannot be reached. The stream ends after its first `Err`.
    pub async fn entries(
        &self,
        key: &str,
        after: &str,
    ) -> Result<impl Stream<Item = Result<StreamId>> + Send + use<>> {
        // A blocking read would hold up everybody else on the shared connection.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = self.inner.client.get_multiplexed_async_connection_with_config(&config).await;
        let connection = connection.map_err(failed)?;
        let reader = Reader { connection, key: key.to_owned(), after: after.to_owned() };
        let batches = stream::try_unfold(reader, |mut reader| async move {
            let batch = reader.read().await?;
            Ok::<_, Error>(Some((stream::iter(batch.into_iter().map(Ok)), reader)))
        });
        Ok(futures_util::TryStreamExt::try_flatten(batches).boxed())
    }
}

struct Reader {
    connection: MultiplexedConnection,
    key: String,
    after: String,
}

impl Reader {
    /// Waits for the next entries.
    async fn read(&mut self) -> Result<Vec<StreamId>> {
        loop {
            let options = StreamReadOptions::default().block(10_000).count(100);
            let reply: Option<StreamReadReply> = ::redis::AsyncCommands::xread_options(
                &mut self.connection,
                &[&self.key],
                &[&self.after],
                &options,
            )
            .await
            .map_err(failed)?;
            let ids: Vec<StreamId> =
                reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect();
            if let Some(last) = ids.last() {
                self.after.clone_from(&last.id);
                return Ok(ids);
            }
        }
    }
}

fn failed(error: ::redis::RedisError) -> Error {
    let passing = error.is_io_error() || error.is_timeout() || error.is_connection_dropped();
    let failed = Error::failed(format!("redis: {error}")).with_source(error);
    if passing { failed.retryable() } else { failed }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}
