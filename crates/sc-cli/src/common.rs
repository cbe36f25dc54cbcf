//! What several commands share.

use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::Device;
use sc_data::{AnnData, RowSource};
use sc_io::Format;
use sc_latent::minify::MinifyKind;
use sc_latent::{AnyModel, Cells, NonInteger, Registry, Scvi};

use crate::error::{Error, Result};
use crate::fits;
use crate::progress::{Spinner, Watch, Watched};

/// The file that training leaves when it is interrupted.
pub(crate) const CHECKPOINT: &str = "checkpoint.safetensors";

/// Options of the commands that use a trained model.
#[derive(Debug, clap::Args)]
pub(crate) struct Query {
    /// Folder with a model: of `sc train`, or of scvi-tools
    #[arg(value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Cells: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx
    pub(crate) data: PathBuf,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = crate::options::at_least_one)]
    pub(crate) threads: Option<usize>,
}

/// Prints to standard output; a reader that went away (`sc ... | head`) is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::file(Path::new("standard output"), "write")(e))
        }
        _ => Ok(()),
    }
}

/// Prints one line of JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value)
        .map_err(|e| Error::Message(format!("cannot write JSON: {e}")))?;
    print(&text)
}

/// Tells the user something, on standard error. If that is closed there is nobody to tell.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Reads a whole file or folder.
pub(crate) fn read(path: &Path) -> Result<AnnData> {
    let _spinner = Spinner::new(format!("reading {}", path.display()));
    sc_io::read(path).map_err(|e| {
        let several =
            matches!(&e, sc_io::Error::Content { found, .. } if found.starts_with("the genomes"));
        let e = Error::from(e);
        if several {
            e.with_hint("`sc convert IN OUT.h5ad --genome NAME` takes one of them")
        } else {
            e
        }
    })
}

/// Reads everything but the matrices of an `.h5ad` file.
pub(crate) fn read_annotations(path: &Path) -> Result<AnnData> {
    let format = sc_io::format_of(path)?;
    if format != Format::H5ad {
        return Err(Error::Message(format!(
            "{}: --backed works with .h5ad files, and this is a {format}; leave it out, or `sc convert` the file",
            path.display()
        )));
    }
    Ok(sc_io::h5ad::read_annotations(path)?)
}

/// Refuses minified cells, which have zeros where their counts were.
pub(crate) fn refuse_minified(data: &AnnData, what: &'static str) -> Result<()> {
    match MinifyKind::of(data)? {
        Some(kind) if !kind.has_counts() => Err(sc_latent::Error::NeedsCounts { what }.into()),
        _ => Ok(()),
    }
}

/// Writes an `.h5ad` file.
pub(crate) fn write(path: &Path, data: &AnnData) -> Result<()> {
    let _spinner = Spinner::new(format!("writing {}", path.display()));
    Ok(sc_io::h5ad::write(
        path,
        data,
        &sc_io::h5ad::WriteOptions::default(),
    )?)
}

/// Makes sure that `path` can be written before anything long is computed.
pub(crate) fn check_output(path: &Path) -> Result<()> {
    if path
        .extension()
        .is_none_or(|e| !e.eq_ignore_ascii_case("h5ad"))
    {
        return Err(Error::Message(format!(
            "{}: --out must end in .h5ad",
            path.display()
        )));
    }
    check_file(path)
}

/// Makes sure that `path` can be a file.
pub(crate) fn check_file(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::Message(format!(
            "{}: --out is a folder",
            path.display()
        )));
    }
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    check_writable(folder)
}

/// Makes sure that an input is not overwritten by what is made of it.
pub(crate) fn refuse_same(out: &Path, inputs: &[&Path]) -> Result<()> {
    let place = |path: &Path| std::fs::canonicalize(path).ok();
    let Some(target) = place(out) else {
        return Ok(());
    };
    match inputs.iter().any(|&i| place(i).as_ref() == Some(&target)) {
        false => Ok(()),
        true => Err(Error::Message(format!(
            "{}: --out is what is read, and would be lost; choose another name",
            out.display()
        ))),
    }
}

/// Makes sure that a file can be made in a folder.
pub(crate) fn check_writable(folder: &Path) -> Result<()> {
    tempfile::Builder::new()
        .prefix(".sc-")
        .tempfile_in(folder)
        .map(drop)
        .map_err(Error::file(folder, "write into this folder"))
}

/// Reads a model of ours or of scvi-tools.
pub(crate) fn load_model(dir: &Path) -> Result<AnyModel> {
    if sc_model::save::is_saved_model(dir) || sc_latent::is_scvi_tools_model(dir) {
        return Ok(AnyModel::load(dir, &Device::Cpu)?);
    }
    let why = if !dir.exists() {
        "there is no such folder"
    } else if dir.join(CHECKPOINT).is_file() {
        "training was interrupted here; finish it with `sc train ... --resume`"
    } else {
        "holds neither model.safetensors (written by sc train) nor model.pt (by scvi-tools)"
    };
    Err(Error::Message(format!("{}: {why}", dir.display())))
}

/// The cells of a model that is there already.
pub(crate) struct QueryCells<'a> {
    pub(crate) cells: Cells<'a>,
    /// The rows without any counts.
    pub(crate) empty: Vec<usize>,
    /// Shows progress: begin anew before each pass over the cells after the first.
    pub(crate) watch: Watch,
    /// Minified cells have no counts whose reading could show progress.
    _spinner: Option<Spinner>,
}

/// Fits the cells of `data` to a model. The counts are those in memory, or with `backed` those in that file.
///
/// Counts that are not integers are only warned of: a trained model gives numbers for them, if poor ones.
pub(crate) fn cells_for<'a>(
    model: &Scvi,
    data: &'a AnnData,
    backed: Option<&Path>,
) -> Result<QueryCells<'a>> {
    cells_with(model, model.registry(), data, backed)
}

/// The same with a registry that says otherwise which columns mean what.
pub(crate) fn cells_with<'a>(
    model: &Scvi,
    registry: &Registry,
    data: &'a AnnData,
    backed: Option<&Path>,
) -> Result<QueryCells<'a>> {
    fits::check(registry, data)?;
    if MinifyKind::of(data)?.is_some_and(|kind| !kind.has_counts()) {
        let cells = Cells::for_model(data, registry).map_err(|e| Error::from(e).explained())?;
        return Ok(QueryCells {
            cells,
            empty: Vec::new(),
            watch: Watch::idle(),
            _spinner: Some(Spinner::new("computing".into())),
        });
    }
    let layer = registry.setup.layer.as_deref();
    let counts: Box<dyn RowSource + 'a> = match backed {
        Some(path) => Box::new(sc_io::h5ad::read_backed(path, layer)?),
        None => Box::new(data.matrix(layer)?),
    };
    let counts = Watched::new(counts);
    let watch = counts.handle();
    // The model of a query is used on the query, which may lack genes of the reference.
    let cells = match model.query() {
        Some(_) => Cells::from_source_for_mapped(counts, data, registry),
        None => Cells::from_source_for_model(counts, data, registry),
    };
    let cells = cells.map_err(|e| Error::from(e).explained())?;
    watch.start("checking the counts", cells.n_cells());
    let empty = cells.check_counts(model.config(), NonInteger::Warn)?;
    watch.start("computing", cells.n_cells());
    Ok(QueryCells {
        cells,
        empty,
        watch,
        _spinner: None,
    })
}

/// Some rows with their names, for messages: `3 (AAACC-1), 17 (AAAGG-1), ...`.
pub(crate) fn name_rows(rows: &[usize], names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text: Vec<String> = rows
        .iter()
        .take(SHOWN)
        .map(|&r| {
            names
                .get(r)
                .map_or_else(|| r.to_string(), |name| format!("{r} ({name})"))
        })
        .collect();
    if rows.len() > SHOWN {
        text.push("...".into());
    }
    text.join(", ")
}

/// The most memory this process has held, in bytes; 0 where the system does not say.
pub(crate) fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kib| kib * 1024)
}

/// Bytes in a unit that people read.
pub(crate) fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rows_are_readable() {
        assert_eq!(human_bytes(999), "999 B");
        assert_eq!(human_bytes(1_200), "1.2 kB");
        assert_eq!(human_bytes(3_400_000_000), "3.4 GB");
        let names: Vec<String> = ["a", "b"].map(str::to_owned).to_vec();
        assert_eq!(name_rows(&[1, 7], &names), "1 (b), 7");
        assert!(name_rows(&[0; 9], &names).ends_with("..."));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_known() {
        assert!(peak_rss_bytes() > 100_000);
    }
}
