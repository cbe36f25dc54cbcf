use std::collections::HashMap;

use indexmap::IndexMap;
use ndarray::{Array1, Array2};
use sc_data::{AnnData, Annotation, Categorical, Matrix, Uns};

use super::GeneSums;
use super::statistics::GeneAdder;
use super::statistics::SCALED_TO;
use crate::{Error, Result};

/// Where the groups are described, in `uns`.
const UNS: &str = "sc_gene_statistics";
/// The kinds of sums, in the order of [`GeneSums`]; their arrays are in `varm`.
const SUMS: [&str; 3] = ["sum", "nonzero", "per_10k"];

/// Sums of raw counts by gene, kept when the counts were dropped, for each category of some columns of `obs` and for all
/// cells together.
///
/// | | where | shape |
/// |---|---|---|
/// | sums of counts | `varm["sc_counts_sum_by_KEY"]` | `[genes, categories + 1]` |
/// | numbers of cells with a count | `varm["sc_counts_nonzero_by_KEY"]` | the same |
/// | sums of counts scaled to 10,000 a cell | `varm["sc_counts_per_10k_by_KEY"]` | the same |
/// | the same over all cells | `varm["sc_counts_sum_all"]`, ... | `[genes, 1]` |
/// | categories, numbers of cells, digests of their names | `uns["sc_gene_statistics"]` | |
///
/// Sums and numbers of cells are in single precision if that holds them exactly, else in double; scaled sums are always in
/// single. The last column is of the cells without a value. A digest tells whether the cells that have a category now are those
/// that were summed: after a subset, a new annotation or a change of names, that category no longer counts as known.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredStatistics {
    /// The first is of all cells together.
    pub(super) groupings: Vec<Grouping>,
}

/// The sums over the categories of one column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grouping {
    /// The column; `None` for all cells together.
    pub(super) key: Option<String>,
    pub(super) categories: Vec<String>,
    /// Of each category, and of the cells without one.
    pub(super) sums: GeneSums,
    /// The group of each cell of these data, up to `categories.len()`.
    pub(super) codes: Vec<u32>,
    /// Whether the cells of a group are those that were summed.
    pub(super) is_whole: Vec<bool>,
    digests: Vec<i64>,
}

impl StoredStatistics {
    /// The columns whose categories are known.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.groupings.iter().filter_map(|g| g.key.as_deref())
    }

    /// The categories of a column, and the sums over the cells of each; one more, the last, is of the cells without one.
    pub fn by(&self, key: &str) -> Option<(&[String], &GeneSums)> {
        let found = self
            .groupings
            .iter()
            .find(|g| g.key.as_deref() == Some(key))?;
        Some((&found.categories, &found.sums))
    }

    /// The sums over all cells that were minified together.
    pub fn all(&self) -> Option<&GeneSums> {
        self.groupings.first().map(|g| &g.sums)
    }

    /// Bytes of the sums before compression, where single precision holds them.
    pub fn n_bytes(&self) -> u64 {
        let one = |g: &Grouping| 3 * 4 * g.sums.sum.len() as u64;
        self.groupings.iter().map(one).sum()
    }

    /// Reads what [`StoredStatistics::write`] wrote; `genes` gives for each gene of the model its row in the data.
    pub(crate) fn read(data: &AnnData, genes: Option<&[usize]>) -> Result<Option<Self>> {
        let Some(Uns::Dict(root)) = data.uns.get(UNS) else {
            return Ok(None);
        };
        let names: Vec<u64> = data.obs.index().iter().map(|n| digest(n)).collect();
        let mut groupings = vec![Grouping::read(data, None, root.get("all"), &names, genes)?];
        if let Some(Uns::Dict(by)) = root.get("by") {
            for (key, described) in by {
                // A column that is gone can't tell which cells are meant.
                if data.obs.get(key).is_some() {
                    groupings.push(Grouping::read(
                        data,
                        Some(key),
                        Some(described),
                        &names,
                        genes,
                    )?);
                }
            }
        }
        Ok(Some(Self { groupings }))
    }

    /// Groups of cells whose counts are to be summed.
    pub(super) fn prepare(data: &AnnData, keys: &[String], n_genes: usize) -> Result<Self> {
        let names: Vec<u64> = data.obs.index().iter().map(|n| digest(n)).collect();
        let mut groupings = vec![Grouping::prepare(None, None, &names, n_genes)];
        for key in keys {
            let column = data.obs.column("obs", key)?.to_categorical(key)?;
            groupings.push(Grouping::prepare(Some(key), Some(&column), &names, n_genes));
        }
        Ok(Self { groupings })
    }

    /// Adds cells, the first of which is cell `start`.
    pub(super) fn add(&mut self, counts: &sc_data::Csr, start: usize) {
        for g in &mut self.groupings {
            let mut adder = GeneAdder::from_sums(&g.sums);
            let codes = g.codes.get(start..).unwrap_or_default();
            adder.add(counts, 0..counts.n_rows(), |row| codes.get(row).copied());
            g.sums = adder.finish();
        }
    }

    /// Puts the sums into the data.
    pub(super) fn write(&self, data: &mut AnnData) {
        let mut by = IndexMap::new();
        let mut root = IndexMap::new();
        root.insert("version".to_owned(), Uns::Int(1));
        root.insert("scaled_to".to_owned(), Uns::Float(SCALED_TO));
        for g in &self.groupings {
            let s = &g.sums;
            for (name, sums) in SUMS.iter().zip([&s.sum, &s.nonzero, &s.scaled]) {
                let key = varm_name(name, g.key.as_deref());
                data.varm.insert(key, packed(name, sums).into());
            }
            match &g.key {
                Some(key) => {
                    by.insert(key.clone(), g.describe());
                }
                None => {
                    root.insert("all".to_owned(), g.describe());
                }
            }
        }
        root.insert("by".to_owned(), Uns::Dict(by));
        data.uns.insert(UNS.to_owned(), Uns::Dict(root));
    }

    /// Takes sums of counts that are no longer true out of data.
    pub(crate) fn remove(data: &mut AnnData) {
        if data.uns.shift_remove(UNS).is_some() {
            data.varm.retain(|name, _| !name.starts_with("sc_counts_"));
        }
    }
}

impl Grouping {
    fn prepare(
        key: Option<&str>,
        column: Option<&Categorical>,
        names: &[u64],
        n_genes: usize,
    ) -> Self {
        let categories = column.map(|c| c.categories().to_vec()).unwrap_or_default();
        let missing = categories.len() as u32;
        let codes: Vec<u32> = match column {
            Some(c) => c.codes().iter().map(|c| c.unwrap_or(missing)).collect(),
            None => vec![0; names.len()],
        };
        let n = categories.len() + 1;
        Self {
            key: key.map(str::to_owned),
            digests: digests(&codes, names, n),
            is_whole: vec![true; n],
            sums: GeneSums::zeros(n, n_genes),
            categories,
            codes,
        }
    }

    fn describe(&self) -> Uns {
        let ints = |v: Vec<i64>| Uns::Ints(Array1::from(v).into_dyn());
        let n_cells = self.sums.n_cells.iter().map(|&n| n as i64).collect();
        let mut out = IndexMap::new();
        out.insert("n_cells".to_owned(), ints(n_cells));
        out.insert("digests".to_owned(), ints(self.digests.clone()));
        if !self.categories.is_empty() {
            let names = Array1::from(self.categories.clone()).into_dyn();
            out.insert("categories".to_owned(), Uns::Strings(names));
        }
        Uns::Dict(out)
    }

    fn read(
        data: &AnnData,
        key: Option<&str>,
        described: Option<&Uns>,
        names: &[u64],
        genes: Option<&[usize]>,
    ) -> Result<Self> {
        let at = key.map_or("all".to_owned(), |k| format!("by/{k}"));
        let wrong = |what: &str| damaged(&at, what);
        let Some(Uns::Dict(described)) = described else {
            return Err(wrong("is missing"));
        };
        let ints = |name: &str| match described.get(name) {
            Some(Uns::Ints(v)) => Ok(v.iter().copied().collect::<Vec<i64>>()),
            _ => Err(wrong(&format!("lacks {name}"))),
        };
        let categories: Vec<String> = match described.get("categories") {
            Some(Uns::Strings(v)) => v.iter().cloned().collect(),
            _ => Vec::new(),
        };
        let n = categories.len() + 1;
        let (n_cells, stored) = (ints("n_cells")?, ints("digests")?);
        if n_cells.len() != n || stored.len() != n || n_cells.iter().any(|&c| c < 0) {
            return Err(wrong("has another number of groups than categories"));
        }
        let [sum, nonzero, scaled] =
            SUMS.map(|name| by_group(data, &varm_name(name, key), n, genes));
        let codes = codes(data, key, &categories)?;
        let present = counts_of(&codes, n);
        let now = digests(&codes, names, n);
        Ok(Self {
            is_whole: (0..n)
                .map(|k| now[k] == stored[k] && present[k] == n_cells[k] as usize)
                .collect(),
            sums: GeneSums {
                n_cells: n_cells.iter().map(|&c| c as usize).collect(),
                sum: sum?,
                nonzero: nonzero?,
                scaled: scaled?,
            },
            key: key.map(str::to_owned),
            digests: stored,
            categories,
            codes,
        })
    }
}

/// `[genes, groups]`, as small as it can be kept.
fn packed(name: &str, sums: &Array2<f64>) -> Matrix {
    let by_gene = sums.t().as_standard_layout().into_owned();
    let fits = |x: &f64| f64::from(*x as f32) == *x;
    if name == SUMS[2] || by_gene.iter().all(fits) {
        Matrix::Dense(by_gene.mapv(|x| x as f32))
    } else {
        Matrix::Dense64(by_gene)
    }
}

fn varm_name(sums: &str, key: Option<&str>) -> String {
    match key {
        Some(key) => format!("sc_counts_{sums}_by_{key}"),
        None => format!("sc_counts_{sums}_all"),
    }
}

fn damaged(at: &str, what: &str) -> Error {
    Error::InvalidSetting {
        name: "uns[\"sc_gene_statistics\"]",
        value: at.to_owned(),
        reason: format!("{what}; remove it, or minify the data again"),
    }
}

/// The sums of `varm`, `[groups, genes of the model]`.
fn by_group(data: &AnnData, name: &str, n: usize, genes: Option<&[usize]>) -> Result<Array2<f64>> {
    let by_gene = match data.varm.get(name) {
        Some(Annotation::Matrix(Matrix::Dense64(m))) => m.clone(),
        Some(Annotation::Matrix(m)) => m.to_dense().mapv(f64::from),
        _ => return Err(damaged(name, "is not in varm")),
    };
    if by_gene.ncols() != n {
        return Err(damaged(
            name,
            &format!("has {} columns instead of {n}", by_gene.ncols()),
        ));
    }
    let by_gene = match genes {
        Some(genes) => by_gene.select(ndarray::Axis(0), genes),
        None => by_gene,
    };
    Ok(by_gene.t().as_standard_layout().into_owned())
}

/// The group of each cell; a label that was not there when the counts were summed is none.
fn codes(data: &AnnData, key: Option<&str>, categories: &[String]) -> Result<Vec<u32>> {
    let Some(key) = key else {
        return Ok(vec![0; data.n_obs()]);
    };
    let missing = categories.len() as u32;
    let known: HashMap<&str, u32> = categories.iter().map(String::as_str).zip(0..).collect();
    let column = data.obs.column("obs", key)?.to_categorical(key)?;
    let of_category: Vec<u32> = column
        .categories()
        .iter()
        .map(|c| known.get(c.as_str()).copied().unwrap_or(missing))
        .collect();
    let code = |c: &Option<u32>| c.map_or(missing, |c| of_category[c as usize]);
    Ok(column.codes().iter().map(code).collect())
}

fn counts_of(codes: &[u32], n: usize) -> Vec<usize> {
    let mut counts = vec![0; n];
    codes.iter().for_each(|&c| counts[c as usize] += 1);
    counts
}

/// For each group a number that depends on which cells are in it, and not on their order.
fn digests(codes: &[u32], names: &[u64], n: usize) -> Vec<i64> {
    let mut sums = vec![0u64; n];
    for (&code, name) in codes.iter().zip(names) {
        let sum = &mut sums[code as usize];
        *sum = sum.wrapping_add(*name);
    }
    sums.into_iter().map(u64::cast_signed).collect()
}

/// FNV-1a of a name, mixed so that the sum of several does not cancel out.
fn digest(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 29)
}
