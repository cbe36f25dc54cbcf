//! `sc integrate`: train, embed, predict and match real cells, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::Place;
use sc_data::{AnnData, Matrix};
use std::path::Path;

/// RNA of the first 120 cells of the CITE-seq data, proteins of the cells 40 to 160: 80 have both.
fn place() -> Place {
    let read = |name: &str, features: usize, rows: std::ops::Range<usize>| -> AnnData {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
        let all = sc_io::read(data.join(name)).unwrap();
        let some = all.select_obs(&rows.collect::<Vec<_>>()).unwrap();
        some.select_vars(&(0..features).collect::<Vec<_>>())
            .unwrap()
    };
    let place = Place::empty();
    place.put("rna.h5ad", &read("bmmc_cite_rna.h5ad", 100, 0..120));
    place.put("adt.h5ad", &read("bmmc_cite_adt.h5ad", 20, 40..160));
    place
}

const BOTH: &str = "rna=rna.h5ad adt=adt.h5ad --layer counts --batch-key batch";
const SMALL: &str = "--latent-dim 3 --epochs 2 --batch-size 32";

fn dense(m: &Matrix) -> Vec<f32> {
    m.to_dense().iter().copied().collect()
}

#[test]
fn from_counts_to_predictions() {
    let place = place();
    let out = place.ok(&format!(
        "integrate train {BOTH} --out model {SMALL} --json --likelihood adt=nb-mixture"
    ));
    let summary = common::json(&out);
    assert_eq!(
        (&summary["n_cells"], &summary["epochs"]),
        (&160.into(), &2.into())
    );
    place.ok(&format!(
        "integrate train {BOTH} --out again {SMALL} --threads 1 --likelihood adt=nb-mixture"
    ));
    assert!(place.weights("model") == place.weights("again"));
    let out = place.ok(&format!(
        "integrate train {BOTH} --out other {SMALL} --json --alignment sinkhorn --pairing info-nce"
    ));
    // Runs of cells, from the disk and from memory.
    for (out, options) in [("runs", ""), ("disk", "--backed")] {
        place.ok(&format!(
            "integrate train {BOTH} --out {out} {SMALL} --block-size 16 --blocks 4 {options}"
        ));
    }
    assert!(place.weights("runs") == place.weights("disk"));
    assert!(place.weights("runs") != place.weights("model"));
    let history = &common::json(&out)["history"];
    assert!(history["transport_train"].is_array() && history["adversary_train"].is_null());

    place.ok(&format!("integrate embed model {BOTH} --out joint.h5ad"));
    let joint = sc_io::read(place.path("joint.h5ad")).unwrap();
    assert_eq!(joint.n_obs(), 160);
    let has = joint
        .obs
        .column("obs", "has_rna")
        .unwrap()
        .to_categorical("has_rna")
        .unwrap();
    assert_eq!(has.iter().filter(|h| *h == Some("yes")).count(), 120);
    assert_eq!(joint.obsm["X_CLUE"].n_rows(), 160);

    // From RNA alone, of cells whose proteins were never measured.
    place.ok("integrate predict model rna=rna.h5ad --to adt --layer counts --batch-key batch --out adt_of_rna.h5ad");
    let predicted = sc_io::read(place.path("adt_of_rna.h5ad")).unwrap();
    assert_eq!((predicted.n_obs(), predicted.n_vars()), (120, 20));
    assert!(
        dense(predicted.matrix(None).unwrap())
            .iter()
            .all(|&v| v.is_finite() && v > 0.0)
    );
    let std = dense(predicted.matrix(Some("std")).unwrap());
    let latent = dense(predicted.matrix(Some("latent_std")).unwrap());
    assert!(std.iter().zip(&latent).all(|(s, l)| s >= l && *l >= 0.0));

    for how in ["shared", "mutual", "bipartite", "sinkhorn"] {
        place.ok(&format!(
            "integrate match model {BOTH} --out {how}.tsv --how {how} --within batch"
        ));
        let table = place.text(&format!("{how}.tsv"));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "rna\tadt\tweight");
        assert!(lines.len() > 5, "{how}: {} lines", lines.len());
    }

    // The labels of RNA's 120 cells, for all 120 cells of proteins, 80 of which are RNA's own.
    place.ok(&format!(
        "integrate transfer model {BOTH} --from rna --to adt --labels cell_type --out labels.tsv --threshold 1"
    ));
    let table = place.text("labels.tsv");
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split('\t').collect()).collect();
    assert_eq!(lines[0], ["cell", "cell_type", "uncertainty"]);
    let adt = sc_io::read(place.path("adt.h5ad")).unwrap();
    let cells: Vec<&str> = lines[1..].iter().map(|l| l[0]).collect();
    assert_eq!(cells, adt.obs.index());
    let rna = sc_io::read(place.path("rna.h5ad")).unwrap();
    let known = rna.obs.column("obs", "cell_type").unwrap();
    let known = known.to_categorical("cell_type").unwrap();
    for l in &lines[1..] {
        assert!(known.categories().iter().any(|c| c == l[1]), "{l:?}");
        assert!((0.0..=1.0).contains(&l[2].parse::<f64>().unwrap()), "{l:?}");
    }
}

#[test]
fn what_is_refused_is_named() {
    let place = place();
    let train = |rest: &str| place.error(&format!("integrate train {rest} --out model {SMALL}"));
    for (rest, says) in [
        ("rna=rna.h5ad adt=adt.h5ad", "whole numbers"),
        ("rna.h5ad", "NAME=VALUE"),
        (
            "rna=rna.h5ad --layer counts --use-rep atac=X_lsi",
            "no modality \"atac\"",
        ),
        (
            "rna=rna.h5ad --layer counts --use-rep rna=X_pca",
            "obsm has no \"X_pca\"",
        ),
        (
            "rna=rna.h5ad --layer counts --likelihood rna=gamma",
            "no likelihood \"gamma\"",
        ),
        (
            "rna=rna.h5ad rna=adt.h5ad --layer counts",
            "name of its own",
        ),
    ] {
        let error = train(rest);
        assert!(error.contains(says), "{rest}: {error}");
    }
    place.ok(&format!("integrate train {BOTH} --out model {SMALL}"));
    for (command, says) in [
        (
            "embed model rna=adt.h5ad --layer counts --batch-key batch --out j.h5ad",
            "no feature",
        ),
        (
            "embed model atac=rna.h5ad --layer counts --batch-key batch --out j.h5ad",
            "no modality \"atac\"",
        ),
        (
            "embed model rna=rna.h5ad --layer counts --out j.h5ad",
            "batches",
        ),
        (
            "match model rna=rna.h5ad --layer counts --batch-key batch --out t.tsv",
            "two modalities",
        ),
        (
            "transfer model rna=rna.h5ad --layer counts --batch-key batch --from rna --to adt --labels batch --out t.tsv",
            "no cells of modality \"adt\" are given; there are: rna",
        ),
        (
            "transfer model rna=rna.h5ad --layer counts --batch-key batch --from rna --to rna --labels kind --out t.tsv",
            "has no column \"kind\"",
        ),
        (
            "embed rna=rna.h5ad rna=rna.h5ad --out j.h5ad",
            "cannot read",
        ),
    ] {
        let error = place.error(&format!("integrate {command}"));
        assert!(error.contains(says), "{command}: {error}");
    }
}

/// Genes A to C and peaks; the last peak and gene C lie nowhere.
fn genome() -> Place {
    let place = Place::empty();
    let features = |names: &[&str]| {
        let mut data = AnnData::default();
        let cells = vec!["c1".to_owned(), "c2".to_owned()];
        data.obs = sc_data::Table::new(cells);
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        let zeros = ndarray::Array2::<f32>::zeros((2, names.len()));
        data.var = sc_data::Table::new(names);
        data.x = Some(zeros.into());
        data
    };
    place.put("rna.h5ad", &features(&["A", "B", "C"]));
    let peaks = ["chr1:9500-9600", "chr1:15000-15100", "chr2:5-10", "peak"];
    place.put("atac.h5ad", &features(&peaks));
    let gene = |chromosome, from, to, strand, name| {
        format!(
            "{chromosome}\tx\tgene\t{from}\t{to}\t.\t{strand}\t.\tgene_id \"id{name}\"; gene_name \"{name}\";\n"
        )
    };
    let genes = [
        gene("1", 10_001, 12_000, "+", "A"),
        gene("1", 13_001, 14_000, "-", "B"),
        gene("3", 1, 9, "+", "X"),
    ];
    std::fs::write(place.path("genes.gtf"), genes.concat()).unwrap();
    place
}

#[test]
fn genes_are_linked_to_peaks_near_them() {
    let place = genome();
    let graph = |options: &str| {
        place.ok(&format!(
            "integrate graph rna=rna.h5ad atac=atac.h5ad --gtf genes.gtf --out graph.tsv {options}"
        ));
        let table = place.text("graph.tsv");
        let mut lines = table.lines();
        assert_eq!(lines.next(), Some("source\ttarget\tweight\tsign"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    // A's promoter reaches to 8,000, B's, on the other strand, to 16,000.
    let near = ["A\tchr1:9500-9600\t1\t1", "B\tchr1:15000-15100\t1\t1"];
    assert_eq!(graph(""), near);
    assert_eq!(graph("--region promoter"), near);
    let far = graph("--region body --range 3001");
    let ends: Vec<String> = far
        .iter()
        .map(|l| l.split('\t').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        ends,
        [
            "A chr1:9500-9600",
            "A chr1:15000-15100",
            "B chr1:15000-15100"
        ]
    );
    let weight: f64 = far[0].split('\t').nth(2).unwrap().parse().unwrap();
    assert!((weight - 1.401f64.powf(-0.75)).abs() < 1e-12, "{weight}");

    std::fs::write(place.path("peaks.bed"), "1\t11000\t11010\tpeak\n").unwrap();
    assert_eq!(graph("--bed peaks.bed"), ["A\tpeak\t1\t1"]);
}

#[test]
fn graphs_without_links_are_refused() {
    let place = genome();
    std::fs::write(place.path("no.bed"), "1\t11000\t11010\tother\n").unwrap();
    std::fs::write(place.path("bad.gtf"), "1\tx\tgene\n").unwrap();
    for (options, says) in [
        (
            "--gtf genes.gtf --gene-by gene_id",
            "no gene_id is a gene of",
        ),
        ("--gtf genes.gtf --gene-by symbol", "gene_id, gene_name"),
        ("--gtf bad.gtf", "line 1"),
        ("--gtf genes.gtf --bed no.bed", "no name is a feature of"),
        ("--gtf genes.gtf --region body", "larger --range"),
        ("--gtf no.gtf", "no.gtf"),
    ] {
        let error = place.error(&format!(
            "integrate graph rna=rna.h5ad atac=atac.h5ad {options} --out graph.tsv"
        ));
        assert!(error.contains(says), "{options}: {error}");
    }
    let error =
        place.error("integrate graph atac=atac.h5ad rna=rna.h5ad --gtf genes.gtf --out g.tsv");
    assert!(error.contains("no gene_name is a gene of"), "{error}");
    assert!(!place.path("graph.tsv").exists());
}
