use sc_data::{RowSource, Rows};
use sc_tests::{json, shared};
use sc_transformer::perturb_metrics::{
    Baselines, ChangedGenes, Correlations, Effects, GenesCompared, compare, compare_means,
};
use sc_transformer::tokens::preprocess::{PreprocessOptions, Target, preprocess};
use sc_transformer::tokens::{Perturbation, PerturbationOptions, PerturbationTokens};
use sc_transformer::vocab::{GeneCase, GeneVocab, SPECIALS};

use crate::common::*;

/// One of the correlations.
type Kind = fn(&Correlations) -> f64;

#[test]
fn perturbation_metrics() {
    let Some(golden) = load("perturbation/metrics_inputs.safetensors") else {
        return;
    };
    let about = json(
        &crate::common::golden()
            .unwrap()
            .join("perturbation/metrics.json"),
    );
    let [truth, pred, control] = ["truth", "pred", "control"].map(|key| dense(&golden[key]));
    let conditions = texts(&about["pert_cat"]);
    let names = texts(&about["gene_names"]);
    let genes = |key: &str| {
        let lists = about[key].as_object().unwrap();
        ChangedGenes::new(lists.iter().map(|(name, list)| {
            // "cell_A+ctrl_1+1"
            let condition = name.split('_').nth(1).unwrap().to_owned();
            let places = texts(list)
                .iter()
                .take(20)
                .map(|g| names.iter().position(|n| n == g).unwrap())
                .collect();
            (condition, places)
        }))
    };
    let runs = [
        (
            "non_zero_genes=False",
            GenesCompared::All,
            genes("de_genes_ranked"),
        ),
        (
            "non_zero_genes=True",
            GenesCompared::NonZero,
            genes("top_non_dropout_de_20"),
        ),
    ];
    for (key, which, changed) in runs {
        let found = compare(
            truth.view(),
            pred.view(),
            &conditions,
            control.view(),
            &changed,
            which,
        )
        .unwrap();
        let listed: Vec<&String> = found.conditions.iter().map(|c| &c.0).collect();
        assert_eq!(
            listed,
            texts(&about["conditions_sorted"])
                .iter()
                .collect::<Vec<_>>()
        );
        let of: [(&str, Kind); 4] = [
            ("pearson", |c| c.pearson),
            ("pearson_de", |c| c.pearson_de),
            ("pearson_delta", |c| c.pearson_delta),
            ("pearson_de_delta", |c| c.pearson_de_delta),
        ];
        for (name, of) in of {
            let expected = &about["expected"][key];
            for (c, e) in found.conditions.iter().zip(f64s(&expected["raw"][name])) {
                assert!((of(&c.1) - e).abs() < 1e-5, "{key} {name} {}", c.0);
            }
            assert!(
                (of(&found.mean) - expected["mean"][name].as_f64().unwrap()).abs() < 1e-5,
                "{key} {name}"
            );
        }
    }
}

/// CRISPR activation in K562 cells: pairs of genes, predicted from single ones.
#[test]
fn baselines_on_real_cells() {
    let Some(dir) = shared() else { return };
    let cells =
        sc_io::read(dir.join("data/perturb/perturb_norman19_mcfaline23_counts.h5ad")).unwrap();
    let column = |name: &str| {
        cells
            .obs
            .column("obs", name)
            .unwrap()
            .to_categorical(name)
            .unwrap()
    };
    let (lines, conditions) = (column("cell_type"), column("condition"));
    let rows: Vec<usize> = (0..cells.n_obs())
        .filter(|&i| lines.get(i) == Some("k562"))
        .collect();
    let counts = cells.matrix(None).unwrap();
    let of_line = Rows::new(counts, rows.clone()).unwrap();
    let options = PreprocessOptions {
        target: Some(Target::Total(1e4)),
        log1p: true,
        ..PreprocessOptions::default()
    };
    let prepared = preprocess(&of_line, &options, None).unwrap();
    let logs = prepared.source(&of_line).unwrap();
    let names: Vec<&str> = rows.iter().map(|&i| conditions.get(i).unwrap()).collect();
    let done: Vec<Perturbation> = names
        .iter()
        .map(|n| Perturbation::parse(n, "control"))
        .collect();

    let of = |genes: usize| -> Vec<usize> {
        (0..done.len())
            .filter(|&i| done[i].genes().len() == genes)
            .collect()
    };
    let read = |rows: &[usize]| logs.read_rows(rows).unwrap().to_dense();
    let (control, single, double) = (read(&of(0)), read(&of(1)), read(&of(2)));
    let named = |genes: usize| -> Vec<&str> { of(genes).iter().map(|&i| names[i]).collect() };
    assert!(control.nrows() >= 100 && single.nrows() > 500 && double.nrows() > 500);
    let training = Effects::new(single.view(), &named(1), control.view()).unwrap();
    let truth = Effects::new(double.view(), &named(2), control.view()).unwrap();
    let baselines = Baselines::new(&training, "control").unwrap();
    let changed = ChangedGenes::by_effect(&truth, 20);
    let score = |of: &dyn Fn(&Perturbation) -> ndarray::Array1<f64>| {
        let means = truth
            .conditions()
            .map(|c| (c.clone(), of(&Perturbation::parse(c, "control"))));
        let predicted = Effects::from_means(truth.control().to_owned(), means).unwrap();
        compare_means(&truth, &predicted, &changed, GenesCompared::All)
            .unwrap()
            .mean
    };
    let none = score(&|_| baselines.no_change());
    let mean = score(&|_| baselines.mean());
    let additive = score(&|p| baselines.additive(p));
    eprintln!("no change {none:?}\nmean {mean:?}\nadditive {additive:?}");
    // Predicting no change at all looks good by the plain correlation, which is why it says little.
    assert!(none.pearson > 0.95 && none.pearson_delta.is_nan());
    assert!(mean.pearson_delta > 0.1 && additive.pearson_delta > 0.1);

    // The same cells as tokens.
    let vocab = GeneVocab::read(dir.join("data/vocab/default_census_vocab.json"))
        .unwrap()
        .with_specials(&SPECIALS)
        .unwrap();
    let genes = vocab
        .match_genes(cells.var.index(), GeneCase::Exact)
        .unwrap();
    let options = PerturbationOptions {
        max_genes: Some(100),
        ..PerturbationOptions::default()
    };
    let tokens = PerturbationTokens::new(&logs, &genes, &vocab, &done, options).unwrap();
    let some: Vec<usize> = tokens
        .cells()
        .iter()
        .copied()
        .filter(|&c| !done[c].is_control())
        .take(64)
        .collect();
    let batch = tokens.batch(&some, 0).unwrap();
    batch.check().unwrap();
    let flags = batch.flags.as_ref().unwrap();
    for (s, &cell) in batch.segments.iter().zip(&batch.cells) {
        let perturbed: u32 = flags[s.start..s.start + s.rows].iter().sum();
        assert_eq!(
            (s.rows, perturbed as usize),
            (100, done[cell].genes().len())
        );
    }
}
