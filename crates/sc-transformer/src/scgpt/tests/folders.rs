//! Folders that are written and read.

use ndarray::Array2;

use super::*;

fn perturb() -> ScGptPerturb {
    let vocab = vocab();
    let mut config = PerturbConfig {
        activation: Activation::Tanh,
        adaptive_bias: true,
        ..PerturbConfig::default()
    };
    config.base.n_tokens = vocab.len();
    config.base.pad_id = vocab.pad().unwrap();
    (config.base.d_model, config.base.n_heads) = (8, 2);
    (config.base.d_hid, config.base.n_layers) = (8, 2);
    ScGptPerturb::init(vocab, config, &Device::Cpu, 3).unwrap()
}

#[test]
fn a_perturbation_model_predicts_the_same_after_a_trip_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("not/yet/there");
    let model = perturb();
    model.save(&folder).unwrap();
    let again = ScGptPerturb::load(&folder, &Device::Cpu).unwrap();
    assert_eq!(
        (again.config(), again.vocab()),
        (model.config(), model.vocab())
    );
    let controls = Array2::from_shape_fn((3, GENES), |(c, g)| ((c + g) % 5) as f32);
    let ids: Vec<u32> = (0..GENES as u32).collect();
    let of = |m: &ScGptPerturb| {
        let hit = [vec![1], vec![], vec![2, 5]];
        let p = m.predict(controls.view(), &ids, &hit, &PredictOptions::default());
        p.unwrap().mapv(f32::to_bits)
    };
    assert_eq!(of(&again), of(&model));
}

#[test]
fn a_folder_of_another_model_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    perturb().save(dir.path()).unwrap();
    let kind = sc_model::save::model_kind(dir.path()).unwrap();
    assert_eq!(kind, PERTURB_KIND);
    let said = refusal(ScGpt::load(dir.path(), &Device::Cpu));
    assert!(said.contains("scgpt-perturb"), "{said}");
    model(small(&vocab())).save(dir.path()).unwrap();
    let said = refusal(ScGptPerturb::load(dir.path(), &Device::Cpu));
    assert!(said.contains("model = scgpt is not"), "{said}");
}

#[test]
fn an_export_makes_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("not/yet/there");
    let model = model(small(&vocab()));
    model.export(&folder, Layout::Flash).unwrap();
    let again = ScGpt::from_checkpoint(&folder, &Device::Cpu).unwrap();
    for (a, b) in again.parameters().iter().zip(model.parameters().iter()) {
        let bits = |p: &sc_model::Param| p.value().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((a.name(), bits(a)), (b.name(), bits(b)));
    }
    // A file in the way is named.
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let said = refusal(model.export(file.join("folder"), Layout::Flash));
    assert!(said.contains("file/folder"), "{said}");
}
