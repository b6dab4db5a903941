//! Seeded text that reads like an answer.

use std::{collections::VecDeque, str::FromStr};

use fastrand::Rng;

mod words;

use words::Words;

/// What the text is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    Chinese,
    Japanese,
    German,
    Spanish,
    Emoji,
    Code,
    Markdown,
    Mix,
}

impl FromStr for Language {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Ok(match name {
            "en" => Self::English,
            "zh" => Self::Chinese,
            "ja" => Self::Japanese,
            "de" => Self::German,
            "es" => Self::Spanish,
            "emoji" => Self::Emoji,
            "code" => Self::Code,
            "md" => Self::Markdown,
            "mix" => Self::Mix,
            _ => return Err(()),
        })
    }
}

/// An endless row of token-like pieces.
pub(crate) struct Pieces {
    rng: Rng,
    language: Language,
    ready: VecDeque<String>,
    paragraphs: usize,
}

impl Pieces {
    pub(crate) fn new(seed: u64, language: Language) -> Self {
        Self { rng: Rng::with_seed(seed), language, ready: VecDeque::new(), paragraphs: 0 }
    }

    fn paragraph(&mut self) -> String {
        // A mixed answer opens in English, as most do, and then wanders.
        let wander = [
            Language::English,
            Language::Markdown,
            Language::Chinese,
            Language::Code,
            Language::German,
            Language::Emoji,
            Language::Spanish,
            Language::Japanese,
        ];
        let language = match self.language {
            Language::Mix if self.paragraphs == 0 => Language::English,
            Language::Mix => wander[self.rng.usize(..wander.len())],
            fixed => fixed,
        };
        let rng = &mut self.rng;
        let text = match language {
            Language::Chinese => prose(rng, &words::CHINESE),
            Language::Japanese => prose(rng, &words::JAPANESE),
            Language::German => prose(rng, &words::GERMAN),
            Language::Spanish => prose(rng, &words::SPANISH),
            Language::Emoji => emoji(rng),
            Language::Code => code(rng),
            Language::Markdown => markdown(rng),
            Language::English | Language::Mix => prose(rng, &words::ENGLISH),
        };
        let gap = if self.paragraphs == 0 { "" } else { "\n\n" };
        self.paragraphs += 1;
        format!("{gap}{text}")
    }
}

impl Iterator for Pieces {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if self.ready.is_empty() {
            let paragraph = self.paragraph();
            self.ready.extend(pieces(&paragraph).map(str::to_owned));
        }
        self.ready.pop_front()
    }
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

fn sentence(rng: &mut Rng, words: &Words) -> String {
    let mut text = String::new();
    if rng.u8(..4) == 0 {
        text.push_str(pick(rng, words.openings));
    }
    for (at, part) in [words.subjects, words.verbs, words.objects].into_iter().enumerate() {
        if at > 0 || !text.is_empty() {
            text.push_str(words.space);
        }
        text.push_str(pick(rng, part));
    }
    if rng.bool() {
        text.push_str(words.space);
        text.push_str(pick(rng, words.tails));
    }
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().collect::<String>()).unwrap_or_default();
    first + letters.as_str() + words.stop
}

fn prose(rng: &mut Rng, words: &Words) -> String {
    let sentences: Vec<_> = (0..rng.usize(2..6)).map(|_| sentence(rng, words)).collect();
    sentences.join(words.space)
}

fn emoji(rng: &mut Rng) -> String {
    let mut text = sentence(rng, &words::ENGLISH);
    for _ in 0..rng.usize(1..4) {
        text.push(' ');
        text.push_str(pick(rng, words::EMOJI));
    }
    text
}

fn markdown(rng: &mut Rng) -> String {
    let mut text = format!("## {}\n\n", pick(rng, words::HEADINGS));
    if rng.u8(..3) == 0 {
        text.push_str("| Part | Share |\n| --- | ---: |\n");
        for _ in 0..3 {
            text.push_str(&format!("| {} | {} % |\n", pick(rng, words::ENGLISH.subjects), rng.u8(1..100)));
        }
        return text.trim_end().to_owned();
    }
    for number in 1..rng.usize(3..6) {
        let line = sentence(rng, &words::ENGLISH);
        text.push_str(&format!("{number}. **{}**: {line}\n", pick(rng, words::HEADINGS)));
    }
    text.trim_end().to_owned()
}

fn code(rng: &mut Rng) -> String {
    let (language, lines) = words::CODE[rng.usize(..words::CODE.len())];
    format!("```{language}\n{lines}\n```")
}

/// Cuts text into pieces of the size of tokens: a space goes with the word after it, words break after five letters,
/// characters of scripts without spaces come in ones and twos. The pieces joined are the text.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let piece = &rest[..piece_length(rest)?];
        rest = &rest[piece.len()..];
        Some(piece)
    })
}

fn piece_length(text: &str) -> Option<usize> {
    let mut letters = 0;
    for (at, letter) in text.char_indices() {
        let ends = if at == 0 {
            false
        } else if letter.is_whitespace() {
            true
        } else if letter.is_ascii_alphanumeric() || ('\u{c0}'..'\u{250}').contains(&letter) {
            letters >= 5
        } else {
            letters > 0 || at >= 4
        };
        if ends {
            return Some(at);
        }
        letters += usize::from(letter.is_alphanumeric());
    }
    (!text.is_empty()).then_some(text.len())
}

/// A hash that is the same on every machine and in every version (FNV-1a).
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_joined_are_the_text() {
        for text in [
            "",
            " ",
            "Hello, wonderful world!",
            "万物皆流，无物常驻。",
            "a\n\n```rust\nfn x() {}\n```",
            "🌊🌊🌊 é",
        ] {
            let cut: Vec<_> = pieces(text).collect();
            assert_eq!(cut.concat(), text);
            assert!(cut.iter().all(|piece| !piece.is_empty() && piece.len() <= 16), "{cut:?}");
        }
        let words: Vec<_> = pieces("the river flows").collect();
        assert_eq!(words, ["the", " river", " flows"]);
    }

    #[test]
    fn the_same_seed_gives_the_same_text_in_every_language() {
        for name in ["en", "zh", "ja", "de", "es", "emoji", "code", "md", "mix"] {
            let language = name.parse().unwrap();
            let text = |seed| Pieces::new(seed, language).take(500).collect::<String>();
            assert_eq!(text(1), text(1));
            assert_ne!(text(1), text(2), "{name}");
        }
    }

    #[test]
    fn a_mixed_answer_has_many_scripts() {
        let text: String = Pieces::new(3, Language::Mix).take(5_000).collect();
        assert!(text.contains("```") && text.contains("**") && text.contains('的') && text.contains('ü'));
        assert!(text.chars().any(|letter| letter as u32 > 0x1_f000), "emoji");
    }
}
