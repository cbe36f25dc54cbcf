//! The weights of a model in memory, for a model of another task.

use sc_model::Params;

use super::report::{Allow, LoadReport, Mismatch};
use crate::scgpt::model::ScGpt;
use crate::scgpt::perturb::ScGptPerturb;
use crate::{Error, Result};

/// What depends on the names of classes, batches and modalities, which may mean others in the new model.
const OWN: [&str; 5] = [
    "cls_decoder.",
    "grad_reverse_discriminator.",
    "batch_encoder.",
    "mod_encoder.",
    "dsbn.",
];

impl ScGpt {
    /// Takes over the weights that another model has, too, of the same name and shape. The classifier, the adversary, and what
    /// belongs to batches and modalities stay as they are, and are not in the report: their names may mean others here. See
    /// [`ScGpt::load_weights`] for checkpoints of the original.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if genes, values or the transformer are of another shape; then nothing has changed.
    pub fn take_weights(&self, from: &ScGpt) -> Result<LoadReport> {
        take(&self.params, &from.params)
    }
}

impl ScGptPerturb {
    /// Takes over genes, values and transformer of a model that was trained for something else.
    ///
    /// # Errors
    /// As [`ScGpt::take_weights`].
    pub fn take_weights(&self, from: &ScGpt) -> Result<LoadReport> {
        take(self.parameters(), &from.params)
    }
}

fn take(to: &Params, from: &Params) -> Result<LoadReport> {
    let report = compare(to, from);
    let allow = Allow::fine_tuning();
    if !report.is_allowed(&allow) {
        return Err(Error::InvalidSetting {
            name: "from",
            value: "a model of another shape".into(),
            reason: format!(
                "its weights would be of no use here: {}",
                report.without(&allow)
            ),
        });
    }
    for name in &report.loaded {
        if let (Some(p), Some(old)) = (to.get(name), from.get(name)) {
            p.import(&old.export()?)?;
        }
    }
    Ok(report)
}

fn compare(to: &Params, from: &Params) -> LoadReport {
    let mut report = LoadReport::default();
    let own = |name: &str| OWN.iter().any(|own| name.starts_with(own));
    for p in to.iter().filter(|p| !own(p.name())) {
        let (name, expected) = (p.name().to_owned(), p.export_shape());
        match from.get(&name) {
            None => report.missing.push(name),
            Some(o) if o.export_shape() == expected => report.loaded.push(name),
            Some(o) => report.mismatched.push(Mismatch {
                name,
                found: o.export_shape(),
                expected,
            }),
        }
    }
    let unknown = from.iter().map(sc_model::Param::name);
    let unknown = unknown.filter(|n| !own(n) && to.get(n).is_none());
    report.unexpected = unknown.map(str::to_owned).collect();
    report
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::scgpt::PerturbConfig;
    use crate::vocab::{GeneVocab, SPECIALS};

    fn model(d: usize, classes: usize, seed: u64) -> ScGpt {
        let vocab = GeneVocab::new(["A", "B", "C"]).unwrap();
        let vocab = vocab.with_specials(&SPECIALS).unwrap();
        let params = ScGpt::params(&vocab).unwrap().d_model(d).n_heads(2);
        let classes = (0..classes).map(|i| i.to_string()).collect();
        let params = params.d_hid(8).n_layers(1).classes(classes);
        params.check().unwrap().init(&Device::Cpu, seed).unwrap()
    }

    fn bits(params: &Params, name: &str) -> Vec<u32> {
        let t = params.get(name).unwrap().value().flatten_all().unwrap();
        let values = t.to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn the_transformer_is_taken_over_and_the_classifier_is_not() {
        let (new, old) = (model(8, 2, 1), model(8, 2, 2));
        let own = bits(new.parameters(), "cls_decoder.out_layer.weight");
        let report = new.take_weights(&old).unwrap();
        let genes = "encoder.embedding.weight";
        assert_eq!(bits(new.parameters(), genes), bits(old.parameters(), genes));
        assert_eq!(bits(new.parameters(), "cls_decoder.out_layer.weight"), own);
        assert!(report.is_complete());
        assert!(new.take_weights(&model(4, 2, 2)).is_err());
    }

    #[test]
    fn a_perturbation_model_takes_genes_values_and_transformer() {
        let old = model(8, 0, 3);
        let mut config = PerturbConfig::default();
        config.base.n_tokens = old.config().n_tokens;
        config.base.pad_id = old.config().pad_id;
        (config.base.d_model, config.base.n_heads) = (8, 2);
        (config.base.d_hid, config.base.n_layers) = (8, 1);
        let new = ScGptPerturb::init(old.vocab().clone(), config, &Device::Cpu, 9).unwrap();
        let report = new.take_weights(&old).unwrap();
        for name in ["value_encoder.linear1.weight", "encoder.enc_norm.weight"] {
            assert!(report.loaded.iter().any(|n| n == name));
            assert_eq!(bits(new.parameters(), name), bits(old.parameters(), name));
        }
        assert!(report.missing.iter().any(|n| n.starts_with("decoder.")));
    }
}
