//! Cells before and after a perturbation as tokens.

use std::collections::HashMap;

use sc_data::RowSource;
use sc_tensor::ops::Segments;
use sc_tensor::{Rng, Stream};
use serde::{Deserialize, Serialize};

use super::TokenBatch;
use super::draws::content_key;
use super::perturbation::Perturbation;
use crate::vocab::{GeneMatch, GeneVocab};
use crate::{Error, Result};

/// The flag of a gene that is not perturbed.
pub const UNPERTURBED: u32 = 0;
/// The flag of a perturbed gene.
pub const PERTURBED: u32 = 1;

/// What becomes of genes that the vocabulary does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownGenes {
    /// They are no tokens; their expression after a perturbation is taken to be that before.
    #[default]
    LeaveOut,
    /// They are `<pad>` tokens that take part in attention like all others, as in scGPT's recipe.
    AsPad,
}

/// How cells before and after a perturbation become tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerturbationOptions {
    /// The most genes of a cell in training, drawn anew each time; `None` takes all.
    pub max_genes: Option<usize>,
    /// Whether perturbed genes are always among them. scGPT draws them like all others: with 5,060 genes and 1,536 tokens, 7
    /// of 10 cells then say nothing of what was perturbed.
    pub keep_perturbed: bool,
    /// What becomes of genes that the vocabulary does not know.
    pub unknown: UnknownGenes,
    /// Other seeds pair cells with other controls.
    pub seed: u64,
}

impl Default for PerturbationOptions {
    fn default() -> Self {
        Self {
            max_genes: Some(1536),
            keep_perturbed: true,
            unknown: UnknownGenes::default(),
            seed: 0,
        }
    }
}

/// Perturbed cells, each with a control cell as what it was before.
///
/// In a batch, [`TokenBatch::values`] are those of a control cell, [`TokenBatch::targets`] those of the perturbed one, and
/// [`TokenBatch::flags`] say which genes were perturbed. All tokens are scored; there is no `<cls>`. A control cell is its own
/// target.
pub struct PerturbationTokens<'a> {
    source: &'a dyn RowSource,
    genes: GeneMatch,
    /// Columns that become tokens, ascending, and their tokens.
    columns: Vec<usize>,
    ids: Vec<u32>,
    conditions: Vec<Perturbation>,
    /// The places among `columns` of the genes that are perturbed in each condition.
    flagged: Vec<Vec<usize>>,
    of_cells: Vec<usize>,
    usable: Vec<usize>,
    controls: Vec<usize>,
    unmeasured: Vec<String>,
    options: PerturbationOptions,
    pairs: Stream,
    sample: Stream,
}

impl<'a> PerturbationTokens<'a> {
    /// `of_cells` is what was done to each cell of `source`, whose values are usually normalised and log-transformed.
    ///
    /// # Errors
    /// [`Error::Length`] if lengths don't fit; [`Error::MissingToken`] if unknown genes shall be `<pad>` and there is none;
    /// [`Error::InvalidSetting`] without a control cell, or if no perturbed gene is measured and known.
    pub fn new(
        source: &'a dyn RowSource,
        genes: &GeneMatch,
        vocab: &GeneVocab,
        of_cells: &[Perturbation],
        options: PerturbationOptions,
    ) -> Result<Self> {
        for (what, found, expected) in [
            ("the genes", genes.n_columns(), source.n_cols()),
            ("the perturbations", of_cells.len(), source.n_rows()),
        ] {
            if found != expected {
                return Err(Error::Length {
                    what,
                    found,
                    expected,
                });
            }
        }
        let stand_in = match options.unknown {
            UnknownGenes::LeaveOut => None,
            UnknownGenes::AsPad => Some(vocab.pad()?),
        };
        let tokens = genes.ids().iter().enumerate();
        let (columns, ids): (Vec<usize>, Vec<u32>) = tokens
            .filter_map(|(c, id)| id.or(stand_in).map(|id| (c, id)))
            .unzip();
        let (conditions, of_cells) = distinct(of_cells);
        let named = columns.iter().enumerate();
        let place: HashMap<&str, usize> = named
            .filter_map(|(p, &c)| genes.names().get(c).map(|n| (n.as_str(), p)))
            .collect();
        let mut unmeasured = Vec::new();
        let flagged: Vec<Vec<usize>> = conditions
            .iter()
            .map(|c| places(c, &place, &mut unmeasured))
            .collect();
        unmeasured.sort_unstable();
        unmeasured.dedup();
        let whole = |condition: usize| {
            let wanted = conditions.get(condition).map_or(0, |c| c.genes().len());
            flagged.get(condition).is_some_and(|f| f.len() == wanted)
        };
        let is_control = |c: usize| conditions.get(c).is_some_and(Perturbation::is_control);
        let all = of_cells.iter().enumerate();
        let controls: Vec<usize> = all
            .clone()
            .filter(|(_, c)| is_control(**c))
            .map(|(i, _)| i)
            .collect();
        let usable: Vec<usize> = all.filter(|(_, c)| whole(**c)).map(|(i, _)| i).collect();
        check(&controls, &usable, &unmeasured)?;
        let rng = Rng::new(options.seed);
        Ok(Self {
            source,
            genes: genes.clone(),
            columns,
            ids,
            flagged,
            of_cells,
            usable,
            controls,
            unmeasured,
            conditions,
            pairs: rng.stream("control"),
            sample: rng.stream("genes"),
            options,
        })
    }

    /// The cells that can be used: those whose perturbed genes are all measured and known.
    pub fn cells(&self) -> &[usize] {
        &self.usable
    }

    /// The control cells.
    pub fn controls(&self) -> &[usize] {
        &self.controls
    }

    /// Perturbed genes that are not measured or not in the vocabulary. Cells in which one of them was perturbed are not used.
    ///
    /// To use them, give such genes empty columns ([`sc_data::Columns`] with `None`) and tokens: the model is then told what was
    /// perturbed by a gene without expression, which it also learns to predict as 0.
    pub fn unmeasured(&self) -> &[String] {
        &self.unmeasured
    }

    /// What was done to a cell.
    pub fn perturbation(&self, cell: usize) -> Option<&Perturbation> {
        self.conditions.get(*self.of_cells.get(cell)?)
    }

    /// The columns that become tokens when all genes are taken, in the order of the tokens.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Some cells, each with a control cell that is drawn anew for each `pass`, and at most
    /// [`PerturbationOptions::max_genes`] genes.
    ///
    /// # Errors
    /// Those of the source; [`Error::InvalidValue`] for a value that is negative or not finite; [`Error::Data`] if a cell does not
    /// exist.
    pub fn batch(&self, cells: &[usize], pass: u64) -> Result<TokenBatch> {
        let before: Vec<usize> = cells.iter().map(|&c| self.control_of(c, pass)).collect();
        let (old, new) = (self.read(&before)?, self.read(cells)?);
        let mut parts = Vec::with_capacity(cells.len());
        for ((&cell, old), new) in cells.iter().zip(old).zip(new) {
            let flagged = self.of_cells.get(cell).and_then(|&c| self.flagged.get(c));
            let flagged = flagged.map(Vec::as_slice).unwrap_or_default();
            let key = [content_key(&self.ids, &new), pass];
            let chosen = self.chosen(&key, flagged);
            parts.push((chosen, flagged, old, new));
        }
        self.pack(cells.to_vec(), &parts)
    }

    /// What `perturbation` would do to some cells, usually controls: all genes, with targets that are the cells as they are.
    ///
    /// # Errors
    /// As [`PerturbationTokens::batch`]; [`Error::InvalidSetting`] if a perturbed gene is not measured or not known.
    pub fn predict(&self, cells: &[usize], perturbation: &Perturbation) -> Result<TokenBatch> {
        let place: HashMap<&str, usize> = self
            .columns
            .iter()
            .enumerate()
            .filter_map(|(p, &c)| self.genes.names().get(c).map(|n| (n.as_str(), p)))
            .collect();
        let mut unknown = Vec::new();
        let flagged = places(perturbation, &place, &mut unknown);
        if let Some(gene) = unknown.first() {
            return Err(Error::InvalidSetting {
                name: "perturbation",
                value: perturbation.to_string(),
                reason: format!("the gene {gene} is not measured, or not in the vocabulary"),
            });
        }
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let values = self.read(cells)?.into_iter();
        let parts: Vec<_> = values
            .map(|v| (all.clone(), flagged.as_slice(), v.clone(), v))
            .collect();
        self.pack(cells.to_vec(), &parts)
    }

    fn control_of(&self, cell: usize, pass: u64) -> usize {
        if self.perturbation(cell).is_none_or(Perturbation::is_control) {
            return cell;
        }
        let mut u = [0f64];
        self.pairs
            .at(&[pass, cell as u64])
            .fill_uniform(0.0, 1.0, &mut u);
        let n = self.controls.len();
        let which = ((u[0] * n as f64) as usize).min(n.saturating_sub(1));
        self.controls.get(which).copied().unwrap_or(cell)
    }

    /// The values of the columns that become tokens, for some cells.
    fn read(&self, cells: &[usize]) -> Result<Vec<Vec<f32>>> {
        let block = self.source.read_rows(cells)?;
        let mut place = vec![None; self.genes.n_columns()];
        for (p, &c) in self.columns.iter().enumerate() {
            if let Some(slot) = place.get_mut(c) {
                *slot = Some(p);
            }
        }
        let one = |(i, &cell): (usize, &usize)| {
            let mut dense = vec![0f32; self.columns.len()];
            let (columns, values) = block.row(i);
            for (&c, &value) in columns.iter().zip(values) {
                let place = place.get(c as usize).copied().flatten();
                let Some(slot) = place.and_then(|p| dense.get_mut(p)) else {
                    continue;
                };
                if !(value.is_finite() && value >= 0.0) {
                    return Err(Error::InvalidValue {
                        cell,
                        gene: self
                            .genes
                            .names()
                            .get(c as usize)
                            .cloned()
                            .unwrap_or_default(),
                        value,
                        expected: "normalised and log-transformed counts are finite and not negative",
                    });
                }
                *slot = value;
            }
            Ok(dense)
        };
        cells.iter().enumerate().map(one).collect()
    }

    /// The places of the genes that a cell shows.
    fn chosen(&self, key: &[u64], flagged: &[usize]) -> Vec<usize> {
        let n = self.columns.len();
        let Some(room) = self.options.max_genes.filter(|&m| m < n) else {
            return (0..n).collect();
        };
        let mut order = self.sample.at(key).permutation(n);
        if self.options.keep_perturbed {
            // The sort is stable: perturbed genes come first, the others stay in random order.
            order.sort_by_key(|p| !flagged.contains(p));
        }
        order.truncate(room);
        order.sort_unstable();
        order
    }

    fn pack(&self, cells: Vec<usize>, parts: &[Part<'_>]) -> Result<TokenBatch> {
        let segments = Segments::new(parts.iter().map(|p| p.0.len()))?;
        let n = segments.rows();
        let (mut ids, mut values) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let (mut targets, mut flags) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for (chosen, flagged, old, new) in parts {
            ids.extend(chosen.iter().filter_map(|&p| self.ids.get(p)));
            values.extend(chosen.iter().filter_map(|&p| old.get(p)));
            targets.extend(chosen.iter().filter_map(|&p| new.get(p)));
            flags.extend(chosen.iter().map(|p| match flagged.contains(p) {
                true => PERTURBED,
                false => UNPERTURBED,
            }));
        }
        let mut batch = TokenBatch::plain(cells, ids, values, false, segments);
        batch.targets = targets;
        batch.flags = Some(flags);
        batch.scored.fill(true);
        Ok(batch)
    }
}

/// Genes shown, genes perturbed, values before and after.
type Part<'a> = (Vec<usize>, &'a [usize], Vec<f32>, Vec<f32>);

/// The different perturbations in order, and which of them each cell has.
fn distinct(of_cells: &[Perturbation]) -> (Vec<Perturbation>, Vec<usize>) {
    let mut all: Vec<Perturbation> = of_cells.to_vec();
    all.sort_unstable();
    all.dedup();
    let which = of_cells.iter().map(|p| all.partition_point(|a| a < p));
    let which = which.collect();
    (all, which)
}

fn places(
    perturbation: &Perturbation,
    place: &HashMap<&str, usize>,
    unmeasured: &mut Vec<String>,
) -> Vec<usize> {
    let mut found = Vec::new();
    for gene in perturbation.genes() {
        match place.get(gene.as_str()) {
            Some(&p) => found.push(p),
            None => unmeasured.push(gene.clone()),
        }
    }
    found
}

fn check(controls: &[usize], usable: &[usize], unmeasured: &[String]) -> Result<()> {
    let reason = if controls.is_empty() {
        "no cell is a control, so that nothing is known of cells before a perturbation; is the control called \"ctrl\"?".to_owned()
    } else if usable.len() <= controls.len() {
        let some: Vec<&str> = unmeasured.iter().take(5).map(String::as_str).collect();
        format!(
            "no cell has a perturbation whose genes are measured and in the vocabulary (not found: {})",
            some.join(", ")
        )
    } else {
        return Ok(());
    };
    Err(Error::InvalidSetting {
        name: "the perturbations",
        value: format!("{} controls, {} usable cells", controls.len(), usable.len()),
        reason,
    })
}
