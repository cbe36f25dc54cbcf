//! Tables of genes, as text.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use sc_transformer::network::{Enriched, EnrichmentOptions, GeneSets, enrich};

use crate::common::check_writable;
use crate::error::{Error, Result};

/// Gene sets to compare lists of genes with.
#[derive(Debug, clap::Args)]
pub(super) struct Sets {
    /// Gene sets (.gmt): test which of them each list of genes has more of than chance explains
    #[arg(long, value_name = "FILE", requires = "enrichment")]
    gmt: Option<PathBuf>,
    /// The file for these tests, tab-separated
    #[arg(long, value_name = "OUT.tsv", requires = "gmt")]
    enrichment: Option<PathBuf>,
}

impl Sets {
    /// The sets and the file for the tests, if they are wanted.
    pub(super) fn read(&self) -> Result<Option<(GeneSets, &Path)>> {
        let (Some(gmt), Some(out)) = (&self.gmt, &self.enrichment) else {
            return Ok(None);
        };
        check_table(out)?;
        Ok(Some((GeneSets::read_gmt(gmt)?, out)))
    }
}

/// The sets that each list, which has a name, has more of than chance explains.
pub(super) fn test_sets<'a>(
    (sets, out): (&GeneSets, &Path),
    kind: &str,
    lists: impl Iterator<Item = (String, Vec<&'a str>)>,
    background: &[&'a str],
) -> Result<()> {
    let mut text = format!("{kind}\tset\toverlap\tset_size\tfold\tp\tfdr\tbonferroni\tgenes\n");
    for (name, genes) in lists {
        for e in enrich(&genes, background, sets, EnrichmentOptions::default())? {
            push(&mut text, &name, &e);
        }
    }
    write_table(out, &text)
}

fn push(text: &mut String, name: &str, e: &Enriched) {
    if e.overlap.is_empty() {
        return;
    }
    // Writing to a string can't fail.
    let _ = writeln!(
        text,
        "{name}\t{}\t{}\t{}\t{:.4}\t{:e}\t{:e}\t{:e}\t{}",
        e.set,
        e.overlap.len(),
        e.size,
        e.fold,
        e.p,
        e.fdr,
        e.bonferroni,
        e.overlap.join(",")
    );
}

/// Makes sure that a table can be written before anything long is computed.
pub(super) fn check_table(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::Message(format!(
            "{}: is a folder; give the name of a file",
            path.display()
        )));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    check_writable(folder.unwrap_or(Path::new(".")))
}

/// Writes a file, whole or not at all.
pub(super) fn write_table(path: &Path, text: &str) -> Result<()> {
    Ok(sc_model::files::write_atomic(path, |f| {
        f.write_all(text.as_bytes())
    })?)
}
