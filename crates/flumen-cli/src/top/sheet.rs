//! A table before it is drawn: what the view and the plain output share.

use super::text::{Text, width};

/// What a cell means. It goes with words: not every terminal, and not every eye, has colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Dim,
    Good,
    Warn,
    Bad,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
    /// A share that is drawn as a bar before the text.
    pub(super) bar: Option<f64>,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone, bar: None }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text.to_string(), Tone::Plain)
    }
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// The higher, the earlier it goes when there is no room.
    rank: u8,
    pub(super) form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A figure, which is nothing without its last digit.
    Figure,
    /// A name, which may be shortened.
    Name,
    /// A word of the API: it is short.
    Word,
    /// A bar and its figure.
    Bar,
}

/// A short name for the tables' definitions.
pub(super) const fn column(title: &'static str, rank: u8, form: Form) -> Column {
    Column { title, rank, form }
}

/// What an operator can point at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Stream(Text),
    Upstream(Text),
    /// A tenant and its pool.
    Tenant(Text, Option<Text>),
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) cells: Vec<Cell>,
    pub(super) target: Option<Target>,
}

#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Row>,
}

/// Between two columns.
pub(super) const GAP: usize = 2;

/// The least that is left of a name, and the most that the word or figure of an unknown gateway takes.
const LEAST_NAME: usize = 8;
const MOST_WORD: usize = 14;
/// What a bar takes besides its figure.
const LEAST_BAR: usize = 7;
const MOST_BAR: usize = 17;

impl Sheet {
    /// How wide a column would like to be.
    pub(super) fn natural(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.cells.get(column)).map(|cell| width(&cell.text));
        let title = self.columns.get(column).map_or(0, |column| width(column.title));
        cells.chain([title]).max().unwrap_or_default()
    }

    /// Which columns there is room for, and how wide they are.
    pub(super) fn fit(&self, room: usize) -> Vec<(usize, usize)> {
        let mut by_rank: Vec<usize> = (0..self.columns.len()).collect();
        by_rank.sort_by_key(|column| self.columns[*column].rank);
        let mut fitting: Vec<(usize, usize, usize)> = Vec::new();
        let mut left = room;
        for column in by_rank {
            let natural = self.natural(column);
            let (least, most) = match self.columns[column].form {
                Form::Figure | Form::Word => (natural.min(MOST_WORD), natural.min(MOST_WORD)),
                Form::Name => (natural.min(LEAST_NAME), natural),
                Form::Bar => (natural + LEAST_BAR, natural + MOST_BAR),
            };
            let gap = if fitting.is_empty() { 0 } else { GAP };
            let least = if fitting.is_empty() { least.min(room) } else { least };
            if least + gap > left {
                // What matters less does not take the place of what matters more.
                break;
            }
            left -= least + gap;
            fitting.push((column, least, most));
        }
        // Bit by bit: a name that is endless shall not keep another from being whole.
        while left > 0 && fitting.iter().any(|(_, width, most)| width < most) {
            for (_, width, most) in &mut fitting {
                if width < most && left > 0 {
                    (*width, left) = (*width + 1, left - 1);
                }
            }
        }
        fitting.sort_unstable();
        fitting.into_iter().map(|(column, width, _)| (column, width)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] =
        [column("NAME", 0, Form::Name), column("STATE", 2, Form::Word), column("AGE", 1, Form::Figure)];

    fn sheet() -> Sheet {
        let cells = ["a-very-long-name", "up", "1h02m"].map(Cell::from).to_vec();
        Sheet { columns: &COLUMNS, rows: vec![Row { cells, target: None }] }
    }

    #[test]
    fn what_matters_less_makes_room_for_what_matters_more() {
        for (room, fit) in [
            (100, vec![(0, 16), (1, 5), (2, 5)]),
            (22, vec![(0, 8), (1, 5), (2, 5)]),
            (21, vec![(0, 14), (2, 5)]),
            (14, vec![(0, 14)]),
            (3, vec![(0, 3)]),
            (0, vec![(0, 0)]),
        ] {
            assert_eq!(sheet().fit(room), fit, "{room}");
        }
    }
}
