//! Fine-tuning that was interrupted.

use ndarray::Array2;
use sc_model::Parity;
use sc_model::train::{Control, EpochEvent, Observer, ResumeState, TrainConfig, fit, resume};

use super::*;

/// Saves after some epochs, and stops there.
struct StopAfter(usize, std::path::PathBuf);

impl Observer for StopAfter {
    fn on_epoch(&mut self, event: &EpochEvent<'_>) -> sc_model::Result<Control> {
        if event.epoch + 1 < self.0 {
            return Ok(Control::Continue);
        }
        event.state.save(&self.1)?;
        Ok(Control::Stop)
    }
}

#[test]
fn the_best_epoch_before_an_interruption_is_remembered() {
    let counts = Array2::from_shape_fn((40, GENES), |(c, g)| ((c * 7 + g * g) % 9) as f32);
    // Labels that nothing explains: what is learned makes the loss of the others rise.
    let mut draws = [0f64; 40];
    let mut stream = sc_tensor::Rng::new(3).stream("labels");
    stream.fill_uniform(0.0, 2.0, &mut draws);
    let labels = draws.map(|d| d as u32);
    let vocab = vocab();
    let recipe = Recipe::annotation(1, Parity::Correct);
    let tokens = tokenizer(&vocab, recipe.tokens.clone());
    let source = CellSource::new(&counts, &tokens);
    let data = LabelledCells::new(source, Some(&labels), &recipe).unwrap();
    let mut config = recipe.train.clone();
    (config.max_epochs, config.batch_size, config.lr) = (Some(8), 16, 0.03);
    let new = || model(small(&vocab).classes(vec!["a".into(), "b".into()]));
    let bits = |m: &ScGpt| -> Vec<u32> {
        let of = |p: &sc_model::Param| p.value().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let all = m.parameters().iter().flat_map(of);
        all.map(f32::to_bits).collect()
    };
    let train = |m: &ScGpt, config: &TrainConfig, state: Option<&ResumeState>, stop| {
        let task = FineTune::new(m, recipe.objectives).unwrap();
        let mut observers = (KeepBest::new(m.parameters()), stop);
        match state {
            None => fit(&task, &data, config, &mut observers),
            Some(s) => resume(&task, &data, config, s, &mut observers),
        }
        .unwrap();
        let best = observers.0.best().unwrap().0;
        observers.0.restore().unwrap();
        best
    };
    let whole = new();
    let best = train(&whole, &config, None, None::<StopAfter>);
    assert!(best < 6, "epoch {best}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for epochs in [best + 1, 7] {
        train(&new(), &config, None, Some(StopAfter(epochs, path.clone())));
        let state = ResumeState::load(&path).unwrap();
        let second = new();
        assert_eq!(train(&second, &config, Some(&state), None), best);
        assert!(bits(&second) == bits(&whole), "after {epochs} epochs");
    }
}
