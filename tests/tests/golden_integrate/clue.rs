//! Forward passes, losses, gradients and training steps of scglue's CLUE with given weights and noise.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use sc_data::Csr;
use sc_integrate::{Clue, ClueConfig, ClueParams, Minibatch, Noise, Parity, Part, Registry, Terms};
use sc_model::{Mode, Optimizer, OptimizerKind};
use sc_tensor::GradStore;
use sc_tensor::rng::Rng;
use serde_json::{Value, json};

use crate::golden::Golden;

const FILES: [&str; 4] = [
    "clue_nb_nb.safetensors",
    "clue_nb_nb_nb.safetensors",
    "clue_normal_bernoulli_ziln.safetensors",
    "clue_zin_mse.safetensors",
];

/// A model of the reference, its cells, and what it computes of them.
struct Case {
    golden: Golden,
    keys: Vec<String>,
    dtype: DType,
}

impl Case {
    /// All of them in both precisions; none if the reference files aren't there.
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for file in FILES {
            for dtype in [DType::F32, DType::F64] {
                let Some(golden) = Golden::open(file) else {
                    return cases;
                };
                let keys = strings(&golden.meta()["keys"]);
                cases.push(Self {
                    golden,
                    keys,
                    dtype,
                });
            }
        }
        cases
    }

    fn config(&self) -> ClueConfig {
        let m = self.golden.meta();
        let n = |v: &Value| v.as_u64().unwrap() as usize;
        let f = |name: &str| m[name].as_f64().unwrap();
        let mut c = ClueConfig::default();
        c.latent_dim = n(&m["latent_dim"]);
        (c.encoder_depth, c.encoder_dim) = (n(&m["enc_h"][0]), n(&m["enc_h"][1]));
        (c.decoder_depth, c.decoder_dim) = (n(&m["dec_h"][0]), n(&m["dec_h"][1]));
        (c.adversary_depth, c.adversary_dim) = (n(&m["disc_h"][0]), n(&m["disc_h"][1]));
        c.dropout = f("dropout");
        c.normalize = m["normalize_u"].as_bool().unwrap();
        c.adversary_sees_batch = m["shared_batches"].as_bool().unwrap();
        c.weights.data = f("lam_data");
        c.weights.kl = f("lam_kl");
        c.weights.align = f("lam_align");
        c.weights.supervised = f("lam_sup");
        c.weights.joint_cross = f("lam_joint_cross");
        c.weights.real_cross = f("lam_real_cross");
        c.weights.pairing = f("lam_cos");
        c.parity = Parity::Upstream;
        c
    }

    fn registry(&self) -> Registry {
        let m = self.golden.meta();
        let modalities: Vec<Value> = (0..self.keys.len())
            .map(|k| {
                let features = m["F"][k].as_u64().unwrap();
                let features: Vec<String> = (0..features).map(|f| format!("f{f}")).collect();
                json!({
                    "name": self.keys[k],
                    "features": features,
                    "likelihood": m["prob"][k].as_str().unwrap().to_ascii_lowercase(),
                    "representation": m["rep_dim"][k].as_u64().filter(|&r| r > 0),
                    "weight": m["modality_weight"][k],
                })
            })
            .collect();
        let classes = m["n_classes"].as_u64().unwrap();
        let labels: Vec<String> = (0..classes).map(|c| format!("class {c}")).collect();
        let batches = strings(&m["batches"]);
        let all = json!({"modalities": modalities, "batches": batches, "labels": labels});
        serde_json::from_value(all).unwrap()
    }

    /// With the reference's weights, which lack the number of minibatches that batch norms have seen.
    fn model(&self) -> Clue {
        let mut weights: HashMap<String, Tensor> = self.golden.below("w.");
        let norms: Vec<String> = weights
            .keys()
            .filter_map(|k| k.strip_suffix("running_mean").map(str::to_owned))
            .collect();
        for norm in norms {
            let none = Tensor::new(0i64, &Device::Cpu).unwrap();
            weights.insert(format!("{norm}num_batches_tracked"), none);
        }
        let valid = ClueParams::new(self.config(), self.registry())
            .check()
            .unwrap();
        valid
            .load(&Device::Cpu, self.dtype, Path::new("golden"), &weights)
            .unwrap()
    }

    fn cells(&self) -> Minibatch {
        let g = &self.golden;
        let mask = g.matrix("in.mask");
        let n = mask.nrows();
        let parts = self.keys.iter().enumerate().map(|(k, key)| {
            let optional = |name: String| g.has(&name).then_some(name);
            Some(Part {
                cell: (0..n as u32).collect(),
                real: mask.column(k).iter().map(|&m| m > 0.0).collect(),
                values: Arc::new(Csr::from_dense(&g.matrix(&format!("in.x.{key}")))),
                representation: optional(format!("in.xrep.{key}")).map(|name| g.matrix(&name)),
                batch: match strings(&g.meta()["batches"]).is_empty() {
                    true => vec![0; n],
                    false => g.codes("in.batch"),
                },
                labels: match optional(format!("in.xlbl.{key}")) {
                    Some(name) => g.codes(&name),
                    None => vec![u32::MAX; n],
                },
                adversary_weights: Some(g.get(&format!("in.xdwt.{key}")).to_vec1().unwrap()),
            })
        });
        Minibatch {
            n_cells: n,
            parts: parts.collect(),
        }
    }

    fn noise(&self, name: &str) -> Noise {
        let of = |key: &String| {
            let t = self.golden.get(&format!("noise.{name}.{key}"));
            Some(t.to_dtype(self.dtype).unwrap())
        };
        Noise {
            posterior: self.keys.iter().map(of).collect(),
            ..Noise::default()
        }
    }

    fn check_losses(&self, prefix: &str, terms: &Terms, model: &Clue) {
        let g = &self.golden;
        let w = model.config().weights;
        let check = |name: &str, t: &Tensor| g.check(&format!("{prefix}.loss.{name}"), t);
        for (k, key) in self.keys.iter().enumerate() {
            let (nll, kl) = (
                terms.nll[k].as_ref().unwrap(),
                terms.kl[k].as_ref().unwrap(),
            );
            check(&format!("x_{key}_nll"), nll);
            check(&format!("x_{key}_kl"), kl);
            check(
                &format!("x_{key}_elbo"),
                &(nll + (kl * w.kl).unwrap()).unwrap(),
            );
        }
        for (name, term) in [
            ("joint_cross_loss", &terms.joint),
            ("real_cross_loss", &terms.real),
            ("cos_loss", &terms.pairing),
            ("dsc_loss", &terms.adversary),
        ] {
            check(name, term.as_ref().unwrap());
        }
        if let Some(sup) = &terms.supervised {
            check("sup_loss", sup);
        }
        check(
            "gen_loss",
            &terms.generator(&w, &model.modality_weights()).unwrap(),
        );
    }

    /// Gradients of the parameters that the reference has some of.
    fn check_gradients(&self, prefix: &str, model: &Clue, grads: &GradStore) {
        let mut seen = 0;
        for p in model.parameters().iter().filter(|p| !p.is_buffer()) {
            let name = format!("{prefix}.{}", p.name());
            if !self.golden.has(&name) {
                continue;
            }
            let g = grads.get(p.var().as_tensor());
            let g = g.unwrap_or_else(|| panic!("{name}: no gradient"));
            let g = if p.is_transposed() {
                g.t().unwrap()
            } else {
                g.clone()
            };
            self.golden.check(&name, &g.contiguous().unwrap());
            seen += 1;
        }
        assert!(seen >= 2, "{prefix}: {seen} gradients");
    }
}

fn strings(v: &Value) -> Vec<String> {
    let all = v.as_array().unwrap().iter();
    all.map(|s| s.as_str().unwrap().to_owned()).collect()
}

#[test]
fn posteriors() {
    for case in Case::all() {
        let (model, cells) = (case.model(), case.cells());
        let (mut means, mut batches) = (Vec::new(), Vec::new());
        for (k, key) in case.keys.iter().enumerate() {
            let part = cells.parts[k].as_ref().unwrap();
            let q = model.encode(k, part, &Mode::eval()).unwrap();
            case.golden.check(&format!("fwd.enc.{key}.loc"), &q.loc);
            case.golden.check(&format!("fwd.enc.{key}.std"), &q.std);
            means.push(q.loc);
            batches.extend_from_slice(&part.batch);
        }
        let guesses = model.guess_modality(&Tensor::cat(&means, 0).unwrap(), &batches);
        case.golden.check("fwd.disc_logits", &guesses.unwrap());
    }
}

#[test]
fn losses_and_gradients() {
    let rng = Rng::new(0);
    for case in Case::all() {
        let cells = case.cells();
        let train = Mode::train(&rng, 0).without_dropout();
        for (prefix, mode) in [("eval", train.as_at_inference()), ("train", train)] {
            let model = case.model();
            let w = model.config().weights;
            let noise = case.noise("loss");
            let terms = model.losses(&cells, &noise, &mode).unwrap();
            case.check_losses(prefix, &terms, &model);
            let loss = terms.generator(&w, &model.modality_weights()).unwrap();
            let grads = sc_tensor::backward(&loss).unwrap();
            case.check_gradients(&format!("{prefix}.dgen"), &model, &grads);
            if prefix == "train" {
                for p in model.parameters().iter().filter(|p| p.is_buffer()) {
                    let name = format!("train.bn_after.{}", p.name());
                    if case.golden.has(&name) {
                        case.golden.check(&name, p.value());
                    }
                }
            }
            let model = case.model();
            let own = model.adversary_loss(&cells, &noise, &mode).unwrap();
            let own = (own * w.align).unwrap();
            case.golden
                .check(&format!("{prefix}.dsc_only_scaled_loss"), &own);
            let grads = sc_tensor::backward(&own).unwrap();
            case.check_gradients(&format!("{prefix}.ddsc"), &model, &grads);
            let of_others = model
                .parameters()
                .iter()
                .filter(|p| !p.name().starts_with("du."));
            assert!(
                of_others
                    .into_iter()
                    .all(|p| grads.get(p.var().as_tensor()).is_none())
            );
        }
    }
}

#[test]
fn burn_in_noise() {
    for case in Case::all() {
        let (model, cells) = (case.model(), case.cells());
        let mut noise = case.noise("loss");
        let all = case
            .golden
            .get("noise.anneal")
            .to_dtype(case.dtype)
            .unwrap();
        let n = cells.n_cells;
        let part = |k: usize| Some(all.narrow(0, k * n, n).unwrap());
        noise.adversary = (0..case.keys.len()).map(part).collect();
        // The second of five epochs.
        noise.burn_in = 0.8;
        let found = model.adversary_loss(&cells, &noise, &Mode::eval()).unwrap();
        case.golden.check("anneal.dsc_loss_epoch2_burnin5", &found);
    }
}

/// Three steps, the adversary's turn first in each.
#[test]
fn training_steps() {
    let rng = Rng::new(0);
    for case in Case::all() {
        let (model, cells) = (case.model(), case.cells());
        let w = model.config().weights;
        let kind = OptimizerKind::RmsProp {
            alpha: 0.99,
            eps: 1e-8,
            momentum: 0.0,
            weight_decay: 0.0,
        };
        let lr = case.golden.meta()["lr"].as_f64().unwrap();
        let mut optimizer = Optimizer::new(kind, model.parameters());
        for step in 0..3 {
            let mode = Mode::train(&rng, step).without_dropout();
            let noise = case.noise(&format!("step{step}.dsc"));
            let loss = model.adversary_loss(&cells, &noise, &mode).unwrap();
            let grads = sc_tensor::backward(&(loss * w.align).unwrap()).unwrap();
            optimizer
                .step(model.parameters(), &grads, lr, None)
                .unwrap();

            let noise = case.noise(&format!("step{step}.gen"));
            let terms = model.losses(&cells, &noise, &mode).unwrap();
            case.check_losses(&format!("step{step}"), &terms, &model);
            let loss = terms.generator(&w, &model.modality_weights()).unwrap();
            let grads = sc_tensor::backward(&loss).unwrap();
            optimizer
                .step(model.parameters(), &grads, lr, None)
                .unwrap();
        }
        for p in model.parameters().iter() {
            let name = format!("after3.{}", p.name());
            if case.golden.has(&name) {
                case.golden.check(&name, &p.export().unwrap());
            }
        }
        for (k, key) in case.keys.iter().enumerate() {
            let part = cells.parts[k].as_ref().unwrap();
            let q = model.encode(k, part, &Mode::eval()).unwrap();
            case.golden.check(&format!("after3_enc.{key}.loc"), &q.loc);
        }
    }
}
