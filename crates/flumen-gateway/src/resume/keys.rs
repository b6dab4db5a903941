use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};
use flumen_store::{Store, StreamId};

/// The streams that were begun under an idempotency key. A key lives as long as its stream.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    streams: Mutex<HashMap<(String, String), Begun>>,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    stream: StreamId,
    body: [u8; 32],
}

/// What a key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nobody has used it: it is this stream's now.
    New,
    /// The same request began this stream.
    Same(StreamId),
    /// Another request has used it.
    Other,
}

impl Keys {
    /// Claims a key for a stream. Of requests that come together one wins.
    pub(crate) fn claim(&self, owner: &str, key: &str, path: &str, body: &[u8], stream: StreamId) -> Claim {
        let body = fingerprint(path, body);
        let mut streams = self.lock();
        match streams.entry((owner.to_owned(), key.to_owned())) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Begun { stream, body });
                Claim::New
            }
            std::collections::hash_map::Entry::Occupied(entry) if entry.get().body == body => {
                Claim::Same(entry.get().stream)
            }
            std::collections::hash_map::Entry::Occupied(_) => Claim::Other,
        }
    }

    /// Lets go of the key of a stream that did not come to be, so that the request can be made again.
    pub(crate) fn release(&self, owner: &str, key: &str, stream: StreamId) {
        let mut streams = self.lock();
        let place = (owner.to_owned(), key.to_owned());
        if streams.get(&place).is_some_and(|begun| begun.stream == stream) {
            streams.remove(&place);
        }
    }

    /// Forgets the keys of streams that the store has forgotten.
    pub(crate) fn tidy(&self, store: &dyn Store) {
        self.lock().retain(|_, begun| store.attendance(begun.stream).is_some());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Begun>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fingerprint(path: &str, body: &[u8]) -> [u8; 32] {
    let mut text = Vec::with_capacity(path.len() + 1 + body.len());
    text.extend_from_slice(path.as_bytes());
    text.push(0);
    text.extend_from_slice(body);
    let mut print = [0; 32];
    print.copy_from_slice(digest(&SHA256, &text).as_ref());
    print
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_one_request_of_one_owner() {
        let (keys, one, two) = (Keys::default(), StreamId::from_u128(1), StreamId::from_u128(2));
        assert_eq!(keys.claim("o", "k", "/p", b"body", one), Claim::New);
        assert_eq!(keys.claim("o", "k", "/p", b"body", two), Claim::Same(one));
        assert_eq!(keys.claim("o", "k", "/p", b"other", two), Claim::Other);
        assert_eq!(keys.claim("o", "k", "/q", b"body", two), Claim::Other);
        assert_eq!(keys.claim("x", "k", "/p", b"other", two), Claim::New);
        keys.release("o", "k", two);
        assert_eq!(keys.claim("o", "k", "/p", b"body", two), Claim::Same(one));
        keys.release("o", "k", one);
        assert_eq!(keys.claim("o", "k", "/p", b"other", two), Claim::New);
    }
}
