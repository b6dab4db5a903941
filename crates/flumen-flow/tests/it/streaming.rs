//! Tasks emit while they run, stages overlap, branches merge; whoever is slow sets the pace.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use flumen_flow::{Context, Error, ErrorKind, Frames, Result, Tagged, Task, parallel, task};
use flumen_stream::Event;
use futures_util::StreamExt;

/// Emits so many frames of so many bytes, and counts them.
fn source(
    frames: usize,
    size: usize,
    emitted: &Arc<AtomicUsize>,
) -> impl Task<Input = u8, Output = ()> + use<> {
    let emitted = Arc::clone(emitted);
    task(move |cx: Context, letter: u8| {
        let emitted = Arc::clone(&emitted);
        async move {
            for _ in 0..frames {
                cx.out().send(Bytes::from(vec![letter; size])).await?;
                emitted.fetch_add(1, Relaxed);
            }
            Ok(())
        }
    })
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_slow_reader_pauses_the_task_that_emits() {
    let emitted = Arc::new(AtomicUsize::new(0));
    let mut stream = source(10_000, 1024, &emitted).stream::<Bytes>(&Context::new(), b'x');
    settle().await;
    let held = emitted.load(Relaxed);
    assert!(held < 64, "64 KiB are the bound, and {held} KiB were emitted");
    let mut frames = 0;
    while let Some(frame) = stream.next().await {
        frame.unwrap();
        frames += 1;
        assert!(emitted.load(Relaxed) <= frames + 64 + 16, "at most the log and the reader's batch");
    }
    assert_eq!(frames, 10_000);
}

#[tokio::test]
async fn a_failure_comes_after_the_frames_before_it() {
    let flow = task(|cx: Context, (): ()| async move {
        cx.out().send(Event::data("one")).await?;
        Err::<(), _>(Error::failed("the model broke"))
    });
    let mut stream = flow.named("generate").stream::<Event>(&Context::new(), ());
    assert_eq!(&*stream.next().await.unwrap().unwrap().payload(), b"one");
    assert_eq!(stream.next().await.unwrap().unwrap_err().to_string(), "generate: the model broke");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn emitting_without_a_reader_is_an_error_that_says_so() {
    let emit = task(|cx: Context, (): ()| async move { cx.out().send(Event::data("x")).await });
    let error = emit.run(&Context::new(), ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert!(error.message().contains("Task::stream"), "{error}");
    // A reader of other frames is none.
    let frames: Vec<_> = emit.stream::<Bytes>(&Context::new(), ()).collect().await;
    assert_eq!(frames[0].as_ref().unwrap_err().kind(), ErrorKind::Missing);
}

#[tokio::test]
async fn a_reader_that_leaves_cancels_the_run() {
    let emitted = Arc::new(AtomicUsize::new(0));
    let mut stream = source(usize::MAX, 1024, &emitted).stream::<Bytes>(&Context::new(), b'x');
    stream.next().await.unwrap().unwrap();
    let handle = stream.handle();
    drop(stream);
    settle().await;
    assert!(handle.is_over());
    let at_the_end = emitted.load(Relaxed);
    settle().await;
    assert_eq!(emitted.load(Relaxed), at_the_end);
}

/// Joins tokens to sentences and emits those.
fn sentences() -> impl Task<Input = Frames<Event>, Output = usize> {
    task(|cx: Context, mut tokens: Frames<Event>| async move {
        let (mut sentence, mut count) = (String::new(), 0);
        while let Some(token) = tokens.next().await {
            sentence.push_str(&String::from_utf8_lossy(&token?.payload()));
            if sentence.ends_with('.') {
                cx.out().send(Event::data(std::mem::take(&mut sentence))).await?;
                count += 1;
            }
        }
        Ok(count)
    })
}

#[tokio::test]
async fn stages_overlap() {
    let gate = flumen_flow::wait::Gate::closed();
    let hold = gate.clone();
    let tokens = task(move |cx: Context, (): ()| {
        let hold = hold.clone();
        async move {
            for token in ["It ", "flows.", "For ", "ever."] {
                cx.out().send(Event::data(token)).await?;
                if token == "flows." {
                    hold.pass().await;
                }
            }
            Ok(())
        }
    });
    let mut stream = tokens.pipe(sentences()).stream::<Event>(&Context::new(), ());
    // The first sentence comes while the source still waits: stages that took turns would hang here.
    assert_eq!(&*stream.next().await.unwrap().unwrap().payload(), b"It flows.");
    gate.open();
    assert_eq!(&*stream.next().await.unwrap().unwrap().payload(), b"For ever.");
    assert!(stream.next().await.is_none());
    assert_eq!(stream.output().await.unwrap(), 2);
}

#[tokio::test]
async fn a_failed_stage_fails_the_pipe_from_either_side() {
    let broken = task(|cx: Context, (): ()| async move {
        cx.out().send(Event::data("a.")).await?;
        Err::<(), _>(Error::failed("source"))
    });
    let mut stream = broken.pipe(sentences()).stream::<Event>(&Context::new(), ());
    assert!(stream.next().await.unwrap().is_ok(), "what came before the failure is through");
    assert_eq!(stream.next().await.unwrap().unwrap_err().message(), "source");

    let emitted = Arc::new(AtomicUsize::new(0));
    let sink = task(|_, _: Frames<Bytes>| async { Err::<(), _>(Error::failed("sink")) });
    let flow = source(usize::MAX, 10, &emitted).pipe(sink);
    assert_eq!(flow.run(&Context::new(), 1).await.unwrap_err().message(), "sink");
}

#[tokio::test(start_paused = true)]
async fn an_ordered_merge_keeps_order_and_memory_bounded() {
    let counts = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
    let slow = task(|_, letter: u8| async move {
        tokio::time::sleep(Duration::from_hours(1)).await;
        Ok(letter)
    });
    let letter = |letter| task(move |_, _: u8| async move { Ok(letter) });
    let branches = (
        slow.then(|_, _| async { Ok(b'a') }).chain(source(3, 1024, &counts[0])),
        letter(b'b').chain(source(1_000, 1024, &counts[1])),
        letter(b'c').chain(source(1_000, 1024, &counts[2])),
    );
    let mut stream =
        parallel(branches).ordered::<Bytes>().buffer(16 * 1024).stream::<Bytes>(&Context::new(), 0);
    settle().await;
    for count in &counts[1..] {
        assert!(
            (1..=16).contains(&count.load(Relaxed)),
            "a branch whose turn has not come fills its buffer and waits"
        );
    }
    let mut order = Vec::new();
    while let Some(frame) = stream.next().await {
        order.push(frame.unwrap()[0]);
    }
    let expected = [vec![b'a'; 3], vec![b'b'; 1_000], vec![b'c'; 1_000]].concat();
    assert_eq!(order, expected);
}

#[tokio::test(start_paused = true)]
async fn a_tagged_merge_comes_as_ready() {
    let ticker = |every: u64, count: usize| {
        task(move |cx: Context, (): ()| async move {
            for n in 0..count {
                tokio::time::sleep(Duration::from_millis(every)).await;
                cx.out().send(Bytes::from(n.to_string())).await?;
            }
            Ok(())
        })
    };
    let flow = parallel((ticker(100, 2), ticker(30, 3))).tagged::<Bytes>();
    let frames: Vec<Result<Tagged<Bytes>>> = flow.stream(&Context::new(), ()).collect().await;
    let seen: Vec<_> = frames
        .into_iter()
        .map(|frame| frame.map(|frame| (frame.branch, frame.frame[0] - b'0')).unwrap())
        .collect();
    assert_eq!(seen, [(1, 0), (1, 1), (1, 2), (0, 0), (0, 1)]);
}
