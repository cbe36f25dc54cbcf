//! Bridges of flow matching against torchcfm's numbers.

use candle_core::DType;
use sc_sde::flow::{Bridge, score_weight};

use crate::golden::{Golden, cast};

#[test]
fn bridges() {
    let Some(golden) = Golden::open("flow_matching.safetensors") else {
        return;
    };
    let all = [
        ("icfm_sigma0.1", Bridge::Linear { sigma: 0.1 }),
        ("target_sigma0.1", Bridge::Target { sigma: 0.1 }),
        ("sb_sigma0.5", Bridge::Schroedinger { sigma: 0.5 }),
        ("sb_sigma1.0", Bridge::Schroedinger { sigma: 1.0 }),
        ("vp_sigma0.1", Bridge::Trigonometric { sigma: 0.1 }),
    ];
    for (name, bridge) in all {
        for dtype in [DType::F64, DType::F32] {
            let get = |name: &str| cast(&golden.get(name), dtype);
            let tau = get("t").unsqueeze(1).unwrap();
            let eps = get("eps");
            let at = bridge.points(&get("x0"), &get("x1"), &tau, &eps).unwrap();
            let key = |what: &str| format!("{name}.{what}");
            golden.check(&key("mu_t"), &at.mean);
            golden.check(&key("sigma_t"), &at.sigma.squeeze(1).unwrap());
            golden.check(&key("x_t"), &at.x);
            golden.check(&key("u_t"), &at.velocity);
            let Bridge::Schroedinger { sigma } = bridge else {
                continue;
            };
            let weight = score_weight(&at.sigma, sigma).unwrap();
            golden.check(&key("lambda_t"), &weight.squeeze(1).unwrap());
            // A net that says 0.3 everywhere.
            let said = (eps.ones_like().unwrap() * 0.3).unwrap();
            let off = (said.broadcast_mul(&weight).unwrap() + &eps).unwrap();
            let loss = off.sqr().unwrap().mean(1).unwrap();
            golden.check(&key("score_loss_elem"), &loss);
        }
    }
}
