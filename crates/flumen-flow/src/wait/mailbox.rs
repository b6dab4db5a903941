use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Holds one message until it is taken. Cheap to clone.
#[derive(Debug)]
pub struct Mailbox<T> {
    inner: Arc<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    message: Mutex<Option<T>>,
    came: Notify,
}

impl<T> Mailbox<T> {
    /// An empty mailbox.
    pub fn new() -> Self {
        Self { inner: Arc::new(Inner { message: Mutex::new(None), came: Notify::new() }) }
    }

    /// Puts a message in. One that was not taken yet is replaced and given back.
    pub fn send(&self, message: T) -> Option<T> {
        let old = self.inner.message.lock().unwrap_or_else(PoisonError::into_inner).replace(message);
        self.inner.came.notify_one();
        old
    }

    /// Takes the message, if there is one.
    pub fn take(&self) -> Option<T> {
        self.inner.message.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits for a message and takes it.
    pub async fn receive(&self) -> T {
        loop {
            let came = self.inner.came.notified();
            if let Some(message) = self.take() {
                return message;
            }
            came.await;
        }
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}
