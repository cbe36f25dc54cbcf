//! Another classifier on the same transformer.

use super::config::{ScGptConfig, ensure};
use super::model::ScGpt;
use crate::Result;

/// What the names of a classifier's weights begin with.
const CLASSIFIER: &str = "cls_decoder.";

impl ScGpt {
    /// The same network with a fresh classifier of these cell types, whatever it told apart before: a pre-trained model, ready
    /// for [`ScGpt::finetune`]. The weights are copies; this model stays as it is.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting) if there are fewer than two types, or one twice.
    pub fn with_classes(&self, classes: &[String], seed: u64) -> Result<Self> {
        let distinct: std::collections::BTreeSet<&String> = classes.iter().collect();
        let fine = classes.len() >= 2 && distinct.len() == classes.len();
        let reason = "at least two are needed, each once";
        ensure(fine, "classes", format_args!("{classes:?}"), reason)?;
        let config = ScGptConfig {
            classes: classes.to_vec(),
            ..self.config.clone()
        };
        let params = Self::with_config(self.vocab.clone(), config).check()?;
        let model = params.init_with_dtype(self.device(), self.params.dtype(), seed)?;
        for p in model.params.iter() {
            let same = self.params.get(p.name());
            if let Some(old) = same.filter(|_| !p.name().starts_with(CLASSIFIER)) {
                p.import(&old.export()?)?;
            }
        }
        Ok(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::{GeneVocab, SPECIALS};
    use sc_model::Mode;
    use sc_tensor::Device;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|&n| n.to_owned()).collect()
    }

    #[test]
    fn only_the_classifier_is_new() {
        let vocab = GeneVocab::new(["A", "B"])
            .unwrap()
            .with_specials(&SPECIALS)
            .unwrap();
        let small = ScGpt::params(&vocab).unwrap().d_model(8).n_heads(2);
        let small = small.d_hid(8).n_layers(1).classes(names(&["x", "y", "z"]));
        let old = small.check().unwrap().init(&Device::Cpu, 1).unwrap();
        let new = old.with_classes(&names(&["p", "q"]), 2).unwrap();
        assert_eq!(new.config().classes, ["p", "q"]);
        assert_eq!(old.config().classes, ["x", "y", "z"]);
        let (mut kept, mut fresh) = (0, 0);
        for p in new.parameters().iter() {
            let before = old.parameters().get(p.name()).unwrap();
            let same = p.export_shape() == before.export_shape()
                && numbers(&p.export().unwrap()) == numbers(&before.export().unwrap());
            match p.name().starts_with(CLASSIFIER) {
                true => fresh += usize::from(!same),
                false => {
                    assert!(same, "{}", p.name());
                    kept += 1;
                }
            }
        }
        assert!(kept > 10 && fresh > 0, "{kept} {fresh}");
        let cells = old.gene_vectors(&[0, 1], &Mode::eval()).unwrap();
        let same = old.gene_matrix(&[0, 1]).unwrap();
        assert_eq!(same.into_raw_vec_and_offset().0, numbers(&cells));
        let logits = new.class_logits(&cells, &Mode::eval()).unwrap();
        assert_eq!(logits.dims(), [2, 2]);
    }

    #[test]
    fn classes_are_two_or_more() {
        let vocab = GeneVocab::new(["A"])
            .unwrap()
            .with_specials(&SPECIALS)
            .unwrap();
        let small = ScGpt::params(&vocab).unwrap().d_model(4).n_heads(1);
        let small = small.d_hid(4).n_layers(1).check().unwrap();
        let model = small.init(&Device::Cpu, 0).unwrap();
        for wrong in [names(&["x"]), names(&["x", "x"]), names(&[])] {
            let e = model.with_classes(&wrong, 0).unwrap_err().to_string();
            assert!(e.contains("at least two"), "{e}");
        }
    }

    fn numbers(t: &candle_core::Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }
}
