//! Cutting text into pieces like those of a model's tokenizer.

/// Longest input, in bytes, whose pieces are counted; of longer ones they are extrapolated.
const COUNTED: usize = 64 << 10;

/// The length in bytes of the first piece of a text: 0 only for the empty text.
///
/// A piece is a word or a part of one with the space before it, one or two Chinese or Japanese characters, up to three
/// digits, one emoji, a run of line breaks, or a run of one kind of punctuation.
pub(crate) fn first(text: &str) -> usize {
    // A single space belongs to what follows it; of several, all but the last stand alone.
    let spaces = text.len() - text.trim_start_matches(' ').len();
    if spaces > 1 {
        return if spaces == text.len() { spaces } else { (spaces - 1).min(16) };
    }
    let rest = &text[spaces..];
    let Some(c) = rest.chars().next() else { return spaces };
    spaces
        + match kind(c) {
            Kind::Letter => word(rest),
            Kind::Ideograph => {
                let takes_two = u32::from(c) % 3 != 0;
                let next =
                    rest[c.len_utf8()..].chars().next().filter(|n| takes_two && kind(*n) == Kind::Ideograph);
                c.len_utf8() + next.map_or(0, char::len_utf8)
            }
            Kind::Digit => run(rest, 3, |c| kind(c) == Kind::Digit),
            Kind::Break => run(rest, 2, |c| kind(c) == Kind::Break),
            Kind::Mark => run(rest, 4, |next| next == c),
            Kind::Symbol => symbol(rest),
        }
}

/// About how many pieces a text has.
pub(crate) fn count(text: &str) -> u64 {
    let counted = if text.len() > COUNTED { &text[..text.floor_char_boundary(COUNTED)] } else { text };
    let (mut rest, mut pieces) = (counted, 0_u64);
    while !rest.is_empty() {
        rest = &rest[first(rest)..];
        pieces += 1;
    }
    if counted.len() < text.len() { pieces * text.len() as u64 / counted.len() as u64 } else { pieces }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Ideograph,
    Digit,
    Break,
    Mark,
    /// Emoji and the like.
    Symbol,
}

fn kind(c: char) -> Kind {
    match c {
        'a'..='z' | 'A'..='Z' => Kind::Letter,
        '0'..='9' => Kind::Digit,
        '\n' | '\r' => Kind::Break,
        _ if c.is_ascii() => Kind::Mark,
        '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' => Kind::Ideograph,
        '\u{2000}'..='\u{206f}' | '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ff0f}' => Kind::Mark,
        _ if c.is_alphabetic() => Kind::Letter,
        _ => Kind::Symbol,
    }
}

/// A word up to six letters long, or the first four letters of a longer one.
fn word(text: &str) -> usize {
    let mut fourth = 0;
    for (letters, (at, c)) in text.char_indices().enumerate() {
        if kind(c) != Kind::Letter {
            return at;
        }
        match letters {
            4 => fourth = at,
            6 => return fourth,
            _ => {}
        }
    }
    text.len()
}

fn run(text: &str, most: usize, belongs: impl Fn(char) -> bool) -> usize {
    text.chars().take(most).take_while(|c| belongs(*c)).map(char::len_utf8).sum()
}

/// An emoji with all that is joined to it: variations, skin tones, joined emoji, the other half of a flag.
fn symbol(text: &str) -> usize {
    let is_flag = |c: char| ('\u{1f1e6}'..='\u{1f1ff}').contains(&c);
    let mut last = None;
    for (index, (at, c)) in text.char_indices().enumerate() {
        let joined = match last {
            None | Some('\u{200d}') => true,
            Some(last) => {
                matches!(c, '\u{fe0f}' | '\u{200d}' | '\u{20e3}' | '\u{1f3fb}'..='\u{1f3ff}')
                    || (index == 1 && is_flag(last) && is_flag(c))
            }
        };
        if !joined || index == 12 {
            return at;
        }
        last = Some(c);
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(mut text: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        while !text.is_empty() {
            let (piece, rest) = text.split_at(first(text));
            pieces.push(piece);
            text = rest;
        }
        pieces
    }

    #[test]
    fn pieces_look_like_tokens() {
        assert_eq!(cut("The lighthouse, 12345"), ["The", " ligh", "thouse", ",", " 123", "45"]);
        assert_eq!(cut("    let x = 1;\n\n"), ["   ", " let", " x", " =", " 1", ";", "\n\n"]);
        assert_eq!(cut("河水很慢。"), ["河水", "很", "慢", "。"]);
        assert_eq!(cut("Größe 👩‍🚀👍🏽🇩🇪!"), ["Größe", " 👩‍🚀", "👍🏽", "🇩🇪", "!"]);
        assert_eq!(cut("  "), ["  "]);
        assert_eq!(cut("\u{200d}\u{fe0f}\0\u{300}").concat(), "\u{200d}\u{fe0f}\0\u{300}");
    }

    #[test]
    fn long_texts_are_extrapolated() {
        let text = "word ".repeat(100_000);
        let pieces = count(&text);
        assert!((99_000..=101_000).contains(&pieces), "{pieces}");
        assert_eq!(count(""), 0);
    }
}
