//! Training from scratch: after the same epochs on the same cells, the evidence lower bound is where scvi-tools' is.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use candle_core::Device;
use sc_latent::{Cells, Scvi};
use sc_model::train::{SplitConfig, TrainConfig};
use sc_tests::golden;

/// Twelve runs of scvi-tools 1.4.2 with training seeds 0 to 11, all with the split of seed 0 (the range over other
/// splits is wider and says less): mean, standard deviation, smallest and largest bound.
struct Runs {
    mean: f64,
    sd: f64,
    range: (f64, f64),
}

struct Target {
    model: &'static str,
    data: &'static str,
    epochs: usize,
    validation: Runs,
    train: Runs,
}

const fn runs(mean: f64, sd: f64, low: f64, high: f64) -> Runs {
    Runs {
        mean,
        sd,
        range: (low, high),
    }
}

const TARGETS: [Target; 5] = [
    Target {
        model: "kang_default",
        data: "kang.h5ad",
        epochs: 60,
        validation: runs(-627.47, 3.97, -635.80, -623.50),
        train: runs(-600.87, 4.01, -608.57, -596.93),
    },
    Target {
        model: "kang_nb_cov",
        data: "kang.h5ad",
        epochs: 40,
        validation: runs(-648.73, 1.51, -651.56, -646.62),
        train: runs(-627.79, 1.67, -631.02, -626.01),
    },
    Target {
        model: "kang_embed",
        data: "kang.h5ad",
        epochs: 40,
        validation: runs(-650.76, 5.30, -658.87, -643.62),
        train: runs(-629.41, 4.82, -636.56, -623.26),
    },
    Target {
        model: "worm_ref_ln",
        data: "worm_ref.h5ad",
        epochs: 60,
        validation: runs(-351.84, 3.22, -355.95, -347.59),
        train: runs(-347.47, 2.97, -351.70, -343.76),
    },
    // A learned library size is heavy-tailed: so wide a range says little, but a wrong prior or KL would leave it.
    Target {
        model: "worm_learnlib",
        data: "worm_ref.h5ad",
        epochs: 40,
        validation: runs(-563.6, 39.3, -625.5, -492.9),
        train: runs(-521.8, 37.0, -575.9, -456.5),
    },
];

const SEEDS: [u64; 3] = [0, 1, 2];

impl Runs {
    /// Each seed lies within the range widened by 0.5 %, and their mean within three standard errors of the difference.
    fn check(&self, what: &str, found: &[f64]) {
        let (low, high) = (self.range.0 * 1.005, self.range.1 * 0.995);
        for f in found {
            assert!(
                (low..=high).contains(f),
                "{what}: {f:.2} is not within {low:.2} .. {high:.2}"
            );
        }
        let mean = found.iter().sum::<f64>() / found.len() as f64;
        let allowed = 3.0 * self.sd * (1.0 / 12.0 + 1.0 / found.len() as f64).sqrt();
        assert!(
            (mean - self.mean).abs() <= allowed,
            "{what}: mean {mean:.2}, scvi-tools {:.2} +- {allowed:.2}",
            self.mean
        );
    }
}

#[test]
fn the_bound_after_training_is_that_of_scvi_tools() {
    let Some(golden) = golden() else { return };
    for target in &TARGETS {
        let original =
            Scvi::from_scvi_tools(golden.join("models").join(target.model), &Device::Cpu).unwrap();
        let split = original.training().unwrap().split.clone();
        let data = sc_io::h5ad::read(golden.join("data").join(target.data)).unwrap();
        let cells = Cells::for_model(&data, original.registry()).unwrap();
        let (mut validation, mut train) = (Vec::new(), Vec::new());
        for seed in SEEDS {
            let mut model = Scvi::with_config(&cells, original.config().clone())
                .check()
                .unwrap()
                .init(&Device::Cpu, seed)
                .unwrap();
            let mut config = TrainConfig::default();
            config.max_epochs = Some(target.epochs);
            config.seed = seed;
            config.split = SplitConfig {
                given: Some((split.train.clone(), split.validation.clone())),
                ..SplitConfig::default()
            };
            model.fit(&cells, &config, &mut ()).unwrap();
            let bound = model.elbo(&cells, Some(seed)).unwrap();
            validation.push(bound.select(&split.validation).unwrap().elbo());
            train.push(bound.select(&split.train).unwrap().elbo());
        }
        eprintln!(
            "{}: validation {validation:.2?}, train {train:.2?}",
            target.model
        );
        target
            .train
            .check(&format!("{} train", target.model), &train);
        target
            .validation
            .check(&format!("{} validation", target.model), &validation);
    }
}
