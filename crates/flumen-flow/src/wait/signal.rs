use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

/// Named conditions: tasks wait for a name, somebody signals it to one or to all who wait. A signal to nobody is not
/// kept. Cheap to clone.
#[derive(Debug)]
pub struct Signals<T = ()> {
    waiting: Arc<Mutex<Waiting<T>>>,
}

type Waiting<T> = HashMap<String, VecDeque<(u64, oneshot::Sender<T>)>>;

impl<T> Signals<T> {
    /// Conditions that nobody waits for.
    pub fn new() -> Self {
        Self { waiting: Arc::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a signal. It counts as waiting from the call on, not from the first poll.
    pub fn wait(&self, name: &str) -> impl Future<Output = T> + Send + use<T>
    where
        T: Send,
    {
        let (sender, receiver) = oneshot::channel();
        let id = fastrand::u64(..);
        self.waiting().entry(name.to_owned()).or_default().push_back((id, sender));
        let place = Place { signals: self.clone(), name: name.to_owned(), id };
        async move {
            let Ok(value) = receiver.await else { return std::future::pending().await };
            drop(place);
            value
        }
    }

    /// Signals the one who has waited longest. Gives the value back when nobody waits.
    ///
    /// # Errors
    /// The value.
    pub fn signal_one(&self, name: &str, value: T) -> Result<(), T> {
        let mut value = value;
        loop {
            let mut waiting = self.waiting();
            let Entry::Occupied(mut queue) = waiting.entry(name.to_owned()) else { return Err(value) };
            let next = queue.get_mut().pop_front();
            if queue.get().is_empty() {
                queue.remove();
            }
            drop(waiting);
            let Some((_, waiter)) = next else { return Err(value) };
            match waiter.send(value) {
                Ok(()) => return Ok(()),
                Err(unsent) => value = unsent,
            }
        }
    }

    /// Signals all who wait. Returns how many there were.
    pub fn signal_all(&self, name: &str, value: &T) -> usize
    where
        T: Clone,
    {
        let waiters = self.waiting().remove(name).unwrap_or_default();
        waiters.into_iter().filter_map(|(_, waiter)| waiter.send(value.clone()).ok()).count()
    }

    /// How many wait for a name.
    pub fn waiters(&self, name: &str) -> usize {
        self.waiting().get(name).map_or(0, VecDeque::len)
    }
}

impl<T> Default for Signals<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Signals<T> {
    fn clone(&self) -> Self {
        Self { waiting: Arc::clone(&self.waiting) }
    }
}

/// Takes a waiter that is dropped out of the queue.
struct Place<T> {
    signals: Signals<T>,
    name: String,
    id: u64,
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        let mut waiting = self.signals.waiting();
        if let Some(queue) = waiting.get_mut(&self.name) {
            queue.retain(|(id, _)| *id != self.id);
            if queue.is_empty() {
                waiting.remove(&self.name);
            }
        }
    }
}

/// Timers that can be cancelled by name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    cancels: Signals<()>,
}

/// How a timer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// Its time came.
    OnTime,
    /// It was cancelled by name.
    Cancelled,
}

impl Timers {
    /// No timers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until the time is over, or until the timers of this name are cancelled.
    pub async fn sleep(&self, name: &str, span: Duration) -> Fired {
        match timeout(span, self.cancels.wait(name)).await {
            Ok(()) => Fired::Cancelled,
            Err(_) => Fired::OnTime,
        }
    }

    /// Ends the timers of a name. Returns how many there were.
    pub fn cancel(&self, name: &str) -> usize {
        self.cancels.signal_all(name, &())
    }
}
