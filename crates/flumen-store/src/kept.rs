//! One stream as it lies in memory.

use std::collections::VecDeque;

use bytes::Bytes;
use flumen_stream::compact::Segment;

use crate::{About, Batch, Ending, Page, Position, Refused, Status, StreamId, Tenure};

/// So many bytes of the newest frames are kept as they came, for readers at the tail.
const LIVE: usize = 4 * 1024;
/// A segment is full with so many bytes, or so many frames: whoever reads from its middle decodes it from its beginning.
const SEGMENT: usize = 8 * 1024;
const SEGMENT_FRAMES: usize = 256;

/// The frames of a stream: segments, then the one that grows, then the newest frames as they came.
#[derive(Debug)]
pub(crate) struct Kept {
    about: About,
    /// The number of the first frame of each epoch.
    epochs: Vec<(u64, u64)>,
    epoch: u64,
    /// The number of the first frame that is kept.
    first: u64,
    /// The number of the next frame to be appended.
    next: u64,
    sealed: VecDeque<Segment>,
    sealed_bytes: usize,
    growing: Segment,
    live: VecDeque<Bytes>,
    live_bytes: usize,
    /// Bytes of all frames there ever were.
    bytes: u64,
    ending: Option<Ending>,
    forgotten: bool,
}

impl Kept {
    pub(crate) fn new(about: About) -> Self {
        Self {
            about,
            epochs: vec![(1, 1)],
            epoch: 1,
            first: 1,
            next: 1,
            sealed: VecDeque::new(),
            sealed_bytes: 0,
            growing: Segment::default(),
            live: VecDeque::new(),
            live_bytes: 0,
            bytes: 0,
            ending: None,
            forgotten: false,
        }
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    pub(crate) fn ending(&self) -> Option<Ending> {
        self.ending
    }

    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// Gives everything back; how much that was.
    pub(crate) fn forget(&mut self) -> usize {
        let held = self.held();
        self.forgotten = true;
        self.sealed = VecDeque::new();
        self.growing = Segment::default();
        self.live = VecDeque::new();
        (self.sealed_bytes, self.live_bytes) = (0, 0);
        held
    }

    /// Bytes that the frames take.
    pub(crate) fn held(&self) -> usize {
        self.sealed_bytes + self.growing.size() + self.live_bytes
    }

    fn may_write(&self, epoch: u64) -> Result<(), Refused> {
        if epoch != self.epoch {
            return Err(Refused::Fenced { epoch: self.epoch });
        }
        if self.ending.is_some() { Err(Refused::Ended) } else { Ok(()) }
    }

    pub(crate) fn may_append(&self, epoch: u64, first: u64) -> Result<(), Refused> {
        self.may_write(epoch)?;
        if first == self.next { Ok(()) } else { Err(Refused::OutOfOrder { expected: self.next }) }
    }

    pub(crate) fn may_end(&self, epoch: u64) -> Result<(), Refused> {
        self.may_write(epoch)
    }

    pub(crate) fn append(&mut self, epoch: u64, batch: &Batch) -> Result<(), Refused> {
        self.may_append(epoch, batch.first)?;
        for frame in &batch.frames {
            self.next += 1;
            self.bytes += frame.len() as u64;
            self.live_bytes += frame.len();
            self.live.push_back(frame.clone());
        }
        while self.live_bytes > LIVE && self.live.len() > 1 {
            self.compact_one();
        }
        Ok(())
    }

    /// Skips numbers whose frames are lost for good.
    pub(crate) fn skip_to(&mut self, first: u64) {
        self.forget();
        self.forgotten = false;
        (self.first, self.next) = (first, first);
    }

    pub(crate) fn end(&mut self, epoch: u64, ending: Ending) -> Result<(), Refused> {
        self.may_end(epoch)?;
        while !self.live.is_empty() {
            self.compact_one();
        }
        self.seal();
        self.sealed.shrink_to_fit();
        self.live = VecDeque::new();
        self.ending = Some(ending);
        Ok(())
    }

    pub(crate) fn take_over(&mut self, id: StreamId) -> Result<Tenure, Refused> {
        if self.ending.is_some() {
            return Err(Refused::Ended);
        }
        self.begin_epoch(self.epoch + 1);
        Ok(Tenure { id, epoch: self.epoch, next: self.next })
    }

    pub(crate) fn begin_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.epochs.push((self.next, epoch));
    }

    fn compact_one(&mut self) {
        let Some(frame) = self.live.pop_front() else { return };
        self.live_bytes -= frame.len();
        self.growing.push(&frame);
        if self.growing.encoded().len() >= SEGMENT || self.growing.len() >= SEGMENT_FRAMES {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if self.growing.is_empty() {
            return;
        }
        let mut segment = std::mem::take(&mut self.growing);
        segment.seal();
        self.sealed_bytes += segment.size();
        self.sealed.push_back(segment);
    }

    /// Drops frames from the beginning that were read, down to the bound. Whether the bound is kept.
    pub(crate) fn shrink(&mut self, bound: usize, read: u64) -> bool {
        while self.held() > bound {
            let segment = self.sealed.front().map_or(0, Segment::len) as u64;
            if segment > 0 {
                if self.first + segment - 1 > read {
                    return false;
                }
                self.sealed_bytes -= self.sealed.pop_front().map_or(0, |segment| segment.size());
                self.first += segment;
            } else if !self.growing.is_empty() && self.first + self.growing.len() as u64 - 1 <= read {
                self.first += std::mem::take(&mut self.growing).len() as u64;
            } else {
                // The newest frames are few, and somebody at the tail is about to read them.
                return self.held() <= bound.max(LIVE + SEGMENT);
            }
        }
        true
    }

    fn epoch_of(&self, seq: u64) -> u64 {
        self.epochs.iter().rev().find(|(first, _)| *first <= seq).map_or(1, |(_, epoch)| *epoch)
    }

    /// The number of the last frame whose epoch is that of the frame `seq`.
    fn last_of_epoch(&self, seq: u64) -> u64 {
        let next = self.epochs.iter().map(|(first, _)| *first).find(|first| *first > seq);
        next.unwrap_or(self.next).min(self.next) - 1
    }

    pub(crate) fn read(&self, after: u64, limit: usize) -> Result<Page, Refused> {
        let wanted = after.saturating_add(1);
        if wanted > self.next {
            return Err(Refused::Beyond { last: self.next - 1 });
        }
        if wanted < self.first {
            return Err(Refused::TooOld { first: self.first });
        }
        let last = self.last_of_epoch(wanted);
        let mut frames = Vec::new();
        let mut bytes = 0;
        let mut more = |frame: Bytes, seq: u64| {
            bytes += frame.len();
            frames.push(frame);
            bytes < limit && seq < last
        };
        self.walk(wanted, &mut more);
        let first = Position { epoch: self.epoch_of(wanted), seq: wanted };
        let through = after + frames.len() as u64;
        let ending = self.ending.filter(|_| through + 1 == self.next);
        Ok(Page { first, frames, ending })
    }

    /// Shows the frames from the number `seq` on, until the visitor has enough.
    fn walk(&self, mut seq: u64, visit: &mut impl FnMut(Bytes, u64) -> bool) {
        let live_from = self.next - self.live.len() as u64;
        let mut begin = self.first;
        for segment in self.sealed.iter().chain(std::iter::once(&self.growing)) {
            let end = begin + segment.len() as u64;
            if seq < end {
                let skip = usize::try_from(seq - begin).unwrap_or(usize::MAX);
                for frame in segment.iter().skip(skip) {
                    if !visit(frame, seq) {
                        return;
                    }
                    seq += 1;
                }
            }
            begin = end;
        }
        let skip = usize::try_from(seq.saturating_sub(live_from)).unwrap_or(usize::MAX);
        for frame in self.live.iter().skip(skip) {
            if !visit(frame.clone(), seq) {
                return;
            }
            seq += 1;
        }
    }

    pub(crate) fn status(&self, id: StreamId) -> Status {
        Status {
            id,
            about: self.about.clone(),
            ending: self.ending,
            epoch: self.epoch,
            first: self.first,
            last: self.next - 1,
            bytes: self.bytes,
            held: self.held(),
        }
    }
}
