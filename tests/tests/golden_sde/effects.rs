//! Effects of perturbations, pooled and adjusted, against scDiffEq's, SciPy's and statsmodels' numbers.

use ndarray::Array2;
use sc_sde::downstream::{Between, Replicates, benjamini_hochberg, fisher, pool};
use sc_tests::{json, shared};
use serde_json::Value;

fn matrix(v: &Value) -> Array2<f64> {
    let rows = v.as_array().unwrap();
    let row = |r: &Value| -> Vec<f64> {
        let r = r.as_array().unwrap();
        r.iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let all: Vec<f64> = rows.iter().flat_map(row).collect();
    Array2::from_shape_vec((rows.len(), all.len() / rows.len()), all).unwrap()
}

fn near(found: f64, expected: &Value, relative: f64, what: &str) {
    let expected = expected.as_f64().unwrap();
    let apart = (found - expected).abs();
    assert!(
        apart <= relative * expected.abs() + 1e-15,
        "{what}: {found} instead of {expected}"
    );
}

#[test]
fn replicates() {
    let Some(dir) = shared() else { return };
    let known = json(&dir.join("golden/sde/perturbation_stats.json"));
    let names = known["fates"].as_array().unwrap();
    let names = names.iter().map(|n| n.as_str().unwrap().to_owned());
    let (control, perturbed) = (
        matrix(&known["ctrl_fractions"]),
        matrix(&known["prtb_fractions"]),
    );
    let replicates = Replicates::new(names.collect(), control, perturbed).unwrap();
    for effect in replicates.effects() {
        let expected = &known["stats"][&effect.fate];
        near(effect.log2_fold_change, &expected["lfc"], 1e-9, "lfc");
        let std = effect.log2_fold_change_std.unwrap();
        near(std, &expected["lfc_std"], 1e-9, "lfc_std");
        let welch = effect.welch.unwrap();
        near(welch.t, &expected["welch_t"], 1e-9, "t");
        near(welch.df, &expected["welch_df"], 1e-9, "df");
        near(welch.p, &expected["pval"], 1e-8, "p");
    }
}

#[test]
fn pooled_over_models() {
    let Some(dir) = shared() else { return };
    let known = json(&dir.join("golden/sde/perturbation_stats.json"));
    let inputs = &known["meta_inputs"];
    let (lfc, se, p) = (
        matrix(&inputs["lfc"]),
        matrix(&inputs["se"]),
        matrix(&inputs["pvals"]),
    );
    for (i, expected) in known["meta"].as_array().unwrap().iter().enumerate() {
        let (effects, errors) = (lfc.row(i).to_vec(), se.row(i).to_vec());
        for (between, key, relative) in [
            (Between::PauleMandel, "paule_mandel", 1e-6),
            (Between::DerSimonianLaird, "dersimonian_laird", 1e-9),
        ] {
            let found = pool(&effects, &errors, between).unwrap();
            let expected = &expected[key];
            near(found.between, &expected["tau2"], relative, "tau2");
            near(found.effect, &expected["effect_random"], relative, "effect");
            near(found.standard_error, &expected["sd_random"], relative, "sd");
            near(found.fixed, &expected["effect_fixed"], 1e-9, "fixed");
            near(
                found.fixed_standard_error,
                &expected["sd_fixed"],
                1e-9,
                "sd fixed",
            );
            near(found.q, &expected["q"], 1e-9, "q");
            near(found.i2, &expected["i2"], 1e-9, "i2");
        }
        let (statistic, combined) = fisher(&p.row(i).to_vec()).unwrap();
        near(
            statistic,
            &expected["fisher"]["statistic"],
            1e-9,
            "Fisher's statistic",
        );
        near(combined, &expected["fisher"]["pvalue"], 1e-9, "Fisher's p");
    }
    let flat: Vec<f64> = p.iter().copied().collect();
    let adjusted = known["bh_adjusted_flat"].as_array().unwrap();
    for (found, expected) in benjamini_hochberg(&flat).iter().zip(adjusted) {
        near(*found, expected, 1e-12, "adjusted p");
    }
}
