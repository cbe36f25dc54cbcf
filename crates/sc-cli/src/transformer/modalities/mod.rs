//! Cells of several modalities, one file each, joined by the names of the cells.

mod embed;
mod joined;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use indexmap::IndexSet;
use sc_data::{AnnData, Categorical, Column, Columns, Table};

pub(super) use embed::embed;

use super::cells::Data;
use super::model::Notes;
use super::query::{Given, MatrixOptions};
use crate::error::{Error, Result};
use crate::modalities;
use crate::progress::Watched;
use joined::Joined;

/// Files besides the first.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ModalityOptions {
    /// Models of several modalities: a file with another modality of cells of the same names, or of other cells; repeat it for
    /// more. DATA may also be an .h5mu file that has several
    #[arg(long = "modality", value_name = "NAME=FILE", value_parser = named_file)]
    more: Vec<NamedFile>,
    /// Models of several modalities: what DATA holds [default: RNA, or as it was trained]
    #[arg(long, value_name = "NAME")]
    data_modality: Option<String>,
}

#[derive(Debug, Clone)]
struct NamedFile {
    name: String,
    path: PathBuf,
}

fn named_file(text: &str) -> Result<NamedFile, String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(NamedFile {
            name: name.to_owned(),
            path: path.into(),
        }),
        _ => Err("not NAME=FILE, such as protein=adt.h5ad".into()),
    }
}

impl ModalityOptions {
    pub(super) fn given(&self) -> Vec<Given> {
        vec![
            ("--modality", !self.more.is_empty()),
            ("--data-modality", self.data_modality.is_some()),
        ]
    }

    /// Refuses them for a model of one modality.
    pub(super) fn refuse(&self, model: &Path) -> Result<()> {
        match self.given().into_iter().find(|g| g.1) {
            None => Ok(()),
            Some((name, _)) => Err(Error::Message(format!(
                "{name}: {} is a model of one modality; `sc transformer finetune multiomic` makes one of several",
                model.display()
            ))),
        }
    }

    /// Whether there are several modalities: files besides the first, or a first file that has them.
    pub(super) fn several(&self, first: &Path) -> bool {
        !self.more.is_empty() || modalities::is_whole(first)
    }

    fn first<'a>(&'a self, default: &'a str) -> &'a str {
        self.data_modality.as_deref().unwrap_or(default)
    }
}

/// One file.
pub(super) struct Part {
    pub(super) modality: String,
    pub(super) data: Data,
    /// The row of each cell, if it is there.
    pub(super) rows: Vec<Option<usize>>,
}

/// The files, and the cells of all of them.
pub(super) struct Files {
    pub(super) parts: Vec<Part>,
    /// The names of the cells; those of the first file first.
    pub(super) cells: Vec<String>,
}

/// What the modality of the first file is called, if nobody says.
pub(super) const RNA: &str = "RNA";

impl Files {
    pub(super) fn read(
        first: &Path,
        more: &ModalityOptions,
        matrix: &MatrixOptions,
        notes: &Notes,
    ) -> Result<Self> {
        let noted = notes.modalities.as_ref().map(|m| m.first.as_str());
        // The column with symbols is one of the genes' table.
        let plain = MatrixOptions {
            layer: matrix.layer.clone(),
            gene_key: None,
            backed: matrix.backed,
        };
        let mut parts = match modalities::is_whole(first) {
            true => of_one_file(first, more, (matrix, &plain), notes)?,
            false => {
                let name = more.first(noted.unwrap_or(RNA)).to_owned();
                vec![(name, Data::read(first, matrix, notes)?)]
            }
        };
        for NamedFile { name, path } in &more.more {
            if let Some((_, other)) = parts.iter().find(|p| p.0 == *name) {
                return Err(Error::Message(format!(
                    "{} and {} are both called {name}; give each modality a name of its own",
                    other.path.display(),
                    path.display()
                )));
            }
            parts.push((name.clone(), Data::read(path, &plain, &Notes::default())?));
        }
        let mut cells: IndexSet<String> = IndexSet::new();
        for (_, data) in &parts {
            let mut seen = std::collections::HashSet::new();
            for cell in data.all.obs.index() {
                if !seen.insert(cell) {
                    return Err(data.wrong(format!(
                        "has two cells called \"{cell}\"; files are joined by the names of their cells, which must differ"
                    )));
                }
                cells.insert(cell.clone());
            }
        }
        let cells: Vec<String> = cells.into_iter().collect();
        let parts = parts.into_iter().map(|(modality, data)| Part {
            rows: rows(&data, &cells),
            modality,
            data,
        });
        let parts = parts.collect();
        Ok(Self { parts, cells })
    }

    /// Cells that are in all files.
    pub(super) fn n_paired(&self) -> usize {
        let all = |cell: &usize| {
            self.parts
                .iter()
                .all(|p| p.rows.get(*cell).is_some_and(Option::is_some))
        };
        (0..self.cells.len()).filter(all).count()
    }

    /// A column of obs, from the first file that has the cell and the column.
    pub(super) fn labels(&self, key: &str) -> Result<Categorical> {
        let found: Vec<(&Part, Categorical)> = self
            .parts
            .iter()
            .filter(|p| p.data.all.obs.get(key).is_some())
            .map(|p| Ok((p, p.data.labels(key)?)))
            .collect::<Result<_>>()?;
        if found.is_empty() {
            // Says which columns there are.
            self.parts
                .iter()
                .try_for_each(|p| p.data.labels(key).map(drop))?;
        }
        let mut names: Vec<Option<&str>> = vec![None; self.cells.len()];
        for (part, labels) in &found {
            for ((slot, row), cell) in names.iter_mut().zip(&part.rows).zip(&self.cells) {
                let Some(label) = row.and_then(|r| labels.get(r)) else {
                    continue;
                };
                match slot {
                    Some(other) if *other != label => {
                        return Err(part.data.wrong(format!(
                            "obs {key} says \"{label}\" of the cell {cell}, of which another file says \"{other}\""
                        )));
                    }
                    _ => *slot = Some(label),
                }
            }
        }
        Ok(Categorical::from_options(names.into_iter()))
    }

    /// The columns of these features side by side, `None` for those that a file lacks. Every list has one entry a feature.
    pub(super) fn source(
        &self,
        columns: Vec<Vec<Option<usize>>>,
        message: &str,
    ) -> Result<Watched<'_>> {
        let mut parts = Vec::with_capacity(self.parts.len());
        let mut n_cols = 0;
        for (part, columns) in self.parts.iter().zip(columns) {
            n_cols = columns.len();
            let source = Columns::new(part.data.matrix()?, columns)?;
            parts.push((source, part.rows.as_slice()));
        }
        let n_rows = self.cells.len();
        let joined = Joined {
            parts,
            n_rows,
            n_cols,
        };
        let watched = Watched::new(Box::new(joined));
        watched.handle().start(message, n_rows);
        Ok(watched)
    }

    /// What is known of all cells: the first file as it is if it has them all, otherwise the columns of obs that are labels.
    fn annotations(self) -> Result<AnnData> {
        let whole = |p: &Part| p.rows.iter().all(Option::is_some);
        if self.parts.first().is_some_and(whole) {
            let first = self.parts.into_iter().next();
            return Ok(first.map(|p| p.data.all).unwrap_or_default());
        }
        let mut obs = Table::new(self.cells.clone());
        let mut names: Vec<&str> = Vec::new();
        for part in &self.parts {
            let labels = part.data.all.obs.columns().filter(|c| is_label(c.1));
            names.extend(labels.map(|c| c.0));
        }
        for name in names {
            // Of the same cell two files may say different things: that is no column for all.
            if obs.get(name).is_none()
                && let Ok(labels) = self.labels(name)
            {
                obs.insert(name, Column::Categorical(labels))?;
            }
        }
        let mut all = AnnData::default();
        all.obs = obs;
        Ok(all)
    }
}

/// The modalities of an `.h5mu` file; the options of the matrix are those of the first, and of the others.
fn of_one_file(
    file: &Path,
    more: &ModalityOptions,
    (matrix, plain): (&MatrixOptions, &MatrixOptions),
    notes: &Notes,
) -> Result<Vec<(String, Data)>> {
    if more.data_modality.is_some() {
        return Err(Error::Message(format!(
            "--data-modality: {} says itself what its modalities are called; leave it out",
            file.display()
        )));
    }
    let mut parts: Vec<(String, Data)> = Vec::new();
    for (name, annotations) in modalities::read_of_cells(file, false)? {
        let path = file.join(&name);
        let mut data = match parts.is_empty() {
            true => Data::read(&path, matrix, notes)?,
            false => Data::read(&path, plain, &Notes::default())?,
        };
        // What is known of the joint cells comes with it.
        data.all.obs = annotations.obs;
        parts.push((name, data));
    }
    Ok(parts)
}

/// The row of each cell in a file, if it is there.
fn rows(data: &Data, cells: &[String]) -> Vec<Option<usize>> {
    let index = data.all.obs.index().iter();
    let places: HashMap<&str, usize> = index.map(String::as_str).zip(0..).collect();
    let place = |c: &String| places.get(c.as_str()).copied();
    cells.iter().map(place).collect()
}

fn is_label(column: &Column) -> bool {
    matches!(
        column,
        Column::Categorical(_) | Column::Str(_) | Column::OptStr(_)
    )
}

/// What a feature of a modality is called among the tokens.
pub(super) fn token(first: &str, modality: &str, feature: &str) -> String {
    match modality == first {
        true => feature.to_owned(),
        false => format!("{modality}:{feature}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_names() {
        assert!(named_file("protein=a=b.h5ad").is_ok_and(|f| f.path == Path::new("a=b.h5ad")));
        for wrong in ["protein", "=x.h5ad", "protein="] {
            assert!(named_file(wrong).is_err());
        }
        assert_eq!(token(RNA, RNA, "CD3E"), "CD3E");
        assert_eq!(token(RNA, "protein", "CD3"), "protein:CD3");
    }
}
