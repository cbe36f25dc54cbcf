//! Parts by themselves, against the numbers of the original's.

use std::collections::HashMap;

use candle_core::{DType, Tensor, Var};
use sc_model::{Mode, ParamBuilder, build_params, load_params};
use sc_tensor::rng::Rng;

use super::*;
use crate::golden::Golden;
use crate::scgpt::embed::Table;
use crate::scgpt::mvc::{MvcDecoder, Widths};
use crate::scgpt::norm::{Group, TokenNorm};

#[test]
fn decoders_of_cells_in_four_styles() {
    let Some(golden) = Golden::open("variants/mvc_styles.safetensors") else {
        return;
    };
    let (n_cells, n_genes, d) = golden.get("gene_embs").dims3().unwrap();
    let styles = [
        ("inner_product", "inner_product", MvcStyle::InnerProduct),
        (
            "inner_product_detach",
            "inner_product",
            MvcStyle::InnerProductDetach,
        ),
        ("concat_query", "concat_query", MvcStyle::ConcatQuery),
        ("sum_query", "sum_query", MvcStyle::SumQuery),
    ];
    for (name, weights, style) in styles {
        let prefix = format!("{weights}.weight.");
        let of =
            |(key, t): (&String, &Tensor)| Some((key.strip_prefix(&prefix)?.into(), t.clone()));
        let tensors: HashMap<String, Tensor> = golden.tensors.iter().filter_map(of).collect();
        let widths = Widths { query: d, cell: d };
        let make = |p: &ParamBuilder<'_>| MvcDecoder::new(p, style, widths, false);
        let loaded = load_params(&Device::Cpu, DType::F32, &golden.path, &tensors, make);
        let (decoder, params) = loaded.unwrap();
        assert_eq!(params.iter().len(), tensors.len(), "{name}");
        let cells = Var::from_tensor(golden.get("cell_emb")).unwrap();
        let genes = golden.get("gene_embs").reshape((n_cells * n_genes, d));
        let genes = Var::from_tensor(&genes.unwrap()).unwrap();
        let table = Table {
            rows: genes.as_tensor().clone(),
            index: (0..(n_cells * n_genes) as u32).collect(),
        };
        let cell_of_row: Vec<u32> = (0..n_cells as u32)
            .flat_map(|c| std::iter::repeat_n(c, n_genes))
            .collect();
        let made = decoder.forward(&cells, &table, &cell_of_row, None, &Mode::eval());
        let value = made.unwrap().value;
        golden.near(&format!("{name}.pred"), &value);
        let loss = value.sqr().unwrap().sum_all().unwrap();
        let grads = sc_tensor::backward(&loss).unwrap();
        golden.near(&format!("{name}.grad_cell_emb"), grads.get(&cells).unwrap());
        let of_genes = grads.get(&genes).cloned();
        assert_eq!(of_genes.is_none(), style == MvcStyle::InnerProductDetach);
        let of_genes = of_genes.unwrap_or_else(|| genes.zeros_like().unwrap());
        golden.near(&format!("{name}.grad_gene_embs"), &of_genes);
    }
}

#[test]
fn norms_of_domains() {
    let Some(golden) = Golden::open("losses/dsbn_running_stats.safetensors") else {
        return;
    };
    let (batch, d, positions) = golden.get("step0.x").dims3().unwrap();
    let config = ScGptConfig {
        d_model: d,
        batches: ["a", "b", "c"].map(str::to_owned).to_vec(),
        input_norm: InputNorm::DomainSpecific,
        ..ScGptConfig::default()
    };
    let rng = Rng::new(0);
    let make = |p: &ParamBuilder<'_>| TokenNorm::new(p, &config);
    let (norm, params) = build_params(&Device::Cpu, DType::F32, &rng, make).unwrap();
    let rows = batch * positions;
    let run = |x: &str, domain: u32, mode: &Mode<'_>| -> Tensor {
        let x = golden.get(x).transpose(1, 2).unwrap();
        let all = (0..rows as u32).collect();
        let groups = vec![Group { domain, rows: all }];
        let y = norm.forward(x.reshape((rows, d)).unwrap(), groups, mode);
        let y = y.unwrap().reshape((batch, positions, d)).unwrap();
        y.transpose(1, 2).unwrap().contiguous().unwrap()
    };
    for (step, domain) in [0, 2, 0, 1].into_iter().enumerate() {
        let y = run(
            &format!("step{step}.x"),
            domain,
            &Mode::train(&rng, step as u64),
        );
        golden.near(&format!("step{step}.out"), &y);
    }
    for domain in 0..3 {
        let y = run("step0.x", domain, &Mode::eval());
        golden.near(&format!("eval.domain{domain}"), &y);
    }
    assert_eq!(params.iter().len(), 9);
    for p in params.iter() {
        let name = p.name().replace("dsbn.", "buffer.");
        golden.near(&name, p.value());
    }
}
