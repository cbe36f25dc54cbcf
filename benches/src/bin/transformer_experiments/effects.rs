//! Predicted means of conditions beside the true ones.

use ndarray::Array1;
use sc_transformer::perturb_metrics::{ChangedGenes, Effects, GenesCompared, compare_means};
use serde_json::{Map, Value, json};

use crate::Result;

/// The genes that change most.
const CHANGED: usize = 20;

/// Predicted means of conditions.
pub(crate) type Means = Vec<(String, Array1<f64>)>;

/// The truth about some conditions.
pub(crate) struct Judge<'a> {
    pub(crate) truth: &'a Effects,
    /// What is predicted without looking at the condition: the mean over training conditions.
    pub(crate) mean: Array1<f64>,
}

impl Judge<'_> {
    /// For each condition: correlations of expression, of differences from control (all genes, and the 20 that truly change
    /// most), and of differences from the mean over training conditions, which only what is special to a condition can
    /// explain; and the mean squared error over genes.
    pub(crate) fn judge(&self, predicted: &Means) -> Result<Value> {
        let changed = ChangedGenes::by_effect(self.truth, CHANGED);
        let control = self.truth.control().to_owned();
        let of_control = Effects::from_means(control, predicted.iter().cloned())?;
        let found = compare_means(self.truth, &of_control, &changed, GenesCompared::All)?;
        let special = compare_means(
            &self.special(self.means(self.truth))?,
            &self.special(predicted.clone())?,
            &changed,
            GenesCompared::All,
        )?;
        let mut all = Map::new();
        for ((name, c), (_, s)) in found.conditions.iter().zip(&special.conditions) {
            let (truth, made) = (self.truth.mean(name), of_control.mean(name));
            let error = truth.zip(made).map_or(f64::NAN, |(t, p)| {
                (&t - &p).mapv(|d| d * d).mean().unwrap_or(f64::NAN)
            });
            let values = json!({
                "pearson": c.pearson, "delta": c.pearson_delta, "delta_de": c.pearson_de_delta, "mse": error,
                "special": s.pearson_delta,
            });
            all.insert(name.clone(), values);
        }
        Ok(Value::Object(all))
    }

    /// Means as differences from the mean over training conditions.
    fn special(&self, means: Means) -> Result<Effects> {
        Ok(Effects::from_means(self.mean.clone(), means)?)
    }

    fn means(&self, of: &Effects) -> Means {
        let named = of.conditions();
        named
            .filter_map(|c| Some((c.clone(), of.mean(c)?.to_owned())))
            .collect()
    }
}
