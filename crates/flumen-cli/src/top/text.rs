//! Names and figures as a terminal may show them.

use std::fmt::{self, Write};

use ratatui::{style::Style, text::Span};
use serde::Deserialize;

/// Text of the server. What it shows can command no terminal; what it is goes back to the server alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Text(String);

impl Text {
    /// As the server sent it.
    pub(super) fn raw(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| {
            f.write_char(if is_unsafe(character) { char::REPLACEMENT_CHARACTER } else { character })
        })
    }
}

/// What commands a terminal, or makes one line look like another: controls, line ends and changes of direction.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// What stands where nothing is known.
pub(super) const UNKNOWN: &str = "-";

/// A text that may be missing.
pub(super) fn name(text: Option<&Text>) -> String {
    text.map_or_else(|| UNKNOWN.to_owned(), Text::to_string)
}

/// How many columns a text takes.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// As much of a text as goes into so many columns, with a mark where some of it is missing.
pub(super) fn shorten(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    let (mut short, mut taken) = (String::new(), 0);
    for grapheme in Span::raw(text).styled_graphemes(Style::new()) {
        taken += width(grapheme.symbol);
        if taken > room {
            break;
        }
        short.push_str(grapheme.symbol);
    }
    short.push('…');
    short
}

/// A text in exactly so many columns.
pub(super) fn fill(text: &str, columns: usize, right: bool) -> String {
    let short = shorten(text, columns);
    let rest = " ".repeat(columns.saturating_sub(width(&short)));
    if right { rest + &short } else { short + &rest }
}

/// A time in milliseconds, in at most six columns for a hundred days.
pub(super) fn span(millis: f64) -> String {
    let seconds = millis / 1000.0;
    match whole(seconds) {
        _ if millis < 999.5 => format!("{millis:.0}ms"),
        0..60 if seconds < 59.95 => format!("{seconds:.1}s"),
        0..3600 => format!("{}m{:02}s", whole(seconds) / 60, whole(seconds) % 60),
        all @ 3600..86_400 => format!("{}h{:02}m", all / 3600, all % 3600 / 60),
        all => format!("{}d{:02}h", all / 86_400, all % 86_400 / 3600),
    }
}

/// A time that may not be known yet.
pub(super) fn maybe_span(millis: Option<f64>) -> String {
    millis.map_or_else(|| UNKNOWN.to_owned(), span)
}

/// How many.
pub(super) fn count(number: u64) -> String {
    if number < 100_000 {
        number.to_string()
    } else {
        scaled(number, 1000.0, &["", "k", "M", "G", "T", "P", "E"])
    }
}

/// How many bytes.
pub(super) fn bytes(number: u64) -> String {
    scaled(number, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn scaled(number: u64, step: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (number as f64, 0);
    while value >= step && unit + 1 < units.len() {
        (value, unit) = (value / step, unit + 1);
    }
    if unit == 0 { format!("{number}{}", units[0]) } else { format!("{value:.1}{}", units[unit]) }
}

/// How often in a second.
pub(super) fn rate(per_second: f64) -> String {
    if per_second < 99.95 { format!("{per_second:.1}") } else { count(whole(per_second.round())) }
}

/// A share between 0 and 1.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 9.95 { format!("{percent:.1}%") } else { format!("{percent:.0}%") }
}

/// A part of a whole; nothing of nothing is nothing.
#[expect(clippy::cast_precision_loss, reason = "a share is shown with three digits")]
pub(super) fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

/// A bar of so many columns for a share between 0 and 1.
pub(super) fn bar(share: f64, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let all = u64::try_from(columns).unwrap_or(u64::MAX).saturating_mul(8);
    #[expect(clippy::cast_precision_loss, reason = "no terminal is that wide")]
    let eighths = whole((share.clamp(0.0, 1.0) * all as f64).round()).min(all);
    let full = usize::try_from(eighths / 8).unwrap_or(columns);
    let rest = EIGHTHS[usize::try_from(eighths % 8).unwrap_or_default()];
    fill(&("█".repeat(full) + rest), columns, false)
}

/// The whole part of a number that is not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
pub(super) fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_command_a_terminal() {
        let text = Text::from("a\x1b[31mb\u{9b}2J\r\n\t\u{7f}\u{202e}c\u{2028}🌊");
        assert_eq!(
            text.to_string(),
            "a\u{fffd}[31mb\u{fffd}2J\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}c\u{fffd}🌊"
        );
    }

    #[test]
    fn texts_are_cut_by_what_they_take_on_the_screen() {
        for (text, columns, short) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("万物皆流", 8, "万物皆流"),
            ("万物皆流", 7, "万物皆…"),
            ("万物皆流", 6, "万物…"),
            ("万", 1, "…"),
            ("x", 0, ""),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
        ] {
            assert_eq!(shorten(text, columns), short, "{text} in {columns}");
            assert_eq!(width(&fill(text, columns, true)), columns, "{text} in {columns}");
        }
    }

    #[test]
    fn figures_are_short() {
        let spans =
            [0.0, 999.4, 999.6, 59_940.0, 59_960.0, 61_000.0, 3_600_000.0, 90_000_000.0, f64::MAX, -1.0];
        let shown: Vec<String> = spans.into_iter().take(8).map(span).collect();
        assert_eq!(shown, ["0ms", "999ms", "1.0s", "59.9s", "0m59s", "1m01s", "1h00m", "1d01h"]);
        assert_eq!([99_999, 100_000, 1_234_567].map(count), ["99999", "100.0k", "1.2M"]);
        assert_eq!([5, 81_920, u64::MAX].map(bytes), ["5B", "80.0KiB", "16.0EiB"]);
        assert_eq!([0.0, 12.34, 1234.5].map(rate), ["0.0", "12.3", "1235"]);
        assert_eq!([0.0, 0.003, 0.66, 1.0].map(percent), ["0%", "0.3%", "66%", "100%"]);
        assert_eq!(
            [-1.0, 0.0, 0.5, 0.66, 7.0].map(|share| bar(share, 4)),
            ["    ", "    ", "██  ", "██▋ ", "████"]
        );
    }
}
