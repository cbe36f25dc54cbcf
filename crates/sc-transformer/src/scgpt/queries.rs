//! Queries and keys of a layer: which genes attend to which.

use candle_core::{DType, Tensor};
use ndarray::Array3;
use sc_model::Mode;

use super::config::{NormPlacement, ensure};
use super::input::Input;
use super::layer::Attend;
use super::model::{Reading, ScGpt};
use crate::Result;
use crate::network::AttentionRanks;

/// Queries and keys of all tokens of a minibatch.
#[derive(Debug, Clone, PartialEq)]
pub struct QueriesKeys {
    /// `[tokens, heads, numbers of a head]`, without the scale of attention.
    pub queries: Array3<f32>,
    /// The same of the keys.
    pub keys: Array3<f32>,
}

impl ScGpt {
    /// The queries and keys of a layer (from 0), for [`AttentionRanks`].
    ///
    /// # Errors
    /// As [`ScGpt::encode`]; [`Error::InvalidSetting`](crate::Error::InvalidSetting) if there is no such layer.
    pub fn queries_and_keys<'a>(
        &self,
        cells: impl Into<Input<'a>>,
        layer: usize,
    ) -> Result<QueriesKeys> {
        let (input, mode, layers) = (cells.into(), Mode::eval(), &self.nets.stack.layers);
        let reason = format_args!("the model has {} layers, from 0", layers.len());
        ensure(layer < layers.len(), "layer", layer, reason)?;
        input.check(&self.config, self.needs_batches())?;
        let genes = self.nets.genes.table(&input.tokens.ids, &mode)?;
        let mut h = self.token_rows(input, &genes, Reading::default(), &mode)?;
        let to = Attend {
            segments: input.segments(),
            unknown: None,
        };
        let (below, rest) = layers.split_at(layer);
        for layer in below {
            h = layer.forward(&h, &to, &mode)?;
        }
        let mut found = QueriesKeys {
            queries: Array3::zeros((0, 0, 0)),
            keys: Array3::zeros((0, 0, 0)),
        };
        let Some(layer) = rest.first() else {
            return Ok(found);
        };
        if layer.placement != NormPlacement::Post {
            h = layer.norm1.forward(&h, &mode)?;
        }
        let qkv = layer.wqkv.forward(&h, &mode)?;
        let (n, d) = h.dims2()?;
        let shape = (n, layer.heads, d / layer.heads.max(1));
        found.queries = heads(&qkv.narrow(1, 0, d)?, shape)?;
        found.keys = heads(&qkv.narrow(1, d, d)?, shape)?;
        Ok(found)
    }

    /// Adds the attention of cells to the ranks of their conditions. All cells must have the same tokens in the same order.
    ///
    /// # Errors
    /// As [`ScGpt::queries_and_keys`] and [`AttentionRanks::add`], and unless there is a condition for each cell.
    pub fn add_attention<'a>(
        &self,
        cells: impl Into<Input<'a>>,
        layer: usize,
        conditions: &[usize],
        ranks: &mut AttentionRanks,
    ) -> Result<()> {
        let input = cells.into();
        let n = input.tokens.n_cells();
        let reason = format_args!("there are {n} cells");
        ensure(
            conditions.len() == n,
            "conditions",
            conditions.len(),
            reason,
        )?;
        let found = self.queries_and_keys(input, layer)?;
        for (s, &condition) in input.segments().iter().zip(conditions) {
            let rows = ndarray::Slice::from(s.start..s.start + s.rows);
            let axis = ndarray::Axis(0);
            ranks.add(
                condition,
                found.queries.slice_axis(axis, rows),
                found.keys.slice_axis(axis, rows),
            )?;
        }
        Ok(())
    }
}

fn heads(x: &Tensor, shape: (usize, usize, usize)) -> Result<Array3<f32>> {
    let values = x.to_dtype(DType::F32)?.contiguous()?.flatten_all()?;
    Array3::from_shape_vec(shape, values.to_vec1()?).map_err(|e| candle_core::Error::wrap(e).into())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use ndarray::array;
    use sc_model::Parity;
    use sc_tensor::ops;

    use super::*;
    use crate::tokens::{Tokenizer, TokenizerOptions};
    use crate::vocab::{GeneCase, GeneVocab, SPECIALS};

    /// Attention made of queries and keys by hand gives what the next layer reads.
    #[test]
    fn queries_and_keys_are_those_of_the_forward_pass() {
        let names = ["A", "B", "C", "D"];
        let vocab = GeneVocab::new(names).unwrap();
        let vocab = vocab.with_specials(&SPECIALS).unwrap();
        let params = ScGpt::params(&vocab).unwrap().d_model(8).n_heads(2);
        let params = params.d_hid(8).n_layers(2).check().unwrap();
        let model = params.init(&Device::Cpu, 1).unwrap();
        let genes = vocab.match_genes(&names, GeneCase::Exact).unwrap();
        let mut options = TokenizerOptions::default();
        options.include_zeros = true;
        let tokens = Tokenizer::new(&vocab, &genes, options).unwrap();
        let counts = array![[3.0f32, 0.0, 1.0, 7.0], [0.0, 2.0, 2.0, 1.0]];
        let batch = tokens.batch(&counts, &[0, 1], 0).unwrap();
        let found = model.queries_and_keys(&batch, 1).unwrap();
        assert_eq!(found.queries.dim(), (10, 2, 4));
        assert!(model.queries_and_keys(&batch, 2).is_err());

        // The output of layer 1 from these scores: softmax, values, projection, feed-forward.
        let mode = Mode::eval();
        let layer = &model.nets.stack.layers[1];
        let input = Input::from(&batch);
        let table = model.nets.genes.table(&batch.ids, &mode).unwrap();
        let h = model
            .token_rows(input, &table, Reading::default(), &mode)
            .unwrap();
        let to = Attend {
            segments: &batch.segments,
            unknown: None,
        };
        let h = model.nets.stack.layers[0].forward(&h, &to, &mode).unwrap();
        let values = layer.wqkv.forward(&h, &mode).unwrap();
        let values = heads(&values.narrow(1, 16, 8).unwrap(), (10, 2, 4)).unwrap();
        let mut context = vec![0f32; 10 * 8];
        for cell in 0..2 {
            for (q, head) in (0..5).flat_map(|q| [(q, 0), (q, 1)]) {
                let row = 5 * cell + q;
                let scores: Vec<f32> = (0..5)
                    .map(|k| {
                        let dots = (0..4).map(|i| {
                            found.queries[[row, head, i]] * found.keys[[5 * cell + k, head, i]]
                        });
                        dots.sum::<f32>() / 2.0
                    })
                    .collect();
                let weights: Vec<f32> = scores.iter().map(|s| s.exp()).collect();
                let total: f32 = weights.iter().sum();
                for i in 0..4 {
                    let sum: f32 = (0..5)
                        .map(|k| weights[k] / total * values[[5 * cell + k, head, i]])
                        .sum();
                    context[row * 8 + head * 4 + i] = sum;
                }
            }
        }
        let context = Tensor::from_vec(context, (10, 8), &Device::Cpu).unwrap();
        let by_hand = layer
            .around(&h, &mode, |_| {
                Ok(layer.out_proj.forward(&context, &mode)?)
            })
            .unwrap();
        let whole = model.encode(&batch, &mode).unwrap();
        let off = (by_hand - whole.hidden()).unwrap().abs().unwrap();
        let off = ops::sum_rows(&off).unwrap().max(0).unwrap();
        assert!(off.to_scalar::<f32>().unwrap() < 1e-4);

        let mut ranks = AttentionRanks::new(5, 2, 2, Parity::Correct);
        model.add_attention(&batch, 1, &[1, 0], &mut ranks).unwrap();
        assert_eq!((ranks.n_cells(0), ranks.n_cells(1)), (1, 1));
        assert!(model.add_attention(&batch, 1, &[1], &mut ranks).is_err());
    }
}
