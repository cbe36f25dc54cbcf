//! Rows of several files side by side.

use std::ops::Range;

use sc_data::{Columns, Csr, RowSource};

/// Rows of a source, and which of them each cell has.
type Part<'a> = (Columns<Box<dyn RowSource + 'a>>, &'a [Option<usize>]);

/// Rows of several sources side by side; a cell may be in some of them only.
pub(super) struct Joined<'a> {
    pub(super) parts: Vec<Part<'a>>,
    pub(super) n_rows: usize,
    pub(super) n_cols: usize,
}

impl Joined<'_> {
    fn check(&self, rows: &[usize]) -> sc_data::Result<()> {
        match rows.iter().find(|&&r| r >= self.n_rows) {
            None => Ok(()),
            Some(&index) => Err(sc_data::Error::OutOfRange {
                what: "row",
                index,
                len: self.n_rows,
            }),
        }
    }
}

impl RowSource for Joined<'_> {
    fn n_rows(&self) -> usize {
        self.n_rows
    }

    fn n_cols(&self) -> usize {
        self.n_cols
    }

    fn read_ahead(&self, rows: &[usize]) {
        for (source, places) in &self.parts {
            let place = |r: &usize| places.get(*r).copied().flatten();
            source.read_ahead(&rows.iter().filter_map(place).collect::<Vec<_>>());
        }
    }

    fn read_rows(&self, rows: &[usize]) -> sc_data::Result<Csr> {
        self.check(rows)?;
        let mut blocks = Vec::with_capacity(self.parts.len());
        for (source, places) in &self.parts {
            let place = |&r: &usize| places.get(r).copied().flatten();
            let wanted: Vec<usize> = rows.iter().filter_map(place).collect();
            blocks.push((source.read_rows(&wanted)?, places));
        }
        let (mut indptr, mut indices, mut data) = (vec![0], Vec::new(), Vec::new());
        let mut next = vec![0; blocks.len()];
        for &row in rows {
            for ((block, places), next) in blocks.iter().zip(&mut next) {
                if places.get(row).is_some_and(Option::is_some) {
                    let (columns, values) = block.row(*next);
                    indices.extend_from_slice(columns);
                    data.extend_from_slice(values);
                    *next += 1;
                }
            }
            indptr.push(indices.len());
        }
        // Columns of several files may lie between each other; this sorts them.
        Csr::new(rows.len(), self.n_cols, indptr, indices, data)
    }

    fn read_range(&self, rows: Range<usize>) -> sc_data::Result<Csr> {
        self.read_rows(&rows.collect::<Vec<_>>())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_files_are_joined() {
        let rna = Csr::from_dense(&ndarray::array![[1.0f32, 2.0], [3.0, 0.0]]);
        let protein = Csr::from_dense(&ndarray::array![[7.0f32], [8.0]]);
        let boxed = |m: Csr| Box::new(m) as Box<dyn RowSource>;
        // Features: a protein between two genes. Cells: RNA only, both, protein only.
        let genes = Columns::new(boxed(rna), vec![Some(1), None, Some(0)]).unwrap();
        let proteins = Columns::new(boxed(protein), vec![None, Some(0), None]).unwrap();
        let (a, b) = ([Some(0), Some(1), None], [None, Some(1), Some(0)]);
        let joined = Joined {
            parts: vec![(genes, &a), (proteins, &b)],
            n_rows: 3,
            n_cols: 3,
        };
        let expected = ndarray::array![[0.0f32, 7.0, 0.0], [0.0, 8.0, 3.0], [2.0, 0.0, 1.0]];
        assert_eq!(joined.read_rows(&[2, 1, 0]).unwrap().to_dense(), expected);
        assert!(joined.read_range(1..4).is_err());
    }
}
