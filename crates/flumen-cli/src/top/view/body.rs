//! The tables of each view, and how they share the screen.

use ratatui::{Frame, layout::Rect};

use super::{Palette, State, View, grid, length, take};
use crate::top::{sheet::Sheet, tables};

/// A title and two rows: with less of each, fewer tables say more.
const LEAST: u16 = 3;

pub(super) fn draw(frame: &mut Frame, mut area: Rect, state: &State, palette: Palette) {
    let snapshot = &state.snapshot;
    let sheets: Vec<Sheet> = match state.view {
        View::Overview => overview(state, area.height),
        View::Streams => vec![tables::streams(snapshot)],
        View::Tenants => vec![tables::tenants(snapshot)],
        View::Pools => vec![tables::pools(snapshot), tables::upstreams(snapshot)],
    };
    let wanted: Vec<u16> = sheets.iter().map(|sheet| length(sheet.rows.len() + 1)).collect();
    let heights = share_out(&wanted, area.height);
    // What is left over sets the tables apart.
    let left = area.height.saturating_sub(heights.iter().sum());
    let apart = u16::from(left + 1 >= length(sheets.len()));
    for (sheet, height) in sheets.iter().zip(heights) {
        grid::draw(frame, take(&mut area, height), sheet, state.selected.as_ref(), palette);
        take(&mut area, apart);
    }
}

/// All tables, or on a small screen those that tell most.
fn overview(state: &State, room: u16) -> Vec<Sheet> {
    let snapshot = &state.snapshot;
    let all = [
        (2, tables::pools(snapshot)),
        (0, tables::upstreams(snapshot)),
        (3, tables::tenants(snapshot)),
        (1, tables::streams(snapshot)),
    ];
    let fit = (room / LEAST).max(1);
    all.into_iter().filter(|(rank, _)| *rank < fit).map(|(_, sheet)| sheet).collect()
}

/// Gives every table what it wants if there is enough, and else the same to all that want more.
fn share_out(wanted: &[u16], room: u16) -> Vec<u16> {
    let mut heights = vec![0; wanted.len()];
    let mut left = room;
    while left > 0 {
        let hungry: Vec<usize> = (0..wanted.len()).filter(|at| heights[*at] < wanted[*at]).collect();
        let Some(each) = left.checked_div(length(hungry.len())) else { break };
        for at in hungry {
            let more = (wanted[at] - heights[at]).min(each.max(1)).min(left);
            heights[at] += more;
            left -= more;
        }
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::share_out;

    #[test]
    fn tables_share_the_screen() {
        for (wanted, room, heights) in [
            (vec![3, 4, 5], 20, vec![3, 4, 5]),
            (vec![3, 100, 3, 100], 20, vec![3, 7, 3, 7]),
            (vec![100, 100], 5, vec![3, 2]),
            (vec![100, 100], 1, vec![1, 0]),
            (vec![1, 1], 0, vec![0, 0]),
            (vec![], 5, vec![]),
        ] {
            assert_eq!(share_out(&wanted, room), heights, "{wanted:?} in {room}");
        }
    }
}
