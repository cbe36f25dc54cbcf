//! From expression to embedding.

use candle_core::{DType, Device};
use ndarray::Array2;
use sc_model::{Embed, Mode};
use sc_tests::values;
use sc_transformer::scgpt::{CellSource, InputNorm, NormPlacement};
use sc_transformer::tokens::{BatchLimits, Tokenizer, TokenizerOptions};
use sc_transformer::vocab::GeneCase;

use super::folder::{Golden, Inputs};

#[test]
fn cells_embed_as_the_original_embeds_them() {
    let Some(golden) = Golden::open() else { return };
    let file = golden.file("scgpt/embed_data.safetensors");
    let genes = golden.json("scgpt/embed_data_genes.json");
    let model = golden.checkpoint("scgpt").load(&Device::Cpu).unwrap();
    let names: Vec<String> = ["genes", "feature_name", "gene_column", "gene_names"]
        .iter()
        .find_map(|k| serde_json::from_value(genes.get(*k)?.clone()).ok())
        .unwrap_or_else(|| panic!("{genes}"));
    let genes = model.vocab().match_genes(&names, GeneCase::Exact).unwrap();
    let tokenizer = Tokenizer::new(model.vocab(), &genes, TokenizerOptions::default()).unwrap();
    let x = file.get("X");
    let counts = Array2::from_shape_vec(x.dims2().unwrap(), file.f32s("X")).unwrap();
    let mut source = CellSource::new(&counts, &tokenizer);
    let bits = |m: &Array2<f32>| -> Vec<u32> { m.iter().map(|v| v.to_bits()).collect() };
    let first = model.embed(&source).unwrap();
    let found: Vec<f64> = first.iter().map(|&v| f64::from(v)).collect();
    file.near_values("X_scGPT", &found, None);
    // Whatever the minibatches, it is the same.
    for (max_cells, max_tokens) in [(1, 10_000), (3, 10_000), (100, 40), (100, 100)] {
        source.limits = BatchLimits {
            max_tokens,
            max_cells,
            window: 5,
        };
        let again = model.embed(&source).unwrap();
        assert_eq!(
            bits(&first),
            bits(&again),
            "{max_cells} cells, {max_tokens} tokens"
        );
    }
}

#[test]
fn the_short_way_is_the_long_way() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    for placement in [
        NormPlacement::Post,
        NormPlacement::Pre,
        NormPlacement::UpstreamPre,
    ] {
        let model = golden.variant(DType::F64, None, |c| {
            c.norm_placement = placement;
            c.input_norm = InputNorm::Batch;
        });
        let cells = inputs.packed("values");
        let long = model.encode(&cells, &Mode::eval()).unwrap();
        let short = model.cell_vectors(&cells).unwrap();
        for (a, b) in values(long.cells()).iter().zip(values(&short)) {
            assert!((a - b).abs() < 1e-12, "{placement:?}: {a} {b}");
        }
    }
}
