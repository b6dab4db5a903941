//! What stands in the files: `length crc payload`, and what a payload says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes};
use flumen_stream::{
    Cause,
    compact::{Segment, decode},
};

use crate::{About, Ending, State, StreamId};

/// The first bytes of every file.
pub(super) const MAGIC: &[u8; 8] = b"FLUMENS1";

/// A payload longer than this is none.
const MAX_PAYLOAD: usize = 1 << 30;

/// One thing that happened to a stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    Created(About),
    Appended { epoch: u64, first: u64, frames: Vec<Bytes> },
    Ended { epoch: u64, ending: Ending, at: SystemTime },
    TakenOver { epoch: u64 },
    Removed,
}

impl Record {
    /// Appends the record to a buffer.
    pub(super) fn write(&self, id: StreamId, out: &mut Vec<u8>) {
        let begin = out.len();
        out.put_u64_le(0);
        let payload = out.len();
        match self {
            Self::Created(about) => {
                out.put_u8(1);
                out.put_u128(id.as_u128());
                out.extend_from_slice(&serde_json::to_vec(about).unwrap_or_default());
            }
            Self::Appended { epoch, first, frames } => {
                out.put_u8(2);
                out.put_u128(id.as_u128());
                out.put_u64_le(*epoch);
                out.put_u64_le(*first);
                let mut segment = Segment::default();
                for frame in frames {
                    segment.push(frame);
                }
                out.extend_from_slice(segment.encoded());
            }
            Self::Ended { epoch, ending, at } => {
                out.put_u8(3);
                out.put_u128(id.as_u128());
                out.put_u64_le(*epoch);
                let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
                out.put_u64_le(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
                out.put_u8(ending.state as u8);
                out.extend_from_slice(ending.cause.map_or("", Cause::as_str).as_bytes());
            }
            Self::TakenOver { epoch } => {
                out.put_u8(4);
                out.put_u128(id.as_u128());
                out.put_u64_le(*epoch);
            }
            Self::Removed => {
                out.put_u8(5);
                out.put_u128(id.as_u128());
            }
        }
        let length = u32::try_from(out.len() - payload).unwrap_or(u32::MAX);
        let crc = crc32fast::hash(&out[payload..]);
        out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        out[begin + 4..payload].copy_from_slice(&crc.to_le_bytes());
    }

    /// Takes the next record off `rest`; `None` where what follows is not a whole record.
    pub(super) fn read(rest: &mut &[u8]) -> Option<(StreamId, Self)> {
        let (mut head, body) = rest.split_at_checked(8)?;
        let (length, crc) = (head.get_u32_le() as usize, head.get_u32_le());
        if length > MAX_PAYLOAD {
            return None;
        }
        let (payload, after) = body.split_at_checked(length)?;
        if crc32fast::hash(payload) != crc {
            return None;
        }
        let record = parse(payload)?;
        *rest = after;
        Some(record)
    }
}

fn parse(mut payload: &[u8]) -> Option<(StreamId, Record)> {
    let kind = payload.try_get_u8().ok()?;
    let id = StreamId::from_u128(payload.try_get_u128().ok()?);
    let record = match kind {
        1 => Record::Created(serde_json::from_slice(payload).ok()?),
        2 => {
            let (epoch, first) = (payload.try_get_u64_le().ok()?, payload.try_get_u64_le().ok()?);
            Record::Appended { epoch, first, frames: decode(payload).collect() }
        }
        3 => {
            let (epoch, millis) = (payload.try_get_u64_le().ok()?, payload.try_get_u64_le().ok()?);
            let states = [State::Open, State::Done, State::Error, State::Cancelled, State::Lost];
            let state = *states.get(usize::from(payload.try_get_u8().ok()?))?;
            let cause = Cause::ALL.into_iter().find(|cause| cause.as_str().as_bytes() == payload);
            let at = UNIX_EPOCH.checked_add(Duration::from_millis(millis))?;
            Record::Ended { epoch, ending: Ending { state, cause }, at }
        }
        4 => Record::TakenOver { epoch: payload.try_get_u64_le().ok()? },
        5 => Record::Removed,
        _ => return None,
    };
    Some((id, record))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some() -> Vec<Record> {
        let about = About {
            owner: "o".into(),
            dialect: "d".into(),
            model: "m".into(),
            created: UNIX_EPOCH + Duration::new(5, 7),
        };
        vec![
            Record::Created(about),
            Record::Appended {
                epoch: 1,
                first: 1,
                frames: vec!["data: 1\n\n".into(), "data: 12\n\n".into()],
            },
            Record::TakenOver { epoch: 2 },
            Record::Ended {
                epoch: 2,
                ending: Ending::of(Cause::Stopped),
                at: UNIX_EPOCH + Duration::from_secs(9),
            },
            Record::Removed,
        ]
    }

    #[test]
    fn what_is_written_is_read_and_a_torn_end_is_seen_at_every_byte() {
        let (id, records) = (StreamId::from_u128(42), some());
        let (mut file, mut ends) = (Vec::new(), vec![0]);
        for record in &records {
            record.write(id, &mut file);
            ends.push(file.len());
        }
        for cut in 0..=file.len() {
            let mut rest = &file[..cut];
            let read: Vec<_> = std::iter::from_fn(|| Record::read(&mut rest)).collect();
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            assert_eq!(read, records[..whole].iter().map(|record| (id, record.clone())).collect::<Vec<_>>());
            assert_eq!(cut - rest.len(), ends[whole], "what is left begins after the last whole record");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
            let _ = Record::read(&mut &bytes[..]);
        }
    }
}
