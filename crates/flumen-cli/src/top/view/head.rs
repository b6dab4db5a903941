//! The lines at the top: the gateway as a whole.

use ratatui::{
    style::{Modifier, Style},
    text::{Line, Span},
};
use tokio::time::Instant;

use super::{Palette, State, Tone, shorten, width};
use crate::top::{figures::figures, sheet::Cell, text::span};

/// Between two figures.
const BETWEEN: &str = " · ";

/// As many figures as go into so many lines, and why what is shown is old if it is.
pub(super) fn lines(
    state: &State,
    now: Instant,
    palette: Palette,
    columns: u16,
    most: usize,
) -> Vec<Line<'static>> {
    let columns = usize::from(columns);
    let mut figures = figures(&state.snapshot, state.history.rates());
    if state.paused {
        figures.insert(1, Cell::new("PAUSED", Tone::Warn));
    }
    figures.push(state.gateway.clone().into());
    let mut lines = flow(figures, palette, columns, most);
    if let Some(problem) = &state.problem {
        #[expect(clippy::cast_precision_loss, reason = "seconds are shown")]
        let age = span(state.age(now) as f64 * 1000.0);
        // How old comes first: on a small screen it is what is left.
        let text = shorten(&format!("! seen {age} ago: {problem}"), columns);
        lines.push(Span::styled(text, palette.style(Tone::Bad)).into());
    }
    lines
}

fn flow(figures: Vec<Cell>, palette: Palette, columns: usize, most: usize) -> Vec<Line<'static>> {
    let (mut lines, mut line, mut taken) = (Vec::new(), Line::default(), 0);
    for (at, figure) in figures.into_iter().enumerate() {
        let text = shorten(&figure.text, columns);
        let mut room = width(&text);
        if taken > 0 && taken + width(BETWEEN) + room > columns {
            lines.push(std::mem::take(&mut line));
            taken = 0;
        }
        if lines.len() == most {
            return lines;
        }
        if taken > 0 {
            line.push_span(Span::raw(BETWEEN));
            room += width(BETWEEN);
        }
        let weight = if at == 0 { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
        line.push_span(Span::styled(text, palette.style(figure.tone).patch(weight)));
        taken += room;
    }
    lines.push(line);
    lines
}
