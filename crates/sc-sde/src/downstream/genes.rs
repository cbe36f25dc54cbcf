use std::path::Path;

use candle_core::{Device, Tensor};
use ndarray::{Array2, ArrayView2, Axis};
use sc_data::RowSource;
use sc_model::tensors::{self, Metadata};
use sc_preprocess::{Pca, Scaler};

use super::arrays::{array, check_places};
use crate::error::invalid;
use crate::{Error, Result};

/// Cells that are read and projected at a time.
const ROWS: usize = 1024;
/// Names that an error proposes instead of an unknown one.
const PROPOSED: usize = 5;
/// What a saved space says it is.
const FORMAT: &str = "sc-sde gene space 1";

/// The way from expression to the space in which cells move, and back: `z = ((x - mean) / scale - offset) C^T`, with
/// the principal components `C` of scaled expression, fitted on the cells that the model was trained with. Saved beside the
/// model, so that nobody has to find the same components again.
///
/// A simulated cell is brought back by `x = (z C + offset) scale + mean`, negative numbers being set to 0. Moving a gene from
/// one z-score to another moves a cell by the difference times the gene's column of `C`.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneSpace {
    genes: Vec<String>,
    mean: Vec<f64>,
    scale: Vec<f64>,
    offset: Vec<f64>,
    components: Array2<f32>,
}

impl GeneSpace {
    /// `components` is `[D, genes]`; the others have a number for each gene.
    ///
    /// # Errors
    /// [`Error::Shape`] if the numbers of genes differ, [`Error::Empty`] without genes, [`Error::InvalidSetting`] if a gene
    /// occurs twice or a scale isn't above 0, [`Error::NotFinite`].
    pub fn new(
        genes: Vec<String>,
        (mean, scale): (Vec<f64>, Vec<f64>),
        offset: Vec<f64>,
        components: Array2<f32>,
    ) -> Result<Self> {
        check_places("the components", components.view())?;
        let n = components.ncols();
        for (what, found) in [
            ("the genes", genes.len()),
            ("the means of genes", mean.len()),
            ("the scales of genes", scale.len()),
            ("the offsets of components", offset.len()),
        ] {
            if found != n {
                return Err(Error::Shape {
                    what,
                    found: vec![found],
                    expected: format!("[{n}], one for each gene of the components"),
                });
            }
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = genes.iter().find(|g| !seen.insert(g.as_str())) {
            return Err(invalid(
                "genes",
                format!("\"{twice}\" twice"),
                "each gene once",
            ));
        }
        if let Some(bad) = scale.iter().find(|s| !(**s > 0.0 && s.is_finite())) {
            return Err(invalid("scale", bad, "numbers above 0"));
        }
        let bad = |v: &Vec<f64>| v.iter().position(|v| !v.is_finite());
        if let Some(column) = bad(&mean).or(bad(&offset)) {
            return Err(Error::NotFinite {
                what: "the means of genes",
                row: 0,
                column,
                value: f64::NAN,
            });
        }
        Ok(Self {
            genes,
            mean,
            scale,
            offset,
            components,
        })
    }

    /// From components and, if expression was scaled before they were found, the scaler (one that centres and doesn't cut off).
    ///
    /// # Errors
    /// As [`GeneSpace::new`].
    pub fn from_pca(genes: Vec<String>, scaler: Option<&Scaler>, pca: &Pca) -> Result<Self> {
        let n = pca.mean.len();
        let scaling = match scaler {
            Some(s) => (s.mean.clone(), s.deviation.clone()),
            None => (vec![0.0; n], vec![1.0; n]),
        };
        Self::new(genes, scaling, pca.mean.clone(), pca.components.clone())
    }

    /// The genes.
    pub fn genes(&self) -> &[String] {
        &self.genes
    }

    /// Dimensions of the space.
    pub fn dim(&self) -> usize {
        self.components.nrows()
    }

    /// The components, `[D, genes]`.
    pub fn components(&self) -> ArrayView2<'_, f32> {
        self.components.view()
    }

    /// The number of a gene.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] with the genes whose names are nearest if there is no such gene.
    pub fn gene(&self, name: &str) -> Result<usize> {
        if let Some(found) = self.genes.iter().position(|g| g == name) {
            return Ok(found);
        }
        let mut near: Vec<(usize, &String)> = self
            .genes
            .iter()
            .map(|g| (distance(&g.to_lowercase(), &name.to_lowercase()), g))
            .collect();
        near.sort();
        let near: Vec<&str> = near.iter().take(PROPOSED).map(|n| n.1.as_str()).collect();
        Err(invalid(
            "gene",
            format!("\"{name}\""),
            format!(
                "it is not among the {} genes of the model; names like it are {}",
                self.genes.len(),
                near.join(", ")
            ),
        ))
    }

    /// The places of some cells, `[rows, D]`, from their expression over [`GeneSpace::genes`].
    ///
    /// # Errors
    /// [`Error::Shape`] if the expression has other genes, and those of the source.
    pub fn project(&self, expression: &dyn RowSource, rows: &[usize]) -> Result<Array2<f32>> {
        self.check(expression)?;
        let mut places = Array2::zeros((rows.len(), self.dim()));
        let blocks = places.axis_chunks_iter_mut(Axis(0), ROWS);
        for (mut out, rows) in blocks.zip(rows.chunks(ROWS)) {
            let mut scaled = expression.read_rows(rows)?.to_dense();
            for mut cell in scaled.rows_mut() {
                for (g, v) in cell.iter_mut().enumerate() {
                    *v = (self.z_score(g, f64::from(*v)) - at(&self.offset, g)) as f32;
                }
            }
            out.assign(&scaled.dot(&self.components.t()));
        }
        Ok(places)
    }

    /// The z-scores of some genes in some cells, `[rows, genes]`.
    ///
    /// # Errors
    /// As [`GeneSpace::project`].
    pub fn z_scores(
        &self,
        expression: &dyn RowSource,
        rows: &[usize],
        genes: &[usize],
    ) -> Result<Array2<f64>> {
        self.check(expression)?;
        let mut all = Array2::zeros((rows.len(), genes.len()));
        let blocks = all.axis_chunks_iter_mut(Axis(0), ROWS);
        for (mut out, rows) in blocks.zip(rows.chunks(ROWS)) {
            let block = expression.read_rows(rows)?.to_dense();
            for (mut out, cell) in out.rows_mut().into_iter().zip(block.rows()) {
                for (out, &g) in out.iter_mut().zip(genes) {
                    *out = self.z_score(g, cell.get(g).copied().map_or(0.0, f64::from));
                }
            }
        }
        Ok(all)
    }

    /// The z-score of an expression of gene number `g`.
    pub fn z_score(&self, g: usize, expression: f64) -> f64 {
        (expression - at(&self.mean, g)) / self.scale.get(g).copied().unwrap_or(1.0)
    }

    /// Expression of cells at places `[cells, D]`, `[cells, genes]`, negative numbers set to 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if the places have another number of dimensions.
    pub fn to_genes(&self, places: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        if places.ncols() != self.dim() {
            return Err(Error::Shape {
                what: "the places of cells",
                found: places.shape().to_vec(),
                expected: format!("[cells, {}], as the components", self.dim()),
            });
        }
        let mut genes = places.dot(&self.components);
        for mut cell in genes.rows_mut() {
            for (g, v) in cell.iter_mut().enumerate() {
                let scaled = f64::from(*v) + at(&self.offset, g);
                let scale = self.scale.get(g).copied().unwrap_or(1.0);
                *v = (scaled * scale + at(&self.mean, g)).max(0.0) as f32;
            }
        }
        Ok(genes)
    }

    /// Writes the space to a file.
    ///
    /// # Errors
    /// If the disk refuses; the file is whole or as it was.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let vector = |v: &[f64]| Tensor::new(v, &Device::Cpu);
        let components: Vec<f32> = self.components.iter().copied().collect();
        let components = Tensor::from_vec(components, self.components.dim(), &Device::Cpu)?;
        let all = [
            ("mean".to_owned(), vector(&self.mean)?),
            ("scale".to_owned(), vector(&self.scale)?),
            ("offset".to_owned(), vector(&self.offset)?),
            ("components".to_owned(), components),
        ];
        let genes = serde_json::Value::from(self.genes.clone()).to_string();
        let metadata = Metadata::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("genes".to_owned(), genes),
        ]);
        Ok(tensors::write(path.as_ref(), &all, &metadata)?)
    }

    /// Reads what [`GeneSpace::save`] wrote.
    ///
    /// # Errors
    /// If it can't be read, or is something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (all, metadata) = tensors::read(path, &Device::Cpu)?;
        let wrong = |reason: String| {
            Error::Model(sc_model::Error::Format {
                path: path.to_owned(),
                reason,
            })
        };
        if metadata.get("format").map(String::as_str) != Some(FORMAT) {
            return Err(wrong(format!("is not a gene space (\"{FORMAT}\")")));
        }
        let tensor = |name: &str| {
            let found = all.get(name);
            found.ok_or_else(|| wrong(format!("has no tensor \"{name}\"")))
        };
        let vector = |name: &str| -> Result<Vec<f64>> { Ok(tensor(name)?.to_vec1()?) };
        let genes = tensors::json_entry(path, &metadata, "genes")?;
        let components = tensor("components")?;
        let components = array(
            components.dims2()?,
            components.flatten_all()?.to_vec1::<f32>()?,
        )?;
        let scaling = (vector("mean")?, vector("scale")?);
        Self::new(genes, scaling, vector("offset")?, components)
    }

    fn check(&self, expression: &dyn RowSource) -> Result<()> {
        match expression.n_cols() == self.genes.len() {
            true => Ok(()),
            false => Err(Error::Shape {
                what: "the expression of cells",
                found: vec![expression.n_rows(), expression.n_cols()],
                expected: format!(
                    "[cells, {}]: the genes of the components, in their order",
                    self.genes.len()
                ),
            }),
        }
    }
}

fn at(v: &[f64], i: usize) -> f64 {
    v.get(i).copied().unwrap_or(0.0)
}

/// How many letters must be put in, taken out or changed to make one name of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, y) in row.iter_mut().skip(1).zip(&b) {
            let changed = diagonal + usize::from(x != *y);
            diagonal = *slot;
            left = changed.min(left + 1).min(*slot + 1);
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests {
    use ndarray::array;
    use sc_preprocess::{ScaleOptions, pca};
    use sc_tensor::Rng;

    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|g| format!("Gene{g}")).collect()
    }

    /// Expression of 60 cells over 8 genes, and the space of all its components.
    pub(in crate::downstream) fn space() -> (Array2<f32>, GeneSpace) {
        let mut values = vec![0f32; 60 * 8];
        Rng::new(3).stream("x").fill_uniform(0.0, 4.0, &mut values);
        let x = Array2::from_shape_vec((60, 8), values).unwrap();
        let scaler = Scaler::fit(&x, ScaleOptions::default()).unwrap();
        let csr = sc_data::Csr::from_dense(&x);
        let scaled = scaler.to_dense(&csr).unwrap();
        let pca = pca(&scaled, 8, 0).unwrap();
        let space = GeneSpace::from_pca(names(8), Some(&scaler), &pca).unwrap();
        let rows: Vec<usize> = (0..60).collect();
        let found = space.project(&x, &rows).unwrap();
        let apart = (&found - &pca.scores).mapv(f32::abs);
        assert!(apart.iter().all(|d| *d < 1e-4), "the scores of the PCA");
        (x, space)
    }

    #[test]
    fn there_and_back() {
        let (x, space) = space();
        let places = space.project(&x, &[5, 1]).unwrap();
        let back = space.to_genes(places.view()).unwrap();
        for (found, expected) in back.row(0).iter().zip(x.row(5)) {
            assert!((found - expected).abs() < 1e-4);
        }
        let z = space.z_scores(&x, &[5], &[2]).unwrap();
        assert!((z[[0, 0]] - space.z_score(2, f64::from(x[[5, 2]]))).abs() < 1e-12);
        // Far away, expression would be negative.
        let far = space.to_genes((&places * 100.0).view()).unwrap();
        assert!(far.iter().all(|v| *v >= 0.0));
        assert!(space.to_genes(array![[0.0f32]].view()).is_err());
        assert!(space.project(&array![[0.0f32]], &[0]).is_err());
    }

    #[test]
    fn saved_and_read() {
        let (_, space) = space();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("genes.safetensors");
        space.save(&path).unwrap();
        assert_eq!(GeneSpace::load(&path).unwrap(), space);
        std::fs::write(&path, b"nothing").unwrap();
        assert!(GeneSpace::load(&path).is_err());
    }

    #[test]
    fn unknown_genes_are_answered_with_names_like_them() {
        let (_, space) = space();
        assert_eq!(space.gene("Gene3").unwrap(), 3);
        let e = space.gene("GENE33").unwrap_err().to_string();
        assert!(e.contains("like it are Gene3,"), "{e}");
        assert_eq!((distance("gfi1", "gfi1b"), distance("irf8", "mpo")), (1, 4));
        assert_eq!(distance("", "ab"), 2);
    }

    #[test]
    fn bad_spaces_are_refused() {
        let new = |genes: &[&str], mean: f64, scale: f64| {
            let genes: Vec<String> = genes.iter().map(|g| (*g).to_owned()).collect();
            let n = genes.len();
            let scaling = (vec![mean; n], vec![scale; n]);
            GeneSpace::new(genes, scaling, vec![0.0; n], array![[1.0f32, 2.0]])
        };
        assert!(new(&["a", "b"], 0.0, 1.0).is_ok());
        assert!(new(&["a", "a"], 0.0, 1.0).is_err());
        assert!(new(&["a"], 0.0, 1.0).is_err());
        assert!(new(&["a", "b"], 0.0, 0.0).is_err());
        assert!(new(&["a", "b"], f64::NAN, 1.0).is_err());
    }
}
