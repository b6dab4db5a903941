//! One look, as text: for scripts, reports, and terminals that are none.

use std::fmt::{self, Write};

use super::{
    figures::figures,
    model::Snapshot,
    sheet::{Form, GAP, Sheet},
    tables,
    text::fill,
};

/// Everything, as tables whose columns are two blanks or more apart.
pub(super) fn report(snapshot: &Snapshot) -> String {
    let mut report = String::new();
    let figures: Vec<String> = figures(snapshot, None).into_iter().map(|figure| figure.text).collect();
    report += &figures.join(" · ");
    report.push('\n');
    for sheet in [
        tables::pools(snapshot),
        tables::upstreams(snapshot),
        tables::tenants(snapshot),
        tables::streams(snapshot),
    ] {
        report.push('\n');
        // Writing to a string does not fail.
        let _ = table(&mut report, &sheet);
    }
    report
}

fn table(out: &mut String, sheet: &Sheet) -> fmt::Result {
    let widths: Vec<usize> = (0..sheet.columns.len()).map(|column| sheet.natural(column)).collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for ((cell, width), column) in cells.zip(&widths).zip(sheet.columns) {
            line += &fill(cell, *width, matches!(column.form, Form::Figure | Form::Bar));
            line += &" ".repeat(GAP);
        }
        writeln!(out, "{}", line.trim_end())
    };
    line(&mut sheet.columns.iter().map(|column| column.title))?;
    sheet.rows.iter().try_for_each(|row| line(&mut row.cells.iter().map(|cell| &*cell.text)))
}

#[cfg(test)]
mod tests {
    use super::{super::example, *};

    #[test]
    fn a_report_is_text_and_nothing_else() {
        let report = report(&example::snapshot());
        assert!(report.starts_with("flumen 0.1.0 · up 3h25m · 1 queued"), "{report}");
        assert!(!report.contains(|character: char| character.is_control() && character != '\n'), "{report}");
        for part in
            ["\nPOOL ", "\nUPSTREAM ", "\nTENANT ", "\nSTREAM ", "万物皆流", "66%", "3 ahead", "215ms"]
        {
            assert!(report.contains(part), "{part}: {report}");
        }
        assert!(report.lines().all(|line| line == line.trim_end()));
    }
}
