//! Plain tables for terminals.

use std::fmt;

/// Rows of text under headings, each column as wide as its widest cell.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

/// Wider cells are cut, with an ellipsis.
const MAX_WIDTH: usize = 60;

impl Table {
    pub(crate) fn new<S: Into<String> + Clone>(headings: &[S]) -> Table {
        Table { rows: vec![headings.iter().cloned().map(Into::into).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }
}

/// A text of somebody else's for a terminal. Control characters would let the name of a process or a file move the
/// cursor of whoever looks, and those that turn the direction of writing let it look like another one.
pub(crate) fn printable(text: &str) -> String {
    let is_hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().flat_map(|c| if is_hostile(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

fn cut(cell: &str) -> String {
    if cell.chars().count() <= MAX_WIDTH {
        return cell.to_owned();
    }
    cell.chars().take(MAX_WIDTH - 1).chain(['…']).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let last = columns.saturating_sub(1);
        // The last column has the rest of the line, so it needs no cut.
        let cell = |column: usize, text: &str| if column < last { cut(text) } else { text.to_owned() };
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|text| cell(column, text).chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells = row
                .iter()
                .enumerate()
                .map(|(column, text)| format!("{:<1$}", cell(column, text), widths[column]));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Table, printable};

    #[test]
    fn hostile_cells_neither_break_lines_nor_move_the_cursor() {
        let mut table = Table::new(&["name", "args"]);
        table.row(["a\n\x1b[2J".to_owned(), "x".to_owned()]);
        assert_eq!(table.to_string(), "name          args\na\\n\\u{1b}[2J  x\n");
        assert_eq!(
            printable("a\u{202e}gpj.exe\u{2069}\u{9b}2J äö"),
            "a\\u{202e}gpj.exe\\u{2069}\\u{9b}2J äö"
        );
    }
}
