//! Prose without end, in several languages, from a small grammar.

mod chinese;
mod code;
mod emoji;
mod english;
mod german;
mod japanese;
mod spanish;

use fastrand::Rng;

use crate::{hash::mix, pieces};

/// How many of the last words are kept from coming again.
const RECENT: usize = 8;

/// What an answer is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// That of the prompt.
    Auto,
    English,
    Chinese,
    German,
    Spanish,
    Japanese,
    /// English with emoji.
    Emoji,
    Code,
    /// Headings, lists, tables and quotations in English.
    Markdown,
    /// A bit of everything.
    Mix,
}

impl Language {
    /// The names, for the message about a wrong one.
    pub(crate) const EXPECTED: &str = "auto, en, zh, de, es, ja, emoji, code, md or mix";

    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "auto" => Self::Auto,
            "en" => Self::English,
            "zh" => Self::Chinese,
            "de" => Self::German,
            "es" => Self::Spanish,
            "ja" => Self::Japanese,
            "emoji" => Self::Emoji,
            "code" => Self::Code,
            "md" => Self::Markdown,
            "mix" => Self::Mix,
            _ => return None,
        })
    }

    /// The language that a text seems to be in, by the letters that only some languages have.
    pub(crate) fn of(text: &str) -> Self {
        let has = |letters: fn(char) -> bool| text.chars().any(letters);
        if has(|c| ('\u{3040}'..='\u{30ff}').contains(&c)) {
            Self::Japanese
        } else if has(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)) {
            Self::Chinese
        } else if has(|c| "äöüßÄÖÜ".contains(c)) {
            Self::German
        } else if has(|c| "¿¡ñáéíóúÑ".contains(c)) {
            Self::Spanish
        } else {
            Self::English
        }
    }

    /// This language, or in place of [`Auto`](Self::Auto) the prompt's.
    pub(crate) fn or(self, prompt: Self) -> Self {
        if self == Self::Auto { prompt } else { self }
    }
}

/// The words of a language and the patterns they are put in.
///
/// In patterns and words, `~x` stands for a word of the list `x`, `~X` for one with a capital, and `~d` for a number.
/// Every language has the lists `h` (headings), `k` (keywords), `i` (introductions of a list) and `c` (column titles).
struct Lexicon {
    sentences: &'static [&'static str],
    lists: &'static [(char, &'static [&'static str])],
    /// What stands between sentences.
    gap: &'static str,
}

const LEXICONS: [&Lexicon; 6] = [
    &english::LEXICON,
    &chinese::LEXICON,
    &german::LEXICON,
    &spanish::LEXICON,
    &japanese::LEXICON,
    &emoji::LEXICON,
];

/// A text without end that comes in pieces; the same seed and language make the same text.
#[derive(Debug)]
pub(crate) struct Prose {
    rng: Rng,
    language: Language,
    block: String,
    at: usize,
    /// The words last chosen, which are not chosen again at once, and the place of the oldest.
    recent: [&'static str; RECENT],
    oldest: usize,
}

impl Prose {
    pub(crate) fn new(language: Language, seed: u64) -> Self {
        // Mixed, because neighbouring seeds would begin alike.
        let rng = Rng::with_seed(mix(seed));
        Self { rng, language, block: String::new(), at: 0, recent: [""; RECENT], oldest: 0 }
    }

    /// The next piece of the text.
    pub(crate) fn next(&mut self) -> &str {
        if self.at == self.block.len() {
            self.block.clear();
            self.at = 0;
            self.compose();
        }
        let rest = &self.block[self.at..];
        let piece = &rest[..pieces::first(rest)];
        self.at += piece.len();
        piece
    }

    /// Whether the text could end here: after a sentence, a line or a whole block of code.
    pub(crate) fn is_at_rest(&self) -> bool {
        let (done, rest) = self.block.split_at(self.at);
        if done.starts_with("```") || done.starts_with('|') {
            return !rest.is_empty() && rest.trim_start().is_empty();
        }
        let mut back = done.chars().rev();
        let ends_sentence = matches!(back.next(), Some('.' | '!' | '?' | '。' | '！' | '？'));
        rest.starts_with('\n') || (ends_sentence && back.next().is_some_and(|c| !c.is_ascii_digit()))
    }

    fn compose(&mut self) {
        let roll = self.rng.u8(..20);
        match self.language {
            Language::English | Language::Auto => self.plain(&english::LEXICON, roll),
            Language::Chinese => self.plain(&chinese::LEXICON, roll),
            Language::German => self.plain(&german::LEXICON, roll),
            Language::Spanish => self.plain(&spanish::LEXICON, roll),
            Language::Japanese => self.plain(&japanese::LEXICON, roll),
            Language::Emoji => self.plain(&emoji::LEXICON, roll),
            Language::Code => self.code(),
            Language::Markdown => self.markdown(&english::LEXICON),
            Language::Mix => {
                let lexicon = *self.any(&LEXICONS);
                match roll {
                    ..3 => self.code(),
                    3..9 => self.markdown(lexicon),
                    _ => self.paragraph(lexicon),
                }
            }
        }
        self.block.push_str("\n\n");
    }

    fn plain(&mut self, lexicon: &Lexicon, roll: u8) {
        if roll < 5 { self.markdown(lexicon) } else { self.paragraph(lexicon) }
    }

    fn paragraph(&mut self, lexicon: &Lexicon) {
        for sentence in 0..self.rng.u8(2..=5) {
            if sentence > 0 {
                self.block.push_str(lexicon.gap);
            }
            self.sentence(lexicon);
        }
    }

    fn markdown(&mut self, lexicon: &Lexicon) {
        match self.rng.u8(..8) {
            ..3 => {
                self.expand(lexicon, "## ~H\n\n");
                self.paragraph(lexicon);
            }
            3..6 => self.list(lexicon),
            6 => self.table(lexicon),
            _ => {
                self.block.push_str("> ");
                self.sentence(lexicon);
            }
        }
    }

    fn list(&mut self, lexicon: &Lexicon) {
        self.expand(lexicon, "~i\n");
        let numbered = self.rng.bool();
        for number in 1..=self.rng.u8(3..=5) {
            self.block.push('\n');
            if numbered {
                self.block.push_str(&number.to_string());
                self.block.push('.');
            } else {
                self.block.push('-');
            }
            self.expand(lexicon, " **~K** – ");
            self.sentence(lexicon);
        }
    }

    fn table(&mut self, lexicon: &Lexicon) {
        self.expand(lexicon, "| ~C | ~H | ~C |\n|---|---|---:|");
        for _ in 0..self.rng.u8(3..=5) {
            self.expand(lexicon, "\n| **~K** | ~H | ~d |");
        }
    }

    fn code(&mut self) {
        // Within one block a name stays the same wherever it stands; only numbers differ.
        let mut block = (*self.any(code::LEXICON.sentences)).to_owned();
        for (slot, words) in code::LEXICON.lists {
            block = block.replace(&format!("~{slot}"), self.any::<&str>(words));
        }
        self.expand(&code::LEXICON, &block);
    }

    fn sentence(&mut self, lexicon: &Lexicon) {
        let pattern = *self.any(lexicon.sentences);
        self.expand(lexicon, pattern);
    }

    fn expand(&mut self, lexicon: &Lexicon, pattern: &str) {
        let mut parts = pattern.split('~');
        self.block.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let mut rest = part.chars();
            let Some(slot) = rest.next() else { continue };
            let start = self.block.len();
            if slot == 'd' {
                let number = self.rng.u16(2..=960);
                self.block.push_str(&number.to_string());
            } else if let Some((_, words)) =
                lexicon.lists.iter().find(|(list, _)| *list == slot.to_ascii_lowercase())
            {
                let word = self.word(words);
                self.expand(lexicon, word);
                if slot.is_ascii_uppercase() {
                    self.capitalise(start);
                }
            }
            self.block.push_str(rest.as_str());
        }
    }

    fn capitalise(&mut self, at: usize) {
        if let Some(small) = self.block[at..].chars().next().filter(|c| c.is_lowercase()) {
            let capital: String = small.to_uppercase().collect();
            self.block.replace_range(at..at + small.len_utf8(), &capital);
        }
    }

    /// A word that did not come lately, if a few tries find one.
    fn word(&mut self, words: &[&'static str]) -> &'static str {
        let mut word = *self.any(words);
        for _ in 0..3 {
            if !self.recent.contains(&word) {
                break;
            }
            word = *self.any(words);
        }
        self.recent[self.oldest] = word;
        self.oldest = (self.oldest + 1) % RECENT;
        word
    }

    fn any<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.rng.usize(..choices.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(language: Language, seed: u64, tokens: usize) -> String {
        let mut prose = Prose::new(language, seed);
        (0..tokens).map(|_| prose.next().to_owned()).collect()
    }

    #[test]
    fn a_seed_makes_a_text() {
        assert_eq!(text(Language::Mix, 3, 500), text(Language::Mix, 3, 500));
        assert_ne!(text(Language::Mix, 3, 500), text(Language::Mix, 4, 500));
    }

    #[test]
    fn a_prompt_is_answered_in_its_language() {
        for (prompt, language) in [
            ("Tell me about the river.", Language::English),
            ("讲讲河流", Language::Chinese),
            ("川について話して", Language::Japanese),
            ("Erzähl mir vom Fluss", Language::German),
            ("¿Qué es un río?", Language::Spanish),
        ] {
            assert_eq!(Language::of(prompt), language);
            assert_eq!(
                (Language::Auto.or(language), Language::Code.or(language)),
                (language, Language::Code)
            );
        }
    }

    #[test]
    fn every_slot_has_a_list() {
        for lexicon in LEXICONS.into_iter().chain([&code::LEXICON]) {
            let words = lexicon.lists.iter().flat_map(|(_, words)| *words);
            for pattern in words.chain(lexicon.sentences) {
                for part in pattern.split('~').skip(1) {
                    let slot = part.chars().next().unwrap().to_ascii_lowercase();
                    let known = slot == 'd' || lexicon.lists.iter().any(|(list, _)| *list == slot);
                    assert!(known, "~{slot} in {pattern}");
                }
            }
        }
        for lexicon in LEXICONS {
            for list in "hkic".chars() {
                assert!(lexicon.lists.iter().any(|(known, _)| *known == list), "{list}");
            }
        }
    }

    #[test]
    fn languages_look_like_themselves() {
        let count = |language, belongs: fn(char) -> bool| {
            text(language, 1, 4000).chars().filter(|c| belongs(*c)).count()
        };
        assert!(count(Language::Chinese, |c| ('\u{4e00}'..='\u{9fff}').contains(&c)) > 3000);
        assert!(count(Language::Japanese, |c| ('\u{3040}'..='\u{30ff}').contains(&c)) > 1500);
        assert!(count(Language::German, |c| "äöüß".contains(c)) > 100);
        assert!(count(Language::Spanish, |c| "áéíóúñ".contains(c)) > 100);
        assert!(count(Language::Emoji, |c| c > '\u{1f300}') > 100);
        let markdown = text(Language::Markdown, 1, 4000);
        for mark in ["\n## ", "\n- **", "\n1. **", "\n> ", "|---"] {
            assert!(markdown.contains(mark), "{mark}");
        }
        assert!(text(Language::Code, 1, 4000).contains("```rust\n"));
        assert!(!text(Language::Mix, 1, 100_000).contains('~'));
    }
}
