//! Files and data, good and bad.

use super::*;

#[test]
fn data_that_cannot_be_used() {
    let model = small(3, DType::F32);
    let good = Csr::from_dense(&array![[1f32, 2.0, 0.0], [0.0, 0.0, 0.0]]);
    let of = |counts: &Csr, genes: &[&str], config: &CellsConfig| {
        model.cells(counts, genes, config).map(|c| c.len())
    };
    assert_eq!(of(&good, &["g2", "g0", "other"], &any_number()).unwrap(), 1);
    let error = of(&good, &["a", "b", "c"], &any_number()).unwrap_err();
    assert!(matches!(error, Error::NoGenesInCommon { .. }));
    assert!(
        error.to_string().contains("g0, g1, g2") && error.to_string().contains("a, b, c"),
        "{error}"
    );
    assert!(matches!(
        of(&good, &["g0", "g1"], &any_number()),
        Err(Error::Data(_))
    ));
    let error = of(&good, &["g0", "g1", "g2"], &CellsConfig::default()).unwrap_err();
    assert!(matches!(error, Error::NoCells { found: 2, .. }), "{error}");
    for value in [f32::NAN, f32::INFINITY, -1.0] {
        let bad = Csr::from_dense(&array![[1f32, 1.0, 1.0], [1.0, 0.0, value]]);
        let error = of(&bad, &["g0", "g1", "g2"], &any_number()).unwrap_err();
        assert!(
            matches!(&error, Error::BadCount { cell: 1, gene, .. } if gene == "g2"),
            "{error}"
        );
    }
    for tokens in [vec![], vec![0; 3], vec![0, 0, 9, 0]] {
        assert!(model.encode(&tokens, Stabiliser::PerSequence).is_err());
    }
    let cells = model
        .cells(&good, &["g0", "g1", "g2"], &any_number())
        .unwrap();
    assert!(matches!(cells.tokens(&[1]), Err(Error::Data(_))));
    assert!(matches!(
        model.classify(&cells),
        Err(Error::WrongHead { .. })
    ));
    let two = model.with_classes(&labels(&["a", "b"]), 0).unwrap();
    assert!(matches!(
        two.labelled(&cells, &Categorical::from_labels(&["a"])),
        Err(Error::Data(_))
    ));
    // The second cell was left out, and its label with it; one of a cell that stays must be known.
    assert!(
        two.labelled(&cells, &Categorical::from_labels(&["z", "a"]))
            .is_err()
    );
}

#[test]
fn panels() {
    assert!(matches!(
        GenePanel::new(Vec::<String>::new()),
        Err(Error::Panel { .. })
    ));
    assert!(
        GenePanel::new(["a", "b", "a"])
            .unwrap_err()
            .to_string()
            .contains("a is both gene 1 and gene 3")
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("genes.txt");
    std::fs::write(&path, "\u{feff}A1BG\r\nA1CF\r\n\r\nA2M \n").unwrap();
    let read = GenePanel::read(&path).unwrap();
    assert_eq!(read.names(), ["A1BG", "A1CF", "A2M"]);
    assert!(matches!(
        GenePanel::read(dir.path().join("none")),
        Err(Error::File { .. })
    ));
    let found = read.align(&["A2M", "x", "A1BG", "A2M"]).unwrap();
    assert_eq!((found.n_found(), found.n_extra()), (2, 1));
    assert_eq!(found.missing(), ["A1CF"]);
    assert_eq!(found.duplicated(), ["A2M"]);
    assert_eq!(found.positions, [Some(2), None, Some(0), None]);
}

#[test]
fn checkpoints_of_other_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/yet/there/model.pth");
    let model = small(5, DType::F32);
    model.save_scbert(&path).unwrap();
    let open = |panel, options: &UpstreamOptions| {
        Scbert::from_scbert(&path, panel, options, &Device::Cpu).map(|_| ())
    };
    open(panel(5), &UpstreamOptions::default()).unwrap();
    let error = open(panel(6), &UpstreamOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("6 genes") && error.contains("for 5"),
        "{error}"
    );

    // A file that lacks a tensor, has one too many and one of another shape.
    use sc_io::pytorch::{self, Dict, TorchTensor, Value};
    let root = pytorch::read(&path).unwrap();
    let state = root
        .get("model_state_dict")
        .unwrap()
        .as_dict()
        .unwrap()
        .clone();
    let mut pairs: Vec<(String, Value)> = state
        .iter_str()
        .map(|(n, v)| (format!("module.{n}"), v.clone()))
        .collect();
    let number = || Value::from(TorchTensor::from_f32(&[1], &[0.0]).unwrap());
    pairs.retain(|(n, _)| !n.ends_with("layers.2.0.norm.bias"));
    pairs.push(("module.extra".into(), number()));
    for (n, v) in &mut pairs {
        if n.ends_with("layers.1.1.fn.fn.w1.bias") {
            *v = number();
        }
    }
    pytorch::write(&path, &Dict::ordered(pairs).into()).unwrap();
    let Err(Error::OtherTensors {
        missing,
        unexpected,
        shapes,
        ..
    }) = open(panel(5), &UpstreamOptions::default())
    else {
        panic!("was read");
    };
    assert_eq!(missing, ["performer.net.layers.2.0.norm.bias"]);
    assert_eq!(unexpected, ["extra"]);
    assert_eq!(
        shapes,
        ["performer.net.layers.1.1.fn.fn.w1.bias is [1] instead of [20]"]
    );

    std::fs::write(&path, b"no checkpoint").unwrap();
    assert!(matches!(
        open(panel(5), &UpstreamOptions::default()),
        Err(Error::Checkpoint(_))
    ));
    pytorch::write(&path, &Value::Int(3)).unwrap();
    assert!(
        open(panel(5), &UpstreamOptions::default())
            .unwrap_err()
            .to_string()
            .contains("no checkpoint of scBERT")
    );
}

#[test]
fn numpy_tables() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.npy");
    let file = |header: &str, data: &[u8]| {
        let mut all = b"\x93NUMPY\x01\x00".to_vec();
        all.extend((header.len() as u16).to_le_bytes());
        all.extend(header.as_bytes());
        all.extend(data);
        std::fs::write(&path, all).unwrap();
        GeneVectors::read_npy(&path)
    };
    let doubles = |v: &[f64]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let six = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let rows = file(
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }\n",
        &doubles(&six),
    )
    .unwrap();
    assert_eq!(rows.values(), array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    let columns = file(
        "{'descr': '<f8', 'fortran_order': True, 'shape': (3, 2), }\n",
        &doubles(&six),
    )
    .unwrap();
    assert_eq!(columns.values(), array![[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
    let singles: Vec<u8> = [0.5f32, -2.0]
        .iter()
        .flat_map(|x| x.to_be_bytes())
        .collect();
    let big = file(
        "{'descr': '>f4', 'fortran_order': False, 'shape': (1, 2)}",
        &singles,
    )
    .unwrap();
    assert_eq!(big.values(), array![[0.5, -2.0]]);
    for (header, data) in [
        (
            "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2)}",
            doubles(&six[..5]),
        ),
        (
            "{'descr': '<f8', 'fortran_order': False, 'shape': (6,)}",
            doubles(&six),
        ),
        (
            "{'descr': '<i8', 'fortran_order': False, 'shape': (3, 2)}",
            doubles(&six),
        ),
        (
            "{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999, 9999999999)}",
            doubles(&six),
        ),
        ("", vec![]),
        ("{'descr': '<f8', 'fortran_order': False}", vec![]),
    ] {
        assert!(
            matches!(file(header, &data), Err(Error::Npy { .. })),
            "{header}"
        );
    }
    assert!(
        file(
            "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1)}",
            &doubles(&[f64::NAN])
        )
        .is_err()
    );
    std::fs::write(&path, b"\x93NUMPY\x01\x00\xff\xff{").unwrap();
    assert!(matches!(
        GeneVectors::read_npy(&path),
        Err(Error::Npy { .. })
    ));
    let wrong = Scbert::params(panel(4)).dim(2).gene_vectors(rows).check();
    assert!(matches!(wrong, Err(Error::InvalidSetting { .. })));
}

#[test]
fn gene_vectors_are_kept_as_they_were_given() {
    let vectors = array![[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]];
    let params = Scbert::params(panel(3))
        .dim(2)
        .depth(1)
        .heads(1)
        .dim_head(2)
        .features(3);
    let model = params
        .gene_vectors(GeneVectors::new(vectors.clone()).unwrap())
        .check()
        .unwrap();
    let model = model.init(&Device::Cpu, 0).unwrap();
    let kept = model.parameters().get("pos_emb.emb.weight").unwrap();
    assert_eq!(kept.value().dtype(), DType::F64);
    let kept: Vec<Vec<f64>> = kept.value().to_vec2().unwrap();
    assert_eq!(
        kept[..3],
        vectors
            .rows()
            .into_iter()
            .map(|r| r.to_vec())
            .collect::<Vec<_>>()
    );
    assert_eq!(kept[3], [0.0, 0.0]);
}
