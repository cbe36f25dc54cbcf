//! What a layer's attention is made of, for networks of genes.

use candle_core::{DType, Tensor};
use ndarray::Array3;
use sc_model::Mode;
use sc_tensor::ops;

use super::config::{NormPlacement, ensure};
use super::input::Input;
use super::layer::{Attend, Layer};
use super::model::{Reading, ScGpt};
use crate::network::AttentionRanks;
use crate::{Error, Result};

impl ScGpt {
    /// Queries and keys of a layer (from 0) for each cell, `[tokens, heads, numbers of a head]` each: what
    /// [`AttentionRanks`] adds up. The original looks at the last layer, at cells that all have
    /// the same genes ([`include_zeros`](crate::tokens::TokenizerOptions::include_zeros)).
    ///
    /// # Errors
    /// As [`ScGpt::encode`]; [`Error::InvalidSetting`] if there is no such layer.
    pub fn queries_and_keys<'a>(
        &self,
        cells: impl Into<Input<'a>>,
        layer: usize,
    ) -> Result<Vec<(Array3<f32>, Array3<f32>)>> {
        let (input, mode) = (cells.into(), Mode::eval());
        let layers = &self.nets.stack.layers;
        let chosen = layers.get(layer).ok_or_else(|| Error::InvalidSetting {
            name: "layer",
            value: layer.to_string(),
            reason: format!(
                "the model has layers 0 to {}",
                layers.len().saturating_sub(1)
            ),
        })?;
        input.check(&self.config, self.needs_batches())?;
        let genes = self.nets.genes.table(&input.tokens.ids, &mode)?;
        let mut h = self.token_rows(input, &genes, Reading::default(), &mode)?;
        let to = Attend {
            segments: input.segments(),
            unknown: None,
        };
        for before in layers.iter().take(layer) {
            h = before.forward(&h, &to, &mode)?;
        }
        let [q, k] = [0, 1].map(|part| chosen.projected(&h, part, &mode));
        let (q, k) = (q?, k?);
        let of = |rows: &Tensor, start: usize, len: usize| -> Result<Array3<f32>> {
            let rows = rows.narrow(0, start, len)?.to_dtype(DType::F32)?;
            let shape = (len, chosen.heads, rows.dim(1)? / chosen.heads.max(1));
            let values = rows.flatten_all()?.to_vec1()?;
            Ok(Array3::from_shape_vec(shape, values).map_err(candle_core::Error::wrap)?)
        };
        let cells = input.segments().iter();
        let pairs = cells.map(|s| Ok((of(&q, s.start, s.rows)?, of(&k, s.start, s.rows)?)));
        pairs.collect()
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
        let (input, given) = (cells.into(), conditions.len());
        let n = input.tokens.n_cells();
        let reason = format_args!("there are {n} cells");
        ensure(given == n, "conditions", given, reason)?;
        let pairs = self.queries_and_keys(input, layer)?;
        for ((queries, keys), &condition) in pairs.iter().zip(conditions) {
            ranks.add(condition, queries.view(), keys.view())?;
        }
        Ok(())
    }
}

impl Layer {
    /// Queries (part 0), keys (1) or values (2) of all rows, `[rows, D]`.
    fn projected(&self, h: &Tensor, part: usize, mode: &Mode<'_>) -> Result<Tensor> {
        let h = match self.placement {
            NormPlacement::Post => h.clone(),
            NormPlacement::Pre | NormPlacement::UpstreamPre => self.norm1.forward(h, mode)?,
        };
        let d = h.dim(1)?;
        let of = |t: &Tensor| t.narrow(0, part * d, d)?.contiguous();
        let weight = of(self.wqkv.weight().get(mode))?;
        let bias = self.wqkv.bias().map(|b| of(b.get(mode))).transpose()?;
        Ok(ops::linear(&h, &weight, bias.as_ref())?)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis};
    use sc_model::Parity;
    use sc_tensor::Device;

    use super::*;
    use crate::tokens::{Tokenizer, TokenizerOptions};
    use crate::vocab::{GeneCase, GeneVocab, SPECIALS};

    fn model(placement: NormPlacement) -> ScGpt {
        let vocab = GeneVocab::new(["A", "B", "C"]).unwrap();
        let vocab = vocab.with_specials(&SPECIALS).unwrap();
        let params = ScGpt::params(&vocab).unwrap().d_model(8).n_heads(2);
        let params = params.d_hid(8).n_layers(2).norm_placement(placement);
        let params = params.check().unwrap();
        params.init_with_dtype(&Device::Cpu, DType::F64, 3).unwrap()
    }

    /// With softmax(q k / sqrt(4)) v in place of its attention, a layer gives the same.
    #[test]
    fn attention_is_made_of_them() {
        for placement in [NormPlacement::Post, NormPlacement::Pre] {
            let model = model(placement);
            let genes = ["B", "A", "C"];
            let genes = model.vocab().match_genes(&genes, GeneCase::Exact).unwrap();
            let tokenizer =
                Tokenizer::new(model.vocab(), &genes, TokenizerOptions::default()).unwrap();
            let counts = ndarray::array![[5.0f32, 1.0, 2.0], [0.0, 3.0, 1.0]];
            let batch = tokenizer.batch(&counts, &[0, 1], 0).unwrap();
            let mode = Mode::eval();
            let to = Attend {
                segments: &batch.segments,
                unknown: None,
            };
            let genes = model.nets.genes.table(&batch.ids, &mode).unwrap();
            let rows = model.token_rows((&batch).into(), &genes, Reading::default(), &mode);
            let [first, second] = [0, 1].map(|l| model.nets.stack.layers[l].clone());
            let h = first.forward(&rows.unwrap(), &to, &mode).unwrap();

            let pairs = model.queries_and_keys(&batch, 1).unwrap();
            assert_eq!(pairs.len(), 2);
            assert_eq!((pairs[0].0.dim(), pairs[1].1.dim()), ((4, 2, 4), (3, 2, 4)));
            let values = second.projected(&h, 2, &mode).unwrap();
            let values = Array2::from_shape_vec((7, 8), numbers(&values)).unwrap();
            let mut context = Array2::<f64>::zeros((7, 8));
            for ((q, k), segment) in pairs.iter().zip(batch.segments.iter()) {
                let own = segment.start..segment.start + segment.rows;
                let mut to = context.slice_axis_mut(Axis(0), own.clone().into());
                let values = values.slice_axis(Axis(0), own.into());
                for head in 0..2 {
                    let of = |a: &Array3<f32>| a.index_axis(Axis(1), head).mapv(f64::from);
                    let mut weights = (of(q).dot(&of(k).t()) / 2.0).mapv(f64::exp);
                    for mut row in weights.rows_mut() {
                        let total = row.sum();
                        row.mapv_inplace(|w| w / total);
                    }
                    let columns = head * 4..head * 4 + 4;
                    let values = values.slice_axis(Axis(1), columns.clone().into());
                    let mut to = to.slice_axis_mut(Axis(1), columns.into());
                    to.assign(&weights.dot(&values));
                }
            }
            let context = context.into_raw_vec_and_offset().0;
            let context = Tensor::from_vec(context, (7, 8), &Device::Cpu).unwrap();
            let attended = second.out_proj.forward(&context, &mode).unwrap();
            let found = second.around(&h, &mode, |_| Ok(attended)).unwrap();
            let expected = second.forward(&h, &to, &mode).unwrap();
            for (a, b) in numbers(&found).iter().zip(numbers(&expected)) {
                assert!((a - b).abs() < 1e-5, "{placement:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn ranks_get_the_cells_of_each_condition() {
        let model = model(NormPlacement::Post);
        let genes = ["B", "A", "C"];
        let genes = model.vocab().match_genes(&genes, GeneCase::Exact).unwrap();
        let options = TokenizerOptions {
            include_zeros: true,
            ..TokenizerOptions::default()
        };
        let tokenizer = Tokenizer::new(model.vocab(), &genes, options).unwrap();
        let counts = ndarray::array![[5.0f32, 1.0, 2.0], [0.0, 3.0, 1.0]];
        let batch = tokenizer.batch(&counts, &[0, 1], 0).unwrap();
        let mut ranks = AttentionRanks::new(4, 2, 2, Parity::Correct);
        model.add_attention(&batch, 1, &[1, 0], &mut ranks).unwrap();
        assert_eq!((ranks.n_cells(0), ranks.n_cells(1)), (1, 1));
        assert!(model.add_attention(&batch, 1, &[1], &mut ranks).is_err());
    }

    #[test]
    fn a_layer_that_is_not_there_is_named() {
        let model = model(NormPlacement::Post);
        let genes = model.vocab().match_genes(&["A"], GeneCase::Exact).unwrap();
        let tokenizer = Tokenizer::new(model.vocab(), &genes, TokenizerOptions::default());
        let batch = tokenizer
            .unwrap()
            .batch(&ndarray::array![[1.0f32]], &[0], 0);
        let e = model.queries_and_keys(&batch.unwrap(), 2).unwrap_err();
        assert!(e.to_string().contains("0 to 1"), "{e}");
    }

    fn numbers(t: &Tensor) -> Vec<f64> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }
}
