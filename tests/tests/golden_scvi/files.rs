//! Files of scvi-tools, of all ages, and those that are written for it.

use super::*;

#[test]
fn all_ages_of_checkpoints_open() {
    let Some(golden) = golden() else { return };
    let upstream = golden.join("upstream_models");
    let new = Scvi::from_scvi_tools(upstream.join("0150_scvi_model.pt"), &Device::Cpu).unwrap();
    let old =
        Scvi::from_scvi_tools(upstream.join("testing_models/080_scvi"), &Device::Cpu).unwrap();
    assert_eq!(new.registry().batches, ["batch_0", "batch_1"]);
    assert_eq!(new.registry().batches, old.registry().batches);
    assert_eq!(new.registry().labels.len(), 3);
    assert_eq!(new.training().unwrap().split.train.len(), 360);
    for (a, b) in new.parameters().iter().zip(old.parameters().iter()) {
        assert_eq!(values(a.value()), values(b.value()), "{}", a.name());
    }
    let px_r = values(new.parameters().get("px_r").unwrap().value());
    assert!(worst(&px_r[..3], &[-1.1229, -1.1495, -0.2477], |_| 1.0) < 1e-4);
    // Other classes are named, not guessed at.
    for other in ["0150_totalvi_model.pt", "testing_models/080_totalvi"] {
        let message = Scvi::from_scvi_tools(upstream.join(other), &Device::Cpu)
            .unwrap_err()
            .to_string();
        assert!(message.contains("class"), "{message}");
    }
}

/// Also those that the tests above have no numbers for: reference and query models of scArches, minified ones, hubs.
#[test]
fn every_scvi_checkpoint_opens() {
    let Some(golden) = golden() else { return };
    let (mut opened, mut others) = (0, 0);
    for folder in ["models", "small_models", "hub"] {
        for entry in std::fs::read_dir(golden.join(folder)).unwrap() {
            let dir = entry.unwrap().path();
            match Scvi::from_scvi_tools(&dir, &Device::Cpu) {
                Ok(_) => opened += 1,
                Err(e) => {
                    assert!(
                        e.to_string().contains("class SCANVI"),
                        "{}: {e}",
                        dir.display()
                    );
                    others += 1;
                }
            }
        }
    }
    eprintln!("{opened} SCVI and LinearSCVI models, {others} SCANVI models");
    assert!(opened >= 39, "only {opened} models opened");
}

#[test]
fn what_is_written_for_scvi_tools_reads_back() {
    for_each_model(|case| {
        let dir = tempfile::tempdir().unwrap();
        case.single.save_scvi_tools(dir.path()).unwrap();
        let again = Scvi::from_scvi_tools(dir.path(), &Device::Cpu).unwrap();
        assert_eq!(again.config(), case.single.config(), "{}", case.name);
        assert_eq!(again.registry(), case.single.registry(), "{}", case.name);
        assert_eq!(again.training(), case.single.training(), "{}", case.name);
        let native = tempfile::tempdir().unwrap();
        case.single.save(native.path()).unwrap();
        let loaded = Scvi::load(native.path(), &Device::Cpu).unwrap();
        assert_eq!(loaded.config(), case.single.config());
        for ((a, b), c) in case
            .single
            .parameters()
            .iter()
            .zip(again.parameters().iter())
            .zip(loaded.parameters().iter())
        {
            assert_eq!(
                values(a.value()),
                values(b.value()),
                "{} {}",
                case.name,
                a.name()
            );
            assert_eq!(
                values(a.value()),
                values(c.value()),
                "{} {}",
                case.name,
                a.name()
            );
        }
        if let Decoder::Linear { .. } = case.single.config().decoder {
            assert_eq!(
                again.loadings().unwrap().dim(),
                (case.data.n_vars(), case.single.config().n_latent)
            );
        }
    });
}
