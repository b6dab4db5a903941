//! The keys, over everything else.

use ratatui::{
    Frame,
    layout::Rect,
    widgets::{Block, Clear, Paragraph},
};

use super::{length, width};

const KEYS: [&str; 12] = [
    "q Esc Ctrl-C  quit",
    "Tab 1 2 3 4   another view",
    "up down       select",
    "PgUp PgDn     ten at once",
    "Home End      the first, the last",
    "s             stop the stream",
    "d             drain the upstream, or not",
    "o             open its breaker, or close it",
    "p             pause, and go on",
    "?             this",
    "",
    "any key goes back",
];

pub(super) fn draw(frame: &mut Frame) {
    let whole = frame.area();
    let widest = KEYS.iter().map(|line| width(line)).max().unwrap_or_default();
    let (columns, lines) = (length(widest + 4).min(whole.width), length(KEYS.len() + 2).min(whole.height));
    let area = Rect {
        x: whole.x + (whole.width - columns) / 2,
        y: whole.y + (whole.height - lines) / 2,
        width: columns,
        height: lines,
    };
    frame.render_widget(Clear, area);
    let text: Vec<_> = KEYS.iter().map(|line| format!(" {line}").into()).collect();
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(" keys ")), area);
}
