use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Semaphore;

/// A fixed set of resources that tasks borrow, first come, first served. Cheap to clone.
///
/// A pool of `()` caps how many tasks are somewhere at the same time, without holding a thread.
#[derive(Debug)]
pub struct Pool<T> {
    inner: Arc<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    free: Mutex<Vec<T>>,
    permits: Semaphore,
}

impl<T> Pool<T> {
    /// A pool of these resources.
    pub fn new(resources: impl IntoIterator<Item = T>) -> Self {
        let free: Vec<T> = resources.into_iter().collect();
        let permits = Semaphore::new(free.len());
        Self { inner: Arc::new(Inner { free: Mutex::new(free), permits }) }
    }

    /// Waits for a free resource. Dropping the lease gives it back.
    pub async fn get(&self) -> Lease<T> {
        // The semaphore is never closed; the loop is for the type alone.
        while self.inner.permits.acquire().await.map(tokio::sync::SemaphorePermit::forget).is_err() {}
        let resource = self.inner.free().pop();
        Lease { pool: Arc::clone(&self.inner), resource }
    }

    /// A resource, if one is free now.
    pub fn try_get(&self) -> Option<Lease<T>> {
        self.inner.permits.try_acquire().ok()?.forget();
        let resource = self.inner.free().pop();
        Some(Lease { pool: Arc::clone(&self.inner), resource })
    }

    /// Resources that nobody has.
    pub fn free(&self) -> usize {
        self.inner.permits.available_permits()
    }

    /// Adds a resource, for example in the place of one that was taken out by [`Lease::take`].
    pub fn add(&self, resource: T) {
        self.inner.put(resource);
    }
}

impl<T> Inner<T> {
    fn free(&self) -> std::sync::MutexGuard<'_, Vec<T>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, resource: T) {
        self.free().push(resource);
        self.permits.add_permits(1);
    }
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

/// A borrowed resource of a [`Pool`].
#[derive(Debug)]
pub struct Lease<T> {
    pool: Arc<Inner<T>>,
    /// There until the lease is dropped or the resource is taken.
    resource: Option<T>,
}

impl<T> Lease<T> {
    /// Takes the resource out of the pool, because it is broken. The pool is one smaller then.
    ///
    /// # Panics
    /// Never: the resource is there while the lease is.
    pub fn take(mut self) -> T {
        self.resource.take().expect("a lease has its resource")
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.resource.as_ref().expect("a lease has its resource")
    }
}

impl<T> DerefMut for Lease<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.resource.as_mut().expect("a lease has its resource")
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        if let Some(resource) = self.resource.take() {
            self.pool.put(resource);
        }
    }
}
