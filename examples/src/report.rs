//! A table in plain text.

use std::fmt::Write as _;

/// Columns of text, aligned when printed: the first to the left, the others to the right.
///
/// ```
/// use sc_examples::report::Table;
///
/// let mut table = Table::new(&["", "before", "after"]);
/// table.row(&["ELBO", "-812.0", "-540.1"]);
/// assert_eq!(table.to_string().lines().count(), 3);
/// ```
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&h| h.to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row<S: AsRef<str>>(&mut self, cells: &[S]) {
        self.rows.push(cells.iter().map(|c| c.as_ref().to_owned()).collect());
    }

    /// The width of each column in characters.
    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| self.rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max();
        (0..columns).map(|c| width(c).unwrap_or(0)).collect()
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let widths = self.widths();
        for (i, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (c, (text, &width)) in row.iter().zip(&widths).enumerate() {
                match c {
                    0 => write!(line, "  {text:<width$}")?,
                    _ => write!(line, "  {text:>width$}")?,
                }
            }
            writeln!(f, "{}", line.trim_end())?;
            if i == 0 {
                writeln!(f, "  {}", "-".repeat(widths.iter().map(|w| w + 2).sum::<usize>().saturating_sub(2)))?;
            }
        }
        Ok(())
    }
}
