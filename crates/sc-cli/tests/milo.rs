//! Differential abundance.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod common;

use common::{CELLS, Place, says, small};
use sc_data::{AnnData, Annotation, Categorical, Column, Matrix, Uns};
use serde_json::Value;

/// Real cells with the ten genes of most counts for an embedding, dealt to eight made-up samples of two conditions so
/// that the second has more of the cells with little of the first gene.
fn cells() -> AnnData {
    let mut data = small();
    let dense = data.x.as_ref().unwrap().to_dense();
    let genes: Vec<usize> = (0..10).collect();
    let embedding = dense.select(ndarray::Axis(1), &genes).mapv(f32::ln_1p);
    let middle = {
        let mut first = embedding.column(0).to_vec();
        first.sort_by(f32::total_cmp);
        first[CELLS / 2]
    };
    let sample: Vec<usize> = (0..CELLS)
        .map(|i| {
            let few = embedding[[i, 0]] < middle;
            // Of five such cells four go to the second condition.
            let second = if few { i % 5 != 0 } else { i % 2 == 0 };
            2 * ((i * 7) % 4) + usize::from(second)
        })
        .collect();
    let labels = |f: &dyn Fn(usize) -> String| {
        let each: Vec<String> = sample.iter().map(|&s| f(s)).collect();
        Column::Categorical(Categorical::from_labels(&each))
    };
    let obs = &mut data.obs;
    obs.insert("donor", labels(&|s| format!("d{s}"))).unwrap();
    obs.insert("condition", labels(&|s| ["ctrl", "stim"][s % 2].into()))
        .unwrap();
    obs.insert("run", labels(&|s| ["r1", "r2"][s / 4].into()))
        .unwrap();
    data.obsm.insert("X_scVI".into(), embedding.into());
    data
}

#[test]
fn neighbourhoods_are_tested() {
    let place = Place::with(&cells());
    let usual = "milo cells.h5ad --sample donor --design ~run+condition --prop 0.3 --k 40";
    let output = place.sc(&format!(
        "{usual} --annotate cell.type --out out.h5ad --table da.tsv --plot da.svg"
    ));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{said}"
    );
    says(
        &said,
        &["8 samples, tested: conditionstim", "spatial FDR up to 0.1"],
    );

    let json: Value = serde_json::from_str(&place.ok(&format!("{usual} --json"))).unwrap();
    assert_eq!(
        (&json["n_cells"], &json["tested"]),
        (&CELLS.into(), &"conditionstim".into())
    );
    let rows = json["rows"].as_array().unwrap();
    let n = rows.len();
    assert_eq!(json["n_neighbourhoods"], n);
    assert!(n > 20 && n <= 90);

    // The table and the file hold the same numbers.
    let table = place.text("da.tsv");
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split('\t').collect()).collect();
    assert_eq!(lines.len(), n + 1);
    let at = |name: &str| lines[0].iter().position(|h| *h == name).unwrap();
    let column = |name: &str| -> Vec<f64> {
        lines[1..]
            .iter()
            .map(|l| l[at(name)].parse().unwrap())
            .collect()
    };
    for (row, p) in rows.iter().zip(column("PValue")) {
        assert_eq!(row["PValue"].as_f64().unwrap(), p);
    }
    let out = sc_io::read(place.path("out.h5ad")).unwrap();
    let Some(Annotation::Matrix(Matrix::Sparse(members))) = out.obsm.get("nhoods") else {
        panic!("no nhoods");
    };
    assert_eq!((members.n_rows(), members.n_cols()), (CELLS, n));
    let Some(Uns::Table(stored)) = out.uns.get("milo") else {
        panic!("no table");
    };
    assert_eq!(
        stored.get("logFC").unwrap().to_f64("logFC").unwrap(),
        column("logFC")
    );
    assert!(stored.get("nhood_annotation").is_some());
    let picture = place.text("da.svg");
    says(&picture, &["<svg", "log2 fold change", "conditionstim"]);
    assert_eq!(picture.matches("<circle").count(), n);

    // Trimmed means alone give the same but for one number, by which all changes are moved.
    let tmm: Value =
        serde_json::from_str(&place.ok(&format!("{usual} --normalise tmm --json"))).unwrap();
    let moved = |i: usize| {
        let change = |of: &Value| of["rows"][i]["logFC"].as_f64().unwrap();
        change(&tmm) - change(&json)
    };
    let clear: Vec<usize> = (0..n)
        .filter(|&i| rows[i]["logFC"].as_f64().unwrap().abs() < 3.0)
        .collect();
    assert!(clear.len() > n / 2);
    assert!(
        clear
            .iter()
            .all(|&i| (moved(i) - moved(clear[0])).abs() < 0.05)
    );
    for how in ["rle", "sums", "cells"] {
        place.ok(&format!("{usual} --normalise {how} --like milor --json"));
    }

    // The other way round: what rose falls.
    let turned: Value =
        serde_json::from_str(&place.ok(&format!("{usual} --baseline condition=stim --json")))
            .unwrap();
    assert_eq!(
        (&turned["rising"], &turned["falling"]),
        (&json["falling"], &json["rising"])
    );
    assert_eq!(turned["tested"], "conditionctrl");
    let contrast = "milo cells.h5ad --sample donor --design ~condition+run --prop 0.3 --k 40 \
         --contrast conditionstim-conditionctrl --json";
    let contrast: Value = serde_json::from_str(&place.ok(contrast)).unwrap();
    for (a, b) in contrast["rows"].as_array().unwrap().iter().zip(rows) {
        let (a, b) = (a["logFC"].as_f64().unwrap(), b["logFC"].as_f64().unwrap());
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let place = Place::with(&cells());
    let error = |more: &str| place.error(&format!("milo cells.h5ad {more}"));
    says(
        &error("--sample nobody --design ~condition"),
        &["nobody", "donor"],
    );
    says(
        &error("--sample donor --design ~nothing"),
        &["nothing", "condition"],
    );
    says(
        &error("--sample donor --design condition"),
        &["begin with ~"],
    );
    says(
        &error("--sample donor --design ~cell.type"),
        &["cell.type", "not the same for all cells of sample"],
    );
    says(
        &error("--sample donor --design ~donor+condition"),
        &["conditionstim cannot be told apart"],
    );
    says(
        &error("--sample condition --design ~condition"),
        &["2 samples", "2 columns"],
    );
    says(
        &error("--sample donor --design ~condition --rep X_none"),
        &["X_none", "X_scVI"],
    );
    says(
        &error("--sample donor --design ~condition --test stim"),
        &["stim", "(Intercept), conditionstim"],
    );
    says(
        &error("--sample donor --design ~condition --contrast a-b"),
        &["a-b", "conditionctrl"],
    );
    says(
        &error("--sample donor --design ~condition --k 300"),
        &["k is 300", "1 to 299"],
    );
    says(
        &place.misuse("milo cells.h5ad --sample donor --design ~condition --alpha 0"),
        &["--alpha", "nothing could be reported"],
    );
    says(
        &place.misuse("milo cells.h5ad --sample donor --design ~condition --stored-graph --approx"),
        &["--stored-graph", "--approx"],
    );
    says(
        &error("--sample donor --design ~condition --stored-graph"),
        &["connectivities", "--stored-graph"],
    );
    says(
        &error("--sample donor --design ~condition --out x.csv"),
        &[".h5ad"],
    );
}
