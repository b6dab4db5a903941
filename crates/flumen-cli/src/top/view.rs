//! From the state to the screen. Nothing here asks anybody, and nothing here fails, however small the screen.

use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Sparkline, SparklineBar},
};
use tokio::time::Instant;

use super::{
    sheet::Tone,
    state::{Mode, State, View},
    text::{rate, shorten, width},
};

mod body;
mod grid;
mod head;
mod help;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame, state: &State, now: Instant) {
    let mut area = frame.area();
    let palette = Palette { colours: state.colours };
    let tall = area.height >= 16;
    let head = head::lines(state, now, palette, area.width, if tall { 3 } else { 2 });
    put(frame, take(&mut area, length(head.len())), head);
    if tall {
        let height = if area.height >= 40 { 3 } else { 1 };
        sparkline(frame, take(&mut area, height), state);
    }
    put(frame, take(&mut area, 1), vec![tabs(state)]);
    let foot = take_last(&mut area);
    put(frame, foot, vec![footer(state, palette, foot.width)]);
    body::draw(frame, area, state, palette);
    if state.mode == Mode::Help {
        help::draw(frame);
    }
}

/// How tones look. Without colours they differ by weight at most; the words beside them say the same.
#[derive(Clone, Copy, Debug)]
struct Palette {
    colours: bool,
}

impl Palette {
    fn style(self, tone: Tone) -> Style {
        let colour = |colour| if self.colours { Style::new().fg(colour) } else { Style::new() };
        match tone {
            Tone::Plain => Style::new(),
            Tone::Dim => Style::new().add_modifier(Modifier::DIM),
            Tone::Good => colour(Color::Green),
            Tone::Warn => colour(Color::Yellow),
            Tone::Bad => colour(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// Cuts lines off the top of an area, as many as there are.
fn take(area: &mut Rect, lines: u16) -> Rect {
    let lines = lines.min(area.height);
    let taken = Rect { height: lines, ..*area };
    (area.y, area.height) = (area.y + lines, area.height - lines);
    taken
}

/// Cuts the last line off an area.
fn take_last(area: &mut Rect) -> Rect {
    let height = area.height.min(1);
    area.height -= height;
    Rect { y: area.y + area.height, height, ..*area }
}

fn put(frame: &mut Frame, area: Rect, lines: Vec<Line>) {
    frame.render_widget(Paragraph::new(lines), area);
}

fn length(lines: usize) -> u16 {
    u16::try_from(lines).unwrap_or(u16::MAX)
}

/// Tokens per second over the last minute.
fn sparkline(frame: &mut Frame, area: Rect, state: &State) {
    let label = "tokens/s, last minute ";
    let columns = area.width.saturating_sub(length(width(label)) + 9).min(120);
    if columns < 10 {
        return;
    }
    let line = state.history.tokens(columns);
    let most = line.iter().flatten().max().copied();
    put(frame, area, vec![Span::styled(label, Style::new().add_modifier(Modifier::DIM)).into()]);
    let x = area.x + length(width(label));
    let bars = line.into_iter().map(SparklineBar::from);
    // A bar of nothing has no width of its own: the scale keeps at least one token.
    let widget =
        Sparkline::default().data(bars).max(most.unwrap_or_default().max(1)).absent_value_symbol(" ");
    frame.render_widget(widget, Rect { x, width: columns, ..area });
    if let Some(most) = most {
        #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
        let most = format!(" ≤{}", rate(most as f64));
        put(
            frame,
            Rect { x: x + columns, width: area.width - (x - area.x) - columns, ..area },
            vec![most.into()],
        );
    }
}

fn tabs(state: &State) -> Line<'static> {
    let mut tabs = Vec::new();
    for (number, view) in (1..).zip(View::ALL) {
        let chosen = view == state.view;
        let style = if chosen { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        let mark = if chosen { '*' } else { ' ' };
        tabs.push(Span::styled(format!("{number}{mark}{} ", view.title()), style));
    }
    tabs.into()
}

/// A question, what came of the last key, or what keys there are.
fn footer(state: &State, palette: Palette, columns: u16) -> Line<'static> {
    let columns = usize::from(columns);
    match (&state.mode, &state.notice) {
        (Mode::Asking { question, .. }, _) => {
            let answers = " [y/n]";
            let question = shorten(question, columns.saturating_sub(width(answers)));
            Span::styled(question + answers, Style::new().add_modifier(Modifier::REVERSED)).into()
        }
        (_, Some((notice, tone))) => Span::styled(shorten(notice, columns), palette.style(*tone)).into(),
        _ => {
            let keys = match columns {
                76.. => "q quit  tab view  up/down select  s stop  d drain  o breaker  p pause  ? help",
                30.. => "q quit  tab view  p pause  ? help",
                _ => "q quit  ? help",
            };
            Span::styled(keys, palette.style(Tone::Dim)).into()
        }
    }
}

#[cfg(test)]
mod tests;
