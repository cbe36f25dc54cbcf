//! Paths of nets, losses of them and gradients through them.

use candle_core::{DType, Device, Tensor};
use sc_model::Mode;
use sc_sde::model::{Equation, ScDiffEq, VelocityRatio};
use sc_sde::solve::{
    At, Calculus, ClockPrecision, GivenIncrements, PathKl, ReadAs, Schedule, Scheme, Sde, Solve,
};
use sc_tensor::Rng;
use serde_json::json;

use crate::analytic::{increments, method};
use crate::golden::{Golden, cast};
use crate::nets::{config, model};
use crate::sinkhorn::divergence;

/// One net in one scheme.
struct Case<'a> {
    golden: &'a Golden,
    /// What the names of its numbers begin with.
    name: String,
    net: &'a str,
    scheme: Scheme,
    calculus: Calculus,
    dtype: DType,
    /// Whether graphs are kept, or segments solved again.
    keep: usize,
}

impl Case<'_> {
    fn model(&self) -> ScDiffEq {
        let about = &self.golden.meta()["nets"][self.net];
        let weights = self.golden.below(&format!("{}.weights.", self.net));
        model(config(about, 8), &weights, self.dtype)
    }

    fn motion(&self) -> GivenIncrements {
        let which = match self.net.ends_with("mD") {
            true => "mD",
            false => "m1",
        };
        let xi = self.golden.get(&format!("xi_{which}"));
        let eta = self.scheme.needs_area().then(|| self.golden.get("eta_m1"));
        increments(&xi, eta.as_ref(), 0.125, self.dtype)
    }

    /// The gradient of the loss `of` of the states: in the start, and in the parameters.
    fn gradients(
        &self,
        sde: &ReadAs<&Equation>,
        motion: &GivenIncrements,
        of: impl Fn(usize, &Tensor) -> Tensor,
    ) -> (Tensor, Vec<Tensor>) {
        let schedule = Schedule::grid(&[2.0, 2.5, 3.0], 0.125).unwrap();
        let solve = Solve::new(sde, self.scheme, motion, &schedule)
            .keep_graphs_of(self.keep)
            .segment(3);
        let start = cast(&self.golden.get("z0"), self.dtype);
        let solution = solve.with_gradients(&start).unwrap();
        let total = |states: &[Tensor]| {
            let terms: Vec<Tensor> = states.iter().enumerate().map(|(k, z)| of(k, z)).collect();
            Ok(Tensor::stack(&terms, 0)?.sum_all()?)
        };
        let (_, gradients) = solution.gradients_of(total).unwrap();
        (gradients.start, gradients.parameters)
    }

    fn check(&self) {
        let model = self.model();
        let rng = Rng::new(0);
        let equation = model.equation(&Mode::train(&rng, 0)).unwrap();
        let sde = ReadAs(self.calculus, &equation);
        let motion = self.motion();
        let schedule = Schedule::grid(&[2.0, 2.5, 3.0], 0.125).unwrap();
        let start = cast(&self.golden.get("z0"), self.dtype);
        let states = Solve::new(&sde, self.scheme, &motion, &schedule)
            .run(&start)
            .unwrap();
        let key = |what: &str| format!("{}.{what}", self.name);
        self.golden
            .check(&key("Z"), &Tensor::stack(&states, 0).unwrap());

        let target = |k: usize| cast(&self.golden.get(&format!("X_{k}")), DType::F64);
        let each: Vec<(f64, Tensor)> = states
            .iter()
            .enumerate()
            .map(|(k, z)| divergence(&cast(z, DType::F64), &target(k)))
            .collect();
        let values: Vec<f64> = each.iter().map(|e| e.0).collect();
        let values = cast(&Tensor::new(values, &Device::Cpu).unwrap(), self.dtype);
        self.golden.check(&key("sinkhorn_each"), &values);

        if self.golden.has(&key("dsink.z0")) {
            // A loss whose gradient in the states is that of the divergence.
            let of = |k: usize, z: &Tensor| {
                (z * cast(&each[k].1, self.dtype))
                    .unwrap()
                    .sum_all()
                    .unwrap()
            };
            let (in_start, in_parameters) = self.gradients(&sde, &motion, of);
            self.golden.check(&key("dsink.z0"), &in_start);
            self.check_parameters(&model, "dsink", &in_parameters);
        }
        if self.golden.has(&key("vr_loss")) {
            let ratio = VelocityRatio::default();
            let at = At {
                t: 0.0,
                step: 0,
                stage: 0,
            };
            let term = |z: &Tensor| {
                let (f, g) = (
                    equation.drift(at, z).unwrap(),
                    equation.diffusion(at, z).unwrap(),
                );
                ratio.term(&f, &g).unwrap()
            };
            let terms: Vec<_> = states.iter().map(term).collect();
            let stack = |of: fn(&sc_sde::model::RatioTerm) -> Tensor| {
                Tensor::stack(&terms.iter().map(of).collect::<Vec<_>>(), 0).unwrap()
            };
            self.golden.check(&key("vr_f"), &stack(|t| t.drift.clone()));
            self.golden
                .check(&key("vr_g"), &stack(|t| t.diffusion.clone()));
            self.golden
                .check(&key("vr_loss"), &stack(|t| t.loss.clone()));
            let (_, in_parameters) = self.gradients(&sde, &motion, |_, z| term(z).loss);
            self.check_parameters(&model, "dvr", &in_parameters);
        }
    }

    fn check_parameters(&self, model: &ScDiffEq, what: &str, found: &[Tensor]) {
        let all: Vec<_> = model.parameters().iter().collect();
        assert_eq!(all.len(), found.len());
        for (p, grad) in all.iter().zip(found) {
            let key = p
                .name()
                .replacen("DiffEq", &format!("{}.{what}", self.name), 1);
            self.golden.check(&key, grad);
        }
    }
}

#[test]
fn states_losses_and_gradients() {
    let Some(golden) = Golden::open("solvers_nets.safetensors") else {
        return;
    };
    let mut seen = 0;
    for name in golden.names() {
        let parts: Vec<&str> = name.split('.').collect();
        let &[net, calculus, noise, scheme, "Z"] = parts.as_slice() else {
            continue;
        };
        let Some((scheme, calculus)) = method(calculus, scheme) else {
            continue;
        };
        for (dtype, keep) in [(DType::F64, 1000), (DType::F64, 0), (DType::F32, 1000)] {
            let case = Case {
                golden: &golden,
                name: format!("{net}.{}.{noise}.{}", parts[1], parts[3]),
                net,
                scheme,
                calculus,
                dtype,
                keep,
            };
            case.check();
        }
        seen += 1;
    }
    assert_eq!(seen, 37, "every scheme of every net");
}

/// torchsde's clock in 32 and 64 bits, states between steps interpolated.
#[test]
fn on_the_clock_of_torchsde() {
    let Some(golden) = Golden::open("solver_clock.safetensors") else {
        return;
    };
    for net in ["potential_m1", "neural_m1"] {
        for (key, dtype, precision) in [
            ("f32", DType::F32, ClockPrecision::F32),
            ("f64", DType::F64, ClockPrecision::F64),
        ] {
            let weights = golden.below(&format!("{net}.weights."));
            let class = match net {
                "neural_m1" => "NeuralSDE",
                _ => "PotentialSDE",
            };
            let width = |name: &str| weights[name].dims()[0];
            let about = json!({
                "cls": class, "m": 1,
                "mu_hidden": [width("mu.hidden_1.linear.weight"), width("mu.hidden_2.linear.weight")],
                "sigma_hidden": [width("sigma.hidden_1.linear.weight"), width("sigma.hidden_2.linear.weight")],
            });
            let model = model(config(&about, 8), &weights, dtype);
            let equation = model.equation(&Mode::eval()).unwrap();
            for times in ["coarse", "fine"] {
                let meta = match times {
                    "coarse" => &golden.meta()["ts_coarse"],
                    _ => &golden.meta()[format!("ts_fine.{key}")],
                };
                let at: Vec<f64> = meta
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|t| t.as_f64().unwrap())
                    .collect();
                let schedule = Schedule::torchsde(&at, 0.1, precision).unwrap();
                let xi = golden.get("xi");
                let steps = schedule.steps().iter();
                let w = steps
                    .map(|s| (cast(&xi.get(s.index).unwrap(), dtype) * s.length().sqrt()).unwrap());
                let motion = GivenIncrements::new(w.collect()).unwrap();
                let start = cast(&golden.get("z0"), dtype);
                let states = Solve::new(&equation, Scheme::Euler, &motion, &schedule).run(&start);
                let name = format!("{net}.{times}.{key}.Z");
                golden.check(&name, &Tensor::stack(&states.unwrap(), 0).unwrap());
            }
        }
    }
}

#[test]
fn divergence_of_paths() {
    let Some(golden) = Golden::open("solver_logqp.safetensors") else {
        return;
    };
    let weights = golden.below("weights.");
    let width = |name: &str| weights[name].dims()[0];
    let about = json!({
        "cls": "LatentPotentialSDE", "m": 1, "coef_prior_drift": 0.7,
        "mu_hidden": [width("mu.hidden_1.linear.weight"), width("mu.hidden_2.linear.weight")],
        "sigma_hidden": [width("sigma.hidden_1.linear.weight"), width("sigma.hidden_2.linear.weight")],
    });
    for dtype in [DType::F64, DType::F32] {
        let model = model(config(&about, 8), &weights, dtype);
        let equation = model.equation(&Mode::eval()).unwrap();
        let sde = PathKl(&equation);
        let motion = increments(&golden.get("xi"), None, 0.125, dtype);
        let schedule = Schedule::grid(&[2.0, 2.5, 3.0], 0.125).unwrap();
        let start = PathKl::<&Equation>::start(&cast(&golden.get("z0"), dtype)).unwrap();
        let states = Solve::new(&sde, Scheme::Euler, &motion, &schedule)
            .run(&start)
            .unwrap();
        let (z, kl): (Vec<_>, Vec<_>) = states
            .iter()
            .map(|s| PathKl::<&Equation>::split(s).unwrap())
            .unzip();
        golden.check("Z", &Tensor::stack(&z, 0).unwrap());
        let increments = [(&kl[1] - &kl[0]).unwrap(), (&kl[2] - &kl[1]).unwrap()];
        golden.check("logqp", &Tensor::stack(&increments, 0).unwrap());
    }
}
