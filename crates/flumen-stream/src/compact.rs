//! Frames kept small: each stored as its difference from the one before.
//!
//! The events of an answer repeat almost all of their bytes: a chunk of the OpenAI API has some 300, of which a token, and
//! perhaps a counter and a time, are new. A [`Segment`] knows no format. It keeps of each frame the length of the prefix
//! that it shares with its predecessor, and, aligned at their ends, the runs in which the two differ. What comes out is what
//! went in, byte for byte.

use bytes::{Bytes, BytesMut};

/// Shared runs shorter than this cost more to name than to repeat.
const WORTH: usize = 4;

/// Frames in sequence, each stored against its predecessor.
///
/// ```
/// use flumen_stream::compact::Segment;
///
/// let mut segment = Segment::default();
/// segment.push(b"data: {\"delta\":\"one\",\"n\":1}\n\n");
/// segment.push(b"data: {\"delta\":\"two\",\"n\":2}\n\n");
/// segment.seal();
/// assert!(segment.size() < 50);
/// assert_eq!(segment.iter().nth(1).unwrap(), &b"data: {\"delta\":\"two\",\"n\":2}\n\n"[..]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Segment {
    encoded: Vec<u8>,
    frames: usize,
    last: Vec<u8>,
}

impl Segment {
    /// Appends a frame.
    pub fn push(&mut self, frame: &[u8]) {
        encode(&self.last, frame, &mut self.encoded);
        self.last.clear();
        self.last.extend_from_slice(frame);
        self.frames += 1;
    }

    /// Says that nothing more will be appended: gives back what only appending needs.
    pub fn seal(&mut self) {
        self.last = Vec::new();
        self.encoded.shrink_to_fit();
    }

    /// Bytes that the segment takes.
    pub fn size(&self) -> usize {
        self.encoded.capacity() + self.last.capacity()
    }

    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.frames
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// The frames as they are stored, for a file; [`decode`] reads them.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The frames, from the first.
    pub fn iter(&self) -> Frames<'_> {
        Frames { encoded: &self.encoded, last: Bytes::new() }
    }
}

impl<'a> IntoIterator for &'a Segment {
    type Item = Bytes;
    type IntoIter = Frames<'a>;

    fn into_iter(self) -> Frames<'a> {
        self.iter()
    }
}

/// Reads frames that a [`Segment`] has stored. It ends early where the bytes are not what a segment writes.
pub fn decode(encoded: &[u8]) -> Frames<'_> {
    Frames { encoded, last: Bytes::new() }
}

/// Frames on their way out of a segment.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    encoded: &'a [u8],
    last: Bytes,
}

impl Iterator for Frames<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut rest = self.encoded;
        let frame = read(&self.last, &mut rest)?;
        self.encoded = rest;
        self.last = frame.clone();
        Some(frame)
    }
}

/// `length prefix (same literal-length literal)*`, the runs from the end of the frame towards its prefix.
fn encode(last: &[u8], frame: &[u8], out: &mut Vec<u8>) {
    let prefix = common_prefix(last, frame);
    put(out, frame.len());
    put(out, prefix);
    let (old, new) = (&last[prefix..], &frame[prefix..]);
    // Ends of what is not yet stored, in the new frame and at the same distance from the end in the old one.
    let mut end = new.len();
    while end > 0 {
        let behind = new.len() - end;
        let aligned = &old[..old.len().saturating_sub(behind)];
        let same = common_suffix(aligned, &new[..end]);
        end -= same;
        let literal = differing(&aligned[..aligned.len() - same], &new[..end]);
        put(out, same);
        put(out, literal);
        out.extend_from_slice(&new[end - literal..end]);
        end -= literal;
    }
}

/// Eight bytes at a time: events are long and differ little.
fn common_prefix(old: &[u8], new: &[u8]) -> usize {
    let (old_words, _) = old.as_chunks::<8>();
    let (new_words, _) = new.as_chunks::<8>();
    for (at, (a, b)) in old_words.iter().zip(new_words).enumerate() {
        let differs = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differs != 0 {
            return at * 8 + differs.trailing_zeros() as usize / 8;
        }
    }
    let done = old_words.len().min(new_words.len()) * 8;
    done + old[done..].iter().zip(&new[done..]).take_while(|(a, b)| a == b).count()
}

fn common_suffix(old: &[u8], new: &[u8]) -> usize {
    let (_, old_words) = old.as_rchunks::<8>();
    let (_, new_words) = new.as_rchunks::<8>();
    for (at, (a, b)) in old_words.iter().rev().zip(new_words.iter().rev()).enumerate() {
        let differs = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differs != 0 {
            return at * 8 + differs.leading_zeros() as usize / 8;
        }
    }
    let done = old_words.len().min(new_words.len()) * 8;
    let (old, new) = (&old[..old.len() - done], &new[..new.len() - done]);
    done + old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// How many bytes at the end of `new` are best stored as they are: up to the next shared run that is worth its name.
fn differing(old: &[u8], new: &[u8]) -> usize {
    let mut run = 0;
    for (at, (a, b)) in old.iter().rev().zip(new.iter().rev()).enumerate() {
        run = if a == b { run + 1 } else { 0 };
        if run == WORTH {
            return at + 1 - WORTH;
        }
    }
    new.len()
}

fn read(last: &[u8], rest: &mut &[u8]) -> Option<Bytes> {
    let (length, prefix) = (get(rest)?, get(rest)?);
    // A frame is never longer than what is stored of it and what it shares: nothing is allocated on a false promise.
    if prefix > length || prefix > last.len() || length > rest.len().saturating_add(last.len()) {
        return None;
    }
    let mut frame = BytesMut::zeroed(length);
    frame[..prefix].copy_from_slice(&last[..prefix]);
    let (old, new) = (&last[prefix..], &mut frame[prefix..]);
    let mut end = new.len();
    let whole = end;
    while end > 0 {
        let aligned = old.len().saturating_sub(whole - end);
        let same = get(rest)?;
        new.get_mut(end.checked_sub(same)?..end)?
            .copy_from_slice(old.get(aligned.checked_sub(same)?..aligned)?);
        end -= same;
        let literal = get(rest)?;
        if literal == 0 && same == 0 {
            return None;
        }
        let (bytes, after) = rest.split_at_checked(literal)?;
        new.get_mut(end.checked_sub(literal)?..end)?.copy_from_slice(bytes);
        end -= literal;
        *rest = after;
    }
    Some(frame.freeze())
}

/// LEB128.
fn put(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "less than eight bits are left")]
    out.push(number as u8);
}

fn get(rest: &mut &[u8]) -> Option<usize> {
    let mut number = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        number |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk(token: &str, number: usize) -> Vec<u8> {
        format!(
            "data: {{\"id\":\"chatcmpl-BqZ0abcdefghijklmnopqrstuvwxyz\",\"object\":\"chat.completion.chunk\",\
             \"created\":1790000000,\"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\
             \"system_fingerprint\":\"fp_07871e2ad8\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{token}\"}},\
             \"logprobs\":null,\"finish_reason\":null}}],\"stamp\":{{\"seq\":{number},\"at\":{}}}}}\n\n",
            1_790_000_000_000_000_usize + number * 20_123
        )
        .into_bytes()
    }

    #[test]
    fn chunks_with_a_token_a_counter_and_a_time_shrink_to_a_tenth() {
        let frames: Vec<_> = (0..256).map(|n| chunk(["The", " river", " flows", ","][n % 4], n)).collect();
        let mut segment = Segment::default();
        for frame in &frames {
            segment.push(frame);
        }
        segment.seal();
        let raw: usize = frames.iter().map(Vec::len).sum();
        assert!(segment.size() * 10 < raw, "{} of {raw}", segment.size());
        assert_eq!(segment.iter().collect::<Vec<_>>(), frames);
    }

    proptest! {
        #[test]
        fn what_is_shared_is_counted_as_byte_by_byte(one in "[ab]{0,40}", other in "[ab]{0,40}") {
            let (one, other) = (one.as_bytes(), other.as_bytes());
            let prefix = one.iter().zip(other).take_while(|(a, b)| a == b).count();
            let suffix = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
            prop_assert_eq!((common_prefix(one, other), common_suffix(one, other)), (prefix, suffix));
        }

        #[test]
        fn what_goes_in_comes_out(frames in prop::collection::vec("[ab{\n]{0,40}", 0..20)) {
            let mut segment = Segment::default();
            for frame in &frames {
                segment.push(frame.as_bytes());
            }
            let out: Vec<_> = segment.iter().collect();
            prop_assert_eq!(out.len(), segment.len());
            prop_assert_eq!(out, frames.into_iter().map(Bytes::from).collect::<Vec<_>>());
        }

        #[test]
        fn foreign_bytes_are_no_frames_and_no_fault(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes).count();
        }
    }
}
