//! Gradients: against finite differences at convergence, and against the algorithm in plain tensors.

use sc_model::Parity;
use sc_tensor::{DType, Rng, Var, backward, gradcheck};

use super::*;

#[test]
fn gradients_are_those_of_finite_differences_at_convergence() {
    let (x, y) = reference(6, 5, 3);
    for params in [
        Sinkhorn::params().blur(0.6),
        Sinkhorn::params().blur(0.6).debias(false),
        Sinkhorn::params().blur(0.5).p(1),
        Sinkhorn::params().blur(0.6).reach(1.5),
        Sinkhorn::params().blur(0.6).reach(1.5).debias(false),
    ] {
        let unbalanced = params.reach.is_some();
        let sinkhorn = params
            .diameter(Diameter::Fixed(4.0))
            .converged(1e-14)
            .check()
            .unwrap();
        let inputs = [tensor(&x), tensor(&y)];
        let loss = |v: &[Tensor]| sinkhorn.loss(&v[0], &v[1]).map_err(in_tensor);
        gradcheck(loss, &inputs, 1e-5, 1e-7).unwrap();
        // Weights: through a softmax, so that the mass stays the same.
        let logits = [
            tensor(&x).narrow(1, 0, 1).unwrap(),
            tensor(&y).narrow(1, 1, 1).unwrap(),
        ];
        let weighted = |v: &[Tensor]| {
            let soft = |t: &Tensor| sc_tensor::ops::softmax(&t.t()?.contiguous()?);
            let (a, b) = (soft(&v[0])?.squeeze(0)?, soft(&v[1])?.squeeze(0)?);
            let a = if unbalanced { (a * 1.5)? } else { a };
            sinkhorn
                .loss_weighted(&inputs[0], Some(&a), &inputs[1], Some(&b))
                .map_err(in_tensor)
        };
        gradcheck(weighted, &logits, 1e-5, 1e-7).unwrap();
    }
}

/// The algorithm in plain tensors, with all pairs in memory; only the last update is in the graph, its potentials are not.
fn twin(s: &Sinkhorn, x: &Tensor, a: &Tensor, y: &Tensor, b: &Tensor) -> Tensor {
    let p = &s.params;
    let cost = |x: &Tensor, y: &Tensor| {
        let (n, m) = (x.dim(0).unwrap(), y.dim(0).unwrap());
        let square = |t: &Tensor| t.sqr().unwrap().sum_keepdim(1).unwrap();
        let squares = square(x).broadcast_as((n, m)).unwrap()
            + square(y).t().unwrap().broadcast_as((n, m)).unwrap();
        let d = (squares.unwrap() - (x.matmul(&y.t().unwrap()).unwrap() * 2.0).unwrap()).unwrap();
        match p.p {
            1 => d.maximum(1e-8).unwrap().sqrt().unwrap(),
            _ => (d * 0.5).unwrap(),
        }
    };
    let costs = [
        cost(x, &y.detach()),
        cost(y, &x.detach()),
        cost(x, &x.detach()),
        cost(y, &y.detach()),
    ];
    let (ln_a, ln_b) = (a.detach().log().unwrap(), b.detach().log().unwrap());
    let soft_min = |e: f64, c: &Tensor, h: &Tensor| {
        let t = (c * (-1.0 / e)).unwrap().broadcast_add(h).unwrap();
        let lse = sc_tensor::ops::log_sum_exp(&t)
            .unwrap()
            .flatten_all()
            .unwrap();
        (lse * (-e * p.damping(e))).unwrap()
    };
    let d = schedule_diameter(x, y);
    let epsilons = schedule::epsilons(p, d).unwrap();
    let step = |e: f64, c: &[Tensor; 4], v: &[Tensor; 4]| -> [Tensor; 4] {
        let h = |ln: &Tensor, v: &Tensor| (ln + (v * (1.0 / e)).unwrap()).unwrap();
        // f, g, f of x alone, g of y alone.
        [
            soft_min(e, &c[0], &h(&ln_b, &v[1])),
            soft_min(e, &c[1], &h(&ln_a, &v[0])),
            soft_min(e, &c[2], &h(&ln_a, &v[2])),
            soft_min(e, &c[3], &h(&ln_b, &v[3])),
        ]
    };
    let frozen = [0, 1, 2, 3].map(|k| costs[k].detach());
    let zeros = [&ln_a, &ln_b, &ln_a, &ln_b].map(|t| t.zeros_like().unwrap());
    let mut v = step(epsilons[0], &frozen, &zeros);
    for &e in &epsilons {
        let new = step(e, &frozen, &v);
        v = [0, 1, 2, 3].map(|k| ((&v[k] + &new[k]).unwrap() * 0.5).unwrap());
    }
    let [f, g, fa, gb] = step(p.epsilon(), &costs, &v);
    let dual = |t: &Tensor| match p.rho() {
        None => t.clone(),
        Some(rho) => {
            let e = (t * (-1.0 / rho)).unwrap().exp().unwrap();
            ((1.0 - e).unwrap() * (rho + 0.5 * p.epsilon())).unwrap()
        }
    };
    let (mut on_x, mut on_y) = (dual(&f), dual(&g));
    if p.debias {
        on_x = (on_x - dual(&fa)).unwrap();
        on_y = (on_y - dual(&gb)).unwrap();
    }
    let sum = |w: &Tensor, v: Tensor| (w * v).unwrap().sum_all().unwrap();
    (sum(a, on_x) + sum(b, on_y)).unwrap()
}

fn schedule_diameter(x: &Tensor, y: &Tensor) -> f64 {
    let array = |t: &Tensor| {
        let (n, d) = t.dims2().unwrap();
        let v = t.detach().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        Array2::from_shape_vec((n, d), v).unwrap()
    };
    let (x, y) = (array(x), array(y));
    schedule::diameter(&[(
        &Cloud::new(x.view()).unwrap(),
        &Cloud::new(y.view()).unwrap(),
    )])
}

#[test]
fn values_and_gradients_are_those_of_the_composed_twin() {
    let stream = Rng::new(8).stream("clouds");
    let draw = |k: u64, shape: &[usize]| {
        stream
            .at(&[k])
            .normal(shape, DType::F64, &Device::Cpu)
            .unwrap()
    };
    for (n, m, dim) in [(7, 5, 2), (60, 51, 10)] {
        for (k, params) in [
            Sinkhorn::params(),
            Sinkhorn::prescient(),
            Sinkhorn::params().blur(0.3).debias(false),
            Sinkhorn::params().p(1).blur(0.2),
            Sinkhorn::params().reach(2.0).blur(0.4).scaling(0.8),
            Sinkhorn::params().reach(2.0).p(1).blur(0.4).debias(false),
        ]
        .into_iter()
        .enumerate()
        {
            let s = params.parity(Parity::Upstream).check().unwrap();
            let weights = |seed, n| {
                let w = draw(seed, &[n]).exp().unwrap();
                w.broadcast_div(&w.sum_all().unwrap()).unwrap()
            };
            let vars: Vec<Var> = [
                draw(1, &[n, dim]),
                weights(2, n),
                (draw(3, &[m, dim]) + 0.7).unwrap(),
                weights(4, m),
            ]
            .iter()
            .map(|t| Var::from_tensor(t).unwrap())
            .collect();
            let [x, a, y, b] = [0, 1, 2, 3].map(|i| vars[i].as_tensor());
            let ours = s.loss_weighted(x, Some(a), y, Some(b)).unwrap();
            let theirs = twin(&s, x, a, y, b);
            let scalar = |t: &Tensor| t.to_scalar::<f64>().unwrap();
            near(scalar(&ours), scalar(&theirs), 1e-9, "value");
            // A chain above the loss.
            let (ours, theirs) = (ours.sqr().unwrap(), theirs.sqr().unwrap());
            let (g, h) = (backward(&ours).unwrap(), theirs.backward().unwrap());
            for (i, v) in vars.iter().enumerate() {
                let all = |g: &sc_tensor::GradStore| {
                    g.get(v)
                        .unwrap()
                        .flatten_all()
                        .unwrap()
                        .to_vec1::<f64>()
                        .unwrap()
                };
                for (g, h) in all(&g).iter().zip(all(&h)) {
                    near(*g, h, 1e-8, &format!("{n} {k} argument {i}"));
                }
            }
        }
    }
}
