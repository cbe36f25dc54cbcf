//! Two checkpoints that scDiffEq wrote.

use candle_core::{DType, Device, Tensor};
use sc_model::Mode;
use sc_sde::model::{Checkpoint, DiffusionKind, DriftKind};
use sc_sde::solve::{Schedule, Scheme, Solve};
use sc_tests::{json, shared, values};

use crate::analytic::increments;
use crate::golden::{Golden, cast};

#[test]
fn real_checkpoints() {
    let Some(golden) = Golden::open("scdiffeq_ckpt_outputs.safetensors") else {
        return;
    };
    let dir = shared().unwrap().join("golden/sde");
    let described = json(&dir.join("scdiffeq_ckpt.json"));
    for (name, drift, hidden) in [
        ("main", DriftKind::Potential, [512, 512]),
        ("small", DriftKind::Neural, [64, 48]),
    ] {
        let checkpoint = Checkpoint::open(dir.join(format!("scdiffeq_{name}.ckpt"))).unwrap();
        for dtype in [DType::F64, DType::F32] {
            let (model, report) = checkpoint.load(&Device::Cpu, dtype).unwrap();
            let c = model.config();
            assert_eq!(
                (c.n_latent, c.drift, c.mu.hidden.as_slice()),
                (50, drift, &hidden[..])
            );
            assert_eq!(c.diffusion, DiffusionKind::General { brownian_dim: 1 });
            let tensors = described[name]["state_dict"].as_object().unwrap();
            assert_eq!(report.loaded.len(), tensors.len());
            for (tensor, about) in tensors {
                let value = model.parameters().get(tensor).unwrap().export().unwrap();
                let all = values(&value);
                assert_eq!(all.first().copied(), about["first"].as_f64(), "{tensor}");
                assert_eq!(all.last().copied(), about["last"].as_f64(), "{tensor}");
                let sum = about["sum"].as_f64().unwrap();
                assert!(
                    (all.iter().sum::<f64>() - sum).abs() < 1e-6 * sum.abs(),
                    "{tensor}"
                );
            }
            let z = cast(&golden.get("z"), dtype);
            let (f, g) = (model.drift(&z).unwrap(), model.diffusion(&z).unwrap());
            golden.check(&format!("{name}.drift"), &f);
            golden.check(&format!("{name}.diffusion"), &g);
            let norm = |t: &Tensor| {
                let t = t.flatten_from(1).unwrap().sqr().unwrap();
                t.sum(1).unwrap().sqrt().unwrap()
            };
            golden.check(&format!("{name}.drift_norm"), &norm(&f));
            golden.check(&format!("{name}.diffusion_norm"), &norm(&g));
            if drift == DriftKind::Potential {
                golden.check("main.psi", &model.potential(&z).unwrap());
            }
            let equation = model.equation(&Mode::eval()).unwrap();
            let motion = increments(&golden.get("path.xi"), None, 0.125, dtype);
            let schedule = Schedule::grid(&[2.0, 4.0, 6.0], 0.125).unwrap();
            let start = z.narrow(0, 0, 24).unwrap().contiguous().unwrap();
            let states = Solve::new(&equation, Scheme::Euler, &motion, &schedule).run(&start);
            let name = format!("{name}.path.Z");
            golden.check(&name, &Tensor::stack(&states.unwrap(), 0).unwrap());
        }
    }
}
