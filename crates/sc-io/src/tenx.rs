//! Cell Ranger's HDF5 matrices, of version 3 and later (`/matrix`) and of version 2 (a group for each genome).

use std::path::Path;

use hdf5::Group;
use sc_data::{AnnData, Categorical, Column, Csr, Table};

use crate::hdf::{H5, Node};
use crate::names::warn_of_duplicates;
use crate::{Error, Result};

/// Which features to keep.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Features {
    /// Genes: those whose type is "Gene Expression". Antibodies, peaks and guides are left out.
    #[default]
    GeneExpression,
    /// Everything.
    All,
    /// Those of another type, e.g. "Antibody Capture".
    Type(String),
}

impl Features {
    fn keeps(&self, kind: &str) -> bool {
        match self {
            Self::GeneExpression => kind == "Gene Expression",
            Self::All => true,
            Self::Type(t) => kind == t,
        }
    }
}

/// Options of [`read_h5_with`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Which features to keep.
    pub features: Features,
    /// Keep only features of this genome. Needed for version 2 files of several genomes.
    pub genome: Option<String>,
}

impl ReadOptions {
    /// Genes only, or everything.
    pub fn features(features: Features) -> Self {
        Self {
            features,
            genome: None,
        }
    }

    /// Only features of this genome.
    #[must_use]
    pub fn genome(mut self, genome: impl Into<String>) -> Self {
        self.genome = Some(genome.into());
        self
    }
}

/// Which barcodes are cells, in files of probes.
const FILTERED: &str = "filtered_barcodes";

/// Reads the genes of a Cell Ranger `.h5` file: cells x genes, `obs` named by barcode, `var` by gene symbol with the
/// columns `gene_ids`, `feature_types`, `genome` and any other that has a value a feature. Of files of probes `var` has `probe_ids` as
/// well, and `obs` has `filtered_barcodes`.
///
/// Symbols that occur twice stay as they are, with a warning: see [`crate::names`].
///
/// # Errors
/// [`Error`] if the file is missing, damaged or of another kind.
pub fn read_h5(path: impl AsRef<Path>) -> Result<AnnData> {
    read_h5_with(path, &ReadOptions::default())
}

/// As [`read_h5`], of any features and genome.
///
/// # Errors
/// As [`read_h5`]; also if no feature remains, or a version 2 file has several genomes and none was chosen.
pub fn read_h5_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<AnnData> {
    let h5 = H5::open(path.as_ref())?;
    let (group, var) = match h5.member(&h5.file, "matrix")? {
        Some(Node::Group(g)) if g.link_exists("features") => {
            let var = features_v3(&h5, &g)?;
            (g, var)
        }
        _ => features_v2(&h5, options.genome.as_deref())?,
    };
    let mut obs = Table::new(h5.strings(&h5.dataset(&group, "barcodes")?)?);
    if let Some(node @ Node::Dataset(_)) = h5.member(&group, FILTERED)?
        && let Some(column) = h5.column(&group, FILTERED, &node)?
    {
        obs.insert(FILTERED, column).map_err(h5.data("/"))?;
    }
    let x = counts(&h5, &group, obs.n_rows(), var.n_rows())?;
    let (x, var) = keep(&h5, x, var, options)?;
    warn_of_duplicates(&h5.path, "features", var.index());
    AnnData::new(x, obs, var).map_err(h5.data("/"))
}

/// Whether the file has the layout of either version.
pub(crate) fn looks_like(h5: &H5) -> Result<bool> {
    if let Some(Node::Group(g)) = h5.member(&h5.file, "matrix")? {
        return Ok(g.link_exists("barcodes") && g.link_exists("indptr"));
    }
    Ok(!genomes_v2(h5)?.is_empty())
}

/// Stored by columns as features x barcodes, which is by rows as cells x features.
fn counts(h5: &H5, group: &Group, cells: usize, features: usize) -> Result<Csr> {
    let at = group.name();
    let shape = h5.i64s(&h5.dataset(group, "shape")?)?;
    if shape != [features as i64, cells as i64] {
        return Err(h5.wrong(
            &at,
            format!("the shape {shape:?}"),
            format!("[{features}, {cells}], the numbers of features and barcodes"),
        ));
    }
    let indptr = h5.pointers(&h5.dataset(group, "indptr")?)?;
    let indices = h5.indices(&h5.dataset(group, "indices")?)?;
    let data = h5.f32s(&h5.dataset(group, "data")?)?;
    Csr::new(cells, features, indptr, indices, data).map_err(h5.data(&at))
}

fn features_v3(h5: &H5, matrix: &Group) -> Result<Table> {
    let group = match h5.require(matrix, "features")? {
        Node::Group(g) => g,
        Node::Dataset(d) => return Err(h5.wrong(&d.name(), "a dataset", "a group")),
    };
    let at = group.name();
    let mut var = Table::new(h5.strings(&h5.dataset(&group, "name")?)?);
    // Files of probes have genes beside the probes, which are what `id` then names.
    let ids: &[(&str, &str)] = match group.link_exists("gene_id") {
        true => &[("gene_id", "gene_ids"), ("id", "probe_ids")],
        false => &[("id", "gene_ids")],
    };
    for (name, column) in ids {
        let ids = Column::Str(h5.strings(&h5.dataset(&group, name)?)?);
        var.insert(*column, ids).map_err(h5.data(&at))?;
    }
    for (name, column) in [("feature_type", "feature_types"), ("genome", "genome")] {
        if group.link_exists(name) {
            let labels = h5.strings(&h5.dataset(&group, name)?)?;
            let labels = Column::Categorical(Categorical::from_labels(&labels));
            var.insert(column, labels).map_err(h5.data(&at))?;
        }
    }
    for name in h5.names(&group)? {
        let known = [
            "name",
            "id",
            "gene_id",
            "feature_type",
            "genome",
            "_all_tag_keys",
        ];
        if known.contains(&name.as_str()) {
            continue;
        }
        if let Node::Dataset(d) = h5.require(&group, &name)?
            && d.shape() == [var.n_rows()]
            && let Some(column) = h5.column(&group, &name, &Node::Dataset(d))?
        {
            var.insert(name, column).map_err(h5.data(&at))?;
        }
    }
    Ok(var)
}

/// The groups at the root that hold a matrix.
fn genomes_v2(h5: &H5) -> Result<Vec<String>> {
    let mut genomes = Vec::new();
    for name in h5.names(&h5.file)? {
        if let Ok(g) = h5.file.group(&name)
            && ["barcodes", "genes", "gene_names", "indptr"]
                .iter()
                .all(|m| g.link_exists(m))
        {
            genomes.push(name);
        }
    }
    Ok(genomes)
}

fn features_v2(h5: &H5, genome: Option<&str>) -> Result<(Group, Table)> {
    let genomes = genomes_v2(h5)?;
    let chosen = match (genome, &genomes[..]) {
        (_, []) => {
            return Err(Error::Unsupported {
                path: h5.path.clone(),
                found: "an HDF5 file without a 10x matrix".into(),
                hint: "Cell Ranger writes a group \"matrix\", or one for each genome".into(),
            });
        }
        (None, [only]) => only.clone(),
        (Some(g), all) if all.iter().any(|a| a == g) => g.to_owned(),
        (_, all) => {
            return Err(h5.wrong(
                "/",
                format!("the genomes {}", all.join(", ")),
                "the choice of one of them (ReadOptions::genome)",
            ));
        }
    };
    let group = h5.file.group(&chosen).map_err(h5.at(&chosen))?;
    let at = group.name();
    let mut var = Table::new(h5.strings(&h5.dataset(&group, "gene_names")?)?);
    let ids = h5.strings(&h5.dataset(&group, "genes")?)?;
    var.insert("gene_ids", Column::Str(ids))
        .map_err(h5.data(&at))?;
    for (name, value) in [("feature_types", "Gene Expression"), ("genome", &chosen)] {
        let labels = Categorical::from_labels(&vec![value; var.n_rows()]);
        var.insert(name, Column::Categorical(labels))
            .map_err(h5.data(&at))?;
    }
    Ok((group, var))
}

/// Leaves out the features that were not asked for.
fn keep(h5: &H5, x: Csr, var: Table, options: &ReadOptions) -> Result<(Csr, Table)> {
    let label = |column: &str, i: usize| match var.get(column) {
        Some(Column::Categorical(c)) => c.get(i).map(str::to_owned),
        _ => None,
    };
    let kept: Vec<usize> = (0..var.n_rows())
        .filter(|&i| {
            // Files without types hold genes only.
            let kind = label("feature_types", i);
            let genome = label("genome", i);
            kind.is_none_or(|k| options.features.keeps(&k))
                && options
                    .genome
                    .as_ref()
                    .is_none_or(|wanted| genome.is_some_and(|g| &g == wanted))
        })
        .collect();
    if kept.len() == var.n_rows() {
        return Ok((x, var));
    }
    if kept.is_empty() {
        let there = |column: &str| match var.get(column) {
            Some(Column::Categorical(c)) => c.categories().join(", "),
            _ => "nothing".into(),
        };
        return Err(h5.wrong(
            "/matrix/features",
            format!(
                "features of the types {} and genomes {}",
                there("feature_types"),
                there("genome")
            ),
            format!(
                "{:?}{}",
                options.features,
                options
                    .genome
                    .as_ref()
                    .map_or(String::new(), |g| format!(" of {g}"))
            ),
        ));
    }
    let columns: Vec<Option<usize>> = kept.iter().map(|&i| Some(i)).collect();
    let x = x.select_columns(&columns).map_err(h5.data("/matrix"))?;
    let var = var
        .select_rows(&kept)
        .map_err(h5.data("/matrix/features"))?;
    Ok((x, var))
}
