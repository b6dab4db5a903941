//! The timeline of a run: named tasks are spans. In a program of its own, since subscribers are for all threads.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::sync::Arc;

use flumen_flow::{Context, Task, executor::Executor};

/// Collects what a subscriber writes.
#[derive(Clone, Default)]
struct Written(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn named_tasks_are_spans_also_on_the_threads_of_an_executor() {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_writer(move || writer.clone())
        .finish();
    let executor = Executor::new("spans", 1, flumen_flow::executor::Policy::Count);
    let work = executor.queue("q").task(|n: u32| {
        let within = tracing::Span::current().metadata().map(tracing::Metadata::name);
        assert_eq!(within, Some("task"), "work on the executor belongs to the span that brought it");
        Ok(n)
    });
    let flow = work.named("compute").module("request");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    runtime.block_on(async {
        flow.run(&Context::new(), 1).await.unwrap();
        // A span closes with the last who holds it; that may be the executor's thread, a moment later.
        executor.shutdown().await;
    });
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let spans = [r#"task{name="request"}:task{name="compute"}:"#, r#"task{name="request"}:"#];
    for (line, spans) in text.lines().zip(spans) {
        assert!(line.contains(spans) && line.ends_with("close"), "{text}");
    }
    assert_eq!(text.lines().count(), 2, "{text}");
}
