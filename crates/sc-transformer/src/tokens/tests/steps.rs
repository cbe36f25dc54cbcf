use ndarray::array;
use sc_data::RowSource;

use super::*;

#[test]
fn pairs_before_and_after() {
    let data = array![
        [1.0f32, 0.0, 2.0, 0.5],
        [0.5, 0.0, 1.0, 0.0],
        [0.0, 3.0, 0.0, 1.0],
        [0.1, 0.2, 0.3, 0.4],
        [9.0, 9.0, 9.0, 9.0]
    ];
    let vocab = vocab(4);
    let genes = vocab
        .match_genes(&["g0", "g1", "x", "g3"], GeneCase::Exact)
        .unwrap();
    let conditions =
        ["ctrl", "ctrl", "g1+ctrl", "g3+g0", "absent"].map(|c| Perturbation::parse(c, "ctrl"));
    let options = PerturbationOptions {
        max_genes: Some(2),
        ..PerturbationOptions::default()
    };
    let tokens = PerturbationTokens::new(&data, &genes, &vocab, &conditions, options).unwrap();
    assert_eq!(
        (tokens.cells(), tokens.controls()),
        ([0, 1, 2, 3].as_slice(), [0, 1].as_slice())
    );
    assert_eq!(tokens.unmeasured(), ["absent"]);
    let mut partners = std::collections::BTreeSet::new();
    for pass in 0..20 {
        let batch = tokens.batch(&[2, 1], pass).unwrap();
        batch.check().unwrap();
        assert_eq!(batch.n_tokens(), 4);
        let flags = batch.flags.as_ref().unwrap();
        // The perturbed gene is always there.
        let at = batch.ids[..2].iter().position(|&g| g == 1).unwrap();
        assert_eq!(
            (flags[at], flags[1 - at], flags[2], flags[3]),
            (PERTURBED, UNPERTURBED, UNPERTURBED, UNPERTURBED)
        );
        assert_eq!((batch.targets[at], batch.values[at]), (3.0, 0.0));
        let other = batch.ids[1 - at];
        let control = if other == 0 { [1.0, 0.5] } else { [0.5, 0.0] };
        partners.insert(
            control
                .iter()
                .position(|&v| v == batch.values[1 - at])
                .unwrap(),
        );
        // Controls are their own targets.
        assert_eq!(batch.values[2..], batch.targets[2..]);
    }
    assert_eq!(partners.len(), 2);
    let batch = tokens.predict(&[0], &Perturbation::new(["g0"])).unwrap();
    assert_eq!(
        (batch.ids.as_slice(), batch.flags.unwrap().as_slice()),
        ([0, 1, 3].as_slice(), [1, 0, 0].as_slice())
    );
    assert!(tokens.predict(&[0], &Perturbation::new(["x"])).is_err());
    assert_eq!(tokens.perturbation(3).unwrap().to_string(), "g0+g3");

    let pad = PerturbationOptions {
        unknown: UnknownGenes::AsPad,
        max_genes: None,
        ..options
    };
    let tokens = PerturbationTokens::new(&data, &genes, &vocab, &conditions, pad).unwrap();
    let batch = tokens.batch(&[0], 0).unwrap();
    assert_eq!(
        (batch.ids.as_slice(), batch.values.as_slice()),
        ([0, 1, 4, 3].as_slice(), [1.0, 0.0, 2.0, 0.5].as_slice())
    );
    let none = conditions.clone().map(|_| Perturbation::new(["g0"]));
    let message = PerturbationTokens::new(&data, &genes, &vocab, &none, pad)
        .err()
        .unwrap()
        .to_string();
    assert!(message.contains("no cell is a control"), "{message}");
}

#[test]
fn steps_before_tokens() {
    use super::preprocess::*;
    let data = array![
        [4.0f32, 0.0, 6.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
        [2.0, 0.0, 0.0, 2.0]
    ];
    let options = PreprocessOptions {
        min_gene_counts: Some(1.0),
        min_cell_counts: Some(2.0),
        target: Some(Target::Total(10.0)),
        ..PreprocessOptions::default()
    };
    let found = preprocess(&data, &options, None).unwrap();
    assert_eq!(
        (found.cells.as_slice(), found.genes.as_slice()),
        ([0, 2].as_slice(), [0, 2, 3].as_slice())
    );
    let source = found.source(&data).unwrap();
    let all = source.read_range(0..2).unwrap().to_dense();
    assert_eq!(all, array![[4.0, 6.0, 0.0], [5.0, 0.0, 5.0]]);
    assert_eq!(
        source.read_rows(&[1, 0]).unwrap().to_dense().row(0),
        all.row(1)
    );
    assert!(source.read_rows(&[2]).is_err());
    // A gene that is wanted stays, however rare.
    let wanted = PreprocessOptions {
        always: vec![1],
        ..options.clone()
    };
    assert_eq!(
        preprocess(&data, &wanted, None).unwrap().genes,
        [0, 1, 2, 3]
    );
    let nothing = PreprocessOptions {
        min_gene_counts: Some(100.0),
        ..options.clone()
    };
    assert!(
        preprocess(&data, &nothing, None)
            .unwrap_err()
            .to_string()
            .contains("min_gene_counts")
    );
    assert!(
        preprocess(
            &data,
            &PreprocessOptions {
                always: vec![4],
                ..options
            },
            None
        )
        .is_err()
    );
}
