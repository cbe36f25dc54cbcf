//! The text of a model card.

use std::fmt::Write;

use super::card::{CardHeader, ModelCard};
use super::facts::ModelFacts;
use super::folder::PackOptions;
use super::metadata::pretty;
use super::metrics::{CvTable, Metrics};
use crate::Result;

const UNKNOWN: &str = "Not provided by uploader";

/// The card of a model.
pub(super) fn card(facts: &ModelFacts, options: &PackOptions) -> Result<ModelCard> {
    Ok(ModelCard {
        header: header(facts, options),
        body: body(facts, options)?,
    })
}

fn header(facts: &ModelFacts, options: &PackOptions) -> CardHeader {
    let mut tags: Vec<String> = ["biology", "genomics", "single-cell"]
        .map(str::to_owned)
        .to_vec();
    tags.push(format!("model_cls_name:{}", facts.class));
    tags.push(format!("scvi_version:{}", facts.scvi_version));
    tags.push(format!("anndata_version:{}", options.anndata_version));
    tags.extend(options.modalities.iter().map(|m| format!("modality:{m}")));
    tags.extend(options.tissues.iter().map(|t| format!("tissue:{t}")));
    if let Some(annotated) = options.is_annotated {
        // As Python prints it.
        let annotated = if annotated { "True" } else { "False" };
        tags.push(format!("annotated:{annotated}"));
    }
    CardHeader {
        library_name: Some("scvi-tools".into()),
        license: options.license.clone(),
        tags,
        other: std::collections::BTreeMap::new(),
    }
}

fn body(facts: &ModelFacts, options: &PackOptions) -> Result<String> {
    let or_unknown = |text: &str| match text.trim() {
        "" => UNKNOWN.to_owned(),
        text => text.to_owned(),
    };
    let url = |url: &Option<String>| url.clone().unwrap_or_else(|| UNKNOWN.into());
    let mut out = String::new();
    let mut section = |title: &str, text: &str| {
        let _ = write!(out, "{title}\n\n{}\n\n", text.trim());
    };
    section(&format!("# {}", facts.class), introduction(&facts.class));
    section("# Model Description", &or_unknown(&options.description));
    section("# Metrics", &metrics(&options.metrics));
    section("# Model Properties", "");
    section(
        "## Model Parameters",
        &format!(
            "What the model was made with:\n\n```json\n{}\n```",
            pretty(&facts.init_params)?
        ),
    );
    section(
        "## Setup Data Arguments",
        &format!(
            "Which columns of the data mean what:\n\n```json\n{}\n```",
            pretty(&facts.setup_args)?
        ),
    );
    section("## Summary Statistics", &summary(facts));
    section("## Data Registry", &registry(facts));
    section(
        "## Training",
        &format!(
            "**Training data url**: {}\n\n**Training Code URL**: {}",
            url(&options.training_data_url),
            url(&options.training_code_url)
        ),
    );
    section("# References", &or_unknown(&options.references));
    Ok(format!("{}\n", out.trim_end()))
}

/// What kind of model it is.
fn introduction(class: &str) -> &'static str {
    match class {
        "SCVI" => {
            "A variational auto-encoder of single-cell counts (Lopez et al., Nature Methods 2018): it gives each cell a place \
             in a latent space in which batches are mixed, and its expression without noise."
        }
        "SCANVI" => {
            "scVI that also knows the labels of some cells (Xu et al., Molecular Systems Biology 2021): it gives each cell a \
             place in a latent space, its expression without noise, and the probability of each label."
        }
        "LinearSCVI" => {
            "scVI with a linear decoder (Svensson et al., Bioinformatics 2020): each dimension of its latent space has a \
             loading for each gene."
        }
        _ => "A model of scvi-tools.",
    }
}

fn summary(facts: &ModelFacts) -> String {
    let mut out = String::from("| Summary Stat Key | Value |\n| --- | --- |\n");
    for (name, value) in &facts.summary_stats {
        let _ = writeln!(out, "| {name} | {value} |");
    }
    out
}

fn registry(facts: &ModelFacts) -> String {
    let mut out = String::from("| Registry Key | scvi-tools Location |\n| --- | --- |\n");
    for (name, place) in &facts.data_registry {
        let _ = writeln!(out, "| {name} | {place} |");
    }
    let minified = if facts.is_minified() { "True" } else { "False" };
    let _ = write!(out, "\n- **Data is Minified**: {minified}");
    out
}

fn metrics(metrics: &Metrics) -> String {
    if metrics.is_empty() {
        return UNKNOWN.into();
    }
    let mut out = String::from(
        "How counts that the model generates compare with those it was trained on.\n\n",
    );
    let mut table = |title: &str, about: &str, table: Option<String>| {
        if let Some(table) = table {
            let _ = write!(out, "**{title}**: {about}\n\n{table}\n\n");
        }
    };
    table(
        "Cell-wise Coefficient of Variation",
        "how far the genes of a cell differ, generated against raw. Where R² is low, take the latent space and not the \
         generated counts.",
        metrics.cell_wise_cv.map(CvTable::to_markdown),
    );
    table(
        "Gene-wise Coefficient of Variation",
        "how far the cells differ in a gene, generated against raw.",
        metrics.gene_wise_cv.map(CvTable::to_markdown),
    );
    table(
        "Differential expression",
        "each group against the rest, generated against raw counts.",
        metrics.diff_exp_markdown(),
    );
    out
}
