use std::{fmt, sync::Arc};

/// The id of an event: what a reader that comes back shows as the last it saw.
///
/// To be kept and shown again as it is; what a gateway of ours writes into it can be looked at.
///
/// ```
/// use flumen_client::Id;
///
/// let id = Id::from("5f0c.1-12");
/// assert_eq!(id.as_str(), "5f0c.1-12");
/// assert_eq!(id.stream_and_seq(), Some(("5f0c", 12)));
/// assert_eq!(Id::from("7").stream_and_seq(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Id(Arc<str>);

impl Id {
    /// The id as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The stream and the seq, if it is of the form `<stream>.<epoch>-<seq>`.
    pub fn stream_and_seq(&self) -> Option<(&str, u64)> {
        let (stream, rest) = self.0.rsplit_once('.')?;
        let (epoch, seq) = rest.split_once('-')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let written = digits(epoch) && digits(seq) && !stream.is_empty();
        written.then(|| seq.parse().ok().map(|seq| (stream, seq))).flatten()
    }
}

impl From<&str> for Id {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for Id {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a stream has been read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Position {
    /// The stream at the gateway, once it is known.
    pub(crate) stream: Option<Arc<str>>,
    /// The last event id, as `EventSource` keeps it: only events that are complete change it.
    pub(crate) last_id: Option<Id>,
    /// The seq of the last event; 0 at the beginning of a stream.
    pub(crate) last_seq: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Fresh,
    /// It was seen already.
    Repeat,
    /// This one should have come.
    Gap(u64),
}

impl Position {
    /// What an event with this id counts as. An id only has a seq when it belongs to the stream that is read.
    pub(crate) fn seq_of(&self, id: Option<&Id>) -> Option<u64> {
        let (of, seq) = id?.stream_and_seq()?;
        (self.stream.as_deref() == Some(of)).then_some(seq)
    }

    /// Takes a complete event over, unless it is a repeat or leaves a gap. `id` is `None` when the event has none, and
    /// an empty one takes back the last.
    pub(crate) fn advance(&mut self, id: Option<Id>, seq: Option<u64>) -> Step {
        if let (Some(seq), Some(last)) = (seq, self.last_seq) {
            if seq <= last {
                return Step::Repeat;
            }
            if seq != last + 1 {
                return Step::Gap(last + 1);
            }
        }
        self.last_seq = seq.or(self.last_seq);
        if let Some(id) = id {
            self.last_id = Some(id).filter(|id| !id.as_str().is_empty());
        }
        Step::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_the_form_have_a_seq() {
        for (id, seq) in [
            ("a.1-12", Some(("a", 12))),
            ("a.b.1-1", Some(("a.b", 1))),
            ("7", None),
            ("a.1-", None),
            ("a.-1", None),
            (".1-1", None),
            ("a.1-+1", None),
            ("a.1-99999999999999999999999", None),
        ] {
            assert_eq!(Id::from(id).stream_and_seq(), seq, "{id}");
        }
    }

    #[test]
    fn repeats_and_gaps_do_not_move_it() {
        let mut position = Position { stream: Some("s".into()), last_seq: Some(0), last_id: None };
        let mut step = |id: &str| {
            let id = Id::from(id);
            let seq = position.seq_of(Some(&id));
            (position.advance(Some(id), seq), position.last_seq)
        };
        assert_eq!(step("s.1-1"), (Step::Fresh, Some(1)));
        assert_eq!(step("s.1-1"), (Step::Repeat, Some(1)));
        assert_eq!(step("s.1-3"), (Step::Gap(2), Some(1)));
        assert_eq!(step("s.2-2"), (Step::Fresh, Some(2)));
        assert_eq!(step("other.1-9"), (Step::Fresh, Some(2)));
    }

    #[test]
    fn ids_last_until_they_are_replaced_or_taken_back() {
        let mut position = Position::default();
        position.advance(Some("7".into()), None);
        position.advance(None, None);
        assert_eq!(position.last_id, Some("7".into()));
        position.advance(Some("".into()), None);
        assert_eq!(position.last_id, None);
        // Somebody who begins in the middle has no gap.
        assert_eq!(position.advance(None, Some(40)), Step::Fresh);
        assert_eq!(position.advance(None, Some(42)), Step::Gap(41));
    }
}
