//! What `sc sde` does with a trained model, on real lineage-traced cells.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::path::Path;

use common::{Place, json, says};
use sc_data::AnnData;

const SMALL: &str = "--hidden 16,16 --sigma-hidden 8 --dt 0.5";

/// The cells of the repository with components of scaled expression, and a model trained for a moment.
fn place() -> Place {
    let larry = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/larry.h5ad");
    let mut data: AnnData = sc_io::read(larry).unwrap();
    data.obsm.shift_remove("X_pca");
    let place = Place::with(&data);
    place.ok("preprocess normalize cells.h5ad --out logs.h5ad --target-sum 1e4");
    place.ok("preprocess pca logs.h5ad --out pca.h5ad --n-comps 10 --scale");
    place.ok(&format!(
        "sde train pca.h5ad --out model --time-key time_info --epochs 2 {SMALL}"
    ));
    place
}

fn lines(place: &Place, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(place.path(name)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn from_paths_to_screens() {
    let place = place();
    paths(&place);
    fates(&place);
    fields(&place);
    withheld(&place);
    genes(&place);
    refused(&place);
}

fn paths(place: &Place) {
    let args = "sde simulate model pca.h5ad --times 4,6 --copies 3 --cells 7 --dt 0.5 --json";
    let out = json(&place.ok(&format!("{args} --out a.csv")));
    assert_eq!((&out["n_cells"], &out["n_copies"]), (&7.into(), &3.into()));
    let rows = lines(place, "a.csv");
    assert!(rows[0].starts_with("cell,copy,t,dim_1,"), "{}", rows[0]);
    assert_eq!(rows.len(), 1 + 7 * 3 * 3);
    place.ok(&format!("{args} --out b.csv --threads 1"));
    assert_eq!(rows, lines(place, "b.csv"));
    let genes = args.replace("--json", "--genes Gfi1,Mpo --out g.csv");
    place.ok(&genes);
    let genes = lines(place, "g.csv");
    let head = genes[0].as_str();
    assert_eq!((head, genes.len()), ("cell,copy,t,Gfi1,Mpo", rows.len()));
    // A cell has the same paths among others.
    place.ok("sde simulate model pca.h5ad --times 4,6 --copies 3 --dt 0.5 --out all.csv");
    let all = lines(place, "all.csv");
    assert!(rows.iter().all(|r| all.contains(r)));
}

fn fates(place: &Place) {
    let out = place.ok(
        "sde fate model pca.h5ad --labels state_info --undifferentiated undiff --from 4 --copies 5 \
         --dt 0.5 --clones X_clone --bias Neutrophil,Monocyte --plot fates.svg --basis X_emb \
         --out fates.csv --json",
    );
    let out = json(&out);
    assert_eq!(out["scores"]["n_cells"], 152);
    let rows = lines(place, "fates.csv");
    assert_eq!(rows.len(), 1 + 316);
    assert!(rows[0].ends_with("pDC,entropy,bias_Neutrophil_Monocyte"));
    assert!(lines(place, "fates.svg")[0].starts_with("<svg"));
}

fn fields(place: &Place) {
    place.ok(
        "sde field model pca.h5ad --out field.h5ad --plot d.svg --basis X_emb --color landscape --arrows a.svg",
    );
    assert!(lines(place, "a.svg").len() > 100);
    // Both names of the command.
    place.ok("sde fields model pca.h5ad --out fields.h5ad");
    let data = sc_io::read(place.path("field.h5ad")).unwrap();
    assert_eq!(data.obsm["X_drift"].n_rows(), 781);
    assert!(data.obsm.contains_key("X_diffusion"));
    for key in ["drift", "diffusion", "potential", "landscape"] {
        let values = data.obs.column("obs", key).unwrap().to_f64(key).unwrap();
        assert!(values.iter().all(|v| v.is_finite()), "{key}");
    }
}

fn withheld(place: &Place) {
    let args = "sde interpolate model pca.h5ad --from 2 --at 4 --to 6 --dt 0.5 --json";
    let out = json(&place.ok(args));
    let s = &out["sinkhorn"];
    for key in ["model", "linear_transport", "early", "late", "halves"] {
        assert!(s[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(s["halves"].as_f64() < s["early"].as_f64());
}

fn genes(place: &Place) {
    let args = "model pca.h5ad --labels state_info --from 4 --cells 20 --copies 2 --dt 0.5";
    let out = place.ok(&format!(
        "sde perturb {args} --genes Gfi1,Cebpe --z=-5,0,5 --out dose.csv --plot dose.svg --json"
    ));
    assert_eq!(json(&out)["effects"].as_array().unwrap().len(), 3 * 12);
    let rows = lines(place, "dose.csv");
    assert!(rows[0].starts_with("perturbation,z,fate,control,perturbed,difference,"));
    assert!(rows[1].starts_with("Gfi1+Cebpe,-5,"));
    let out = place.ok(&format!(
        "sde screen {args} --genes Gfi1,Irf8,Mpo --fate Neutrophil --out screen.csv --plot screen.svg --json"
    ));
    assert_eq!(json(&out)["n_genes"], 3);
    assert_eq!(lines(place, "screen.csv").len(), 1 + 3 * 12);
    let e = place.error(&format!("sde perturb {args} --genes GFI1 --out e.csv"));
    says(&e, &["GFI1", "Gfi1"]);
    // X must be what the components were found on.
    let cells = args.replace("pca.h5ad", "raw.h5ad");
    let mut raw = sc_io::read(place.path("pca.h5ad")).unwrap();
    raw.x = sc_io::read(place.path("cells.h5ad")).unwrap().x;
    place.put("raw.h5ad", &raw);
    let e = place.error(&format!("sde perturb {cells} --genes Gfi1 --out e.csv"));
    says(&e, &["PCs", "--layer"]);
}

fn refused(place: &Place) {
    let fate = "sde fate model pca.h5ad --out e.csv --labels";
    says(
        &place.error(&format!("{fate} kind")),
        &["kind", "state_info"],
    );
    let e = place.error(&format!("{fate} state_info --undifferentiated HSC"));
    says(&e, &["HSC", "undiff"]);
    let e = place.error(&format!("{fate} state_info --from 3"));
    says(&e, &["3", "2, 4, 6"]);
    let e = place.error("sde simulate model pca.h5ad --out e.txt");
    says(&e, &[".csv"]);
    let e = place.error("sde simulate model pca.h5ad --out e.csv --use-key X_emb");
    says(&e, &["X_emb", "2 dimensions"]);
    let e = place.error("sde simulate nothing pca.h5ad --out e.csv");
    says(&e, &["nothing", "sc sde train"]);
    let e = place.error("sde interpolate model pca.h5ad --at 6");
    says(&e, &["--at"]);
    let e = place.error("sde interpolate model pca.h5ad --from 6 --at 4 --to 2");
    says(&e, &["--at 4", "between 6 and 2"]);
    let simulate = "sde simulate model pca.h5ad --out e.csv";
    says(
        &place.error(&format!("{simulate} --times 6,4")),
        &["4 comes after 6", "sort them"],
    );
    says(
        &place.error(&format!("{simulate} --from 6")),
        &["time 6", "--to"],
    );
    says(
        &place.error(&format!("{simulate} --dt 0")),
        &["dt = 0", "above 0"],
    );
    unknown_places(place);
    diverging(place);
    assert!(!place.path("e.csv").exists());
}

/// A start cell that is nowhere; one that isn't a start cell doesn't matter. Cells of one time.
fn unknown_places(place: &Place) {
    let mut data = sc_io::read(place.path("pca.h5ad")).unwrap();
    let times = data.obs.column("obs", "time_info").unwrap();
    let times = times.to_categorical("time_info").unwrap();
    let times: Vec<f64> = times.iter().map(|t| t.unwrap().parse().unwrap()).collect();
    let early: Vec<usize> = (0..times.len()).filter(|&i| times[i] == 2.0).collect();
    place.put("early.h5ad", &data.select_obs(&early).unwrap());
    let e = place.error("sde simulate model early.h5ad --out e.csv");
    says(&e, &["start at time 2 can't end at time 2", "--to"]);

    let sc_data::Annotation::Matrix(m) = &data.obsm["X_pca"] else {
        panic!("no places")
    };
    let mut places = m.to_dense();
    places[(early[1], 3)] = f32::NAN;
    data.obsm.insert("X_pca".into(), places.into());
    place.put("nan.h5ad", &data);
    let name = &data.obs.index()[early[1]];
    let e = place.error("sde simulate model nan.h5ad --out e.csv");
    says(
        &e,
        &[&format!("cell {name} has NaN in dimension 3"), "X_pca"],
    );
    let e = place.error("sde fate model nan.h5ad --labels state_info --out e.csv");
    says(
        &e,
        &[&format!("cell {name} has NaN in dimension 3"), "X_pca"],
    );
    place.ok("sde simulate model nan.h5ad --from 4 --dt 0.5 --cells 5 --out later.csv");
}

/// Paths that explode name the cell, the step, the time and the norm.
fn diverging(place: &Place) {
    use sc_sde::model::{DriftKind, ScDiffEq};
    let params = ScDiffEq::params(10)
        .drift(DriftKind::Neural)
        .coef_drift(1e30);
    let wild = params
        .check()
        .unwrap()
        .init(&candle_core::Device::Cpu, 0)
        .unwrap();
    wild.save(place.path("wild")).unwrap();
    for command in [
        "simulate --out e.csv",
        "fate --labels state_info --out e.csv",
        "interpolate --at 4",
    ] {
        let e = place.error(&format!(
            "sde {command} wild pca.h5ad --time-key time_info --dt 0.5 --cells 3"
        ));
        says(
            &e,
            &[
                "diverged in step",
                "at time 2",
                "norm was",
                "smaller dt",
                "The cell is",
            ],
        );
    }
}
