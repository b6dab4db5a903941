//! Parallel algorithms on a queue: the pieces take their turns like everybody else's work.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::Queue;
use crate::Result;

/// Pieces per thread: enough to even out pieces of unequal cost.
const PIECES: usize = 4;
/// Below this a piece is not worth a turn.
const SMALLEST: usize = 1024;

impl Queue {
    fn pieces(&self) -> usize {
        self.handle.owner.shared.wanted_threads() * PIECES
    }

    /// Applies the function to each item, in parallel over pieces of the list, and keeps the order.
    ///
    /// # Errors
    /// Like [`run`](Self::run); the first failure cancels the other pieces.
    pub async fn map<T, U, F>(&self, items: Vec<T>, f: F) -> Result<Vec<U>>
    where
        T: Send + 'static,
        U: Send + 'static,
        F: Fn(T) -> U + Send + Sync + 'static,
    {
        let f = Arc::new(f);
        let size = items.len().div_ceil(self.pieces()).max(1);
        let pieces = split(items, size).into_iter().map(|piece| {
            let f = Arc::clone(&f);
            self.run(move || piece.into_iter().map(|item| f(item)).collect::<Vec<U>>())
        });
        Ok(try_join_all(pieces).await?.into_iter().flatten().collect())
    }

    /// Sorts: pieces in parallel, then merges of two neighbours in parallel. Equal items keep their order.
    ///
    /// # Errors
    /// Like [`run`](Self::run).
    pub async fn sort<T: Ord + Send + 'static>(&self, items: Vec<T>) -> Result<Vec<T>> {
        let size = items.len().div_ceil(self.pieces()).max(SMALLEST);
        let pieces = split(items, size).into_iter().map(|mut piece| {
            self.run(move || {
                piece.sort();
                piece
            })
        });
        let mut sorted = try_join_all(pieces).await?;
        while sorted.len() > 1 {
            let mut pieces = sorted.into_iter();
            let mut merges = Vec::new();
            while let Some(left) = pieces.next() {
                let right = pieces.next().unwrap_or_default();
                merges.push(self.run(move || merge(left, right)));
            }
            sorted = try_join_all(merges).await?;
        }
        Ok(sorted.pop().unwrap_or_default())
    }
}

/// Splits a list into pieces of a size, the last one smaller, without copying more than it must.
fn split<T>(mut items: Vec<T>, size: usize) -> Vec<Vec<T>> {
    let mut pieces = Vec::with_capacity(items.len().div_ceil(size));
    while items.len() > size {
        let start = (items.len() - 1) / size * size;
        pieces.push(items.split_off(start));
    }
    pieces.push(items);
    pieces.reverse();
    pieces
}

fn merge<T: Ord>(left: Vec<T>, right: Vec<T>) -> Vec<T> {
    if right.is_empty() {
        return left;
    }
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(one), Some(other)) = (left.peek(), right.peek()) {
        // `<=` keeps the order of equal items.
        let next = if one <= other { left.next() } else { right.next() };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_together_are_the_whole(len in 0_usize..100, size in 1_usize..20) {
            let items: Vec<usize> = (0..len).collect();
            let pieces = split(items.clone(), size);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= size));
            prop_assert_eq!(pieces.concat(), items);
        }

        #[test]
        fn merging_is_stable(mut left: Vec<u8>, mut right: Vec<u8>) {
            left.sort_unstable();
            right.sort_unstable();
            let tag = |side, list: &[u8]| list.iter().map(|&key| Keyed(key, side)).collect::<Vec<_>>();
            let merged = merge(tag('l', &left), tag('r', &right));
            let mut all = [tag('l', &left), tag('r', &right)].concat();
            all.sort();
            let plain = |list: &[Keyed]| list.iter().map(|Keyed(key, side)| (*key, *side)).collect::<Vec<_>>();
            prop_assert_eq!(plain(&merged), plain(&all));
        }
    }

    /// Ordered by the key alone.
    #[derive(Clone, Debug)]
    struct Keyed(u8, char);

    impl Ord for Keyed {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            self.0.cmp(&other.0)
        }
    }
    impl PartialOrd for Keyed {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    impl PartialEq for Keyed {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other).is_eq()
        }
    }
    impl Eq for Keyed {}
}
