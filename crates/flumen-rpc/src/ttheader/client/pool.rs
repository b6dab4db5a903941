use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

use flumen_wire::client::Io;
use tokio::{task::yield_now, time::Instant};

/// Connections that wait for their next call, the most recently used last.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<VecDeque<(Instant, Io)>>,
    max_idle: usize,
    timeout: Duration,
}

impl Pool {
    pub(super) fn new(max_idle: usize, timeout: Duration) -> Self {
        Self { idle: Mutex::default(), max_idle, timeout }
    }

    /// A connection that the peer has neither closed nor said anything on.
    pub(super) async fn take(&self) -> Option<Io> {
        if self.lock().is_empty() {
            return None;
        }
        // What has happened on a socket is known when the runtime has looked.
        yield_now().await;
        let mut idle = self.lock();
        self.expire(&mut idle);
        while let Some((_, mut io)) = idle.pop_back() {
            if is_quiet(&mut io) {
                return Some(io);
            }
        }
        None
    }

    pub(super) fn put(&self, io: Io) {
        let mut idle = self.lock();
        idle.push_back((Instant::now(), io));
        self.expire(&mut idle);
    }

    fn expire(&self, idle: &mut VecDeque<(Instant, Io)>) {
        while idle.front().is_some_and(|(since, _)| since.elapsed() > self.timeout)
            || idle.len() > self.max_idle
        {
            idle.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, Io)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_quiet(io: &mut Io) -> bool {
    io.poll_receive(&mut Context::from_waker(Waker::noop()), |_| ()).is_pending()
}
