//! Files of modalities, and which parts of them are read.

use std::path::{Path, PathBuf};

use candle_core::Device;
use sc_data::AnnData;
use sc_integrate::{Clue, Modality, MultiCells};
use sc_io::h5ad::{self, BackedMatrix};
use sc_io::{Format, ReadAhead};

use crate::common::{read, read_annotations};
use crate::error::{Error, Result};
use crate::modalities;
use crate::options::at_least_one;
use crate::places::{labels, places};

/// The modalities.
#[derive(Debug, clap::Args)]
pub(crate) struct Input {
    /// A modality and its cells: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx. Cells of the same name are the same
    /// cell. Or an .h5mu file with all modalities
    #[arg(value_name = "NAME=FILE|FILE.h5mu", required = true)]
    modalities: Vec<String>,
    /// Layer with the values, of all modalities or of one [default: X]
    #[arg(long, value_name = "[NAME=]LAYER")]
    layer: Vec<String>,
    /// obs column with the batch of a cell, in all files
    #[arg(long, value_name = "COLUMN")]
    batch_key: Option<String>,
    /// obsm entry that the encoders of a modality read instead of its values
    #[arg(long, value_name = "NAME=KEY")]
    use_rep: Vec<String>,
    /// Read values from the files as they are needed, for data larger than the memory; .h5ad and .h5mu
    #[arg(long)]
    backed: bool,
}

/// A trained model and its data.
#[derive(Debug, clap::Args)]
pub(crate) struct Trained {
    /// Folder with a model of `sc integrate train`
    #[arg(value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    pub(crate) input: Input,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
}

impl Trained {
    pub(crate) fn load(&self) -> Result<Clue> {
        Ok(Clue::load(&self.model, &Device::Cpu)?)
    }
}

/// A modality that was read.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(super) path: PathBuf,
    pub(crate) data: AnnData,
    /// The values, if they stay on the disk.
    backed: Option<ReadAhead<BackedMatrix>>,
}

/// A modality of which only the names of the features matter.
pub(super) struct Features {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) names: Vec<String>,
}

impl Features {
    /// From `NAME=FILE`.
    pub(super) fn read(text: &str) -> Result<Self> {
        let (name, file) = named(text)?;
        let path = PathBuf::from(file);
        let data = match sc_io::format_of(&path)? {
            Format::H5ad => h5ad::read_annotations(&path)?,
            _ => read(&path)?,
        };
        Ok(Self {
            name: name.to_owned(),
            path,
            names: data.var.index().to_vec(),
        })
    }
}

/// An `.h5mu` file of which no modality is named.
fn whole(text: &str) -> Option<&Path> {
    let path = Path::new(text);
    (modalities::is_whole(path)).then_some(path)
}

/// `NAME=VALUE`
pub(crate) fn named(text: &str) -> Result<(&str, &str)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name, value)),
        _ => Err(Error::Message(format!(
            "\"{text}\" is not NAME=VALUE, e.g. rna=rna.h5ad"
        ))),
    }
}

/// The value of a modality among options `NAME=VALUE`.
pub(crate) fn of<'a>(options: &'a [String], name: &str) -> Result<Option<&'a str>> {
    let mut found = None;
    for option in options {
        let (whose, value) = named(option)?;
        if whose == name {
            found = Some(value);
        }
    }
    Ok(found)
}

/// Refuses options of modalities that aren't there.
pub(crate) fn known(options: &[String], sources: &[Source]) -> Result<()> {
    for option in options {
        let (name, _) = named(option)?;
        if !sources.iter().any(|s| s.name == name) {
            let names: Vec<&str> = sources.iter().map(|s| s.name.as_str()).collect();
            return Err(Error::Message(format!(
                "\"{option}\": there is no modality \"{name}\"; there are {}",
                names.join(", ")
            )));
        }
    }
    Ok(())
}

impl Input {
    /// Reads all files.
    pub(crate) fn read(&self) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for text in &self.modalities {
            if let Some(file) = whole(text) {
                for (name, data) in modalities::read_of_cells(file, !self.backed)? {
                    sources.push(self.source(&name, file.join(&name), data)?);
                }
                continue;
            }
            let (name, file) = named(text)?;
            let path = PathBuf::from(file);
            let data = match self.backed {
                true => read_annotations(&path)?,
                false => read(&path)?,
            };
            sources.push(self.source(name, path, data)?);
        }
        known(&self.use_rep, &sources)?;
        Ok(sources)
    }

    fn source(&self, name: &str, path: PathBuf, data: AnnData) -> Result<Source> {
        let backed = match self.backed {
            true => Some(ReadAhead::new(h5ad::read_backed(
                &path,
                self.layer_of(name),
            )?)),
            false => None,
        };
        Ok(Source {
            name: name.to_owned(),
            path,
            data,
            backed,
        })
    }

    /// The one `.h5mu` file that has all modalities.
    pub(crate) fn one_file(&self) -> Option<&Path> {
        match self.modalities.as_slice() {
            [text] => whole(text),
            _ => None,
        }
    }

    /// The layer of a modality.
    fn layer_of(&self, name: &str) -> Option<&str> {
        let own = self.layer.iter().filter_map(|l| l.split_once('='));
        let own = own
            .filter(|(whose, _)| *whose == name)
            .map(|(_, l)| l)
            .next_back();
        let shared = || self.layer.iter().find(|l| !l.contains('='));
        own.or_else(|| shared().map(String::as_str))
    }

    /// The modalities as a model reads them.
    pub(crate) fn modalities<'a>(&self, sources: &'a [Source]) -> Result<Vec<Modality<'a>>> {
        let of_source = |s: &'a Source| {
            let mut m = match &s.backed {
                None => Modality::from_anndata(&s.name, &s.data, self.layer_of(&s.name))?,
                Some(values) => {
                    let (cells, features) = (s.data.obs.index(), s.data.var.index());
                    Modality::new(&s.name, values, cells.to_vec(), features.to_vec())?
                }
            };
            if let Some(key) = of(&self.use_rep, &s.name)? {
                m = m.representation(places(&s.data, &s.path, key)?)?;
            }
            if let Some(key) = &self.batch_key {
                m = m.batches(&labels(&s.data, &s.path, key)?)?;
            }
            Ok(m)
        };
        sources.iter().map(of_source).collect()
    }

    /// Cells for a trained model.
    pub(crate) fn cells_for<'a>(
        &self,
        model: &Clue,
        sources: &'a [Source],
    ) -> Result<MultiCells<'a>> {
        Ok(MultiCells::for_model(
            self.modalities(sources)?,
            model.registry(),
        )?)
    }
}
