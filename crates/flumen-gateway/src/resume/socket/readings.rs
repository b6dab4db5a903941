//! The streams of one socket, read in turn and only as far as there is credit.

use std::{
    collections::HashMap,
    pin::Pin,
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

/// What a stream has brought.
pub(super) type Next = (StreamId, Form, Option<Result<Numbered, End>>);

/// The streams of a session. A stream without credit is not read.
#[derive(Default)]
pub(super) struct Readings {
    open: HashMap<u32, Option<Open>>,
    /// Which one is asked first: none may starve the others.
    turn: usize,
}

impl Readings {
    pub(super) fn reserve(&mut self, name: u32) -> Result<(), String> {
        if self.open.len() >= MOST_STREAMS {
            return Err(format!("more than {MOST_STREAMS} streams"));
        }
        match self.open.insert(name, None) {
            None => Ok(()),
            Some(_) => Err(format!("the ref {name} is in use")),
        }
    }

    pub(super) fn put(&mut self, name: u32, open: Open) {
        self.open.insert(name, Some(open));
    }

    pub(super) fn has(&self, name: u32) -> bool {
        self.open.contains_key(&name)
    }

    pub(super) fn forget(&mut self, name: u32) {
        self.open.remove(&name);
    }

    pub(super) fn stream(&self, name: u32) -> Option<StreamId> {
        self.open.get(&name)?.as_ref().map(|open| open.stream)
    }

    pub(super) fn grant(&mut self, name: u32, bytes: u64) {
        if let Some(Some(open)) = self.open.get_mut(&name) {
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
            let Some(Some(open)) = this.open.get_mut(name) else { continue };
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
