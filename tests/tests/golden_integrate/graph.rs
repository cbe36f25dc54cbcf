//! GLUE's graph: degrees, sampling, the auto-encoder and its gradients.

use candle_core::{DType, Device, Tensor};
use sc_integrate::graph::{
    Edge, EdgeBatch, EdgeNorm, EdgeSampler, FeatureGraph, GraphVae, RegulationOptions,
    distance_weight, regulatory_inference,
};
use sc_model::{Mode, load_params};
use sc_tensor::rng::Rng;
use sc_tests::values;

use crate::golden::Golden;

fn graph(g: &Golden) -> FeatureGraph {
    let vertices = g.meta()["vertices"].as_array().unwrap().iter();
    let vertices = vertices.map(|v| v.as_str().unwrap().to_owned()).collect();
    let ends = g.codes("eidx");
    let (source, target) = ends.split_at(ends.len() / 2);
    let (weights, signs) = (values(&g.get("ewt")), values(&g.get("esgn")));
    let edges = (0..source.len()).map(|i| Edge {
        source: source[i],
        target: target[i],
        weight: weights[i],
        sign: signs[i],
    });
    FeatureGraph::from_edges(vertices, edges.collect()).unwrap()
}

#[test]
fn degrees_and_probabilities() {
    let Some(g) = Golden::open("glue_graph.safetensors") else {
        return;
    };
    let graph = graph(&g);
    g.compare("degree_in", "t64", &graph.in_degrees());
    g.compare("degree_out", "t64", &graph.out_degrees());
    g.compare("degree_both", "t64", &graph.degrees_both());
    for (name, norm) in [
        ("enorm_in", EdgeNorm::In),
        ("enorm_out", EdgeNorm::Out),
        ("enorm_sym", EdgeNorm::Sym),
        ("enorm_keepvar", EdgeNorm::KeepVariance),
    ] {
        g.compare(name, "t64", &graph.normalized(norm));
    }
    let sampler = EdgeSampler::new(&graph, 10).unwrap();
    g.compare("vprob", "t64", &sampler.vertex_probabilities());
    g.compare("eprob", "t64", &sampler.edge_probabilities());
    assert_eq!(
        sampler.links_per_epoch() as u64,
        g.meta()["effective_enum"].as_u64().unwrap()
    );
    let weights: Vec<f64> = values(&g.get("decay.dist"))
        .into_iter()
        .map(|d| distance_weight(d as u64))
        .collect();
    g.compare("decay.weight", "t64", &weights);
}

#[test]
fn auto_encoder() {
    let Some(g) = Golden::open("glue_graph.safetensors") else {
        return;
    };
    let graph = graph(&g);
    let weights = g.below("w.gvae.g2v.");
    let path = std::path::Path::new("golden");
    let (vae, params) = load_params(&Device::Cpu, DType::F32, path, &weights, |p| {
        GraphVae::new(p, &graph, 4).map_err(sc_model::Error::from)
    })
    .unwrap();
    let rng = Rng::new(0);
    let mode = Mode::train(&rng, 0);
    let q = vae.encode(&mode).unwrap();
    g.check("gvae.loc", &q.loc);
    g.check("gvae.std", &q.std);
    let noise: Tensor = g.get("gvae.noise");
    let v = (&q.loc + (&q.std * &noise).unwrap()).unwrap();
    g.check("gvae.sample", &v);
    let ends = g.codes("gvae.batch_eidx");
    let (source, target) = ends.split_at(ends.len() / 2);
    let edges = EdgeBatch {
        source: source.to_vec(),
        target: target.to_vec(),
        sign: g.get("gvae.batch_esgn").to_vec1().unwrap(),
        is_edge: values(&g.get("gvae.batch_ewt"))
            .iter()
            .map(|&w| w > 0.0)
            .collect(),
    };
    g.check("gvae.edge_logit", &vae.logits(&v, &edges).unwrap());
    let loss = vae.loss(&edges, Some(&noise), &mode).unwrap();
    g.check("gvae.g_nll", &loss.nll);
    g.check("gvae.g_kl", &loss.kl);
    let elbo = loss.elbo(0.7).unwrap();
    g.check("gvae.g_elbo_lamkl0.7", &elbo);
    let grads = sc_tensor::backward(&elbo).unwrap();
    for p in params.iter() {
        let grad = grads.get(p.var().as_tensor()).unwrap();
        g.check(&format!("gvae.grad.{}", p.name()), grad);
    }
}

#[test]
fn regulatory_scores() {
    let Some(g) = Golden::open("glue_graph.safetensors") else {
        return;
    };
    let embedding = g.matrix("reg.embedding");
    let ends = g.codes("reg.edges");
    let (a, b) = ends.split_at(ends.len() / 2);
    let links: Vec<(u32, u32)> = a.iter().copied().zip(b.iter().copied()).collect();
    let options = RegulationOptions::default();
    let found = regulatory_inference(&[embedding.view()], &links, &options).unwrap();
    g.compare("reg.score", "t64", &found.score);
    assert!(
        found
            .p_value
            .iter()
            .zip(&found.q_value)
            .all(|(p, q)| *p > 0.0 && q >= p && *q <= 1.0)
    );
}
