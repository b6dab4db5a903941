use std::sync::Arc;

use flumen_flow::{Context, Error, ErrorKind, Task};
use flumen_rpc::{
    Code, Status,
    generation::Start,
    service::{Generate, Request, Writer},
};
use flumen_stream::Event;
use futures_util::StreamExt;

/// A flow as a model service; see [`generating`].
#[derive(Debug)]
pub struct Generating<T> {
    flow: Arc<T>,
}

/// Makes a flow something that is called by RPC, over the contract `flumen.generation.v1`: its input is the request, and the payloads
/// of the events that it emits are the text of the answer. A caller that pauses makes the flow wait; one that leaves cancels its
/// run. Deadline and trace of the call are those of the flow.
///
/// ```no_run
/// use flumen::{Event, flow::{Context, task}, rpc::{generation::Start, service::Server}, serve::generating};
///
/// # #[tokio::main] async fn main() -> std::io::Result<()> {
/// let flow = task(|cx: Context, start: Start| async move {
///     for word in start.messages.last().map_or("", |message| &message.content).split_inclusive(' ') {
///         cx.out().send(Event::data(word)).await?;
///     }
///     Ok(())
/// });
/// Server::new(generating(flow)).serve("127.0.0.1:50051").await
/// # }
/// ```
pub fn generating<T>(flow: T) -> Generating<T>
where
    T: Task<Input = Start, Output = ()> + 'static,
{
    Generating { flow: Arc::new(flow) }
}

impl<T: Task<Input = Start, Output = ()> + 'static> Generate for Generating<T> {
    async fn generate(&self, request: Request, mut writer: Writer) -> Result<(), Status> {
        let mut cx = Context::new();
        if let Some(trace) = request.traceparent() {
            cx = cx.with_traceparent(trace);
        }
        if let Some(deadline) = request.call.deadline {
            cx = cx.with_deadline(deadline);
        }
        let mut events = Arc::clone(&self.flow).stream::<Event>(&cx, request.start);
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| status(&error))?;
            writer.text(String::from_utf8_lossy(&event.payload())).await?;
        }
        writer.finish("stop").await
    }
}

fn status(error: &Error) -> Status {
    let code = match error.kind() {
        ErrorKind::TimedOut => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Refused => Code::ResourceExhausted,
        _ => Code::Internal,
    };
    // The message may hold what is not for the caller; the kind does not.
    tracing::warn!(%error, "a flow that was called by RPC failed");
    Status::new(code, error.kind().as_str())
}
