//! The streams of one socket, read in turn and only as far as there is credit.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use flumen_store::StreamId;
use flumen_stream::End;
use futures_util::Stream;

use super::message::Form;
use crate::resume::{Numbered, reading::Paced};

/// So many streams may be open on one socket.
pub(super) const MOST_STREAMS: usize = 256;

/// One stream.
pub(super) struct Open {
    pub(super) stream: StreamId,
    pub(super) reading: Paced,
    /// Bytes that the client has room for. One event may overdraw it.
    pub(super) credit: u64,
    pub(super) form: Form,
}

/// A `ref` that is in use.
enum Slot {
    /// Its stream is being opened.
    Opening(Reserved),
    /// Its stream is read.
    Open(Open),
}

/// A `ref` that was taken for a stream that is being opened, which is known once its request has begun. It is not the same
/// as one that is taken later by the same number.
#[derive(Clone, Default)]
pub(super) struct Reserved(Arc<OnceLock<StreamId>>);

impl Reserved {
    /// The stream is known now.
    pub(super) fn is(&self, stream: StreamId) {
        // Set once.
        let _ = self.0.set(stream);
    }
}

/// What a stream has brought.
pub(super) type Next = (StreamId, Form, Option<Result<Numbered, End>>);

/// The streams of a session. A stream without credit is not read.
#[derive(Default)]
pub(super) struct Readings {
    open: HashMap<u32, Slot>,
    /// Which one is asked first: none may starve the others.
    turn: usize,
}

impl Readings {
    pub(super) fn reserve(&mut self, name: u32) -> Result<Reserved, String> {
        if self.open.len() >= MOST_STREAMS {
            return Err(format!("more than {MOST_STREAMS} streams"));
        }
        if self.open.contains_key(&name) {
            return Err(format!("the ref {name} is in use"));
        }
        let reserved = Reserved::default();
        self.open.insert(name, Slot::Opening(reserved.clone()));
        Ok(reserved)
    }

    pub(super) fn put(&mut self, name: u32, open: Open) {
        self.open.insert(name, Slot::Open(open));
    }

    /// Whether a `ref` is still taken for what was being opened.
    pub(super) fn awaits(&self, name: u32, reserved: &Reserved) -> bool {
        matches!(self.open.get(&name), Some(Slot::Opening(own)) if Arc::ptr_eq(&own.0, &reserved.0))
    }

    pub(super) fn forget(&mut self, name: u32) {
        self.open.remove(&name);
    }

    pub(super) fn stream(&self, name: u32) -> Option<StreamId> {
        match self.open.get(&name)? {
            Slot::Opening(reserved) => reserved.0.get().copied(),
            Slot::Open(open) => Some(open.stream),
        }
    }

    pub(super) fn grant(&mut self, name: u32, bytes: u64) {
        if let Some(Slot::Open(open)) = self.open.get_mut(&name) {
            open.credit = open.credit.saturating_add(bytes);
        }
    }
}

impl Stream for Readings {
    type Item = (u32, Next);

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.turn = this.turn.wrapping_add(1);
        let count = this.open.len().max(1);
        let first = this.turn % count;
        let names: Vec<u32> = this.open.keys().copied().collect();
        for name in names.iter().cycle().skip(first).take(names.len()) {
            let Some(Slot::Open(open)) = this.open.get_mut(name) else { continue };
            if open.credit == 0 {
                continue;
            }
            if let Poll::Ready(next) = open.reading.as_mut().poll_next(cx) {
                if let Some(Ok(numbered)) = &next {
                    open.credit = open.credit.saturating_sub(numbered.wire.len() as u64);
                }
                return Poll::Ready(Some((*name, (open.stream, open.form, next))));
            }
        }
        Poll::Pending
    }
}
