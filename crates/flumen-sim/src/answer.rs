//! The content of one answer, event by event.

use crate::{
    directives::{Length, Plan},
    pieces,
    text::Prose,
};

/// Where the pieces of an answer come from.
#[derive(Debug)]
enum Source {
    Prose(Prose, Ending),
    Given { text: String, at: usize },
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Never,
    /// At the first sentence that ends at or after `from` tokens, but at `to` in any case.
    Between {
        from: u64,
        to: u64,
    },
}

/// The content of one answer, as a model would come up with it.
#[derive(Debug)]
pub(crate) struct Answer {
    source: Source,
    /// Tokens per event.
    chunk: u32,
    /// Bytes that the text of an event has at least.
    size: usize,
    cap: u64,
    tokens: u64,
    /// Tokens that were said before.
    skipped: u64,
    /// What is left of the piece in which that ended.
    rest: String,
    finished: bool,
}

impl Answer {
    /// Prose of the planned length and language, of at most `cap` tokens.
    pub(crate) fn prose(plan: &Plan, seed: u64, cap: Option<u64>) -> Self {
        let ending = match plan.length {
            Length::Endless => Ending::Never,
            Length::Exactly(tokens) => Ending::Between { from: tokens.into(), to: tokens.into() },
            Length::Plausible => Ending::Between { from: 80 + crate::hash::mix(seed) % 120, to: 240 },
        };
        Self::new(Source::Prose(Prose::new(plan.language, seed), ending), plan, cap)
    }

    /// A given text, of which at most `cap` tokens.
    pub(crate) fn given(plan: &Plan, text: String, cap: Option<u64>) -> Self {
        Self::new(Source::Given { text, at: 0 }, plan, cap)
    }

    fn new(source: Source, plan: &Plan, cap: Option<u64>) -> Self {
        let cap = cap.unwrap_or(u64::MAX);
        let (chunk, size) = (plan.chunk, plan.size);
        let mut answer =
            Self { source, chunk, size, cap, tokens: 0, skipped: 0, rest: String::new(), finished: false };
        answer.look_ahead();
        answer
    }

    /// Leaves the text as it is, whatever the plan says about its size.
    pub(crate) fn unpadded(mut self) -> Self {
        self.size = 0;
        self
    }

    /// Goes on after what was said before, however it is worded: as many bytes are left out.
    pub(crate) fn skip(&mut self, spoken: &str) {
        let mut left = spoken.len();
        while left > 0 && !self.finished {
            let mut piece = String::new();
            self.next_piece(&mut piece);
            if piece.len() > left {
                let at = piece.ceil_char_boundary(left);
                self.rest = piece.split_off(at);
            }
            left = left.saturating_sub(piece.len());
        }
        self.skipped = self.tokens;
    }

    /// Tokens so far, without those that were said before.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens - self.skipped
    }

    /// Whether there is nothing more to come.
    pub(crate) fn is_over(&self) -> bool {
        self.finished && self.rest.is_empty() || self.tokens() >= self.cap
    }

    /// The reason for which the answer is over: `normal`, or that it was too long.
    pub(crate) fn finish_reason(&self, normal: &'static str) -> &'static str {
        if self.finished { normal } else { "length" }
    }

    /// Puts the text of the next event in place of what is in `text`.
    pub(crate) fn next_event(&mut self, text: &mut String) {
        text.clear();
        for _ in 0..self.chunk {
            if self.is_over() {
                break;
            }
            self.next_piece(text);
        }
        for _ in text.len()..self.size {
            text.push('.');
        }
    }

    fn next_piece(&mut self, text: &mut String) {
        if !self.rest.is_empty() {
            text.push_str(&self.rest);
            self.rest.clear();
            return;
        }
        match &mut self.source {
            Source::Prose(prose, _) => text.push_str(prose.next()),
            Source::Given { text: given, at } => {
                let piece = &given[*at..][..pieces::first(&given[*at..])];
                text.push_str(piece);
                *at += piece.len();
            }
        }
        self.tokens += 1;
        self.look_ahead();
    }

    fn look_ahead(&mut self) {
        self.finished = match &self.source {
            Source::Given { text, at } => *at == text.len(),
            Source::Prose(_, Ending::Never) => false,
            Source::Prose(prose, Ending::Between { from, to }) => {
                self.tokens >= *to || (self.tokens >= *from && prose.is_at_rest())
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    fn read(mut answer: Answer) -> (Vec<String>, Answer) {
        let (mut events, mut text) = (Vec::new(), String::new());
        while !answer.is_over() {
            answer.next_event(&mut text);
            events.push(text.clone());
        }
        (events, answer)
    }

    fn plan(model: &str) -> Plan {
        Plan::new(&Settings::default(), model, "").unwrap()
    }

    #[test]
    fn lengths_are_kept() {
        let (events, answer) = read(Answer::prose(&plan("sim:tokens=10,chunk=4"), 1, None));
        assert_eq!((events.len(), answer.tokens(), answer.finish_reason("stop")), (3, 10, "stop"));
        let (events, answer) = read(Answer::prose(&plan("sim:tokens=endless"), 1, Some(7)));
        assert_eq!((events.len(), answer.finish_reason("stop")), (7, "length"));
        assert!(read(Answer::prose(&plan("sim:tokens=0"), 1, None)).0.is_empty());
        for seed in 0..300 {
            let (events, answer) = read(Answer::prose(&plan("sim"), seed, None));
            assert!((80..=240).contains(&answer.tokens()));
            let end = events.last().unwrap();
            assert!(!end.contains('\n') || answer.tokens() == 240, "{seed}: {end:?}");
        }
    }

    #[test]
    fn a_given_text_comes_whole() {
        let text = "Die Fähre 🚢 legt um 12:30 ab – 请注意。\n";
        let (events, _) = read(Answer::given(&plan("sim"), text.to_owned(), None));
        assert_eq!(events.concat(), text);
        assert!(events.len() > 8);
        assert!(read(Answer::given(&plan("sim"), String::new(), None)).0.is_empty());
    }

    #[test]
    fn an_answer_goes_on_after_any_part_of_it() {
        for model in ["sim:tokens=40", "sim:lang=zh,tokens=30", "sim"] {
            let (events, answer) = read(Answer::prose(&plan(model), 5, None));
            let whole = events.concat();
            for at in (0..=whole.len()).filter(|at| whole.is_char_boundary(*at)) {
                let mut rest = Answer::prose(&plan(model), 5, None);
                rest.skip(&whole[..at]);
                let (events, rest) = read(rest);
                assert_eq!(events.concat(), whole[at..], "{model} {at}");
                assert!(rest.tokens() <= answer.tokens());
                assert_eq!(rest.finish_reason("stop"), "stop");
            }
        }
        let mut rest = Answer::prose(&plan("sim:tokens=40"), 5, Some(3));
        rest.skip("twelve bytes");
        assert_eq!(read(rest).1.tokens(), 3);
    }

    #[test]
    fn padding_fills_every_event() {
        let (events, _) = read(Answer::prose(&plan("sim:size=100,tokens=9"), 1, None));
        assert!(events.iter().all(|event| event.len() == 100));
    }
}
