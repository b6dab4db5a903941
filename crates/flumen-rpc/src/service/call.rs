//! One call of the contract: who reads what the caller says while the generation runs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::{
    sync::watch,
    task::JoinError,
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Generate, Request, Stats, Writer};
use crate::{
    Cancel, Cancellation, Code, Encoding, Inbound, Incoming, Metadata, Status,
    generation::{Ask, ClientMessage, Start},
};

/// Answers a call of the contract, in a task of its own: the transport looks at a handler only while its caller takes what it says,
/// and a caller that takes nothing may still say stop, or run out of time.
pub(crate) async fn answer<G: Generate>(
    generator: Arc<G>,
    stats: Arc<Stats>,
    incoming: Incoming,
) -> Result<Metadata, Status> {
    let conversation = AbortOnDropHandle::new(tokio::spawn(converse(generator, stats, incoming)));
    conversation.await.unwrap_or_else(|error| Err(lost(&error)))
}

async fn converse<G: Generate>(
    generator: Arc<G>,
    stats: Arc<Stats>,
    incoming: Incoming,
) -> Result<Metadata, Status> {
    let Incoming { call, encoding, mut requests, answers, cancellation, .. } = incoming;
    let start = first(&mut requests, encoding).await?;
    let (hold, held) = watch::channel(false);
    let writer = Writer::new(answers, encoding, held, Arc::clone(&stats));
    let deadline = call.deadline;
    let request = Request { start, call, cancellation: cancellation.clone() };
    let mut running = Running::begin(&stats, cancellation.clone());
    let mut generation =
        AbortOnDropHandle::new(tokio::spawn(async move { generator.generate(request, writer).await }));
    let outcome = tokio::select! {
        biased;
        outcome = &mut generation => outcome.unwrap_or_else(|error| Err(lost(&error))),
        status = listen(&mut requests, encoding, &hold, &cancellation) => Err(status),
        () = passes(deadline) => {
            cancellation.cancel(Cancel::because("deadline"));
            Err(Status::deadline())
        }
    };
    running.ended(&outcome);
    outcome.map(|()| Metadata::default())
}

async fn passes(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn first(requests: &mut Inbound, encoding: Encoding) -> Result<Start, Status> {
    let Some(message) = requests.next().await else {
        return Err(Status::new(Code::InvalidArgument, "the call ended before its `start`"));
    };
    match ClientMessage::decode(message?, encoding)?.message {
        Some(Ask::Start(start)) => Ok(start),
        _ => Err(Status::new(Code::InvalidArgument, "the first message must be `start`")),
    }
}

/// Heeds what the caller says, until it says stop or breaks off. A half-close says nothing.
async fn listen(
    requests: &mut Inbound,
    encoding: Encoding,
    hold: &watch::Sender<bool>,
    cancellation: &Cancellation,
) -> Status {
    let cancelled = |cancel: Cancel| {
        let status = Status::new(Code::Cancelled, format!("the generation was stopped: {}", cancel.reason));
        cancellation.cancel(cancel);
        status
    };
    while let Some(message) = requests.next().await {
        let message = match message.and_then(|message| ClientMessage::decode(message, encoding)) {
            Ok(message) => message,
            Err(status) => {
                let cancel = Cancel {
                    wire: status.wire,
                    reason: status.message.to_string(),
                    path: status.path.clone(),
                };
                cancellation.cancel(cancel);
                return status;
            }
        };
        match message.message {
            Some(Ask::Pause(_)) => hold.send_replace(true),
            Some(Ask::Resume(_)) => hold.send_replace(false),
            Some(Ask::Stop(stop)) => return cancelled(Cancel::because(stop.cause)),
            Some(Ask::Start(_)) => {
                cancellation.cancel(Cancel::because("a second `start`"));
                return Status::new(Code::InvalidArgument, "there is one `start` in a call");
            }
            // A message of a later version of the contract.
            None => false,
        };
    }
    std::future::pending().await
}

fn lost(error: &JoinError) -> Status {
    if error.is_panic() {
        tracing::error!("a generation panicked");
    }
    Status::new(Code::Internal, "the generation was lost")
}

/// Counts a generation once, however it ends.
struct Running {
    stats: Arc<Stats>,
    cancellation: Cancellation,
    over: bool,
}

impl Running {
    fn begin(stats: &Arc<Stats>, cancellation: Cancellation) -> Self {
        stats.started.fetch_add(1, Relaxed);
        Self { stats: Arc::clone(stats), cancellation, over: false }
    }

    fn ended(&mut self, outcome: &Result<(), Status>) {
        let stats = &self.stats;
        let count: &AtomicU64 = match outcome {
            Ok(()) => &stats.finished,
            Err(_) if self.cancellation.is_cancelled() => &stats.cancelled,
            Err(_) => &stats.failed,
        };
        count.fetch_add(1, Relaxed);
        self.over = true;
        match (outcome, self.cancellation.reason()) {
            (Err(_), Some(cancel)) => {
                let cause: String = cancel.reason.chars().take(100).collect();
                tracing::info!(cause, "a generation was cancelled");
            }
            (Err(status), None) => tracing::info!(%status, "a generation failed"),
            (Ok(()), _) => tracing::debug!("a generation is complete"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.cancellation.cancel(Cancel::because("the caller is gone"));
            self.ended(&Err(Status::new(Code::Cancelled, "the caller is gone")));
        }
    }
}
