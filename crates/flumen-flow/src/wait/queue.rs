use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Semaphore;

/// A bounded queue of messages, with any number of tasks on both sides. Cheap to clone.
#[derive(Debug)]
pub struct MessageQueue<T> {
    inner: Arc<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    messages: Mutex<VecDeque<T>>,
    room: Semaphore,
    waiting: Semaphore,
}

/// The queue was closed. Posting gives the message back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message queue is closed")]
pub struct Closed<T = ()>(pub T);

impl<T> MessageQueue<T> {
    /// A queue of at most this many messages.
    pub fn new(capacity: usize) -> Self {
        let inner = Inner {
            messages: Mutex::default(),
            room: Semaphore::new(capacity.max(1)),
            waiting: Semaphore::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Waits for room and posts a message.
    ///
    /// # Errors
    /// [`Closed`], with the message.
    pub async fn post(&self, message: T) -> Result<(), Closed<T>> {
        match self.inner.room.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(Closed(message)),
        }
        self.inner.messages.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
        self.inner.waiting.add_permits(1);
        Ok(())
    }

    /// Posts a message if there is room now.
    ///
    /// # Errors
    /// The message, when there is none.
    pub fn try_post(&self, message: T) -> Result<(), T> {
        match self.inner.room.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(message),
        }
        self.inner.messages.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
        self.inner.waiting.add_permits(1);
        Ok(())
    }

    /// Waits for the next message. `None` once the queue is closed and empty.
    pub async fn get(&self) -> Option<T> {
        if let Ok(permit) = self.inner.waiting.acquire().await {
            permit.forget();
        }
        let message = self.inner.messages.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if message.is_some() {
            self.inner.room.add_permits(1);
        }
        message
    }

    /// Messages in the queue.
    pub fn len(&self) -> usize {
        self.inner.messages.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses further messages. Those in the queue can still be taken.
    pub fn close(&self) {
        self.inner.room.close();
        self.inner.waiting.close();
    }
}

impl<T> Clone for MessageQueue<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}
