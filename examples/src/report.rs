//! A table in plain text.

use std::fmt::Write as _;
use std::path::Path;

/// Writes rows of a table to a file, tab-separated below headings.
///
/// # Errors
/// If the file can't be written.
pub fn write_tsv<const N: usize>(
    path: impl AsRef<Path>,
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> std::io::Result<()> {
    let mut text = headings.join("\t") + "\n";
    for row in rows {
        text += &(row.join("\t") + "\n");
    }
    std::fs::write(path, text)
}

/// Columns of text, aligned when printed: the first to the left, the others to the right.
///
/// ```
/// use sc_examples::report::Table;
///
/// let mut table = Table::new(&["", "before", "after"]);
/// table.numbers("ELBO", &[-812.04, -540.1], 1);
/// assert!(table.to_string().ends_with("-812.0  -540.1\n"));
/// ```
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|&h| h.to_owned()).collect()],
        }
    }

    /// Adds a row of numbers with so many decimals.
    pub fn numbers(&mut self, name: &str, values: &[f64], decimals: usize) {
        let values = values.iter().map(|v| format!("{v:.decimals$}"));
        self.rows
            .push(std::iter::once(name.to_owned()).chain(values).collect());
    }

    /// The width of each column in characters.
    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| {
            self.rows
                .iter()
                .filter_map(|r| r.get(c))
                .map(|t| t.chars().count())
                .max()
        };
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
                writeln!(
                    f,
                    "  {}",
                    "-".repeat(
                        widths
                            .iter()
                            .map(|w| w + 2)
                            .sum::<usize>()
                            .saturating_sub(2)
                    )
                )?;
            }
        }
        Ok(())
    }
}
