//! One table on the screen.

use std::ops::Range;

use ratatui::{
    Frame,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
};

use super::{Palette, put};
use crate::top::{
    sheet::{Cell, Form, GAP, Sheet, Target},
    text::{bar, fill, width},
};

/// Before every row; the selected one has a mark here, which needs no colours.
const MARK: usize = 2;

/// Draws a table, with the selected row in sight.
pub(super) fn draw(
    frame: &mut Frame,
    area: Rect,
    sheet: &Sheet,
    selected: Option<&Target>,
    palette: Palette,
) {
    let Some(room) = usize::from(area.height).checked_sub(1) else { return };
    let widths = sheet.fit(usize::from(area.width).saturating_sub(MARK));
    let chosen = sheet.rows.iter().position(|row| selected.is_some() && row.target.as_ref() == selected);
    let first = chosen.map_or(0, |chosen| (chosen + 1).saturating_sub(room));
    let shown = sheet.rows.iter().skip(first).take(room);
    let mut lines =
        vec![header(sheet, &widths, usize::from(area.width), first..(first + room).min(sheet.rows.len()))];
    for row in shown {
        let is_selected = selected.is_some() && row.target.as_ref() == selected;
        let mut spans = vec![Span::raw(if is_selected { "> " } else { "  " })];
        for (column, width) in &widths {
            let Some(cell) = row.cells.get(*column) else { continue };
            let text = content(cell, *width, sheet.columns[*column].form);
            spans.push(Span::styled(text, palette.style(cell.tone)));
            spans.push(Span::raw(" ".repeat(GAP)));
        }
        let weight = if is_selected { Modifier::REVERSED } else { Modifier::empty() };
        lines.push(Line::from(spans).style(Style::new().add_modifier(weight)));
    }
    put(frame, area, lines);
}

/// The titles, and at the end which rows are in sight, where that is not all.
fn header(sheet: &Sheet, widths: &[(usize, usize)], columns: usize, shown: Range<usize>) -> Line<'static> {
    let mut text = " ".repeat(MARK);
    for (column, width) in widths {
        let column = &sheet.columns[*column];
        text += &fill(column.title, *width, column.form == Form::Figure);
        text += &" ".repeat(GAP);
    }
    let all = sheet.rows.len();
    if shown.len() < all {
        let rows = format!(" {}-{}/{all}", shown.start + 1, shown.end);
        text = fill(&text, columns.saturating_sub(width(&rows)), false) + &rows;
    }
    Span::styled(text, Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)).into()
}

fn content(cell: &Cell, columns: usize, form: Form) -> String {
    match (form, cell.bar) {
        (Form::Bar, Some(share)) if columns > 8 => {
            let figure = width(&cell.text).max(4).min(columns);
            bar(share, columns - figure - 1) + " " + &fill(&cell.text, figure, true)
        }
        _ => fill(&cell.text, columns, matches!(form, Form::Figure | Form::Bar)),
    }
}
