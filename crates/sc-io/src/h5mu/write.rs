use std::io::Write;
use std::path::Path;

use hdf5::types::VarLenUnicode;
use hdf5::{File, Group};
use indexmap::IndexMap;
use ndarray::{Array2, ArrayView};
use sc_data::{MuData, Places};

use super::read::is_mudata;
use crate::h5ad::{Out, WriteOptions, copy_file, n_rows};
use crate::hdf::H5;
use crate::{Error, Result, atomic};

/// Bytes before the HDF5 data, which say what the file is.
const USERBLOCK: usize = 512;
const FORMAT_VERSION: &str = "0.1.0";
/// What belongs to all modalities together.
const JOINT: [&str; 9] = [
    "obs", "var", "uns", "obsm", "varm", "obsp", "varp", "obsmap", "varmap",
];

/// Writes an `.h5mu` file as mudata does. The file appears whole or, if anything fails, an older one stays.
///
/// # Errors
/// [`Error::Data`] if the parts do not fit together, [`Error::Content`] if a name cannot be written (it is empty or
/// contains a slash), [`Error::Io`] or [`Error::Hdf5`] if the file system refuses.
pub fn write(path: impl AsRef<Path>, data: &MuData, options: &WriteOptions) -> Result<()> {
    let path = path.as_ref();
    data.check().map_err(Error::data(path, "/"))?;
    hdf5::silence_errors(true);
    atomic::write_by_name(path, |temporary| {
        let file = H5::create(temporary, USERBLOCK as u64).map_err(Error::hdf5(path, "/"))?;
        let out = Out::new(path, options.compression);
        let written = out.mudata(&file, data);
        close(path, file, written)?;
        say_mudata(temporary).map_err(Error::io(path))
    })
}

/// Writes a copy of an `.h5mu` file with the joint parts of `data`: `obs`, `var`, `uns`, `obsm`, `varm`, `obsp`, `varp` and the
/// maps. The modalities, and whatever else there is, stay as they are stored in `from`; they are never read, so that the file
/// may be larger than the memory. The modalities of `data` are not looked at, beyond the numbers of their cells and features.
///
/// # Errors
/// [`Error::Data`] if a modality of `from` has other numbers of cells or features; [`Error::Content`] if `from` has other
/// modalities; otherwise as [`write()`].
pub fn write_annotations(
    from: impl AsRef<Path>,
    path: impl AsRef<Path>,
    data: &MuData,
    options: &WriteOptions,
) -> Result<()> {
    let (from, path) = (from.as_ref(), path.as_ref());
    data.check().map_err(Error::data(path, "/"))?;
    same_modalities(from, data)?;
    atomic::write_by_name(path, |temporary| {
        copy_file(from, temporary)?;
        let file = H5::open_rw(temporary).map_err(Error::hdf5(path, "/"))?;
        let root: &Group = &file;
        let out = Out::new(path, options.compression);
        let written = JOINT
            .iter()
            .filter(|name| root.link_exists(name))
            .try_for_each(|name| root.unlink(name).map_err(Error::hdf5(path, *name)))
            .and_then(|()| out.joint(root, data));
        close(path, file, written)
    })
}

/// Flushing says what closing in the destructor would hide: a full disk.
fn close(path: &Path, file: File, written: Result<()>) -> Result<()> {
    let flushed = file.flush().map_err(Error::hdf5(path, "/"));
    let closed = file.close().map_err(Error::hdf5(path, "/"));
    written.and(flushed).and(closed)
}

/// The words by which mudata knows its files.
fn say_mudata(path: &Path) -> std::io::Result<()> {
    let mut block = format!(
        "MuData (format-version={FORMAT_VERSION};creator=sc-io;creator-version={})",
        env!("CARGO_PKG_VERSION")
    )
    .into_bytes();
    block.resize(USERBLOCK, 0);
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(&block)
}

fn same_modalities(from: &Path, data: &MuData) -> Result<()> {
    let h5 = H5::open(from)?;
    is_mudata(&h5)?;
    let there = h5.modality_names()?;
    if !there.iter().eq(data.modalities.keys()) {
        let asked: Vec<&str> = data.modalities.keys().map(String::as_str).collect();
        return Err(h5.wrong("/mod", there.join(", "), asked.join(", ")));
    }
    for (name, modality) in &data.modalities {
        let group = h5.modality(name)?;
        for (table, expected) in [("obs", modality.n_obs()), ("var", modality.n_vars())] {
            let found = n_rows(&h5, &group, table)?;
            if found != expected {
                let what = format!("{table} of the modality \"{name}\" that stays");
                return Err(Error::data(from, "/mod")(sc_data::Error::LengthMismatch {
                    what,
                    found,
                    expected,
                }));
            }
        }
    }
    Ok(())
}

impl Out<'_> {
    fn mudata(&self, root: &Group, data: &MuData) -> Result<()> {
        self.encode(root, "MuData", FORMAT_VERSION)?;
        self.encoder(root)?;
        root.new_attr::<i64>()
            .create("axis")
            .and_then(|a| a.write_scalar(&data.shared.axis()))
            .map_err(self.at(root, "axis"))?;
        self.joint(root, data)?;
        let all = root.create_group("mod").map_err(self.at(root, "mod"))?;
        let order = data.modalities.keys().map(|n| self.varlen(&all, n));
        let order: Vec<VarLenUnicode> = order.collect::<Result<_>>()?;
        all.new_attr_builder()
            .with_data(&order)
            .create("mod-order")
            .map_err(self.at(&all, "mod-order"))?;
        for (name, modality) in &data.modalities {
            self.check_name(&all, name)?;
            let group = all.create_group(name).map_err(self.at(&all, name))?;
            self.anndata(&group, modality)?;
            self.encoder(&group)?;
        }
        Ok(())
    }

    /// Who wrote it.
    fn encoder(&self, of: &Group) -> Result<()> {
        self.attr_text(of, "encoder", "sc-io")?;
        self.attr_text(of, "encoder-version", env!("CARGO_PKG_VERSION"))
    }

    /// What belongs to all modalities together.
    fn joint(&self, root: &Group, data: &MuData) -> Result<()> {
        self.table(root, "obs", &data.obs)?;
        self.table(root, "var", &data.var)?;
        self.dict(root, "uns", &data.uns)?;
        self.annotations(root, "obsm", &data.obsm)?;
        self.annotations(root, "varm", &data.varm)?;
        self.matrices(root, "obsp", &data.obsp)?;
        self.matrices(root, "varp", &data.varp)?;
        for (axis, maps) in [("obs", &data.obsmap), ("var", &data.varmap)] {
            self.maps(root, &format!("{axis}map"), maps)?;
            self.masks(root, &format!("{axis}m"), maps)?;
        }
        Ok(())
    }

    /// Rows counted from 1, 0 for none.
    fn maps(&self, root: &Group, name: &str, maps: &IndexMap<String, Places>) -> Result<()> {
        let group = self.group(root, name, "dict", "0.1.0")?;
        for (modality, places) in maps {
            let rows = places.iter().map(|place| match place {
                None => Some(0),
                Some(row) => row.checked_add(1).and_then(|r| u32::try_from(r).ok()),
            });
            let rows: Option<Vec<u32>> = rows.collect();
            let rows = rows.ok_or_else(|| {
                Error::content(
                    self.path,
                    group.name(),
                    format!("{} rows in {modality}", places.len()),
                    "at most 4294967294, the largest that mudata can count",
                )
            })?;
            self.array(&group, modality, ArrayView::from(&rows), ARRAY)?;
        }
        Ok(())
    }

    /// Which cells have a modality, where mudata looks for it.
    fn masks(&self, root: &Group, name: &str, maps: &IndexMap<String, Places>) -> Result<()> {
        let group = root.group(name).map_err(self.at(root, name))?;
        for (modality, places) in maps {
            let has = Array2::from_shape_fn((places.len(), 1), |(i, _)| {
                places.get(i).is_some_and(Option::is_some)
            });
            self.array(&group, modality, has.view(), ARRAY)?;
        }
        Ok(())
    }
}

const ARRAY: Option<(&str, &str)> = Some(("array", "0.2.0"));
