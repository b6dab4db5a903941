//! What flows wait on: nobody is forgotten, and a waiter that leaves takes nothing with it.

use std::time::Duration;

use flumen_flow::wait::{Closed, Counter, Fired, Gate, Mailbox, MessageQueue, Pool, Signals, Timers};
use futures_util::poll;

#[tokio::test]
async fn a_counter_opens_at_zero() {
    let counter = Counter::new(2);
    let mut waiting = Box::pin(counter.wait());
    counter.count();
    assert!(poll!(&mut waiting).is_pending());
    counter.count();
    counter.count();
    waiting.await;
    assert_eq!(counter.left(), 0);
}

#[tokio::test]
async fn a_gate_opens_and_closes() {
    let gate = Gate::closed();
    let mut waiting = Box::pin(gate.pass());
    assert!(poll!(&mut waiting).is_pending());
    gate.open();
    waiting.await;
    gate.close();
    assert!(poll!(Box::pin(gate.pass())).is_pending());
}

#[tokio::test]
async fn signals_wake_one_or_all_and_forget_those_who_left() {
    let signals = Signals::<u32>::new();
    assert_eq!(signals.signal_one("go", 1), Err(1), "a signal to nobody is not kept");
    let (first, second, third) = (signals.wait("go"), signals.wait("go"), signals.wait("go"));
    drop(first);
    assert_eq!(signals.waiters("go"), 2);
    signals.signal_one("go", 2).unwrap();
    assert_eq!(second.await, 2, "the one who has waited longest");
    assert_eq!(signals.signal_all("go", &3), 1);
    assert_eq!(third.await, 3);
    assert_eq!(signals.waiters("go"), 0);
}

#[tokio::test(start_paused = true)]
async fn timers_are_cancelled_by_name() {
    let timers = Timers::new();
    let hour = Duration::from_hours(1);
    let canceller = timers.clone();
    let (one, other, ()) = tokio::join!(timers.sleep("a", hour), timers.sleep("b", hour), async move {
        tokio::task::yield_now().await;
        assert_eq!(canceller.cancel("a"), 1);
    });
    assert_eq!((one, other), (Fired::Cancelled, Fired::OnTime));
}

#[tokio::test]
async fn a_pool_lends_each_resource_to_one_at_a_time() {
    let pool = Pool::new(["a", "b"]);
    let (one, two) = (pool.get().await, pool.get().await);
    assert_ne!(*one, *two);
    assert!(pool.try_get().is_none());
    let mut waiting = Box::pin(pool.get());
    assert!(poll!(&mut waiting).is_pending());
    let back = *one;
    drop(one);
    assert_eq!(*waiting.await, back);
    two.take();
    assert_eq!(pool.free(), 1, "a broken resource is taken out");
    pool.add("c");
    assert_eq!(pool.free(), 2);
}

#[tokio::test]
async fn a_message_queue_is_bounded_and_drains_after_its_close() {
    let queue = MessageQueue::new(2);
    queue.post(1).await.unwrap();
    queue.post(2).await.unwrap();
    assert_eq!(queue.try_post(3), Err(3));
    let mut posting = Box::pin(queue.post(3));
    assert!(poll!(&mut posting).is_pending());
    assert_eq!(queue.get().await, Some(1));
    posting.await.unwrap();
    queue.close();
    assert_eq!(queue.post(4).await, Err(Closed(4)));
    assert_eq!((queue.get().await, queue.get().await, queue.get().await), (Some(2), Some(3), None));
}

#[tokio::test]
async fn a_mailbox_holds_the_last_message() {
    let mailbox = Mailbox::new();
    let reader = mailbox.clone();
    let mut waiting = Box::pin(reader.receive());
    assert!(poll!(&mut waiting).is_pending());
    assert_eq!(mailbox.send(1), None);
    assert_eq!(mailbox.send(2), Some(1));
    assert_eq!(waiting.await, 2);
    assert_eq!(mailbox.take(), None);
}
