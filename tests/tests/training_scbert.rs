//! scBERT from nothing on real cells: it learns to predict hidden expression, and then the types of cells, far better than
//! chance.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use candle_core::Device;
use sc_data::{AnnData, Categorical, Csr};
use sc_model::{Classify, LrSchedule, Parity};
use sc_preprocess::{HvgFlavor, highly_variable_genes};
use sc_transformer::scbert::{
    CellsConfig, FinetuneConfig, GenePanel, PretrainConfig, Scbert, ScbertCells,
};

const GENES: usize = 200;

struct Worm {
    counts: Csr,
    genes: Vec<String>,
    types: Categorical,
}

/// Neurons of worm embryos, and the genes that vary most.
fn worm() -> Worm {
    let data: AnnData = sc_io::h5ad::read(sc_tests::data().join("worm_embryo.h5ad")).unwrap();
    let counts = data.matrix(None).unwrap();
    let chosen = highly_variable_genes(counts, GENES, HvgFlavor::SeuratV3).unwrap();
    let types = data
        .obs
        .column("obs", "cell.type")
        .unwrap()
        .to_categorical("cell.type")
        .unwrap();
    Worm {
        genes: chosen
            .genes
            .iter()
            .map(|&g| data.var.index()[g].clone())
            .collect(),
        counts: counts.to_csr().select_columns(&chosen.columns()).unwrap(),
        types,
    }
}

/// The share of the most frequent among `values`.
fn chance<T: std::hash::Hash + Eq>(values: impl Iterator<Item = T>) -> f64 {
    let mut counts = std::collections::HashMap::new();
    values.for_each(|v| *counts.entry(v).or_insert(0usize) += 1);
    *counts.values().max().unwrap() as f64 / counts.values().sum::<usize>() as f64
}

fn model(worm: &Worm) -> Scbert {
    let panel = GenePanel::new(worm.genes.iter().cloned()).unwrap();
    let params = Scbert::params(panel)
        .dim(32)
        .depth(2)
        .heads(2)
        .dim_head(16)
        .classifier_hidden([64, 32]);
    params.check().unwrap().init(&Device::Cpu, 0).unwrap()
}

fn cells<'a>(model: &Scbert, worm: &'a Worm) -> ScbertCells<'a> {
    let mut config = CellsConfig::default();
    config.min_genes = 10;
    // For few genes, less than the 10,000 of all: about the sum of a cell's counts, so that tokens differ.
    config.target_sum = 300.0;
    model.cells(&worm.counts, &worm.genes, &config).unwrap()
}

#[test]
fn learns_expression_and_then_types() {
    let worm = worm();
    let model = model(&worm);
    let cells = cells(&model, &worm);
    let mut config = PretrainConfig::default();
    config.micro_batch = Some(32);
    config.train.batch_size = 32;
    config.train.lr = 2e-3;
    config.train.lr_schedule = LrSchedule::Constant;
    config.train.max_epochs = Some(6);
    let fitted = model.pretrain(&cells, &config, &mut ()).unwrap();
    let losses = fitted.history.values("validation_loss");
    let accuracy = fitted.history.last("accuracy_validation").unwrap();
    let all: Vec<usize> = (0..cells.len()).collect();
    let expressed = chance(cells.tokens(&all).unwrap().into_iter().filter(|&t| t > 0));
    eprintln!("hidden expression: loss {losses:?}, accuracy {accuracy:.3}, chance {expressed:.3}");
    assert!(losses.last() < losses.first());
    assert!(accuracy > expressed + 0.1, "{accuracy} {expressed}");

    let tuned = model.with_classes(worm.types.categories(), 0).unwrap();
    let labelled = tuned.labelled(&cells, &worm.types).unwrap();
    let mut config = FinetuneConfig::default();
    config.micro_batch = Some(32);
    config.train.batch_size = 32;
    config.train.lr = 2e-3;
    config.train.lr_schedule = LrSchedule::Constant;
    config.train.max_epochs = Some(8);
    let fitted = tuned.finetune(&labelled, &config, &mut ()).unwrap();
    let history = fitted.history.values("accuracy_validation");
    let best = history.iter().copied().fold(0.0, f64::max);
    let majority = chance(cells.kept().iter().map(|&c| worm.types.codes()[c]));
    eprintln!("types: accuracy {history:?}, chance {majority:.3}");

    // The weights are those of the best epoch.
    let predicted = tuned.classify(&cells).unwrap().best().0;
    let right = |c: &&usize| worm.types.codes()[cells.kept()[**c]] == Some(predicted[**c] as u32);
    let validation = &fitted.split.validation;
    let found = validation.iter().filter(right).count() as f64 / validation.len() as f64;
    assert!((found - best).abs() < 1e-12, "{found} {best}");
    assert!(best > majority + 0.3, "{best} {majority}");

    let importance = tuned
        .gene_importance_by_type(&cells, &worm.types, Parity::Correct)
        .unwrap();
    for label in &importance.labels {
        let ranked = importance.ranked_against_others(label).unwrap();
        eprintln!("{label}: {:?}", &ranked[..4]);
    }
}
