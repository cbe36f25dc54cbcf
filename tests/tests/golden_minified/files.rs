//! Folders of minified cells, and those of scvi-tools.

use super::*;

/// The hub's data are worm_ref.h5ad, minified by scvi-tools with the same weights.
#[test]
fn minified_here_or_by_scvi_tools_is_the_same() {
    let Some(golden) = golden() else { return };
    let mut model = Scvi::from_scvi_tools(golden.join("models/worm_ref_ln"), &Device::Cpu).unwrap();
    let path = golden.join("data/worm_ref.h5ad");
    let data = sc_io::h5ad::read(&path).unwrap();
    let mut options = MinifyOptions::default();
    options.statistics_by = Some(vec!["cell_type".into(), "batch".into()]);
    let small = model.minify(&data, &options).unwrap();
    let theirs = sc_io::h5ad::read(golden.join("hub/worm_ref_ln_hub/adata.h5ad")).unwrap();
    for (key, tolerance) in [("scvi_latent_qzm", 2e-5), ("scvi_latent_qzv", 1e-4)] {
        let (a, b) = (numbers(matrix(&small, key)), numbers(matrix(&theirs, key)));
        assert!(worst(&a, &b, |x| x.abs().max(1.0)) <= tolerance, "{key}");
    }
    let sizes = |d: &AnnData| match d.obs.get("observed_lib_size") {
        Some(Column::Float32(v)) => v.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(sizes(&small), sizes(&theirs));
    let kind = "_scvi_adata_minify_type";
    assert_eq!(small.uns.get(kind), theirs.uns.get(kind));

    // From the file, minibatch by minibatch: the same bits.
    let annotations = sc_io::h5ad::read_annotations(&path).unwrap();
    let counts = sc_io::h5ad::read_backed(&path, None).unwrap();
    let cells = Cells::from_source_for_model(counts, &annotations, model.registry()).unwrap();
    let streamed = model
        .minify_cells(&cells, annotations.clone(), &[], &options)
        .unwrap();
    assert_eq!(streamed, small);

    // What is written reads back, with sums that are those of the counts.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("adata.h5ad");
    sc_io::h5ad::write(&file, &small, &sc_io::h5ad::WriteOptions::gzip(4)).unwrap();
    model.set_minified(Some(model.minified_keys(&options)));
    model.save_scvi_tools(folder.path()).unwrap();
    let again = Scvi::from_scvi_tools(folder.path(), &Device::Cpu).unwrap();
    let back = sc_io::h5ad::read_annotations(&file).unwrap();
    let cells = Cells::for_model(&back, again.registry()).unwrap();
    let counted = Cells::for_model(&data, again.registry()).unwrap();
    let adl = data
        .obs
        .get("cell_type")
        .unwrap()
        .to_categorical("")
        .unwrap();
    for keep in [true, false] {
        let rows: Vec<usize> = (0..data.n_obs())
            .filter(|&i| (adl.get(i) == Some("ADL")) == keep)
            .collect();
        let found = cells.gene_statistics(&rows).unwrap().unwrap();
        let expected = counted.gene_statistics(&rows).unwrap().unwrap();
        assert_eq!(found.origin, StatisticsOrigin::Stored);
        for (a, b) in [
            (&found.mean, &expected.mean),
            (&found.nonzero, &expected.nonzero),
            (&found.scaled_mean, &expected.scaled_mean),
        ] {
            assert!(worst(a, b, |x| x.abs().max(1e-3)) < 1e-6);
        }
    }
}

/// The folder that scvi-tools' HubModel wrote, and the same model packed here.
#[test]
fn the_hub_folder_of_scvi_tools() {
    let Some(golden) = golden() else { return };
    let dir = golden.join("hub/worm_ref_ln_hub");
    let theirs = HubModel::open(&dir).unwrap();
    assert_eq!(theirs.metadata().anndata_version, "0.12.19");
    let card = theirs.card().unwrap();
    assert_eq!(card.header.tag("tissue"), Some("whole embryo"));
    assert_eq!(card.header.tag("annotated"), Some("True"));
    assert_eq!(
        card.description(),
        Some("Golden reference model (test fixture).")
    );
    assert_eq!(card.references(), Some("Packer 2019"));
    let metrics = theirs.metrics().unwrap().unwrap();
    assert_eq!(metrics, card.metrics());
    assert_eq!(
        metrics.cell_wise_cv.unwrap().validation.unwrap().pearson,
        0.67
    );
    assert_eq!(
        (metrics.diff_exp.len(), metrics.diff_exp[8].group.as_str()),
        (9, "AWC_ON")
    );
    let facts = theirs.facts().unwrap();
    assert!(facts.is_minified() && facts.is_trained);
    assert_eq!(facts.summary_stats["n_cells"], 900);
    assert_eq!(facts.init_params["use_layer_norm"], "both");
    assert_eq!(
        facts.data_registry["observed_lib_size"],
        "adata.obs['observed_lib_size']"
    );
    let model = theirs.model(&Device::Cpu).unwrap();
    let data = sc_io::h5ad::read_annotations(theirs.adata_path().unwrap()).unwrap();
    let cells = Cells::for_model(&data, model.registry()).unwrap();
    assert_eq!(cells.n_cells(), 900);

    // The same answers, the same header and metadata, the same facts.
    let folder = tempfile::tempdir().unwrap();
    let mut options = PackOptions::default();
    options.license = Some("mit".into());
    options.description = card.description().unwrap().into();
    options.references = "Packer 2019".into();
    options.tissues = vec!["whole embryo".into()];
    options.is_annotated = Some(true);
    options.training_code_url = Some("somewhere".into());
    options.anndata_version = "0.12.19".into();
    options.metrics = metrics.clone();
    let ours = HubModel::pack(folder.path(), model, &options).unwrap();
    assert_eq!(ours.card().unwrap().header, card.header);
    let text = |dir: &Path| std::fs::read_to_string(dir.join(hub::METADATA)).unwrap();
    assert_eq!(text(folder.path()), text(&dir));
    let header = std::fs::read_to_string(golden.join("expected/worm_ref_ln_hub.card.json"));
    let header: serde_json::Value = serde_json::from_str(&header.unwrap()).unwrap();
    let card = std::fs::read_to_string(folder.path().join(hub::CARD)).unwrap();
    assert!(card.starts_with(&format!(
        "---{}---\n",
        header["card_tags_header"].as_str().unwrap()
    )));
    assert_eq!(ours.metrics().unwrap().unwrap(), metrics);
    let again = ours.facts().unwrap();
    assert_eq!(again.summary_stats, facts.summary_stats);
    assert_eq!(again.data_registry, facts.data_registry);
    assert_eq!(again.setup_args, facts.setup_args);
}
