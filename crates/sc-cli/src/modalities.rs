//! Files of several modalities where commands take one file a modality, and between the two.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use sc_data::{AnnData, MuData};
use sc_io::h5ad::WriteOptions;
use sc_io::h5mu;

use crate::common::{check_writable, note, read};
use crate::error::{Error, Result};
use crate::progress::Spinner;

/// Whether a path is an `.h5mu` file, none of whose modalities is named.
pub(crate) fn is_whole(path: &Path) -> bool {
    h5mu::is_named_so(path) && path.is_file()
}

/// Reads a file with or without the matrices of its modalities.
fn open(path: &Path, matrices: bool) -> Result<MuData> {
    let _spinner = Spinner::new(format!("reading {}", path.display()));
    Ok(match matrices {
        true => h5mu::read(path)?,
        false => h5mu::read_annotations(path)?,
    })
}

/// The modalities. What is known of the joint cells, and not of the cells of a modality, is known of these, too.
fn apart(mut all: MuData) -> Result<Vec<(String, AnnData)>> {
    let modalities = std::mem::take(&mut all.modalities);
    let with_joint = modalities.into_iter().map(|(name, mut data)| {
        pull(&all, &name, &mut data)?;
        Ok((name, data))
    });
    with_joint.collect()
}

/// Reads the modalities of a file, which must share cells, with or without their matrices.
pub(crate) fn read_of_cells(path: &Path, matrices: bool) -> Result<Vec<(String, AnnData)>> {
    let all = open(path, matrices)?;
    if !all.shared.cells() {
        return Err(Error::Message(format!(
            "{}: its modalities share features and not cells (axis 1), so there is nothing to integrate by cell; name one of \
             them, such as {}/NAME",
            path.display(),
            path.display()
        )));
    }
    apart(all)
}

/// Brings columns of the joint obs, and entries of the joint obsm, to the cells of a modality that lacks them.
fn pull(joint: &MuData, name: &str, data: &mut AnnData) -> Result<()> {
    let mut cells = vec![0; data.n_obs()];
    for (cell, row) in joint.rows_in(name)?.iter().enumerate() {
        if let Some(slot) = row.and_then(|r| cells.get_mut(r)) {
            *slot = cell;
        }
    }
    for (column, values) in joint.obs.columns() {
        if data.obs.get(column).is_none() {
            data.obs.insert(column, values.select(&cells)?)?;
        }
    }
    for (key, values) in &joint.obsm {
        if !data.obsm.contains_key(key) {
            data.obsm.insert(key.clone(), values.select_rows(&cells)?);
        }
    }
    Ok(())
}

/// `NAME=FILE`, or a file called as its modality.
fn named(input: &Path) -> Result<(String, PathBuf)> {
    let pair = input.to_str().and_then(|text| text.split_once('='));
    let (name, path) = match pair {
        Some((name, path)) if !input.exists() => (name.to_owned(), PathBuf::from(path)),
        _ => {
            let stem = input.file_stem().unwrap_or_default().to_string_lossy();
            (stem.into_owned(), input.to_owned())
        }
    };
    match name.is_empty() || path.as_os_str().is_empty() {
        false => Ok((name, path)),
        true => Err(Error::Message(format!(
            "\"{}\" is not NAME=FILE, e.g. rna=rna.h5ad",
            input.display()
        ))),
    }
}

/// Several files, or one of several modalities, to an `.h5mu` file.
pub(crate) fn join(
    inputs: &[PathBuf],
    out: &Path,
    options: &WriteOptions,
    change: impl Fn(&mut AnnData) -> Result<()>,
) -> Result<()> {
    let mut all = match inputs {
        [one] if is_whole(one) => open(one, true)?,
        _ => MuData::new(read_named(inputs)?)?,
    };
    for data in all.modalities.values_mut() {
        change(data)?;
    }
    let spinner = Spinner::new(format!("writing {}", out.display()));
    h5mu::write(out, &all, options)?;
    drop(spinner);
    note(&describe(&all, out)?);
    Ok(())
}

fn read_named(inputs: &[PathBuf]) -> Result<IndexMap<String, AnnData>> {
    let mut modalities = IndexMap::with_capacity(inputs.len());
    for input in inputs {
        let (name, path) = named(input)?;
        let data = read(&path)?;
        if modalities.insert(name.clone(), data).is_some() {
            return Err(Error::Message(format!(
                "two modalities are called {name}; give each a name of its own (NAME=FILE)"
            )));
        }
    }
    Ok(modalities)
}

fn describe(all: &MuData, out: &Path) -> Result<String> {
    let each = all
        .modalities
        .iter()
        .map(|(n, d)| format!("{n} {} x {}", d.n_obs(), d.n_vars()));
    let each: Vec<String> = each.collect();
    let names: Vec<&str> = all.modalities.keys().map(String::as_str).collect();
    let mut text = format!("{} cells ({})", all.n_obs(), each.join(", "));
    if all.shared.cells() && names.len() > 1 {
        let paired = all.paired(&names)?.len();
        text.push_str(&format!(", {paired} with all modalities"));
    }
    Ok(format!("{text} -> {}", out.display()))
}

/// Each modality to an `.h5ad` file of its name.
pub(crate) fn split(
    input: &Path,
    folder: &Path,
    options: &WriteOptions,
    change: impl Fn(&mut AnnData) -> Result<()>,
) -> Result<()> {
    if folder.extension().is_some() && !folder.is_dir() {
        return Err(Error::Message(format!(
            "{}: has several modalities, which become one .h5ad file each: give a folder instead of {}, or name a modality \
             ({}/NAME)",
            input.display(),
            folder.display(),
            input.display()
        )));
    }
    let modalities = apart(open(input, true)?)?;
    std::fs::create_dir_all(folder).map_err(Error::file(folder, "make this folder"))?;
    check_writable(folder)?;
    for (name, mut data) in modalities {
        change(&mut data)?;
        let out = folder.join(format!("{name}.h5ad"));
        let spinner = Spinner::new(format!("writing {}", out.display()));
        sc_io::h5ad::write(&out, &data, options)?;
        drop(spinner);
        note(&format!(
            "{} cells x {} features -> {}",
            data.n_obs(),
            data.n_vars(),
            out.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn modalities_have_names() {
        let of = |text: &str| named(Path::new(text)).unwrap();
        assert_eq!(of("rna=a/b.h5ad"), ("rna".into(), "a/b.h5ad".into()));
        assert_eq!(of("a/adt.h5ad"), ("adt".into(), "a/adt.h5ad".into()));
        assert_eq!(of("x.h5mu/rna"), ("rna".into(), "x.h5mu/rna".into()));
        assert!(named(Path::new("=a.h5ad")).is_err());
    }
}
