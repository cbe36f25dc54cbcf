mod bad_input;
mod folders;
mod golden;
mod half;
mod resume;
mod values;

use candle_core::Device;

use super::*;
use crate::tokens::{Tokenizer, TokenizerOptions};
use crate::vocab::{GeneCase, GeneVocab, SPECIALS, SpecialsAt};

const GENES: usize = 12;

fn genes() -> Vec<String> {
    (0..GENES).map(|g| format!("G{g:02}")).collect()
}

fn vocab() -> GeneVocab {
    GeneVocab::from_genes(&genes(), &SPECIALS, SpecialsAt::Last).unwrap()
}

fn small(vocab: &GeneVocab) -> ScGptParams {
    let p = ScGpt::params(vocab).unwrap();
    p.d_model(8).n_heads(2).d_hid(8).n_layers(2).dropout(0.1)
}

fn model(params: ScGptParams) -> ScGpt {
    params.check().unwrap().init(&Device::Cpu, 1).unwrap()
}

/// What an attempt that must fail says.
fn refusal<T, E: std::fmt::Display>(r: Result<T, E>) -> String {
    match r {
        Ok(_) => panic!("it was accepted"),
        Err(e) => e.to_string(),
    }
}

fn tokenizer(vocab: &GeneVocab, options: TokenizerOptions) -> Tokenizer {
    let genes = vocab.match_genes(&genes(), GeneCase::Exact).unwrap();
    Tokenizer::new(vocab, &genes, options).unwrap()
}
