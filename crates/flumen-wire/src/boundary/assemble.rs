use std::collections::HashMap;

use bytes::Bytes;

use super::{Chunk, ChunkKind};

/// Checks that the chunks of transfers come whole and in order, and knows where a broken one can go on.
#[derive(Debug, Default)]
pub struct Assembler {
    /// The next number of each transfer that is neither complete nor aborted.
    open: HashMap<u64, u64>,
    most: usize,
}

/// What a chunk means to its receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A transfer begins, or goes on at this number.
    Begun {
        /// The transfer.
        transfer: u64,
        /// The number of the part that comes next.
        at: u64,
        /// What the begin carries.
        content: Bytes,
    },
    /// The next part of a transfer.
    Part {
        /// The transfer.
        transfer: u64,
        /// The bytes.
        content: Bytes,
    },
    /// A part that was received before; there is nothing to do.
    Duplicate,
    /// A transfer is complete.
    Complete {
        /// The transfer.
        transfer: u64,
    },
    /// A transfer was given up by its sender.
    Aborted {
        /// The transfer.
        transfer: u64,
        /// Why.
        reason: Bytes,
    },
}

/// A chunk that does not fit what came before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Parts are missing. Ask for the transfer from `expected` on.
    #[error("transfer {transfer} misses parts: {expected} was expected, {found} came")]
    Gap {
        /// The transfer.
        transfer: u64,
        /// The number that should have come: where the transfer can go on.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// A part or an end of a transfer that has not begun.
    #[error("transfer {transfer} has not begun")]
    NotBegun {
        /// The transfer.
        transfer: u64,
    },
    /// The numbers of a transfer have run out.
    #[error("transfer {transfer} has more parts than can be counted")]
    TooLong {
        /// The transfer.
        transfer: u64,
    },
    /// More transfers at a time than allowed.
    #[error("more than {allowed} transfers at a time")]
    TooMany {
        /// The limit.
        allowed: usize,
    },
}

impl Assembler {
    /// Allows this many unfinished transfers at a time.
    pub fn up_to(transfers: usize) -> Self {
        Self { open: HashMap::new(), most: transfers }
    }

    /// Where an unfinished transfer goes on: the number of the part after its last good one.
    pub fn resume_at(&self, transfer: u64) -> Option<u64> {
        self.open.get(&transfer).copied()
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// See [`TransferError`]. The transfer stays open where it was, so that it can go on there.
    pub fn take(&mut self, chunk: Chunk) -> Result<Received, TransferError> {
        let Chunk { kind, transfer, number, content } = chunk;
        if kind == ChunkKind::Begin {
            return self.begin(transfer, number, content);
        }
        if kind == ChunkKind::Abort {
            self.open.remove(&transfer);
            return Ok(Received::Aborted { transfer, reason: content });
        }
        let Some(next) = self.open.get_mut(&transfer) else {
            return Err(TransferError::NotBegun { transfer });
        };
        if number > *next {
            return Err(TransferError::Gap { transfer, expected: *next, found: number });
        }
        if kind == ChunkKind::End {
            if number < *next {
                return Err(TransferError::Gap { transfer, expected: *next, found: number });
            }
            self.open.remove(&transfer);
            return Ok(Received::Complete { transfer });
        }
        if number < *next {
            return Ok(Received::Duplicate);
        }
        *next = next.checked_add(1).ok_or(TransferError::TooLong { transfer })?;
        Ok(Received::Part { transfer, content })
    }

    /// A transfer that is open goes on where it was; the sender may come with parts that are known.
    fn begin(&mut self, transfer: u64, number: u64, content: Bytes) -> Result<Received, TransferError> {
        let known = self.open.get(&transfer).copied();
        if known.is_none() && self.open.len() >= self.most {
            return Err(TransferError::TooMany { allowed: self.most });
        }
        if let Some(expected) = known.filter(|&expected| number > expected) {
            return Err(TransferError::Gap { transfer, expected, found: number });
        }
        let at = known.unwrap_or(number);
        self.open.insert(transfer, at);
        Ok(Received::Begun { transfer, at, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: ChunkKind, number: u64) -> Chunk {
        Chunk { kind, transfer: 1, number, content: Bytes::from(number.to_string()) }
    }

    #[test]
    fn a_broken_transfer_goes_on_after_its_last_good_part() {
        let mut assembler = Assembler::up_to(4);
        assembler.take(chunk(ChunkKind::Begin, 0)).unwrap();
        assembler.take(chunk(ChunkKind::Part, 0)).unwrap();
        let gap = assembler.take(chunk(ChunkKind::Part, 2)).unwrap_err();
        assert_eq!(gap, TransferError::Gap { transfer: 1, expected: 1, found: 2 });
        assert_eq!(assembler.resume_at(1), Some(1));
        // A new connection, and a sender that repeats a part to be sure.
        let begun = assembler.take(chunk(ChunkKind::Begin, 0)).unwrap();
        assert_eq!(begun, Received::Begun { transfer: 1, at: 1, content: "0".into() });
        assert_eq!(assembler.take(chunk(ChunkKind::Part, 0)).unwrap(), Received::Duplicate);
        assembler.take(chunk(ChunkKind::Part, 1)).unwrap();
        assert!(assembler.take(chunk(ChunkKind::End, 1)).is_err(), "an end that comes too early is none");
        assert_eq!(assembler.take(chunk(ChunkKind::End, 2)).unwrap(), Received::Complete { transfer: 1 });
        assert_eq!(assembler.resume_at(1), None);
    }

    #[test]
    fn a_number_that_cannot_be_followed_is_refused() {
        let mut assembler = Assembler::up_to(1);
        assembler.take(chunk(ChunkKind::Begin, u64::MAX)).unwrap();
        let refused = assembler.take(chunk(ChunkKind::Part, u64::MAX)).unwrap_err();
        assert_eq!(refused, TransferError::TooLong { transfer: 1 });
    }

    #[test]
    fn what_has_not_begun_is_refused_and_transfers_are_bounded() {
        let mut assembler = Assembler::up_to(1);
        let not_begun = TransferError::NotBegun { transfer: 1 };
        assert_eq!(assembler.take(chunk(ChunkKind::Part, 0)).unwrap_err(), not_begun);
        assembler.take(chunk(ChunkKind::Begin, 0)).unwrap();
        let second = Chunk { transfer: 2, ..chunk(ChunkKind::Begin, 0) };
        assert_eq!(assembler.take(second.clone()).unwrap_err(), TransferError::TooMany { allowed: 1 });
        assembler.take(chunk(ChunkKind::Abort, 0)).unwrap();
        assembler.take(second).unwrap();
    }
}
