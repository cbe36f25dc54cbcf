use std::fmt::Write;
use std::path::{Path, PathBuf};

use sc_io::{Inspection, MatrixInfo, TableInfo};

use crate::common::{human_bytes, print, print_json};
use crate::error::{Error, Result};
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc inspect cells.h5ad
  sc inspect filtered_feature_bc_matrix.h5
  sc inspect cells.h5mu
  sc inspect cells.h5mu/rna
  sc inspect cells.h5ad --json | jq '.obs.columns[].name'";

/// Say what a file holds, without reading its matrices
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// .h5ad, .h5mu, Cell Ranger .h5, .loom, .csv or .tsv, or a folder with matrix.mtx
    file: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.file.is_dir() {
        refuse_model(&args.file)?;
    }
    let found = {
        let _spinner = Spinner::new(format!("reading {}", args.file.display()));
        sc_io::inspect(&args.file)?
    };
    if args.json {
        print_json(&found)
    } else {
        print(describe(&found).trim_end())
    }
}

fn refuse_model(dir: &Path) -> Result<()> {
    if !sc_model::save::is_saved_model(dir) && !sc_latent::is_scvi_tools_model(dir) {
        return Ok(());
    }
    Err(Error::Message(format!(
        "{}: is a folder with a model, and files of cells are looked at here; `sc hub inspect` describes hub folders",
        dir.display()
    )))
}

/// Writing to a `String` cannot fail.
fn line(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "{name:<9} {text}");
}

fn describe(found: &Inspection) -> String {
    let mut out = String::new();
    line(
        &mut out,
        "file",
        &format!(
            "{} ({})",
            found.path.display(),
            human_bytes(found.file_bytes)
        ),
    );
    line(
        &mut out,
        "format",
        &format!("{}, {}", found.format, found.encoding),
    );
    line(
        &mut out,
        "shape",
        &format!("{} cells x {} features", found.n_obs, found.n_vars),
    );
    if let Some(n) = found.n_paired {
        line(
            &mut out,
            "paired",
            &format!("{n} cells have all modalities"),
        );
    }
    line(
        &mut out,
        "memory",
        &format!(
            "about {} for all matrices",
            human_bytes(found.memory_bytes())
        ),
    );
    contents(&mut out, found);
    for (name, modality) in &found.modalities {
        out.push('\n');
        let shape = format!("{} cells x {} features", modality.n_obs, modality.n_vars);
        line(&mut out, "modality", &format!("{name}, {shape}"));
        contents(&mut out, modality);
    }
    out
}

fn contents(out: &mut String, found: &Inspection) {
    if let Some(x) = &found.x {
        line(out, "X", &matrix(x));
    }
    for (name, m) in &found.layers {
        line(out, "layer", &format!("{name}: {}", matrix(m)));
    }
    if let Some(m) = &found.raw {
        line(
            out,
            "raw",
            &format!("{} x {}, {}", m.shape.0, m.shape.1, matrix(m)),
        );
    }
    table(out, "obs", &found.obs);
    table(out, "var", &found.var);
    for (name, all) in [
        ("obsm", &found.obsm),
        ("varm", &found.varm),
        ("obsp", &found.obsp),
        ("varp", &found.varp),
    ] {
        for (key, what) in all {
            line(out, name, &format!("{key}: {what}"));
        }
    }
    if !found.uns.is_empty() {
        line(out, "uns", &found.uns.join(", "));
    }
    for text in &found.notes {
        line(out, "note", text);
    }
}

fn matrix(m: &MatrixInfo) -> String {
    let mut text = format!("{} {}", m.storage, m.dtype);
    if m.storage != "dense" {
        let _ = write!(text, ", {} stored ({:.1} %)", m.n_stored, 100.0 * m.density);
    }
    if !m.filters.is_empty() {
        let _ = write!(text, ", {}", m.filters.join(" + "));
    }
    text
}

fn table(out: &mut String, name: &str, table: &TableInfo) {
    let mut names = table.index.join(", ");
    if table.n_rows > table.index.len() {
        names.push_str(", ...");
    }
    line(out, name, &format!("{} rows: {names}", table.n_rows));
    for column in &table.columns {
        let mut text = format!("  {}: {}", column.name, column.kind);
        if let Some(n) = column.n_categories {
            let _ = write!(text, ", {n} categories");
        }
        if !column.examples.is_empty() {
            let _ = write!(text, " ({}", column.examples.join(", "));
            let all = column.n_categories.unwrap_or(table.n_rows);
            text.push_str(if all > column.examples.len() {
                ", ...)"
            } else {
                ")"
            });
        }
        let _ = writeln!(out, "{:<8}{text}", "");
    }
}
